//! Commands: what is accepted.

use serde_json::{Value, json};

use super::{
    Definitions, Scope, beyond, closed, described, has_one_of, lenient_object, merge, one_of_or_null, or_null,
};
use crate::{
    attachment::{self, AttachmentField},
    code::Code,
    date_time,
    entry::{DEFAULT_VERB, EntryField, FOREIGN_AUDIENCES, TO},
    field::Field,
    found,
    identity::{self, IdentityField},
    target::{EVERYONE, IDENTITY, MEMBERS, PUBLIC, TargetField},
    text::Rule,
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
            "$comment": format!("What is almost called {targets}, or names an audience in another vocabulary, would publish to everyone what was meant for a few."),
            "anyOf": [{ "const": targets }, { "not": { "pattern": found::misspelling_pattern(targets) } }],
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

/// A pattern of these names, which are of ASCII letters.
fn in_any_case(names: &[&str]) -> String {
    let in_any_case =
        |name: &&str| name.chars().map(|c| format!("[{}{c}]", c.to_ascii_uppercase())).collect::<String>();
    format!("^({})$", names.iter().map(in_any_case).collect::<Vec<_>>().join("|"))
}

/// With all that is beyond the schema, the codes of one reason together.
fn description() -> String {
    let mut reasons: Vec<(&str, String)> = Vec::new();
    for code in Code::ALL {
        let Some(reason) = beyond(*code) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, codes)) => codes.extend([", ", code.as_str()]),
            None => reasons.push((reason, code.to_string())),
        }
    }
    let mut text = "An entry: who did what to which object, and who is to be told. Other properties belong to the \
                    object type and are kept. A CloudEvent in structured mode has it as its data.\n\nA command that this schema refuses is rejected. One that it takes \
                    can be rejected all the same, with these codes:\n"
        .to_owned();
    for (reason, codes) in reasons {
        text.extend(["\n- ", &codes, ": ", reason, "."]);
    }
    text
}

fn meaning(field: EntryField) -> &'static str {
    match field {
        EntryField::Verb => "What was done: any verb.",
        EntryField::Actor => "Who did it; absent where the system itself did.",
        EntryField::ObjectType => "The type of the object that it was done to.",
        EntryField::ObjectId => "The id of that object.",
        EntryField::PublishedAt => "When it happened; otherwise the record's timestamp counts.",
        EntryField::Targets => "Who may see it, and who is notified; absent: everyone, nobody is notified.",
        EntryField::Attachments => "Files, links and videos.",
        EntryField::Content => "The text that people read.",
    }
}

fn property(field: EntryField, scope: Scope<'_>) -> Value {
    match field {
        EntryField::Verb => {
            let mut verb = or_null(scope.text(Rule::Id));
            merge(&mut verb, json!({ "default": DEFAULT_VERB }));
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
        "description": "A user, an organisation unit, a position or a group; a string is its id.",
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
        AttachmentField::Type => described("file where it is absent.", one_of_or_null(&attachment::TYPES)),
        AttachmentField::Id => scope.text(Rule::Id),
    });
    json!({
        "description": "A file, a link or a video, with properties of its own; a string is the id of a file.",
        "anyOf": [scope.text(Rule::Id), object],
    })
}

/// An identity never has a name that only a target has, nor a target an identity's id: so it is one or the other.
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
        "description": "Who may see it: an identity (notified with notify: true), the members of a channel (of the \
                        object's own where no targetId is given), everyone or the public. A string or a bare identity \
                        is a target of type Identity.",
        "anyOf": [
            scope.refer("commandIdentity"),
            described("A user or a group, by its id, with its name maybe.", by_id),
            described("A user or a group.", of_identity(scope.refer("commandIdentityObject"), nothing())),
            described("All members of a channel.", typed(channel)),
            described("All who are signed in, or everyone.", typed(all)),
        ],
    })
}
