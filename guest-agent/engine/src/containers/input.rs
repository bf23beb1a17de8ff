//! A client's stdin on its way to a container: detach keys are looked for here, and whether the end of the
//! client's input ends the container's.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// What became of bytes given to [`Input::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// They are on their way.
    Accepted,
    /// They held the detach keys: the attachment is over, the container goes on.
    Detached,
}

/// The writing end of an attachment. Dropping it is the same as [`Input::close`].
#[derive(Debug)]
pub struct Input {
    sender: Option<mpsc::Sender<Bytes>>,
}

impl Input {
    /// Writes, waiting while the container doesn't read. An error when it reads no more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<Written> {
        match &self.sender {
            Some(sender) if sender.send(bytes).await.is_ok() => Ok(Written::Accepted),
            _ => Err(Error::unavailable("the container's stdin is closed")),
        }
    }

    /// The client's input has ended.
    pub fn close(&mut self) {
        self.sender = None;
    }
}
