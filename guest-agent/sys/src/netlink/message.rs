//! Building and reading netlink messages.

/// A message's header: length, type, flags, sequence number, port id (netlink(7)).
pub(super) const HEADER: usize = 16;
/// An attribute's header: length, type.
const ATTRIBUTE: usize = 4;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// What is left of a type without the flags NESTED and NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;

/// One or more messages to send in one system call.
#[derive(Debug, Default)]
pub struct Request {
    pub(super) bytes: Vec<u8>,
    /// Where each message starts.
    pub(super) starts: Vec<usize>,
}

impl Request {
    /// An empty request.
    pub fn new() -> Request {
        Request::default()
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Adds a message: `header` is the family's fixed part, `attributes` writes the rest.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8], attributes: impl FnOnce(&mut Request)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        self.pad();
        attributes(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds an attribute of raw bytes.
    ///
    /// # Panics
    /// When `value` exceeds what a netlink attribute can hold (64 KiB): a caller's bug, as values are fixed-size
    /// or checked names.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length =
            u16::try_from(ATTRIBUTE + value.len()).expect("a netlink attribute holds at most 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// Adds a byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// Adds a number in the machine's byte order (rtnetlink).
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Adds a number in network byte order (nf_tables).
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Adds a text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// Adds an attribute that holds what `inside` adds.
    ///
    /// # Panics
    /// When the content exceeds 64 KiB, as for [`Request::bytes`].
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Request)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inside(self);
        let length =
            u16::try_from(self.bytes.len() - start).expect("a netlink attribute holds at most 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds raw bytes that are no attribute (a fixed header inside one: veth's peer).
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// What follows the netlink header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message of `bytes` and what follows it; `None` at the end or when it is cut short.
    pub(super) fn first(bytes: &'a [u8]) -> Option<(Message<'a>, &'a [u8])> {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: &bytes[HEADER..length],
        };
        Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
    }

    /// The attributes after a fixed header of `header` bytes.
    pub fn attributes(&self, header: usize) -> Attributes<'a> {
        Attributes(self.payload.get(header..).unwrap_or_default())
    }
}

/// Iterates over attributes as (type, value); stops at the first malformed one.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this type.
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// A number in the machine's byte order.
    pub fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.find(kind)?, 0)
    }

    /// A text up to its zero.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }

    /// The attributes inside an attribute.
    pub fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        if length < ATTRIBUTE || length > self.0.len() {
            self.0 = &[];
            return None;
        }
        let value = &self.0[ATTRIBUTE..length];
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_reads_back() {
        let mut request = Request::new();
        request.message(16, 5, &[1, 2, 3, 4, 5, 6], |body| {
            body.text(3, "eth0");
            body.nest(18, |inner| inner.u32(7, 0xdead_beef));
            body.u8(9, 1);
        });
        let (message, rest) = Message::first(&request.bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!((message.kind, message.flags), (16, 5));
        let attributes = message.attributes(8);
        assert_eq!(attributes.text(3), Some("eth0"));
        assert_eq!(attributes.nested(18).u32(7), Some(0xdead_beef));
        assert_eq!(attributes.find(9), Some(&[1][..]));
        assert_eq!(attributes.find(10), None);
    }

    #[test]
    fn cut_and_lying_lengths_end_the_parse_without_a_panic() {
        let mut request = Request::new();
        request.message(16, 0, &[0; 16], |body| {
            body.text(3, "eth0");
            body.u32(4, 1500);
        });
        for length in 0..request.bytes.len() {
            assert!(Message::first(&request.bytes[..length]).is_none());
            let _ = Attributes(&request.bytes[..length]).count();
        }
        for byte in 0..request.bytes.len() {
            let mut broken = request.bytes.clone();
            broken[byte] = 0xff;
            if let Some((message, _)) = Message::first(&broken) {
                let _ = message.attributes(16).count();
            }
        }
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(Attributes(&[0xff, 0xff, 1, 0, 0, 0]).count(), 0, "longer than the message");
    }
}
