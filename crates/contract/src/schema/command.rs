//! The schema of commands.

use serde_json::{Value, json};

use super::shape::{
    Definitions, Scope, closed, described, has_one_of, lenient_object, merge, one_of_or_null, or_null,
};
use crate::{
    attachment::{self, AttachmentField},
    code::Code,
    date_time,
    entry::{DEFAULT_VERB, EntryField, FOREIGN_AUDIENCES, TO},
    field::Field,
    identity::{self, IdentityField},
    target::{EVERYONE, IDENTITY, MEMBERS, PUBLIC, TargetField},
    text::Rule,
    wording,
};

pub(super) fn command(scope: Scope<'_>) -> (Value, Definitions) {
    let mut entry = lenient_object(&[EntryField::ObjectType, EntryField::ObjectId], |field| {
        described(meaning(field), property(field, scope))
    });
    let targets = EntryField::Targets.name();
    let header = json!({
        "title": "Command",
        "description": description(),
        "propertyNames": {
            "$comment": format!("Ignoring a name that is almost {targets}, or an audience of another vocabulary, would make the activity visible to everyone."),
            "anyOf": [{ "const": targets }, { "not": { "pattern": wording::misspelling_pattern(targets) } }],
            "not": { "pattern": in_any_case(&FOREIGN_AUDIENCES) },
        },
        "patternProperties": { in_any_case(&[TO]): { "not": { "type": ["array", "object"] } } },
    });
    merge(&mut entry, header);
    let definitions = vec![
        ("commandIdentity", identity_or_id(scope)),
        ("commandIdentityObject", identity(scope)),
        ("commandTarget", target(scope)),
        ("commandAttachment", attachment(scope)),
    ];
    (entry, definitions)
}

/// A pattern for these names, which consist of ASCII letters.
fn in_any_case(names: &[&str]) -> String {
    let in_any_case =
        |name: &&str| name.chars().map(|c| format!("[{}{c}]", c.to_ascii_uppercase())).collect::<String>();
    format!("^({})$", names.iter().map(in_any_case).collect::<Vec<_>>().join("|"))
}

/// Lists the codes that the schema can't check, grouped by reason.
fn description() -> String {
    let mut reasons: Vec<(&str, String)> = Vec::new();
    for code in Code::ALL {
        let Some(reason) = outside_schema(*code) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, codes)) => codes.extend([", ", code.as_str()]),
            None => reasons.push((reason, code.to_string())),
        }
    }
    let mut text = "An entry: who did what to which object, and who sees it and is notified. Other properties belong to \
                    the object type and are kept. It is also the data of a CloudEvent in structured mode.\n\nA command \
                    that does not match this schema is rejected. A command that matches can still be rejected, with \
                    these codes:\n"
        .to_owned();
    for (reason, codes) in reasons {
        text.extend(["\n- ", &codes, ": ", reason, "."]);
    }
    text
}

/// Why a command whose value matches the schema can still be rejected with this code; `None` if it can't.
#[must_use]
pub fn outside_schema(code: Code) -> Option<&'static str> {
    const RECORD: &str = "about the record, not its value";
    const TEXT: &str = "about the text, not the JSON in it";
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
        Code::TooDeep => Some("a schema can't count levels of nesting"),
        Code::UnpairedSurrogate => {
            Some("most JSON parsers refuse half of a surrogate pair; to others it is text like any other")
        }
        Code::DuplicateProperty => Some("most JSON parsers keep only one of two members with the same name"),
        Code::BadDateTime => {
            Some("for a day that the month does not have, or a leap second that is not at 23:59:60 UTC")
        }
        Code::OutputTooLarge => Some("depends on the size of the notifications"),
        Code::TooManyProblems => Some("accompanies other codes"),
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

fn meaning(field: EntryField) -> &'static str {
    match field {
        EntryField::Verb => "What was done: any verb.",
        EntryField::Actor => "Who did it; absent if the system itself did.",
        EntryField::ObjectType => "The type of the object.",
        EntryField::ObjectId => "The id of the object.",
        EntryField::PublishedAt => "When it happened; by default, the record's timestamp.",
        EntryField::Targets => {
            "Who may see it, and who is notified; by default, everyone may see it and nobody is notified."
        }
        EntryField::Attachments => "Files, links and videos.",
        EntryField::Content => "The text for people.",
    }
}

