//! The schemas of rejections and replies.

use serde_json::{Value, json};

use super::{
    normal_form::activity_id,
    shape::{Definitions, Scope, one_of},
};
use crate::{code::Code, rejection};

pub(super) fn rejection(scope: Scope<'_>) -> (Value, Definitions) {
    let [.., (header, _)] = rejection::HEADERS;
    let rejection = json!({
        "title": "Rejection",
        "description": format!(
            "The problems of a command: the value of the header {header} of a record on the rejections topic. Key, value \
             and other headers of that record are the command's own.",
        ),
        "type": "array",
        "items": scope.refer("problem"),
        "minItems": 1,
    });
    (rejection, vec![("problem", problem())])
}

pub(super) fn reply(scope: Scope<'_>) -> (Value, Definitions) {
    let accepted_as = |status: &str, description: &str| {
        json!({
            "description": description,
            "type": "object",
            "properties": { "status": { "const": status }, "id": activity_id() },
            "required": ["status", "id"],
        })
    };
    let reply = json!({
        "title": "Reply",
        "description": "The outcome of a command, for a producer that requested it.",
        "oneOf": [
            accepted_as("accepted", "The command became this activity."),
            accepted_as("duplicate", "The same command already became this activity."),
            {
                "description": "The command became no activity.",
                "type": "object",
                "properties": {
                    "status": { "const": "rejected" },
                    "problems": { "type": "array", "items": scope.refer("problem"), "minItems": 1 },
                },
                "required": ["status", "problems"],
            },
        ],
    });
    (reply, vec![("problem", problem())])
}

fn problem() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let meanings: Vec<String> =
        Code::ALL.iter().map(|code| format!("- {code}: {}", code.meaning())).collect();
    let mut code = one_of(&codes);
    code["description"] = json!(format!(
        "For programs. The meaning of a code never changes; new codes may be added.\n\n{}",
        meanings.join("\n")
    ));
    json!({
        "description": "One thing that is wrong with a command.",
        "type": "object",
        "properties": {
            "pointer": {
                "description": "JSON Pointer (RFC 6901) into the value; empty for the record as a whole.",
                "type": "string",
                "pattern": "^(/|$)",
            },
            "code": code,
            "message": {
                "description": "What was expected and what was found, in a sentence.",
                "type": "string",
            },
        },
        "required": ["pointer", "code", "message"],
    })
}
