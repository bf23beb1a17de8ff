//! A netlink socket: one request, its answers.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::message::{Attributes, HEADER, Message, Request, u32_at};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// In an error message: the request is not echoed, attributes follow its header (NLM_F_CAPPED, NLM_F_ACK_TLVS).
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The kernel fills at most 32 KiB per read of a dump (NLMSG_GOODSIZE and the largest page).
const RECEIVE_BUFFER: usize = 64 * 1024;
/// A dump of more messages than this is refused: no machine has a million links or routes.
const DUMP_LIMIT: usize = 1 << 20;

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes.
    Route,
    /// The packet filter.
    Netfilter,
}

/// What the kernel refused, with its own explanation where it gave one.
#[derive(Debug)]
pub struct Error {
    /// The error number as an I/O error.
    pub source: io::Error,
    /// The kernel's extended acknowledgement text.
    pub explanation: Option<String>,
    /// Which message of the request it is about, when that is known.
    pub message: Option<usize>,
}

impl Error {
    /// The error number, 0 when it did not come from the kernel.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.explanation {
            Some(text) => write!(f, "{} ({text})", self.source),
            None => self.source.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Error {
        Error { source, explanation: None, message: None }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error.explanation {
            None => error.source,
            Some(_) => io::Error::new(error.source.kind(), error),
        }
    }
}

