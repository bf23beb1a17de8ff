//! The event bus: what happened, to whoever listens and, for a while, to those who come later.
//!
//! Publishing never waits. Each listener has a queue of its own; one that falls too far behind is cut off
//! (its stream ends), so that a stuck client costs a bounded amount of memory and never a container's time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::containers::request::BoxStream;
use crate::error::Result;
use crate::filters::Filters;
use crate::time::Time;

/// How many past events `since` can replay. dockerd keeps 256; a compose project of twenty services makes
/// more than that in one `up`.
const REMEMBERED: usize = 1024;

/// How many events a listener may lie behind.
const BEHIND: usize = 4096;

/// An event, in Docker's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The action again, for containers and images (API before 1.22).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The actor's id again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The image's name again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`, `builder`.
    #[serde(rename = "Type")]
    pub kind: &'static str,
    /// What happened.
    #[serde(rename = "Action")]
    pub action: String,
    /// To what.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: &'static str,
    /// Seconds.
    pub time: i64,
    /// Nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels, name, image, exit code, ….
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// `GET /events`.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Replay from then.
    pub since: Option<Time>,
    /// End then.
    pub until: Option<Time>,
    /// Filters.
    pub filters: Filters,
}

/// Names of filters that events know.
const ACCEPTED: [&str; 18] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
    "label!",
    "builder",
    "id",
    "name",
];

/// The bus.
#[derive(Debug, Clone, Default)]
pub struct Bus(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    past: VecDeque<Arc<Event>>,
    listeners: Vec<mpsc::Sender<Arc<Event>>>,
}

impl Bus {
    /// Tells everyone.
    pub fn publish(&self, kind: &'static str, action: impl Into<String>, actor: Actor) {
        let now = Time::now();
        let action = action.into();
        let old_style = matches!(kind, "container" | "image");
        let event = Arc::new(Event {
            status: if old_style { action.clone() } else { String::new() },
            id: if old_style { actor.id.clone() } else { String::new() },
            from: if kind == "container" {
                actor.attributes.get("image").cloned().unwrap_or_default()
            } else {
                String::new()
            },
            kind,
            action,
            actor,
            scope: "local",
            time: now.unix(),
            time_nano: now.unix_nanos(),
        });
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.past.len() == REMEMBERED {
            inner.past.pop_front();
        }
        inner.past.push_back(event.clone());
        inner.listeners.retain(|listener| listener.try_send(event.clone()).is_ok());
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).listeners.len()
    }

    /// Past events since `since`, then those to come, until `until`.
    pub fn listen(&self, filter: EventFilter) -> Result<BoxStream<Arc<Event>>> {
        filter.filters.accept(&ACCEPTED)?;
        let (sender, receiver) = mpsc::channel(BEHIND);
        let now = Time::now();
        let past: Vec<Arc<Event>> = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if filter.until.is_none_or(|until| until > now) {
                inner.listeners.retain(|listener| !listener.is_closed());
                inner.listeners.push(sender);
            }
            match filter.since {
                Some(since) => {
                    inner.past.iter().filter(|event| event.time_nano >= since.unix_nanos()).cloned().collect()
                }
                None => Vec::new(),
            }
        };
        let until = filter.until;
        let filters = filter.filters;
        let stream =
            futures_util::stream::iter(past).chain(ReceiverStream::new(receiver)).filter(move |event| {
                let fits = matches(&filters, event)
                    && until.is_none_or(|until| event.time_nano <= until.unix_nanos());
                futures_util::future::ready(fits)
            });
        Ok(match until {
            None => Box::pin(stream),
            Some(until) => {
                let left = u64::try_from(until.unix_nanos().saturating_sub(now.unix_nanos())).unwrap_or(0);
                let end = tokio::time::sleep(std::time::Duration::from_nanos(left));
                Box::pin(stream.take_until(end))
            }
        })
    }
}

/// Whether an event passes the filters.
fn matches(filters: &Filters, event: &Event) -> bool {
    let attributes = &event.actor.attributes;
    let name = attributes.get("name").map_or("", String::as_str);
    let is = |kind: &str, wanted: &str| {
        event.kind == kind
            && (event.actor.id == wanted
                || name == wanted
                || (wanted.len() >= 4 && event.actor.id.starts_with(wanted)))
    };
    let image = |wanted: &str| {
        let of_image =
            |text: &str| text == wanted || text.rsplit_once(':').is_some_and(|(base, _)| base == wanted);
        match event.kind {
            "image" => of_image(&event.actor.id) || of_image(name),
            _ => attributes.get("image").is_some_and(|text| of_image(text)),
        }
    };
    filters.any("event", |wanted| {
        event.action == wanted || event.action.split_once(':').is_some_and(|(verb, _)| verb == wanted)
    }) && filters.exact("type", event.kind)
        && filters.exact("scope", event.scope)
        && filters.labels(attributes)
        && filters.any("container", |wanted| {
            is("container", wanted) || attributes.get("container").is_some_and(|id| id == wanted)
        })
        && filters.any("network", |wanted| is("network", wanted))
        && filters.any("volume", |wanted| is("volume", wanted))
        && filters.any("daemon", |wanted| is("daemon", wanted))
        && filters.any("image", image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(id: &str, pairs: &[(&str, &str)]) -> Actor {
        let attributes =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Actor { id: id.to_owned(), attributes }
    }

    fn filters(text: &str) -> EventFilter {
        EventFilter { filters: Filters::parse(text).unwrap(), ..EventFilter::default() }
    }

    #[tokio::test]
    async fn a_listener_sees_what_comes_after_it() {
        let bus = Bus::default();
        bus.publish("container", "create", actor("1", &[]));
        let mut stream = bus.listen(EventFilter::default()).unwrap();
        bus.publish("container", "start", actor("1", &[("image", "busybox")]));
        let event = stream.next().await.unwrap();
        assert_eq!((event.action.as_str(), event.from.as_str()), ("start", "busybox"));
    }

    #[tokio::test]
    async fn since_replays_and_a_past_until_ends_the_stream() {
        let bus = Bus::default();
        bus.publish("container", "create", actor("1", &[]));
        bus.publish("network", "connect", actor("2", &[]));
        let filter = EventFilter {
            since: Some(Time::from_unix_nanos(0)),
            until: Some(Time::now()),
            ..EventFilter::default()
        };
        let actions: Vec<String> =
            bus.listen(filter).unwrap().map(|event| event.action.clone()).collect().await;
        assert_eq!(actions, ["create", "connect"]);
    }

    #[tokio::test]
    async fn filters_choose_by_type_event_container_and_label() {
        let bus = Bus::default();
        let mut stream = bus
            .listen(filters(
                r#"{"type":["container"],"event":["exec_start","die"],"container":["web"],"label":["a=b"]}"#,
            ))
            .unwrap();
        bus.publish("image", "die", actor("x", &[("name", "web"), ("a", "b")]));
        bus.publish("container", "die", actor("1", &[("name", "db"), ("a", "b")]));
        bus.publish("container", "die", actor("1", &[("name", "web"), ("a", "c")]));
        bus.publish("container", "exec_start: sh -c true", actor("1", &[("name", "web"), ("a", "b")]));
        assert_eq!(stream.next().await.unwrap().action, "exec_start: sh -c true");
    }

    #[tokio::test]
    async fn a_listener_that_never_reads_is_cut_off_and_delays_nobody() {
        let bus = Bus::default();
        let stuck = bus.listen(EventFilter::default()).unwrap();
        for _ in 0..=BEHIND {
            bus.publish("container", "start", actor("1", &[]));
        }
        assert_eq!(stuck.count().await, BEHIND);
    }
}