fn property(field: EntryField, scope: Scope<'_>) -> Value {
    match field {
        EntryField::Verb => {
            let mut verb = or_null(scope.text(Rule::Id));
            merge(&mut verb, json!({ "default": DEFAULT_VERB.unescaped() }));
            verb
        }
        EntryField::Actor => or_null(scope.refer("commandIdentity")),
        EntryField::ObjectType | EntryField::ObjectId => scope.text(Rule::Id),
        EntryField::PublishedAt => or_null(date_time()),
        EntryField::Targets => json!({
            "type": "array",
            "items": scope.refer("commandTarget"),
            "minItems": 1,
            "maxItems": scope.limits.targets,
        }),
        EntryField::Attachments => or_null(json!({
            "type": "array",
            "items": scope.refer("commandAttachment"),
            "maxItems": scope.limits.attachments,
        })),
        EntryField::Content => or_null(scope.text(Rule::Free)),
    }
}

pub(super) fn date_time() -> Value {
    json!({ "type": "string", "format": "date-time", "pattern": date_time::PATTERN })
}

fn identity_or_id(scope: Scope<'_>) -> Value {
    json!({
        "description": "A user, an organisation unit, a position or a group; a string is an id.",
        "anyOf": [scope.text(Rule::Id), scope.refer("commandIdentityObject")],
    })
}

fn identity(scope: Scope<'_>) -> Value {
    closed(lenient_object(&[IdentityField::Id], |field| match field {
        IdentityField::Id => scope.text(Rule::Id),
        IdentityField::Domain => or_null(scope.text(Rule::Id)),
        IdentityField::Name => or_null(scope.text(Rule::Name)),
        IdentityField::Type => one_of_or_null(&identity::TYPES),
    }))
}

fn attachment(scope: Scope<'_>) -> Value {
    let object = lenient_object(&[AttachmentField::Id], |field| match field {
        AttachmentField::Type => described("By default, file.", one_of_or_null(&attachment::TYPES)),
        AttachmentField::Id => scope.text(Rule::Id),
    });
    json!({
        "description": "A file, a link or a video, with any further properties; a string is the id of a file.",
        "anyOf": [scope.text(Rule::Id), object],
    })
}

/// Targets and identities can't be confused: neither allows the properties that tell them apart.
fn target(scope: Scope<'_>) -> Value {
    let nothing = || json!({ "type": "null" });
    let kind = |kinds: Value, target_id: Value, name: Value| {
        closed(lenient_object::<TargetField>(&[], |field| match field {
            TargetField::Type => kinds.clone(),
            TargetField::TargetId => target_id.clone(),
            TargetField::Name => name.clone(),
            TargetField::Notify => described(
                "Whether a notification goes to this audience.",
                json!({ "type": ["boolean", "null"], "default": false }),
            ),
        }))
    };
    let of_identity = |target_id: Value, name: Value| {
        let mut target = kind(one_of_or_null(&[IDENTITY]), target_id, name);
        merge(&mut target, json!({ "required": [TargetField::TargetId.name()] }));
        target
    };
    let by_id = of_identity(scope.text(Rule::Id), or_null(scope.text(Rule::Name)));
    let typed = |mut target: Value| {
        if let Some(Value::Array(conditions)) = target.get_mut("allOf") {
            conditions.push(has_one_of(TargetField::Type.names()));
        }
        target
    };
    let channel = kind(json!({ "const": MEMBERS }), or_null(scope.text(Rule::Id)), nothing());
    let all = kind(json!({ "enum": [EVERYONE, PUBLIC] }), nothing(), nothing());
    json!({
        "description": "Who may see it: an identity, the members of a channel (without targetId, of the object's own \
                        channel), everyone or the public. They are notified with notify: true. A string or a bare \
                        identity is a target of type Identity.",
        "anyOf": [
            scope.refer("commandIdentity"),
            described("A user or a group by its id, optionally with its name.", by_id),
            described("A user or a group.", of_identity(scope.refer("commandIdentityObject"), nothing())),
            described("All members of a channel.", typed(channel)),
            described("All who are signed in, or everyone.", typed(all)),
        ],
    })
}
