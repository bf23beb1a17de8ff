//! From a question to an answer, or to the decision that somebody else must be asked. Pure.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::table::Table;

/// dockerd's: a container's address stays as long as it runs, and clients ask again soon enough.
const TTL: u32 = 600;
/// What a datagram may hold when nothing else is said, and what we take ourselves.
const PLAIN_DATAGRAM: u16 = 512;
const OUR_DATAGRAM: u16 = 4096;

/// What is to be done with a question.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Send this.
    Reply(Vec<u8>),
    /// Ask another server.
    Forward,
    /// It is no question.
    Ignore,
}

/// Who asks, how and what is known.
pub(super) struct Asker<'a> {
    pub(super) container: &'a str,
    pub(super) table: &'a Table,
    /// See [`super::ResolverSpec::ndots`].
    pub(super) ndots: bool,
    /// Whether the answer travels in one datagram.
    pub(super) datagram: bool,
    /// Which of several addresses comes first.
    pub(super) turn: usize,
}

/// Answers a question, or says who should.
pub(super) fn answer(question: &[u8], asker: &Asker<'_>) -> Outcome {
    let Ok(message) = Message::from_vec(question) else { return Outcome::Ignore };
    if message.message_type() != MessageType::Query {
        return Outcome::Ignore;
    }
    let [query] = message.queries() else {
        return reply(&message, ResponseCode::FormErr, Vec::new(), asker);
    };
    if message.op_code() != OpCode::Query {
        return reply(&message, ResponseCode::NotImp, Vec::new(), asker);
    }
    match known(query, asker) {
        Some(records) => reply(&message, ResponseCode::NoError, records, asker),
        // Other servers know nothing of it, and the resolver goes on to its search domains.
        None if asker.ndots && is_address(query) && query.name().num_labels() < 2 => {
            reply(&message, ResponseCode::NoError, Vec::new(), asker)
        }
        None if !asker.table.reaches_outside(asker.container) => {
            reply(&message, ResponseCode::ServFail, Vec::new(), asker)
        }
        None => Outcome::Forward,
    }
}

/// The answer that nobody could be asked.
pub(super) fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(question).ok()?;
    Message::error_msg(message.id(), message.op_code(), ResponseCode::ServFail)
        .add_queries(message.queries().to_vec())
        .to_vec()
        .ok()
}

fn is_address(query: &Query) -> bool {
    matches!(query.query_type(), RecordType::A | RecordType::AAAA)
}

/// The records of a name that is a member's: none when it has none of the kind. `None` when it is no member's.
fn known(query: &Query, asker: &Asker<'_>) -> Option<Vec<Record>> {
    let name = query.name();
    if query.query_type() == RecordType::PTR {
        let address: IpAddr =
            name.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len())?.addr();
        let mut called = Name::from_ascii(asker.table.name_of(asker.container, address)?).ok()?;
        called.set_fqdn(true);
        return Some(vec![Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(called)))]);
    }
    let text = name.to_ascii().to_ascii_lowercase();
    let hosts = asker.table.find(asker.container, text.trim_end_matches('.'))?;
    let mut records: Vec<Record> = hosts
        .iter()
        .filter_map(|host| match query.query_type() {
            RecordType::A => Some(RData::A(host.v4?.into())),
            RecordType::AAAA => Some(RData::AAAA(host.v6?.into())),
            _ => None,
        })
        .map(|data| Record::from_rdata(name.clone(), TTL, data))
        .collect();
    if !records.is_empty() {
        let first = asker.turn % records.len();
        records.rotate_left(first);
    }
    Some(records)
}

