//! The schemas of events and notifications.

use serde_json::{Map, Value, json};

use super::{
    command::date_time,
    shape::{Definitions, Scope, accepted_text, closed, described, one_of},
};
use crate::{
    attachment::{self, AttachmentField},
    date_time::TIMESTAMPS,
    entry::EntryField,
    field::Field,
    id::ActivityId,
    identity::{self, IdentityField},
    target::{EVERYONE, IDENTITY, MEMBERS, PUBLIC, TargetField},
    text::Rule,
};

/// A UUID of version 8, in lower case.
const ACTIVITY_ID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";

pub(super) fn event(scope: Scope<'_>) -> (Value, Definitions) {
    let event = json!({
        "title": "Event",
        "description": "An accepted command in the log, as `log list --json` prints it on one line; `log show --json` \
                        adds outcome and topic.",
        "type": "object",
        "properties": {
            "outcome": { "const": "event" },
            "topic": described("The commands topic.", json!({ "type": "string" })),
            "position": described("In the log: 1, 2, 3, …", json!({ "type": "integer", "minimum": 1 })),
            "id": activity_id(),
            "partition": described(
                "The command's partition.",
                json!({ "type": "integer", "minimum": 0, "maximum": ActivityId::MAX_PARTITION }),
            ),
            "offset": described(
                "The command's offset in its partition.",
                json!({ "type": "integer", "minimum": 0, "maximum": ActivityId::MAX_OFFSET }),
            ),
            "timestamp": described(
                "The timestamp of the command's record, in milliseconds since 1970-01-01T00:00:00Z.",
                json!({ "type": "integer", "minimum": TIMESTAMPS.start(), "maximum": TIMESTAMPS.end() }),
            ),
            "activity": scope.refer("normalForm"),
        },
        "required": ["position", "id", "partition", "offset", "timestamp", "activity"],
    });
    let mut definitions = shared();
    definitions.push(("normalForm", normal_form(scope)));
    definitions.push(("normalTarget", target(scope, true)));
    (event, definitions)
}

pub(super) fn notification(scope: Scope<'_>) -> (Value, Definitions) {
    let notification = json!({
        "title": "Notification",
        "description": "An activity, for one audience.",
        "type": "object",
        "properties": {
            "id": {
                "description": "The activity's id and the index of the target, from 0: unique, and the same on \
                                every replay.",
                "type": "string",
                "pattern": format!("^{ACTIVITY_ID}/(0|[1-9][0-9]*)$"),
            },
            "activityId": activity_id(),
            "target": scope.refer("audience"),
            "activity": scope.refer("activity"),
        },
        "required": ["id", "activityId", "target", "activity"],
    });
    let mut definitions = shared();
    definitions.push(("activity", without_targets(normal_form(scope))));
    definitions.push(("audience", target(scope, false)));
    (notification, definitions)
}

pub(super) fn activity_id() -> Value {
    json!({
        "description": "The activity's id, a UUID of version 8 that contains the command's partition and offset.",
        "type": "string",
        "format": "uuid",
        "pattern": format!("^{ACTIVITY_ID}$"),
    })
}

fn shared() -> Definitions {
    vec![("identity", identity()), ("attachment", attachment())]
}

fn strict_object<F: Field>(required: &[F], property: impl Fn(F) -> Value) -> Value {
    let properties: Map<_, _> =
        F::ALL.iter().map(|field| (field.name().to_owned(), property(*field))).collect();
    let required: Vec<&str> = required.iter().map(|field| field.name()).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn normal_form(scope: Scope<'_>) -> Value {
    use EntryField::{Actor, Attachments, Content, ObjectId, ObjectType, PublishedAt, Targets, Verb};
    let mut entry = strict_object(&[Verb, ObjectType, ObjectId, PublishedAt, Targets], |field| match field {
        Verb | ObjectType | ObjectId => accepted_text(Rule::Id),
        Actor => scope.refer("identity"),
        PublishedAt => date_time(),
        Targets => json!({ "type": "array", "items": scope.refer("normalTarget"), "minItems": 1 }),
        Attachments => json!({ "type": "array", "items": scope.refer("attachment"), "minItems": 1 }),
        Content => accepted_text(Rule::Free),
    });
    entry["description"] = json!("An entry with all defaults, under the first name of each field.");
    entry
}

fn without_targets(mut entry: Value) -> Value {
    let targets = EntryField::Targets.name();
    entry["properties"][targets] = json!(false);
    if let Some(Value::Array(required)) = entry.get_mut("required") {
        required.retain(|name| name != targets);
    }
    entry["description"] =
        json!("The entry without its targets: an audience must not learn who the others are.");
    entry
}

fn identity() -> Value {
    closed(strict_object(&[IdentityField::Id], |field| match field {
        IdentityField::Id | IdentityField::Domain => accepted_text(Rule::Id),
        IdentityField::Name => accepted_text(Rule::Name),
        IdentityField::Type => one_of(&identity::TYPES),
    }))
}

fn attachment() -> Value {
    strict_object(&[AttachmentField::Type, AttachmentField::Id], |field| match field {
        AttachmentField::Type => one_of(&attachment::TYPES),
        AttachmentField::Id => accepted_text(Rule::Id),
    })
}

/// A target of the normal form has `notify`, that of a notification has not.
fn target(scope: Scope<'_>, with_notify: bool) -> Value {
    let kind = |kinds: &[&str], target_id: Option<Value>, required: &[TargetField]| {
        let required: Vec<TargetField> =
            required.iter().copied().filter(|field| with_notify || *field != TargetField::Notify).collect();
        let mut target = strict_object(&required, |field| match field {
            TargetField::Type => one_of(kinds),
            TargetField::TargetId => target_id.clone().unwrap_or(json!(false)),
            TargetField::Notify => json!({ "type": "boolean" }),
            // The normal form has the name in the identity.
            TargetField::Name => json!(false),
        });
        if !with_notify {
            target["properties"][TargetField::Notify.name()] = json!(false);
        }
        closed(target)
    };
    let all = [TargetField::Type, TargetField::Notify];
    let of_identity = [TargetField::Type, TargetField::TargetId, TargetField::Notify];
    json!({
        "anyOf": [
            described("A user or a group.", kind(&[IDENTITY], Some(scope.refer("identity")), &of_identity)),
            described(
                "The members of a channel; without targetId, of the object's own channel.",
                kind(&[MEMBERS], Some(accepted_text(Rule::Id)), &all),
            ),
            described("All who are signed in, or everyone.", kind(&[EVERYONE, PUBLIC], None, &all)),
        ],
    })
}
