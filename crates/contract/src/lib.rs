//! The contract: everything about commands and their outcomes that needs no I/O.
//!
//! Nothing here reads a clock, draws a random number or does I/O, so the same record gets the same decision, including its
//! activity id, on every machine, every time.
//!
//! [`Decider::read`] reads a [`Record`] without any state. [`settle()`] then decides valid commands, given what is known
//! about their idempotency keys. The modules, in the order in which a command passes through them:
//!
//! - `record`, `cloud_event`: the record, and where in it the entry is.
//! - `entry`, `identity`, `target`, `attachment`: the parts of an entry, which are read leniently.
//! - `quick`: ordinary entries, in one walk over their text.
//! - `json`, `field`, `member`, `repeated`, `text`, `date_time`: what those are read with.
//! - `problem`, `code`, `limits`, `wording`: what can be wrong with a command, and how it is reported.
//! - `normal_form`, `event`, `id`: what the log stores.
//! - `idempotency`, `canonical`: when two commands are the same.
//! - `decider`, `decision`: all of the above, from a record to its decision.
//! - `notification`, `rejection`, `reply`: what is published.
//! - `dead_letter`, `command_ref`: rejections read from their topic, and references to commands.
//! - `schema`: JSON Schemas and AsyncAPI.

mod attachment;
mod canonical;
mod cloud_event;
mod code;
mod command_ref;
mod date_time;
mod dead_letter;
mod decider;
mod decision;
mod entry;
mod event;
mod field;
mod id;
mod idempotency;
mod identity;
mod json;
mod limits;
mod member;
mod normal_form;
mod notification;
mod problem;
mod quick;
mod record;
mod rejection;
mod repeated;
mod reply;
mod schema;
mod target;
mod text;
mod wording;

pub use code::Code;
pub use command_ref::{CommandRef, IdOfOtherTopic, NotACommandRef, PartitionOffset};
pub use date_time::utc;
pub use dead_letter::{DeadLetter, OmittedParts};
pub use decider::Decider;
pub use decision::{Decision, Fate, Reading, Verdict, settle};
pub use entry::object_key;
pub use event::{Event, EventTarget, NotNormalForm};
pub use id::{ActivityId, IdSpaceExceeded, NotAnActivityId, topic_bits};
pub use idempotency::{Claim, IdempotencyKey};
pub use limits::Limits;
pub use notification::{Notification, NotificationRef, Notifications, TRACE_HEADERS};
pub use problem::{Problem, Problems};
pub use record::{Coordinates, Header, HeaderRef, OutputRecord, OutputRef, Record};
pub use rejection::{rejection_forms, rejection_record};
pub use reply::{CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC, Reply, ReplyRecord, ReplyTopics};
pub use schema::{Channels, Schema, asyncapi, outside_schema};
