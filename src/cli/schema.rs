//! `schema`: the contract for machines, on standard output.

use std::io::Write;

use clap::{ValueEnum, builder::PossibleValue};
use contract::{Channels, Schema, asyncapi};
use serde_json::Value;

use super::output::{self, Unread};
use crate::config::Config;

/// Prints the contract for machines: JSON Schemas of commands and output, or an AsyncAPI document of the topics
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream schema command
  activity-stream schema asyncapi --config production.toml

Topics, brokers and the limits of a command are those of the configuration.
The command's schema lists the rules that a schema cannot express.")]
pub struct Args {
    /// Which document
    #[arg(value_enum, value_name = "DOCUMENT")]
    document: Document,
}

/// A part of the contract for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    Schema(Schema),
    Asyncapi,
}

impl ValueEnum for Document {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Schema(Schema::Command),
            Self::Schema(Schema::Event),
            Self::Schema(Schema::Notification),
            Self::Schema(Schema::Rejection),
            Self::Schema(Schema::Reply),
            Self::Asyncapi,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let Self::Schema(schema) = self else {
            return Some(
                PossibleValue::new("asyncapi").help("Topics, keys, headers and replies: AsyncAPI 3.0"),
            );
        };
        let help = match schema {
            Schema::Command => "What is accepted on the commands topic",
            Schema::Event => "An event, as 'log list' and 'log show' print it",
            Schema::Notification => "A value on the notifications topic",
            Schema::Rejection => {
                "The problems of a rejection, in its header __connect.errors.exception.message"
            }
            Schema::Reply => "A value on a topic for replies",
        };
        Some(PossibleValue::new(schema.name()).help(help))
    }
}

/// Prints one document.
pub(super) fn schema(args: &Args, config: &Config) -> anyhow::Result<()> {
    let mut out = output::stdout(Unread::Stop);
    out.raw().write_all(text(args.document, config)?.as_bytes())?;
    Ok(out.flush()?)
}

/// The document as indented JSON with a final line break. Members are in alphabetical order.
///
/// # Errors
///
/// None: every document can be written as JSON.
pub fn text(document: Document, config: &Config) -> anyhow::Result<String> {
    let mut value = match document {
        Document::Schema(schema) => schema.document(&config.limits),
        Document::Asyncapi => of_channels(config),
    };
    // They are sorted already, unless another crate enables serde_json's `preserve_order`.
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
