//! The part of a plan committed with a run's result: the end of its delivery, and the messages still to be sent.

use std::borrow::Cow;
use std::fmt;

use bytes::{Buf, Bytes};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::decode::RunHeaders;
use crate::headers::sent_again;
use crate::message::memory;
use crate::plan::{Plan, Settle};
use crate::{Destination, Message, Properties, Publication};

/// Distinguishes the runs of a task. A message that comes again is the same run; a retry, a message that the task has
/// given back or replaced itself by, one that an operator has taken out of quarantine or moved back after it was
/// rejected, and one that an exchange has put into another queue are others.
///
/// Its text is the key of the run's [`Commit`]. The id comes last, and the queue's length before it: whatever they are,
/// no two keys are the same text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunKey {
    retries: u32,
    requeues: u32,
    replaced: u32,
    /// Out of quarantine, or after it was rejected.
    sent_again: u64,
    queue: String,
    id: String,
}

impl RunKey {
    /// The key of a message's run, by its headers alone: what a run has committed stays valid where its body can't be
    /// decoded any more. None where the message is no request. `queue`: the one that it was consumed from.
    pub fn of(message: &Message, queue: &str) -> Option<Self> {
        let RunHeaders {
            id,
            retries,
            requeues,
            replaced_task_nesting,
        } = RunHeaders::of(message)?;
        Some(Self {
            retries,
            requeues,
            replaced: replaced_task_nesting,
            sent_again: sent_again(&message.headers),
            queue: queue.to_owned(),
            id,
        })
    }

    /// The task's id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            retries,
            requeues,
            replaced,
            sent_again,
            queue,
            id,
        } = self;
        let length = queue.len();
        write!(
            f,
            "{retries}-{requeues}-{replaced}-{sent_again}-{length}-{queue}-{id}"
        )
    }
}

/// Work left for the delivery of a run that has ended. Kept by a result backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit<'a> {
    /// Published first.
    pub publications: Cow<'a, [Publication]>,
    /// Done last.
    pub settle: Settle,
    /// True if it sends its own task, to run again.
    pub sends_itself: bool,
}

/// Copies in memory of the messages of a record that was read: in it, and on their way to the broker.
const COPIES: usize = 2;

/// The record's first line; the bodies follow, one after the other.
#[derive(Serialize, Deserialize)]
struct Line {
    attempt: u64,
    rejected: bool,
    sends_itself: bool,
    messages: Vec<Head>,
}

/// A message without its body.
#[derive(Serialize, Deserialize)]
struct Head {
    exchange: String,
    routing_key: String,
    mandatory: bool,
    not_before: Option<Timestamp>,
    properties: Properties,
    headers: Map<String, Value>,
    /// Bytes of its body.
    size: usize,
}

impl<'a> Commit<'a> {
    /// The work that a plan leaves once its results are stored.
    pub fn of(plan: &'a Plan) -> Self {
        Self {
            publications: Cow::Borrowed(&plan.publications),
            settle: plan.settle,
            sends_itself: plan.sends_itself(),
        }
    }

    /// Only settling is left: all messages are confirmed.
    pub fn done(settle: Settle) -> Self {
        Self {
            publications: Cow::Borrowed(&[]),
            settle,
            sends_itself: false,
        }
    }

    /// Approximate bytes of memory that its messages take until they are out.
    pub fn memory(&self) -> usize {
        memory(&self.publications).saturating_mul(COPIES)
    }

    /// Encodes it for a backend. `attempt`, a random number, distinguishes it from that of another delivery of the run,
    /// which may have run at the same time.
    pub fn record(&self, attempt: u64) -> Vec<u8> {
        let line = Line {
            attempt,
            rejected: self.settle == Settle::Reject,
            sends_itself: self.sends_itself,
            messages: self.publications.iter().map(Head::of).collect(),
        };
        // A structure with text for keys is always JSON.
        let mut record = serde_json::to_vec(&line).unwrap_or_default();
        let bodies: usize = line.messages.iter().map(|head| head.size).sum();
        record.reserve_exact(bodies.saturating_add(1));
        record.push(b'\n');
        for publication in &*self.publications {
            record.extend_from_slice(&publication.message.body);
        }
        record
    }
}

impl Commit<'static> {
    /// Reads a record, of which its bodies stay parts; none where it is not one.
    pub fn read(record: impl Into<Bytes>) -> Option<Self> {
        let mut bodies: Bytes = record.into();
        let end = bodies.iter().position(|byte| *byte == b'\n')?;
        let line: Line = serde_json::from_slice(&bodies.split_to(end)).ok()?;
        bodies.advance(1);
        let mut publications = Vec::new();
        for head in line.messages {
            if bodies.len() < head.size {
                return None;
            }
            let body = bodies.split_to(head.size);
            publications.push(head.publication(body));
        }
        let settle = match line.rejected {
            true => Settle::Reject,
            false => Settle::Ack,
        };
        bodies.is_empty().then_some(Self {
            publications: publications.into(),
            settle,
            sends_itself: line.sends_itself,
        })
    }
}

