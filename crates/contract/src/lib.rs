//! The pure core: what the contract says about one command.
//!
//! Nothing here reads a clock, draws a random number or does I/O, so the same record gives the same
//! decision, id included, on every machine, every time.
//!
//! A [`Record`] goes through [`Decider::read`], which needs no memory, and what is valid through [`settle()`],
//! which is told what is known of its idempotency key. In the order in which a command meets them:
//!
//! - `decider`, `key`, `canonical`, `settle`: from record to decision.
//! - `cloud_event`: where in a record the entry is.
//! - `entry`, `identity`, `target`, `attachment`: the contract's shapes, read leniently and held strictly.
//! - `field`, `json`, `member`, `text`, `date_time`, `found`: what the shapes are read with.
//! - `normal_form`, `event`, `id`: what the log holds.
//! - `notification`, `rejection`, `reply`: what is published. `dead_letter`: a rejection read back.
//! - `problem`, `code`, `limits`: what is wrong, within bounds.
//! - `schema`: all of it for machines.

mod attachment;
mod canonical;
mod cloud_event;
mod code;
mod date_time;
mod dead_letter;
mod decider;
mod decision;
mod entry;
mod event;
mod field;
mod found;
mod id;
mod identity;
mod json;
mod key;
mod limits;
mod member;
mod normal_form;
mod notification;
mod object_key;
mod problem;
mod record;
mod rejection;
mod reply;
mod schema;
mod settle;
mod target;
mod text;

pub use code::Code;
pub use date_time::utc;
pub use dead_letter::{DeadLetter, Named, NotAPlace, Omitted, OtherTopic, Place};
pub use decider::Decider;
pub use decision::{Decision, Fate, Reading, Verdict};
pub use event::{Event, EventTarget, NotNormalForm};
pub use id::{ActivityId, IdSpaceExceeded, NotAnActivityId, topic_bits};
pub use key::{Claim, IdempotencyKey};
pub use limits::Limits;
pub use notification::{Notification, Notifications, PASSED_ON};
pub use object_key::object_key;
pub use problem::{Problem, Problems};
pub use record::{Coordinates, Header, OutputRecord, Record};
pub use rejection::{rejection_forms, rejection_record};
pub use reply::{CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC, Reply, ReplyRecord, ReplyTopics};
pub use schema::{Channels, Schema, asyncapi, beyond};
pub use settle::settle;