fn reply(question: &Message, code: ResponseCode, records: Vec<Record>, asker: &Asker<'_>) -> Outcome {
    let mut reply = Message::new();
    reply
        .set_id(question.id())
        .set_message_type(MessageType::Response)
        .set_op_code(question.op_code())
        .set_recursion_desired(question.recursion_desired())
        .set_recursion_available(true)
        .set_response_code(code)
        .add_queries(question.queries().to_vec())
        .add_answers(records);
    let room = question.extensions().as_ref().map_or(PLAIN_DATAGRAM, |theirs| {
        let mut ours = Edns::new();
        ours.set_max_payload(OUR_DATAGRAM);
        reply.set_edns(ours);
        theirs.max_payload().clamp(PLAIN_DATAGRAM, OUR_DATAGRAM)
    });
    let Ok(bytes) = reply.to_vec() else { return Outcome::Ignore };
    if !asker.datagram || bytes.len() <= usize::from(room) {
        return Outcome::Reply(bytes);
    }
    // Too long: the mark says that the whole is to be had by TCP.
    reply.take_answers();
    reply.set_truncated(true);
    reply.to_vec().map_or(Outcome::Ignore, Outcome::Reply)
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{endpoint, network};
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        table.add_network(&network("n", false));
        table.add(&endpoint("n", "me", 2, &["me"]));
        for last in 3..6 {
            table.add(&endpoint("n", &format!("web{last}"), last, &["Web"]));
        }
        table
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new();
        let name = Name::from_ascii(name).unwrap();
        message.set_id(77).set_recursion_desired(true).add_query(Query::query(name, kind));
        message
    }

    fn asker(table: &Table) -> Asker<'_> {
        Asker { container: "me", table, ndots: false, datagram: true, turn: 0 }
    }

    fn replied(question: &Message, asker: &Asker<'_>) -> Message {
        match answer(&question.to_vec().unwrap(), asker) {
            Outcome::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_members_addresses_come_in_turn_whatever_the_case() {
        let table = table();
        let first = |turn| {
            let reply = replied(&question("wEB.", RecordType::A), &Asker { turn, ..asker(&table) });
            assert_eq!((reply.id(), reply.answers().len()), (77, 3));
            assert_eq!(reply.answers()[0].name().to_ascii(), "wEB.");
            reply.answers()[0].data().to_string()
        };
        assert_eq!([first(0), first(1), first(3)], ["10.0.0.3", "10.0.0.4", "10.0.0.3"]);
    }

    #[test]
    fn a_member_without_the_kind_of_address_exists_all_the_same() {
        let table = table();
        for kind in [RecordType::AAAA, RecordType::MX, RecordType::HTTPS] {
            let reply = replied(&question("me.", kind), &asker(&table));
            assert_eq!((reply.response_code(), reply.answers().len()), (ResponseCode::NoError, 0));
        }
    }

    #[test]
    fn an_address_is_called_by_its_name_and_network() {
        let table = table();
        let reply = replied(&question("2.0.0.10.in-addr.arpa.", RecordType::PTR), &asker(&table));
        assert_eq!(reply.answers()[0].data().to_string(), "me.n_default.");
    }

    #[test]
    fn what_no_member_is_called_is_for_others() {
        let table = table();
        let ask =
            |name: &str, asker: &Asker<'_>| answer(&question(name, RecordType::A).to_vec().unwrap(), asker);
        assert!(matches!(ask("example.org.", &asker(&table)), Outcome::Forward));
        assert!(matches!(ask("plain.", &asker(&table)), Outcome::Forward));
        let ndots = Asker { ndots: true, ..asker(&table) };
        assert_eq!(
            replied(&question("plain.", RecordType::A), &ndots).response_code(),
            ResponseCode::NoError
        );
        assert!(matches!(ask("example.org.", &ndots), Outcome::Forward));
    }

    #[test]
    fn nothing_leaves_an_internal_network() {
        let mut table = Table::default();
        table.add_network(&network("n", true));
        table.add(&endpoint("n", "me", 2, &["me"]));
        let reply = replied(&question("example.org.", RecordType::A), &asker(&table));
        assert_eq!(reply.response_code(), ResponseCode::ServFail);
    }

    #[test]
    fn an_answer_too_long_for_a_datagram_says_so() {
        let mut table = Table::default();
        table.add_network(&network("n", false));
        table.add(&endpoint("n", "me", 2, &["me"]));
        for last in 3..200 {
            table.add(&endpoint("n", &format!("w{last}"), last, &["web"]));
        }
        let mut plain = question("web.", RecordType::A);
        let cut = replied(&plain, &asker(&table));
        assert!(cut.truncated() && cut.answers().is_empty());
        let whole = replied(&plain, &Asker { datagram: false, ..asker(&table) });
        assert_eq!(whole.answers().len(), 197);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        plain.set_edns(edns);
        let extended = replied(&plain, &asker(&table));
        assert_eq!(extended.answers().len(), 197);
        assert!(extended.extensions().is_some());
    }

    #[test]
    fn what_is_no_question_is_ignored() {
        let table = table();
        let mut reply = question("me.", RecordType::A);
        reply.set_message_type(MessageType::Response);
        assert!(matches!(answer(&reply.to_vec().unwrap(), &asker(&table)), Outcome::Ignore));
        for length in 0..12 {
            assert!(matches!(answer(&vec![0; length], &asker(&table)), Outcome::Ignore));
        }
    }
}