impl Head {
    fn of(publication: &Publication) -> Self {
        let Publication {
            destination,
            message,
            mandatory,
            not_before,
        } = publication;
        Self {
            exchange: destination.exchange.clone(),
            routing_key: destination.routing_key.clone(),
            mandatory: *mandatory,
            not_before: *not_before,
            properties: message.properties.clone(),
            headers: message.headers.clone(),
            size: message.body.len(),
        }
    }

    fn publication(self, body: Bytes) -> Publication {
        Publication {
            destination: Destination {
                exchange: self.exchange,
                routing_key: self.routing_key,
            },
            message: Message {
                properties: self.properties,
                headers: self.headers,
                body,
            },
            mandatory: self.mandatory,
            not_before: self.not_before,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::plan::Ended;

    /// Without a body: the headers are enough.
    fn message(headers: &Value) -> Message {
        let mut all = json!({"task": "a.b", "id": "x"});
        let map = all.as_object_mut().unwrap();
        map.extend(headers.as_object().unwrap().clone());
        Message {
            headers: map.clone(),
            ..Message::default()
        }
    }

    #[test]
    fn runs_are_told_apart() {
        let table = [
            (json!({}), "0-0-0-0-4-wasm-x"),
            (
                json!({"redelivered": true, "x-delivery-count": 3}),
                "0-0-0-0-4-wasm-x",
            ),
            (json!({"retries": 2}), "2-0-0-0-4-wasm-x"),
            (json!({"x-petiole-requeues": 1}), "0-1-0-0-4-wasm-x"),
            (json!({"replaced_task_nesting": 1}), "0-0-1-0-4-wasm-x"),
            (json!({"x-petiole-sent-again": 4}), "0-0-0-4-4-wasm-x"),
            (
                json!({"x-petiole-sent-again": "no number"}),
                "0-0-0-0-4-wasm-x",
            ),
            (json!({"id": "0-x"}), "0-0-0-0-4-wasm-0-x"),
        ];
        for (headers, key) in table {
            let of_message = RunKey::of(&message(&headers), "wasm").unwrap();
            assert_eq!(of_message.to_string(), key, "{headers}");
        }
        for headers in [
            json!({"id": null}),
            json!({"retries": -1}),
            json!({"x-petiole-unreadable": "why"}),
        ] {
            assert_eq!(RunKey::of(&message(&headers), "wasm"), None, "{headers}");
        }
    }

    fn publication() -> impl Strategy<Value = Publication> {
        let text = || prop::option::of(any::<String>());
        let times = prop::option::of(0_i64..4_000_000_000);
        let body = prop::collection::vec(any::<u8>(), 0..50);
        (text(), text(), any::<bool>(), times, text(), body).prop_map(
            |(exchange, routing_key, mandatory, time, id, body)| Publication {
                destination: Destination {
                    exchange: exchange.unwrap_or_default(),
                    routing_key: routing_key.unwrap_or_default(),
                },
                message: Message {
                    properties: Properties {
                        correlation_id: id.clone(),
                        persistent: mandatory,
                        ..Properties::default()
                    },
                    headers: Map::from_iter([("id".to_owned(), json!(id))]),
                    body: body.into(),
                },
                mandatory,
                not_before: time.map(|time| Timestamp::from_second(time).unwrap()),
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            publications in prop::collection::vec(publication(), 0..5),
            rejected in any::<bool>(),
            retry in any::<bool>(),
        ) {
            let exception = crate::Exception::new("builtins", "ValueError", "x");
            let plan = Plan {
                results: Vec::new(),
                publications,
                settle: if rejected { Settle::Reject } else { Settle::Ack },
                ended: if retry { Ended::Retry { exception } } else { Ended::Success },
            };
            let commit = Commit::read(Commit::of(&plan).record(7)).unwrap();
            prop_assert_eq!(commit.publications, plan.publications);
            prop_assert_eq!(commit.settle, plan.settle);
            prop_assert_eq!(commit.sends_itself, retry);
        }

        #[test]
        fn no_bytes_are_more_than_refused(record in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Commit::read(record);
        }
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_no_record() {
        let message = Message {
            body: Bytes::from_static(b"body"),
            ..Message::default()
        };
        let plan = Plan {
            results: Vec::new(),
            publications: vec![Publication {
                destination: Destination::queue("q"),
                message,
                mandatory: true,
                not_before: None,
            }],
            settle: Settle::Ack,
            ended: Ended::Success,
        };
        let record = Commit::of(&plan).record(7);
        assert!(Commit::read(record.clone()).is_some());
        assert!(Commit::read(record.get(..record.len() - 1).unwrap().to_vec()).is_none());
        assert!(Commit::read([&record[..], b"x"].concat()).is_none());
        assert!(Commit::read(Bytes::new()).is_none());
        let done = Commit::read(Commit::done(Settle::Reject).record(0)).unwrap();
        assert_eq!((done.publications.len(), done.settle), (0, Settle::Reject));
    }
}
