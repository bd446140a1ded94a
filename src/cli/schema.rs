//! `schema`: the contract for machines, on standard output.

use std::io::Write;

use contract::{Channels, Schema, asyncapi};
use serde_json::Value;

use crate::{
    cli::{
        args::{self, Document},
        output::{self, Unread},
    },
    config::Config,
};

/// Prints one document.
pub fn schema(args: &args::Schema, config: &Config) -> anyhow::Result<()> {
    let mut out = output::stdout(Unread::Stop);
    out.raw().write_all(text(args.document, config)?.as_bytes())?;
    Ok(out.flush()?)
}

/// The document as JSON, indented, with a line break at its end. Members are in alphabetical order.
pub fn text(document: Document, config: &Config) -> anyhow::Result<String> {
    let schema = |schema: Schema| schema.document(&config.limits);
    let mut value = match document {
        Document::Command => schema(Schema::Command),
        Document::Event => schema(Schema::Event),
        Document::Notification => schema(Schema::Notification),
        Document::Rejection => schema(Schema::Rejection),
        Document::Reply => schema(Schema::Reply),
        Document::Asyncapi => of_channels(config),
    };
    // As they are anyway, unless some other crate asks serde_json to keep the order of insertion.
    value.sort_all_objects();
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn of_channels(config: &Config) -> Value {
    let protocol = config.kafka.properties.get("security.protocol");
    let channels = Channels {
        brokers: config.kafka.bootstrap_servers.split(',').map(str::trim).collect(),
        secure: protocol.is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl")),
        commands: &config.topics.commands,
        notifications: &config.topics.notifications,
        rejections: &config.topics.rejections,
        replies: &config.topics.replies,
    };
    asyncapi(&channels, &config.limits)
}
