//! An AsyncAPI 3.0 document: the topics, and the keys, headers and values of their records.
//!
//! It describes the service, so *receive* and *send* are from its point of view.

use serde_json::{Map, Value, json};

use super::{
    Schema,
    shape::{Scope, described, merge},
};
use crate::{
    cloud_event,
    idempotency::{self, MAX_KEY_BYTES},
    limits::Limits,
    notification::{self, TRACE_HEADERS},
    rejection,
    reply::{CORRELATION_ID, MAX_CORRELATION_ID_BYTES, REPLY_PARTITION, REPLY_TOPIC, ReplyTopics},
};

/// The brokers and topics to describe.
#[derive(Debug, Clone)]
pub struct Channels<'a> {
    /// `host:port` of each bootstrap server.
    pub brokers: Vec<&'a str>,
    /// Whether connections use TLS.
    pub secure: bool,
    pub commands: &'a str,
    pub notifications: &'a str,
    pub rejections: &'a str,
    pub replies: &'a ReplyTopics,
}

const JSON: &str = "application/json";
/// The version of AsyncAPI's bindings for Kafka.
const BINDING: &str = "0.5.0";

/// An AsyncAPI 3.0.0 document. Its schemas are in the default format, a superset of JSON Schema draft 7 that all tools
/// support. That is possible because the schemas use no keyword of a later draft, except for the location of definitions.
#[must_use]
pub fn asyncapi(channels: &Channels<'_>, limits: &Limits) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "activity-stream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Decides \"post an activity\" commands, appends accepted ones to an event log, and notifies \
                            their audiences exactly once. Read its topics with isolation.level=read_committed.",
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
            "One record per command. Records with the same key are in the same partition, in order.",
        ),
        "notifications": channel(
            channels.notifications,
            "notification",
            "One record per target with notify: true.",
        ),
        "rejections": channel(
            channels.rejections,
            "rejection",
            "Rejected commands, each with its problems.",
        ),
        "replies": {
            "address": null,
            "description": format!(
                "One record per command that requests it, on the topic in the command's header. Allowed topics: {allowed}.",
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
            "summary": "Decides a command, and replies if the command requests it.",
            "channel": { "$ref": "#/channels/commands" },
            "messages": [{ "$ref": "#/channels/commands/messages/command" }],
            "reply": {
                "address": {
                    "description": "Only if the command has this header.",
                    "location": format!("$message.header#/{REPLY_TOPIC}"),
                },
                "channel": { "$ref": "#/channels/replies" },
                "messages": [{ "$ref": "#/channels/replies/messages/reply" }],
            },
        },
        "notify": send("notifications", "notification", "Notifies an audience."),
        "reject": send("rejections", "rejection", "Reports why a command was rejected."),
    })
}

fn messages() -> Value {
    json!({
        "command": message(
            Schema::Command,
            "A plain command, or a CloudEvent in binary mode. In structured mode, the command is the data of the event.",
            command_headers(),
            "The producer's choice; objectType/objectId keeps the activities of one object in order.",
        ),
        "notification": message(
            Schema::Notification,
            "An activity, for one audience.",
            headers(&notification::HEADERS, trace_headers()),
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

/// The value is that of the command, which may not be JSON.
fn rejection() -> Value {
    let mut headers = headers(&rejection::HEADERS, Map::new());
    headers["properties"][rejection::OMITTED] = described(
        "The omitted parts of the command, which were too large or unreadable: value, headers, key.",
        json!({ "type": "string" }),
    );
    let [.., (problems, _)] = rejection::HEADERS;
    headers["properties"][problems]["contentMediaType"] = json!(JSON);
    headers["description"] = json!("The command's own, byte for byte, then these.");
    let mut message = message(
        Schema::Rejection,
        "The command, byte for byte, with headers that describe its problems.",
        headers,
        "The command's own.",
    );
    merge(
        &mut message,
        json!({
            "contentType": "application/octet-stream",
            "payload": { "description": "The command's value, byte for byte; null if it had none or was too large." },
        }),
    );
    message
}

fn reply() -> Value {
    let mut headers = trace_headers();
    headers.insert("content-type".to_owned(), json!({ "const": JSON }));
    headers.insert(CORRELATION_ID.to_owned(), described("The command's own, byte for byte.", bytes()));
    message(
        Schema::Reply,
        "The outcome of a command.",
        json!({ "type": "object", "properties": headers, "required": ["content-type"] }),
        "None.",
    )
}

fn command_headers() -> Value {
    let text = |description: &str| described(description, json!({ "type": "string" }));
    let mut headers = trace_headers();
    let mut add = |name: &str, schema: Value| {
        headers.insert(name.to_owned(), schema);
    };
    add(
        idempotency::HEADER,
        described(
            &format!(
                "Identifies repetitions of the same command: 1 to {MAX_KEY_BYTES} bytes of UTF-8, only once, on a record \
                 with a record key.",
            ),
            json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES }),
        ),
    );
    for name in cloud_event::ATTRIBUTES {
        add(name, text("For a CloudEvent 1.0 in binary mode, which needs all four."));
    }
    add(cloud_event::CONTENT_TYPE, text("application/cloudevents+json if the value is a whole CloudEvent."));
    add(REPLY_TOPIC, text("Requests a reply on this topic, which must be an allowed one."));
    add(
        REPLY_PARTITION,
        described(
            "The partition for the reply: a big-endian integer of 4 bytes. By default, any partition.",
            bytes(),
        ),
    );
    add(
        CORRELATION_ID,
        described(
            &format!("Copied to the reply, byte for byte; at most {MAX_CORRELATION_ID_BYTES} bytes."),
            bytes(),
        ),
    );
    json!({ "type": "object", "properties": headers })
}

/// Required and optional headers.
fn headers(required: &[(&str, &str)], mut headers: Map<String, Value>) -> Value {
    for (name, description) in required {
        headers.insert((*name).to_owned(), described(description, json!({ "type": "string" })));
    }
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    json!({ "type": "object", "properties": headers, "required": names })
}

fn trace_headers() -> Map<String, Value> {
    let trace = described("W3C Trace Context, copied from the command.", json!({ "type": "string" }));
    TRACE_HEADERS.iter().map(|name| ((*name).to_owned(), trace.clone())).collect()
}

fn bytes() -> Value {
    json!({ "type": "string", "format": "binary" })
}

/// Schemas and their definitions have distinct names, so all of them can be components.
fn schemas(limits: &Limits) -> Value {
    let scope = Scope { prefix: "#/components/schemas/", limits };
    let mut schemas = Map::new();
    for schema in Schema::ALL.into_iter().filter(|schema| *schema != Schema::Event) {
        let (root, definitions) = schema.parts(scope);
        schemas.insert(schema.name().to_owned(), root);
        schemas.extend(definitions.into_iter().map(|(name, it)| (name.to_owned(), it)));
    }
    schemas.into()
}
