//! nf_tables: batches of tables, chains, sets, elements and rules.
//!
//! A [`Batch`] is a transaction: [`Socket::commit`](super::Socket::commit) makes all of it happen or nothing.
//! Expressions work on 32-bit registers; [`Register`] names them.

use super::message::{Attributes, Request};
use super::socket::{Error, Socket};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NLM_F_CREATE: u16 = 0x400;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

/// The family of tables that see IPv4 and IPv6 (NFPROTO_INET).
const INET: u8 = 1;
const LIST_ELEM: u16 = 1;
/// The element is the first key after a range (NFT_SET_ELEM_INTERVAL_END).
const INTERVAL_END: u32 = 1;

/// A 32-bit register, 0 to 15; wider values take several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// Where in a packet's way a base chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting = 0,
    /// To be routed on.
    Forward = 2,
    /// Made on this machine.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// A base chain.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// `filter` or `nat`.
    pub kind: &'a str,
    /// Its hook.
    pub hook: Hook,
    /// Its place among the hook's chains: smaller is earlier.
    pub priority: i32,
    /// Whether a packet that reaches the end is dropped; `None` leaves an existing chain's policy as it is.
    pub drop: Option<bool>,
}

/// The types of set keys and map values, by nft's numbers, so that `nft list ruleset` prints them well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// An IPv4 address, 4 bytes.
    Ipv4 = 7,
    /// A transport protocol's number, in a register of 4 bytes.
    Protocol = 12,
    /// A port in network byte order, in a register of 4 bytes.
    Port = 13,
    /// An interface's name, 16 bytes, filled up with zeros.
    InterfaceName = 41,
}

impl Type {
    fn length(self) -> u32 {
        if self == Type::InterfaceName { 16 } else { 4 }
    }
}

/// A set, or a map when it has data.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// The parts of its keys.
    pub key: &'a [Type],
    /// The parts of its values.
    pub data: &'a [Type],
    /// Whether its elements are ranges: pairs of a first key and the key after the last.
    pub intervals: bool,
}

/// A transaction on one table.
#[derive(Debug)]
pub struct Batch<'a> {
    request: Request,
    table: &'a str,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// The key's bytes, each part filled up to 4 bytes.
    pub key: Vec<u8>,
    /// The value's bytes; empty in a set.
    pub data: Vec<u8>,
    /// Whether it is the end of a range.
    pub ends: bool,
}

impl<'a> Batch<'a> {
    /// Starts a transaction on the table of this name (family inet).
    pub fn new(table: &'a str) -> Batch<'a> {
        let mut request = Request::new();
        request.message(BATCH_BEGIN, 0, &[0, 0, 0, SUBSYSTEM as u8], |_| {});
        Batch { request, table }
    }

    /// Sends it.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), Error> {
        self.request.message(BATCH_END, 0, &[0, 0, 0, SUBSYSTEM as u8], |_| {});
        socket.commit(self.request)
    }

    /// Makes the table, or takes the one that is there.
    pub fn add_table(&mut self) -> &mut Self {
        let table = self.table;
        self.message(NEWTABLE, NLM_F_CREATE, |body| body.text(1, table))
    }

    /// Removes the table with all that is in it.
    pub fn delete_table(&mut self) -> &mut Self {
        let table = self.table;
        self.message(DELTABLE, 0, |body| body.text(1, table))
    }

    /// Makes a base chain, or takes the same one that is there.
    pub fn add_chain(&mut self, chain: &Chain<'_>) -> &mut Self {
        let table = self.table;
        self.message(NEWCHAIN, NLM_F_CREATE, |body| {
            body.text(1, table);
            body.text(3, chain.name);
            body.nest(4, |hook| {
                hook.be32(1, chain.hook as u32);
                hook.be32(2, chain.priority as u32);
            });
            if let Some(drop) = chain.drop {
                body.be32(5, if drop { DROP } else { ACCEPT } as u32);
            }
            body.text(7, chain.kind);
        })
    }

    /// Makes a set or map, or takes the same one that is there.
    pub fn add_set(&mut self, set: &Set<'_>, id: u32) -> &mut Self {
        const INTERVAL: u32 = 4;
        const MAP: u32 = 8;
        const CONCAT: u32 = 0x80;
        let table = self.table;
        let mut flags = if set.intervals { INTERVAL } else { 0 };
        if !set.data.is_empty() {
            flags |= MAP;
        }
        if set.key.len() > 1 && set.intervals {
            flags |= CONCAT;
        }
        self.message(NEWSET, NLM_F_CREATE, |body| {
            body.text(1, table);
            body.text(2, set.name);
            body.be32(3, flags);
            body.be32(4, type_number(set.key));
            body.be32(5, length(set.key));
            if !set.data.is_empty() {
                body.be32(6, type_number(set.data));
                body.be32(7, length(set.data));
            }
            body.be32(10, id);
            if set.key == [Type::InterfaceName] {
                // For `nft` only, which otherwise prints such keys backwards: the key is in the machine's order.
                const KEY_BYTE_ORDER: u8 = 0;
                const HOST: u32 = 1;
                let mut note = vec![KEY_BYTE_ORDER, 4];
                note.extend_from_slice(&HOST.to_ne_bytes());
                body.bytes(13, &note);
            }
        })
    }

