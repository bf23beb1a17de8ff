//! A client's stdin on its way to a process: detach keys are looked for here, and whether the end of the
//! client's input ends the process's.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::sync::{Mutex, mpsc, watch};

use crate::error::{Error, Result};
use crate::logs::{Ticket, register};

/// How many writes may wait for a process that doesn't read.
const WAITING: usize = 16;

/// What became of bytes given to [`Input::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// They are on their way.
    Accepted,
    /// They held the detach keys: the attachment is over, the container goes on.
    Detached,
}

#[derive(Debug)]
enum Message {
    Bytes(Bytes),
    End,
}

/// Where clients' inputs meet. It exists before the process, so that nothing written early is lost.
#[derive(Debug)]
pub(crate) struct Gate {
    sender: mpsc::Sender<Message>,
    receiver: Arc<Mutex<mpsc::Receiver<Message>>>,
}

impl Default for Gate {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Gate { sender, receiver: Arc::new(Mutex::new(receiver)) }
    }
}

impl Gate {
    /// A client's end. `closes`: the end of its input ends the process's. `keys` detach, where there are any.
    pub(crate) fn open(&self, closes: bool, keys: Vec<u8>, ticket: Option<Ticket>) -> Input {
        Input { sender: Some(self.sender.clone()), closes, keys: Keys { keys, matched: 0 }, ticket }
    }

    /// Brings what clients write to a process, until it ends. `close` tells whoever else holds its input.
    pub(crate) fn feed(
        &self,
        fd: OwnedFd,
        close: impl FnOnce() + Send + 'static,
        mut ended: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let receiver = self.receiver.clone();
        async move {
            let mut receiver = receiver.lock().await;
            let mut fd = match register(fd, Interest::WRITABLE) {
                Ok(fd) => Some(fd),
                Err(error) => {
                    tracing::error!("cannot write to a container's stdin: {error}");
                    None
                }
            };
            let mut close = Some(close);
            loop {
                let message = tokio::select! {
                    biased;
                    _ = ended.wait_for(|ended| *ended) => break,
                    message = receiver.recv() => message,
                };
                match (message, &fd) {
                    (Some(Message::Bytes(bytes)), Some(open)) => {
                        let written = tokio::select! {
                            written = write_all(open, &bytes) => written,
                            _ = ended.wait_for(|ended| *ended) => break,
                        };
                        if written.is_err() {
                            fd = None;
                        }
                    }
                    (Some(Message::End) | None, _) => {
                        fd = None;
                        if let Some(close) = close.take() {
                            close();
                        }
                    }
                    (Some(Message::Bytes(_)), None) => {}
                }
            }
            // What nobody read must not greet the next run.
            while receiver.try_recv().is_ok() {}
        }
    }
}

async fn write_all(fd: &tokio::io::unix::AsyncFd<OwnedFd>, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let mut guard = fd.writable().await?;
        match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
            Ok(Ok(written)) => bytes = &bytes[written..],
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}

/// The writing end of an attachment. Dropping it is the same as [`Input::close`].
#[derive(Debug)]
pub struct Input {
    sender: Option<mpsc::Sender<Message>>,
    closes: bool,
    keys: Keys,
    ticket: Option<Ticket>,
}

impl Input {
    /// Writes, waiting while the container doesn't read. An error when it reads no more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<Written> {
        let Some(sender) = &self.sender else {
            return Err(Error::unavailable("the container's stdin is closed"));
        };
        let (bytes, detached) = self.keys.scan(bytes);
        if !bytes.is_empty() && sender.send(Message::Bytes(bytes)).await.is_err() {
            return Err(Error::unavailable("the container's stdin is closed"));
        }
        if detached {
            // Detaching leaves the container's input as it is.
            self.sender = None;
            if let Some(ticket) = self.ticket.take() {
                ticket.leave();
            }
            return Ok(Written::Detached);
        }
        Ok(Written::Accepted)
    }

    /// The client's input has ended.
    pub fn close(&mut self) {
        let Some(sender) = self.sender.take() else { return };
        if !self.closes {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(end)) = sender.try_send(Message::End)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { sender.send(end).await });
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.close();
    }
}

/// Looks for the detach keys over the borders of writes.
#[derive(Debug)]
struct Keys {
    keys: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// The bytes to pass on, and whether the keys were met.
    fn scan(&mut self, bytes: Bytes) -> (Bytes, bool) {
        if self.keys.is_empty() || self.matched == 0 && !bytes.contains(&self.keys[0]) {
            return (bytes, false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (passed.into(), true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(byte == self.keys[0] && self.keys.len() > 1);
            if self.matched == 0 {
                passed.push(byte);
            }
        }
        (passed.into(), false)
    }
}

/// Reads `ctrl-p,ctrl-q` and the like; empty is that.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>> {
    let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
    let invalid = || Error::invalid(format_args!("Invalid detach keys ({text}) provided"));
    text.split(',')
        .map(|key| match key.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
            Some(b"@") => Ok(0),
            Some([sign @ b'['..=b'_']) => Ok(sign - b'[' + 27),
            Some(_) => Err(invalid()),
            None if key.len() == 1 => Ok(key.as_bytes()[0]),
            None => Err(invalid()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(keys: &mut Keys, text: &'static str) -> (String, bool) {
        let (bytes, detached) = keys.scan(Bytes::from_static(text.as_bytes()));
        (String::from_utf8(bytes.to_vec()).unwrap(), detached)
    }

    #[test]
    fn detach_keys_are_found_over_two_writes_and_kept_from_the_container() {
        let mut keys = Keys { keys: detach_keys("").unwrap(), matched: 0 };
        assert_eq!(scan(&mut keys, "ls\x10"), ("ls".to_owned(), false));
        assert_eq!(scan(&mut keys, "\x11rest"), (String::new(), true));
    }

    #[test]
    fn half_of_the_keys_is_ordinary_input() {
        let mut keys = Keys { keys: detach_keys("a,b").unwrap(), matched: 0 };
        assert_eq!(scan(&mut keys, "xa"), ("x".to_owned(), false));
        assert_eq!(scan(&mut keys, "aab"), ("aa".to_owned(), true));
        assert_eq!(scan(&mut keys, "acb"), ("acb".to_owned(), false));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        assert_eq!(detach_keys("ctrl-[,x").unwrap(), [27, b'x']);
        assert!(detach_keys("ctrl-1").is_err());
        assert!(detach_keys("escape").is_err());
    }

    #[tokio::test]
    async fn what_is_written_before_the_process_reaches_it_and_the_end_closes_it() {
        let gate = Gate::default();
        let mut input = gate.open(true, Vec::new(), None);
        input.write(Bytes::from_static(b"early")).await.unwrap();
        input.close();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let ended = watch::Sender::new(false);
        let feeding = tokio::spawn(gate.feed(writer, || (), ended.subscribe()));
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text).unwrap();
            text
        });
        assert_eq!(read.await.unwrap(), "early");
        ended.send_replace(true);
        feeding.await.unwrap();
    }
}
