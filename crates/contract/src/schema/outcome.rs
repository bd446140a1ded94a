//! Rejections and replies: what a producer is told.

use serde_json::{Value, json};

use super::{Definitions, Scope, normal_form::activity_id, one_of};
use crate::{code::Code, rejection};

pub(super) fn rejection(scope: Scope<'_>) -> (Value, Definitions) {
    let [.., (header, _)] = rejection::HEADERS;
    let rejection = json!({
        "title": "Rejection",
        "description": format!(
            "What was wrong with a command: the value of the header {header} of a record on the rejections topic. Key, \
             value and other headers of that record are the command's own.",
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
        "description": "What became of a command, for the producer that asked to be told.",
        "oneOf": [
            accepted_as("accepted", "It became this activity."),
            accepted_as("duplicate", "It came before, and became this activity then."),
            {
                "description": "It became nothing.",
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
        "For programs to tell problems apart. A code never changes its meaning; there may be more of them later.\n\n{}",
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
                "description": "What was expected, and what was found.",
                "type": "string",
            },
        },
        "required": ["pointer", "code", "message"],
    })
}