    /// Adds elements.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(NEWSETELEM, NLM_F_CREATE, set, elements)
    }

    /// Removes elements; one that is not there fails the transaction.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(DELSETELEM, 0, set, elements)
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, set: &str) -> &mut Self {
        let table = self.table;
        self.message(DELSETELEM, 0, |body| {
            body.text(1, table);
            body.text(2, set);
        })
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) -> &mut Self {
        /// An attribute holds 64 KiB; an element of ours takes less than 100 bytes.
        const PER_MESSAGE: usize = 500;
        let table = self.table;
        for chunk in elements.chunks(PER_MESSAGE) {
            self.message(kind, flags, |body| {
                body.text(1, table);
                body.text(2, set);
                body.nest(3, |list| {
                    for element in chunk {
                        list.nest(LIST_ELEM, |item| {
                            item.nest(1, |key| key.bytes(1, &element.key));
                            if !element.data.is_empty() {
                                item.nest(2, |data| data.bytes(1, &element.data));
                            }
                            if element.ends {
                                item.be32(3, INTERVAL_END);
                            }
                        });
                    }
                });
            });
        }
        self
    }

    /// Removes every rule of every chain of the table.
    pub fn flush_rules(&mut self) -> &mut Self {
        let table = self.table;
        self.message(DELRULE, 0, |body| body.text(1, table))
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, rule: impl FnOnce(&mut Rule<'_>)) -> &mut Self {
        /// Append, not insert (NLM_F_APPEND).
        const APPEND: u16 = 0x800;
        let table = self.table;
        self.message(NEWRULE, NLM_F_CREATE | APPEND, |body| {
            body.text(1, table);
            body.text(2, chain);
            body.nest(4, |expressions| rule(&mut Rule(expressions)));
        })
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Request)) -> &mut Self {
        self.request.message(SUBSYSTEM << 8 | kind, flags, &[INET, 0, 0, 0], body);
        self
    }
}

/// Every element of a set; none when there is no such set or table.
pub fn dump_elements(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<Element>, Error> {
    let mut request = Request::new();
    request.message(SUBSYSTEM << 8 | GETSETELEM, 0, &[INET, 0, 0, 0], |body| {
        body.text(1, table);
        body.text(2, set);
    });
    let mut elements = Vec::new();
    let result = socket.dump(request, |message| {
        for (_, item) in message.attributes(4).nested(3) {
            let item = Attributes(item);
            let flags = item.find(3).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
            elements.push(Element {
                key: item.nested(1).find(1).unwrap_or_default().to_vec(),
                data: item.nested(2).find(1).unwrap_or_default().to_vec(),
                ends: flags & INTERVAL_END != 0,
            });
        }
    });
    match result {
        Err(error) if error.errno() == libc::ENOENT => Ok(Vec::new()),
        result => result.map(|()| elements),
    }
}

/// The type number of a concatenation: six bits per part.
fn type_number(parts: &[Type]) -> u32 {
    parts.iter().fold(0, |number, part| number << 6 | *part as u32)
}

fn length(parts: &[Type]) -> u32 {
    parts.iter().map(|part| part.length()).sum()
}

const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const IMMEDIATE_VERDICT_REGISTER: u32 = 0;
/// The address is this machine's own (RTN_LOCAL).
const RTN_LOCAL: u32 = 2;

/// What `meta` loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// The name of the interface the packet came by.
    InputName = 6,
    /// The name of the interface it leaves by.
    OutputName = 7,
    /// IPv4 or IPv6 (NFPROTO_…), one byte.
    Family = 15,
    /// The transport protocol, one byte.
    Protocol = 16,
}

/// What `ct` loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conntrack {
    /// The connection's state as one bit of a mask.
    State = 0,
    /// The connection's status bits; 1 << 5 says that its destination was rewritten.
    Status = 2,
}

/// A rule's expressions, evaluated in order; one that does not match ends the rule.
#[derive(Debug)]
pub struct Rule<'a>(&'a mut Request);