/// A netlink socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one in the calling thread's network namespace.
    pub fn open(family: Family) -> io::Result<Socket> {
        let protocol = match family {
            Family::Route => libc::NETLINK_ROUTE,
            Family::Netfilter => libc::NETLINK_NETFILTER,
        };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: socket(2) takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned by the kernel and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            set_option(&fd, libc::SOL_NETLINK, option, 1)?;
        }
        Ok(Socket { fd, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Sends all messages in one system call; each is acknowledged or the first refusal is returned.
    ///
    /// The kernel works through all of them even after one failed (rtnetlink), so the caller undoes what it
    /// must not leave. A `batch` is a transaction instead: see [`Socket::commit`].
    pub fn request(&mut self, mut request: Request) -> Result<(), Error> {
        if request.is_empty() {
            return Ok(());
        }
        let first = self.number(&mut request, NLM_F_REQUEST | NLM_F_ACK);
        self.send(&request)?;
        self.acknowledgements(first, request.len(), request.len())
    }

    /// Sends an nf_tables batch: all of it happens or nothing. The last message must be the batch's end.
    pub fn commit(&mut self, mut batch: Request) -> Result<(), Error> {
        let first = self.number(&mut batch, NLM_F_REQUEST);
        // One acknowledgement for the last real message proves that the whole was handled; one for each
        // would overflow the receive buffer on large batches. Errors are reported in any case.
        let count = batch.len();
        if let Some(start) = count.checked_sub(2).and_then(|index| batch.starts.get(index)).copied() {
            let flags = u16::from_ne_bytes([batch.bytes[start + 6], batch.bytes[start + 7]]) | NLM_F_ACK;
            batch.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        self.grow_send_buffer(batch.bytes.len())?;
        self.send(&batch)?;
        self.acknowledgements(first, count, 1)
    }

    /// Asks for one object and hands the answer to `each`.
    pub fn get(&mut self, mut request: Request, mut each: impl FnMut(Message<'_>)) -> Result<(), Error> {
        let sequence = self.number(&mut request, NLM_F_REQUEST);
        self.send(&request)?;
        let length = self.receive(libc::MSG_DONTWAIT)?;
        match Message::first(&self.buffer[..length]) {
            Some((message, _)) if message.sequence == sequence => {
                if message.kind == NLMSG_ERROR {
                    return refusal(&message, 0).map_or(Ok(()), Err);
                }
                each(message);
                Ok(())
            }
            _ => Err(malformed("the kernel did not answer").into()),
        }
    }

    /// Sends a dump request and hands every message of the answer to `each`.
    pub fn dump(&mut self, mut request: Request, mut each: impl FnMut(Message<'_>)) -> Result<(), Error> {
        let sequence = self.number(&mut request, NLM_F_REQUEST | NLM_F_DUMP);
        self.send(&request)?;
        let mut seen = 0;
        loop {
            let length = self.receive(0)?;
            let mut rest = &self.buffer[..length];
            while let Some((message, after)) = Message::first(rest) {
                rest = after;
                if message.sequence != sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return refusal(&message, 0).map_or(Ok(()), Err),
                    _ => each(message),
                }
                seen += 1;
                if seen > DUMP_LIMIT {
                    return Err(malformed("endless dump").into());
                }
            }
        }
    }

    /// Gives every message its number and `flags`; returns the first number.
    fn number(&mut self, request: &mut Request, flags: u16) -> u32 {
        let first = self.sequence.wrapping_add(1);
        for (index, start) in request.starts.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32);
            let header = &mut request.bytes[*start..*start + HEADER];
            let flags = u16::from_ne_bytes([header[6], header[7]]) | flags;
            header[6..8].copy_from_slice(&flags.to_ne_bytes());
            header[8..12].copy_from_slice(&sequence.to_ne_bytes());
        }
        self.sequence = first.wrapping_add(request.len() as u32);
        first
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        let bytes = &request.bytes;
        // SAFETY: `bytes` is valid for reads of its length during the call.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        match usize::try_from(sent) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(malformed("request was cut")),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    fn receive(&mut self, flags: libc::c_int) -> io::Result<usize> {
        loop {
            let buffer = &mut self.buffer;
            let flags = flags | libc::MSG_TRUNC;
            // SAFETY: `buffer` is valid for writes of its length during the call.
            let received =
                unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
            match usize::try_from(received) {
                Ok(length) if length <= buffer.len() => return Ok(length),
                Ok(_) => return Err(malformed("answer exceeds the buffer")),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Reads what the kernel queued while it handled the request. It never blocks: all answers are there when
    /// `send` returns, and a missing one is an error.
    fn acknowledgements(&mut self, first: u32, count: usize, mut expected: usize) -> Result<(), Error> {
        let mut failure = None;
        loop {
            let length = match self.receive(libc::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(failure.unwrap_or(error.into())),
            };
            let mut rest = &self.buffer[..length];
            while let Some((message, after)) = Message::first(rest) {
                rest = after;
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= count {
                    continue;
                }
                match refusal(&message, index) {
                    None => expected = expected.saturating_sub(1),
                    Some(error) => failure = failure.or(Some(error)),
                }
            }
            if expected == 0 && failure.is_none() {
                return Ok(());
            }
        }
        Err(failure.unwrap_or_else(|| malformed("the kernel did not acknowledge").into()))
    }

    fn grow_send_buffer(&self, length: usize) -> io::Result<()> {
        // The kernel's own bookkeeping counts against the buffer too, hence the double.
        let wanted = i32::try_from(length.saturating_mul(2)).map_err(|_| malformed("batch too large"))?;
        if wanted < 128 * 1024 {
            return Ok(());
        }
        set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted)
    }
}

/// The error that an acknowledgement carries, if any.
fn refusal(message: &Message<'_>, index: usize) -> Option<Error> {
    let code = u32_at(message.payload, 0).map_or(-libc::EBADMSG, |code| code as i32);
    if code == 0 {
        return None;
    }
    let explanation = (message.flags & NLM_F_ACK_TLVS != 0).then(|| {
        let echoed = u32_at(message.payload, 4).unwrap_or(0) as usize;
        let request = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { echoed };
        let attributes = message.payload.get(4 + request.next_multiple_of(4)..).unwrap_or_default();
        Attributes(attributes).text(NLMSGERR_ATTR_MSG).map(str::to_owned)
    });
    Some(Error {
        source: io::Error::from_raw_os_error(code.wrapping_neg()),
        explanation: explanation.flatten(),
        message: Some(index),
    })
}

fn set_option(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value pointer is valid for reads of `length` bytes during the call.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_come_with_the_error() {
        let mut payload = Vec::new();
        payload.extend_from_slice(&(-libc::EINVAL).to_ne_bytes());
        payload.extend_from_slice(&[0; HEADER]);
        let mut tail = Request::new();
        tail.text(NLMSGERR_ATTR_MSG, "Invalid prefix length");
        payload.extend_from_slice(&tail.bytes);
        let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
        let error =
            refusal(&Message { kind: NLMSG_ERROR, flags, sequence: 1, payload: &payload }, 3).unwrap();
        assert_eq!(error.errno(), libc::EINVAL);
        assert_eq!(error.message, Some(3));
        assert_eq!(error.to_string(), "Invalid argument (os error 22) (Invalid prefix length)");
    }

    #[test]
    fn a_cut_acknowledgement_is_an_error() {
        let message = Message { kind: NLMSG_ERROR, flags: 0, sequence: 1, payload: &[0, 0] };
        assert_eq!(refusal(&message, 0).unwrap().errno(), libc::EBADMSG);
    }
}
