//! The contract for machines: JSON Schemas of all that travels, and an AsyncAPI document of the topics.
//!
//! Names, choices, limits and codes are those of the readers beside this folder. What a schema can't say of a command is
//! listed by [`beyond`]; with that list, a test holds schema and decision together.
//!
//! - `command`, `normal_form`, `outcome`: the definitions.
//! - `asyncapi`: topics, keys, headers and replies.

mod asyncapi;
mod command;
mod normal_form;
mod outcome;

pub use asyncapi::{Channels, asyncapi};

use serde_json::{Map, Value, json};

use super::{Code, Limits, field::Field, text::Rule};

/// What a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The value of a record on the commands topic.
    Command,
    /// An event of the log, as `log list` and `log show` print it.
    Event,
    /// The value of a record on the notifications topic.
    Notification,
    /// The problems in a rejection's header.
    Rejection,
    /// The value of a reply.
    Reply,
}

/// Definitions by name, as they are referred to.
type Definitions = Vec<(&'static str, Value)>;

/// How definitions are made: where they can be referred to, and under which limits.
#[derive(Debug, Clone, Copy)]
struct Scope<'l> {
    /// What stands before a definition's name.
    place: &'static str,
    limits: &'l Limits,
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

    /// The schema, by the JSON Schema of 2020-12. What is a command follows from the limits; what came of one does not,
    /// since it may have been accepted under others.
    #[must_use]
    pub fn document(self, limits: &Limits) -> Value {
        let scope = Scope { place: "#/$defs/", limits };
        let (root, definitions) = self.parts(scope);
        let mut document = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema" });
        merge(&mut document, root);
        let definitions: Map<_, _> =
            definitions.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
        merge(&mut document, json!({ "$defs": definitions }));
        document
    }

    /// The schema, and the definitions that it refers to.
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

/// Why a command can be rejected with this code though its value is as the schema wants it; `None` where it can't.
#[must_use]
pub fn beyond(code: Code) -> Option<&'static str> {
    const RECORD: &str = "a matter of the record, not of its value";
    const TEXT: &str = "a matter of the text, not of what it says";
    match code {
        Code::BadTimestamp
        | Code::UnreadableHeaders
        | Code::BadIdempotencyKey
        | Code::IdempotencyKeyWithoutRecordKey
        | Code::IdempotencyKeyReused
        | Code::BadCloudEvent
        | Code::BadReplyHeader
        | Code::ReplyTopicNotAllowed
        | Code::Tombstone => Some(RECORD),
        Code::TooLarge | Code::NotUtf8 | Code::NotJson => Some(TEXT),
        Code::TooDeep => Some("levels are counted, which no schema can"),
        Code::UnpairedSurrogate => {
            Some("few readers of JSON let half of a surrogate pair pass, and then it is text to the schema")
        }
        Code::DuplicateProperty => Some("of one name given twice most readers of JSON keep one"),
        Code::BadDateTime => Some("the month has no such day, or the leap second is not at 23:59:60 UTC"),
        Code::OutputTooLarge => Some("the bytes of the notifications are counted"),
        Code::TooManyProblems => Some("it comes with other codes"),
        Code::NotAnObject
        | Code::Missing
        | Code::WrongType
        | Code::Empty
        | Code::TooLong
        | Code::ControlCharacter
        | Code::UnknownValue
        | Code::UnknownProperty
        | Code::MisspeltTargets
        | Code::ForeignAudience
        | Code::UnexpectedTargetId
        | Code::NoTargets
        | Code::TooManyTargets
        | Code::TooManyAttachments => None,
    }
}

impl Scope<'_> {
    fn refer(self, definition: &str) -> Value {
        json!({ "$ref": format!("{}{definition}", self.place) })
    }

    /// A string of a command.
    fn text(self, rule: Rule) -> Value {
        let mut text = kept_text(rule);
        if rule != Rule::Free {
            merge(&mut text, json!({ "maxLength": self.limits.text_characters }));
        }
        text
    }
}

/// A string of something that was accepted, whatever the limits were.
fn kept_text(rule: Rule) -> Value {
    // `char::is_control`, which is Unicode's category Cc; `not`, because some engines let `$` stand before a line break;
    // with a type, because null has no characters that a pattern could miss.
    let no_control = json!({ "type": "string", "pattern": r"[\u0000-\u001f\u007f-\u009f]" });
    match rule {
        Rule::Id => json!({ "type": "string", "minLength": 1, "not": no_control }),
        Rule::Name => json!({ "type": "string", "not": no_control }),
        Rule::Free => json!({ "type": "string" }),
    }
}

/// What may also be null, which means absent.
fn or_null(mut schema: Value) -> Value {
    match schema.get_mut("type") {
        Some(kind) => *kind = json!([kind.clone(), "null"]),
        None => schema = json!({ "anyOf": [schema, { "type": "null" }] }),
    }
    schema
}

fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

fn one_of_or_null(words: &[&str]) -> Value {
    let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    all.push(Value::Null);
    json!({ "enum": all })
}

/// With a sentence for people.
fn described(description: &str, mut schema: Value) -> Value {
    merge(&mut schema, json!({ "description": description }));
    schema
}

/// An object in which each field may stand under each of its names, but under one of them only, and some must.
fn lenient_object<F: Field>(required: &[F], property: impl Fn(F) -> Value) -> Value {
    let mut properties = Map::new();
    let mut conditions = Vec::new();
    for field in F::ALL {
        let names = field.names();
        for (index, name) in names.iter().enumerate() {
            properties.insert((*name).to_owned(), property(*field));
            for other in &names[index + 1..] {
                conditions.push(json!({ "not": { "required": [name, other] } }));
            }
        }
    }
    let mut always = Vec::new();
    for field in required {
        match field.names() {
            [name] => always.push(*name),
            names => conditions.push(has_one_of(names)),
        }
    }
    let mut object = json!({ "type": "object", "properties": properties });
    if !always.is_empty() {
        merge(&mut object, json!({ "required": always }));
    }
    if !conditions.is_empty() {
        merge(&mut object, json!({ "allOf": conditions }));
    }
    object
}

fn has_one_of(names: &[&str]) -> Value {
    let choices: Vec<Value> = names.iter().map(|name| json!({ "required": [name] })).collect();
    json!({ "anyOf": choices })
}

fn closed(mut object: Value) -> Value {
    merge(&mut object, json!({ "additionalProperties": false }));
    object
}

/// Adds the members of one object to another.
fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
