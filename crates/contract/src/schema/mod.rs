//! The contract for machines: JSON Schemas of all values, and an AsyncAPI document of the topics.
//!
//! The schemas use the same constants as the code that reads commands. [`outside_schema`] lists what a schema can't say;
//! a property test checks that apart from that list, schema and decisions agree.
//!
//! - `command`, `normal_form`, `outcome`: the schemas.
//! - `asyncapi`: topics, keys, headers and replies.
//! - `shape`: building blocks.

mod asyncapi;
mod command;
mod normal_form;
mod outcome;
mod shape;

pub use asyncapi::{Channels, asyncapi};
pub use command::outside_schema;

use serde_json::{Map, Value, json};

use crate::limits::Limits;
use shape::{Definitions, Scope, merge};

/// The values that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The value of a record on the commands topic.
    Command,
    /// An event as `log list` and `log show` print it.
    Event,
    /// The value of a record on the notifications topic.
    Notification,
    /// The problems in a rejection's header.
    Rejection,
    /// The value of a reply.
    Reply,
}

impl Schema {
    pub const ALL: [Self; 5] = [Self::Command, Self::Event, Self::Notification, Self::Rejection, Self::Reply];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Event => "event",
            Self::Notification => "notification",
            Self::Rejection => "rejection",
            Self::Reply => "reply",
        }
    }

    /// The schema, as in JSON Schema 2020-12. Only the schema of commands depends on the limits, because existing events
    /// may have been accepted under others.
    #[must_use]
    pub fn document(self, limits: &Limits) -> Value {
        let scope = Scope { prefix: "#/$defs/", limits };
        let (root, definitions) = self.parts(scope);
        let definitions: Map<String, Value> =
            definitions.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
        let mut document = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema" });
        merge(&mut document, root);
        merge(&mut document, json!({ "$defs": definitions }));
        document
    }

    /// The schema and its definitions.
    fn parts(self, scope: Scope<'_>) -> (Value, Definitions) {
        match self {
            Self::Command => command::command(scope),
            Self::Event => normal_form::event(scope),
            Self::Notification => normal_form::notification(scope),
            Self::Rejection => outcome::rejection(scope),
            Self::Reply => outcome::reply(scope),
        }
    }
}
