//! An AsyncAPI 3.0 document: which topics there are, and what their records have as key, headers and value.
//!
//! It tells of the service: what it receives and what it sends.

use serde_json::{Map, Value, json};

use super::{Schema, Scope, described, merge};
use crate::{
    cloud_event,
    key::{self, LONGEST_KEY},
    limits::Limits,
    notification::{self, PASSED_ON},
    rejection,
    reply::{CORRELATION_ID, LONGEST_CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC, ReplyTopics},
};

/// Where the records travel.
#[derive(Debug, Clone)]
pub struct Channels<'a> {
    /// `host:port` of each broker to begin with.
    pub brokers: Vec<&'a str>,
    /// Whether they are spoken to over TLS.
    pub secure: bool,
    pub commands: &'a str,
    pub notifications: &'a str,
    pub rejections: &'a str,
    pub replies: &'a ReplyTopics,
}

const JSON: &str = "application/json";
/// Of the bindings that AsyncAPI has for Kafka.
const BINDING: &str = "0.5.0";

/// The document, of version 3.0.0. Its schemas are in the default format, the superset of JSON Schema draft 7 that all
/// tools know: what [`Schema::document`] prints has no word of a later one, but for where its definitions stand.
#[must_use]
pub fn asyncapi(channels: &Channels<'_>, limits: &Limits) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "activity-stream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Decides \"post an activity\" commands, keeps the accepted ones in an event log, and \
                            notifies the audiences that asked, exactly once. Read its topics with \
                            isolation.level=read_committed.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": JSON,
        "servers": servers(channels),
        "channels": channels_of(channels),
        "operations": operations(),
        "components": { "messages": messages(), "schemas": schemas(limits) },
    })
}

fn servers(channels: &Channels<'_>) -> Value {
    let protocol = if channels.secure { "kafka-secure" } else { "kafka" };
    let servers: Map<_, _> = channels
        .brokers
        .iter()
        .enumerate()
        .map(|(index, host)| (format!("kafka-{}", index + 1), json!({ "host": host, "protocol": protocol })))
        .collect();
    servers.into()
}

fn channels_of(channels: &Channels<'_>) -> Value {
    let channel = |topic: &str, message: &str, description: &str| {
        json!({
            "address": topic,
            "description": description,
            "messages": { message: { "$ref": format!("#/components/messages/{message}") } },
            "bindings": { "kafka": { "topic": topic, "bindingVersion": BINDING } },
        })
    };
    let replies: Vec<String> = channels.replies.names().map(|topic| format!("`{topic}`")).collect();
    let allowed = if replies.is_empty() { "none".to_owned() } else { replies.join(", ") };
    json!({
        "commands": channel(
            channels.commands,
            "command",
            "One record a command. All records of one key are in one partition, in their order.",
        ),
        "notifications": channel(
            channels.notifications,
            "notification",
            "One record for each target with notify: true.",
        ),
        "rejections": channel(
            channels.rejections,
            "rejection",
            "Commands that could not be accepted, each with what was wrong with it.",
        ),
        "replies": {
            "address": null,
            "description": format!(
                "One record for each command that asked for it, on the topic that the command names. Topics that are \
                 allowed: {allowed}.",
            ),
            "messages": { "reply": { "$ref": "#/components/messages/reply" } },
        },
    })
}

fn operations() -> Value {
    let send = |channel: &str, message: &str, summary: &str| {
        json!({
            "action": "send",
            "summary": summary,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": [{ "$ref": format!("#/channels/{channel}/messages/{message}") }],
        })
    };
    json!({
        "decide": {
            "action": "receive",
            "summary": "Decides on a command, and tells the producer that asked to be told.",
            "channel": { "$ref": "#/channels/commands" },
            "messages": [{ "$ref": "#/channels/commands/messages/command" }],
            "reply": {
                "address": {
                    "description": "Only where the command has this header.",
                    "location": format!("$message.header#/{REPLY_TOPIC}"),
                },
                "channel": { "$ref": "#/channels/replies" },
                "messages": [{ "$ref": "#/channels/replies/messages/reply" }],
            },
        },
        "notify": send("notifications", "notification", "Notifies an audience."),
        "reject": send("rejections", "rejection", "Says why a command was not accepted."),
    })
}

fn messages() -> Value {
    json!({
        "command": message(
            Schema::Command,
            "A plain command, or a CloudEvent in binary mode. One in structured mode has the command as its data.",
            command_headers(),
            "The producer's choice; objectType/objectId keeps the activities of one object in order.",
        ),
        "notification": message(
            Schema::Notification,
            "What one audience is told.",
            all_of_them(&notification::HEADERS, passed_on()),
            "The audience: Identity:ID, Identity:DOMAIN/ID, Everyone, Members:channel:ID, \
             Members:object:OBJECTTYPE/OBJECTID or Public; /, : and % inside a part are percent-encoded.",
        ),
        "rejection": rejection(),
        "reply": reply(),
    })
}

