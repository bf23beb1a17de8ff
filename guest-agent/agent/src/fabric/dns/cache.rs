//! Answers of the host's resolver, kept for as long as they say.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

/// Answers kept; a container that makes up names must not fill the memory.
const KEPT: usize = 2048;
/// No answer is kept longer: the host may move to another network.
const LONGEST: Duration = Duration::from_secs(300);
/// A name that isn't there may be made any moment.
const LONGEST_ABSENCE: Duration = Duration::from_secs(10);
const ID: usize = 2;

/// The answers, by the whole question but its identifier.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<Vec<u8>, Kept>>);

struct Kept {
    reply: Message,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// The answer to a question, with the time that is left to it.
    pub(super) fn get(&self, question: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (id, key) = (question.get(..ID)?, question.get(ID..)?);
        let mut reply = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = kept.get(key).filter(|kept| now < kept.until)?;
            let age = u32::try_from(now.duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
            let mut reply = kept.reply.clone();
            for record in reply.answers_mut() {
                record.set_ttl(record.ttl().saturating_sub(age));
            }
            reply
        };
        reply.set_id(u16::from_be_bytes(id.try_into().ok()?));
        reply.to_vec().ok()
    }

    /// Keeps an answer that says how long it is good for.
    pub(super) fn put(&self, question: &[u8], reply: &[u8], now: Instant) {
        let Ok(reply) = Message::from_vec(reply) else { return };
        let (Some(key), Some(lasts)) = (question.get(ID..), lasts(&reply)) else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, kept| now < kept.until);
        }
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key.to_vec(), Kept { reply, since: now, until: now + lasts });
    }
}

/// How long an answer is good for; `None` when it is not to be kept.
fn lasts(reply: &Message) -> Option<Duration> {
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    let shortest = reply.answers().iter().map(hickory_proto::rr::Record::ttl).min();
    let lasts = match (reply.response_code(), shortest) {
        _ if reply.truncated() => return None,
        (ResponseCode::NoError, Some(ttl)) => seconds(ttl).min(LONGEST),
        // That there is nothing is good for as long as the zone's own record says (RFC 2308).
        (ResponseCode::NoError | ResponseCode::NXDomain, None) => {
            let mut zones =
                reply.name_servers().iter().filter(|record| record.record_type() == RecordType::SOA);
            seconds(zones.next()?.ttl()).min(LONGEST_ABSENCE)
        }
        _ => return None,
    };
    (!lasts.is_zero()).then_some(lasts)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RData, Record};

    use super::*;

    fn question(id: u16) -> Vec<u8> {
        let name = Name::from_ascii("example.org.").unwrap();
        let mut message = Message::new();
        message.set_id(id).add_query(Query::query(name, RecordType::A));
        message.to_vec().unwrap()
    }

    fn reply(ttl: u32, code: ResponseCode) -> Vec<u8> {
        let mut message = Message::from_vec(&question(1)).unwrap();
        let name = message.queries()[0].name().clone();
        message.set_response_code(code);
        message.add_answer(Record::from_rdata(name, ttl, RData::A(Ipv4Addr::LOCALHOST.into())));
        message.to_vec().unwrap()
    }

    #[test]
    fn an_answer_is_good_for_its_time_and_grows_old() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.put(&question(1), &reply(30, ResponseCode::NoError), now);
        let later =
            Message::from_vec(&cache.get(&question(9), now + Duration::from_secs(10)).unwrap()).unwrap();
        assert_eq!((later.id(), later.answers()[0].ttl()), (9, 20));
        assert!(cache.get(&question(9), now + Duration::from_secs(30)).is_none());
    }

    #[test]
    fn failures_and_answers_for_the_moment_are_not_kept() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.put(&question(1), &reply(0, ResponseCode::NoError), now);
        cache.put(&question(1), &reply(30, ResponseCode::ServFail), now);
        cache.put(&question(1), b"no message", now);
        assert!(cache.get(&question(1), now).is_none());
        assert!(cache.get(&[1], now).is_none());
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let (cache, now) = (Cache::default(), Instant::now());
        for number in 0..KEPT + 10 {
            let mut question = question(1);
            question.extend_from_slice(&number.to_be_bytes());
            cache.put(&question, &reply(30, ResponseCode::NoError), now);
        }
        assert!(cache.0.lock().unwrap().len() <= KEPT);
    }
}
