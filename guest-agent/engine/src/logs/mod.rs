//! What containers write: the log on disk, readers of it, and the way from the pipes to both log and clients.

mod file;
mod json;
mod options;
mod output;
mod pump;
mod reader;
mod tail;

pub(crate) use file::LogFile;
pub(crate) use options::{Options, check};
pub(crate) use output::{Hub, Ticket};
pub(crate) use pump::{Source, pump, register};
pub(crate) use reader::read;