fn message(schema: Schema, summary: &str, headers: Value, key: &str) -> Value {
    let name = schema.name();
    let key = described(key, json!({ "type": ["string", "null"] }));
    let mut message = json!({
        "name": name,
        "summary": summary,
        "contentType": JSON,
        "headers": headers,
        "payload": { "$ref": format!("#/components/schemas/{name}") },
        "bindings": { "kafka": { "key": key, "bindingVersion": BINDING } },
    });
    if matches!(schema, Schema::Command | Schema::Reply) {
        let location = format!("$message.header#/{CORRELATION_ID}");
        merge(&mut message, json!({ "correlationId": { "location": location } }));
    }
    message
}

/// Its value is whatever the command's was, JSON or not.
fn rejection() -> Value {
    let mut headers = all_of_them(&rejection::HEADERS, Map::new());
    headers["properties"][rejection::OMITTED] = described(
        "Which parts of the command did not fit or could not be read, and were left behind: value, headers, key.",
        json!({ "type": "string" }),
    );
    let [.., (problems, _)] = rejection::HEADERS;
    headers["properties"][problems]["contentMediaType"] = json!(JSON);
    headers["description"] = json!("Those of the command, byte for byte, then these.");
    let mut message = message(
        Schema::Rejection,
        "The command, byte for byte, with headers that say what was wrong with it.",
        headers,
        "The command's own.",
    );
    merge(
        &mut message,
        json!({
            "contentType": "application/octet-stream",
            "payload": { "description": "The command's value, byte for byte; null where it had none, or where it did not fit." },
        }),
    );
    message
}

fn reply() -> Value {
    let mut headers = passed_on();
    headers.insert("content-type".to_owned(), json!({ "const": JSON }));
    headers.insert(CORRELATION_ID.to_owned(), described("The command's own, byte for byte.", bytes()));
    message(
        Schema::Reply,
        "What became of a command.",
        json!({ "type": "object", "properties": headers, "required": ["content-type"] }),
        "None.",
    )
}

fn command_headers() -> Value {
    let text = |description: &str| described(description, json!({ "type": "string" }));
    let mut headers = passed_on();
    let mut add = |name: &str, schema: Value| {
        headers.insert(name.to_owned(), schema);
    };
    add(
        key::HEADER,
        described(
            &format!(
                "The same command sent again is told from a new one by it: 1 to {LONGEST_KEY} bytes of UTF-8, once, on a \
             record that has a key.",
            ),
            json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_KEY }),
        ),
    );
    for name in cloud_event::ATTRIBUTES {
        add(name, text("Of a CloudEvent 1.0 in binary mode, which has all four."));
    }
    add(
        cloud_event::CONTENT_TYPE,
        text("application/cloudevents+json where the value is a whole CloudEvent."),
    );
    add(REPLY_TOPIC, text("Asks for a reply on this topic, which must be one of those that are allowed."));
    add(
        REPLY_PARTITION,
        described("The partition of the reply: a big-endian integer of 4 bytes. Without it, any.", bytes()),
    );
    add(
        CORRELATION_ID,
        described(
            &format!("Comes back with the reply, byte for byte; at most {LONGEST_CORRELATION_ID} bytes."),
            bytes(),
        ),
    );
    json!({ "type": "object", "properties": headers })
}

/// Headers that a record always has, and those that it may have.
fn all_of_them(always: &[(&str, &str)], mut headers: Map<String, Value>) -> Value {
    for (name, description) in always {
        headers.insert((*name).to_owned(), described(description, json!({ "type": "string" })));
    }
    let names: Vec<&str> = always.iter().map(|(name, _)| *name).collect();
    json!({ "type": "object", "properties": headers, "required": names })
}

fn passed_on() -> Map<String, Value> {
    let trace = described(
        "W3C Trace Context: passes from the command to what follows from it.",
        json!({ "type": "string" }),
    );
    PASSED_ON.iter().map(|name| ((*name).to_owned(), trace.clone())).collect()
}

fn bytes() -> Value {
    json!({ "type": "string", "format": "binary" })
}

/// Definitions stand beside the schemas that refer to them: their names are distinct.
fn schemas(limits: &Limits) -> Value {
    let scope = Scope { place: "#/components/schemas/", limits };
    let mut schemas = Map::new();
    for schema in Schema::ALL.into_iter().filter(|schema| *schema != Schema::Event) {
        let (root, definitions) = schema.parts(scope);
        schemas.insert(schema.name().to_owned(), root);
        schemas.extend(definitions.into_iter().map(|(name, it)| (name.to_owned(), it)));
    }
    schemas.into()
}