impl Rule<'_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Request)) -> &mut Self {
        self.0.nest(LIST_ELEM, |expression| {
            expression.text(1, name);
            expression.nest(2, data);
        });
        self
    }

    /// Loads a property of the packet.
    pub fn meta(&mut self, into: Register, key: Meta) -> &mut Self {
        self.expression("meta", |data| {
            data.be32(1, into.number());
            data.be32(2, key as u32);
        })
    }

    /// Loads a property of the packet's connection.
    pub fn conntrack(&mut self, into: Register, key: Conntrack) -> &mut Self {
        self.expression("ct", |data| {
            data.be32(1, into.number());
            data.be32(2, key as u32);
        })
    }

    /// Loads the IPv4 destination address.
    pub fn destination_address(&mut self, into: Register) -> &mut Self {
        self.payload(into, 1, 16, 4)
    }

    /// Loads the IPv4 source address.
    pub fn source_address(&mut self, into: Register) -> &mut Self {
        self.payload(into, 1, 12, 4)
    }

    /// Loads the destination port.
    pub fn destination_port(&mut self, into: Register) -> &mut Self {
        self.payload(into, 2, 2, 2)
    }

    fn payload(&mut self, into: Register, base: u32, offset: u32, length: u32) -> &mut Self {
        self.expression("payload", |data| {
            data.be32(1, into.number());
            data.be32(2, base);
            data.be32(3, offset);
            data.be32(4, length);
        })
    }

    /// Goes on only when the destination is an address of this machine.
    pub fn destination_is_local(&mut self, scratch: Register) -> &mut Self {
        self.destination_type(scratch).equals(scratch, &RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on only when the destination is no address of this machine.
    pub fn destination_is_not_local(&mut self, scratch: Register) -> &mut Self {
        self.destination_type(scratch).differs(scratch, &RTN_LOCAL.to_ne_bytes())
    }

    /// Loads the type of the destination address, an RTN_ number.
    fn destination_type(&mut self, into: Register) -> &mut Self {
        const ADDRESS_TYPE: u32 = 3;
        const DESTINATION: u32 = 2;
        self.expression("fib", |data| {
            data.be32(1, into.number());
            data.be32(2, ADDRESS_TYPE);
            data.be32(3, DESTINATION);
        })
    }

    /// Keeps the masked bits of a register.
    pub fn mask(&mut self, register: Register, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |data| {
            data.be32(1, register.number());
            data.be32(2, register.number());
            data.be32(3, mask.len() as u32);
            data.nest(4, |value| value.bytes(1, mask));
            data.nest(5, |value| value.bytes(1, &vec![0; mask.len()]));
        })
    }

    /// Goes on only when the register holds `value`.
    pub fn equals(&mut self, register: Register, value: &[u8]) -> &mut Self {
        self.compare(register, 0, value)
    }

    /// Goes on only when the register holds anything but `value`.
    pub fn differs(&mut self, register: Register, value: &[u8]) -> &mut Self {
        self.compare(register, 1, value)
    }

    fn compare(&mut self, register: Register, operator: u32, value: &[u8]) -> &mut Self {
        self.expression("cmp", |data| {
            data.be32(1, register.number());
            data.be32(2, operator);
            data.nest(3, |nested| nested.bytes(1, value));
        })
    }

    /// Goes on only when the key at `key` is in the set.
    pub fn is_in(&mut self, set: &str, key: Register) -> &mut Self {
        self.lookup(set, key, None, false)
    }

    /// Goes on only when the key at `key` is not in the set.
    pub fn is_not_in(&mut self, set: &str, key: Register) -> &mut Self {
        self.lookup(set, key, None, true)
    }

    /// Loads what the map has for the key at `key`; goes on only when there is something.
    pub fn find_in(&mut self, map: &str, key: Register, into: Register) -> &mut Self {
        self.lookup(map, key, Some(into), false)
    }

    fn lookup(&mut self, set: &str, key: Register, into: Option<Register>, inverse: bool) -> &mut Self {
        const INVERSE: u32 = 1;
        self.expression("lookup", |data| {
            data.text(1, set);
            data.be32(2, key.number());
            if let Some(into) = into {
                data.be32(3, into.number());
            }
            if inverse {
                data.be32(5, INVERSE);
            }
        })
    }

    /// Rewrites the destination to the IPv4 address at `address` and the port in the register after it.
    pub fn rewrite_destination(&mut self, address: Register) -> &mut Self {
        const DNAT: u32 = 1;
        self.expression("nat", |data| {
            data.be32(1, DNAT);
            data.be32(2, libc::NFPROTO_IPV4 as u32);
            data.be32(3, address.number());
            data.be32(5, Register(address.0 + 1).number());
        })
    }

    /// Gives the packet the source address of the interface it leaves by.
    pub fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |_| {})
    }

    /// Sends the packet to a port of this machine.
    pub fn redirect(&mut self, port: u16, scratch: Register) -> &mut Self {
        self.load(scratch, &port.to_be_bytes());
        self.expression("redir", |data| data.be32(1, scratch.number()))
    }

    /// Loads a constant.
    pub fn load(&mut self, into: Register, value: &[u8]) -> &mut Self {
        self.expression("immediate", |data| {
            data.be32(1, into.number());
            data.nest(2, |nested| nested.bytes(1, value));
        })
    }

    /// Lets the packet pass this chain.
    pub fn accept(&mut self) -> &mut Self {
        self.verdict(ACCEPT)
    }

    /// Drops the packet.
    pub fn drop(&mut self) -> &mut Self {
        self.verdict(DROP)
    }

    fn verdict(&mut self, code: i32) -> &mut Self {
        self.expression("immediate", |data| {
            data.be32(1, IMMEDIATE_VERDICT_REGISTER);
            data.nest(2, |value| value.nest(2, |verdict| verdict.be32(1, code as u32)));
        })
    }
}
