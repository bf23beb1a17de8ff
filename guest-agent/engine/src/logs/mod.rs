//! What containers write: the log on disk, readers of it, and the way from the pipes to both log and clients.

mod json_file;
mod output;
mod pump;
mod reader;

pub(crate) use json_file::LogFile;
pub(crate) use output::{Hub, Ticket};
pub(crate) use pump::{Source, pump, register};
pub(crate) use reader::read;

use crate::containers::spec::LogConfig;
use crate::error::{Error, Result};

/// Options of `json-file`.
const JSON_FILE: [&str; 9] =
    ["max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode"];

/// Refuses log drivers that aren't here, and options that the driver doesn't know.
pub(crate) fn check(config: &LogConfig) -> Result<()> {
    let known: &[&str] = match config.r#type.as_str() {
        "json-file" => &JSON_FILE,
        "none" => &[],
        "local" => {
            return Err(Error::invalid("logger: the log driver `local` is not available, use `json-file`"));
        }
        other => {
            return Err(Error::invalid(format_args!("logger: no log driver named '{other}' is registered")));
        }
    };
    match config.config.keys().find(|name| !known.contains(&name.as_str()) && *name != "max-buffer-size") {
        Some(name) => {
            Err(Error::invalid(format_args!("unknown log opt '{name}' for {} log driver", config.r#type)))
        }
        None => Ok(()),
    }
}
