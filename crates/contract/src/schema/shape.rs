//! Building blocks of the schemas.

use serde_json::{Map, Value, json};

use crate::{field::Field, limits::Limits, text::Rule};

/// Definitions by name.
pub(super) type Definitions = Vec<(&'static str, Value)>;

/// How to refer to definitions, and the limits for commands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'l> {
    /// The part of a reference before a definition's name.
    pub(super) prefix: &'static str,
    pub(super) limits: &'l Limits,
}

impl Scope<'_> {
    pub(super) fn refer(self, definition: &str) -> Value {
        json!({ "$ref": format!("{}{definition}", self.prefix) })
    }

    /// A string of a command.
    pub(super) fn text(self, rule: Rule) -> Value {
        let mut text = accepted_text(rule);
        if rule != Rule::Free {
            merge(&mut text, json!({ "maxLength": self.limits.text_characters }));
        }
        text
    }
}

/// A string of an accepted command, whose limits may have been different.
pub(super) fn accepted_text(rule: Rule) -> Value {
    // The characters of `char::is_control`, Unicode's category Cc. `not`, because `$` also matches before a line break in
    // some engines. With a type, so that null is allowed.
    let no_control = json!({ "type": "string", "pattern": r"[\u0000-\u001f\u007f-\u009f]" });
    match rule {
        Rule::Id => json!({ "type": "string", "minLength": 1, "not": no_control }),
        Rule::Name => json!({ "type": "string", "not": no_control }),
        Rule::Free => json!({ "type": "string" }),
    }
}

/// Allows null too, which means absent.
pub(super) fn or_null(mut schema: Value) -> Value {
    match schema.get_mut("type") {
        Some(kind) => *kind = json!([kind.clone(), "null"]),
        None => schema = json!({ "anyOf": [schema, { "type": "null" }] }),
    }
    schema
}

pub(super) fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

pub(super) fn one_of_or_null(words: &[&str]) -> Value {
    let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    all.push(Value::Null);
    json!({ "enum": all })
}

/// Adds a description.
pub(super) fn described(description: &str, mut schema: Value) -> Value {
    merge(&mut schema, json!({ "description": description }));
    schema
}

/// An object with each field under any one of its names.
pub(super) fn lenient_object<F: Field>(required: &[F], property: impl Fn(F) -> Value) -> Value {
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

pub(super) fn has_one_of(names: &[&str]) -> Value {
    let choices: Vec<Value> = names.iter().map(|name| json!({ "required": [name] })).collect();
    json!({ "anyOf": choices })
}

pub(super) fn closed(mut object: Value) -> Value {
    merge(&mut object, json!({ "additionalProperties": false }));
    object
}

/// Adds the members of one object to another.
pub(super) fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
