//! The command line as a whole: the subcommands, and the options that change the configuration. A subcommand's own
//! arguments are in the file with its name.

use std::{iter, path::PathBuf};

use clap::{
    ArgMatches, Args as _, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint,
    builder::{PossibleValuesParser, StringValueParser, TypedValueParser},
};

use super::{
    check, completions, demo, log, man, parsers::assignment, post, rejections, run, schema, tail, verify,
};
use crate::config::{GUARANTEES, Override, Sources};

/// The command line. Options that change the configuration may stand before and after the subcommand, and all count:
/// clap's global options would drop the earlier values of a repeated option.
#[derive(Debug)]
pub struct Args {
    /// From left to right.
    options: Vec<ConfigOptions>,
    pub command: Command,
}

/// Decides "post an activity" commands from Kafka, keeps the accepted ones in an SQLite event log, and notifies the
/// audiences that asked, exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "activity-stream",
    version,
    after_help = "\
Examples:
  activity-stream demo                            See it work; needs no broker
  activity-stream run -b kafka:9092               Process commands
  activity-stream post -b kafka:9092 case-7.json  Post one

Every option can be set in a file or in the environment too: see config/default.toml."
)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::Args),
    Run(run::Args),
    Post(post::Args),
    Tail(tail::Args),
    Log(log::Args),
    Rejections(rejections::Args),
    Schema(schema::Args),
    Check(check::Args),
    Verify(verify::Args),
    Completions(completions::Args),
    Man(man::Args),
}

// Options that change the configuration. No doc comment: it would become each command's description.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Configuration")]
struct ConfigOptions {
    /// Read the configuration from this file [env: ACTIVITY_STREAM_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Brokers to begin with, separated by commas
    #[arg(short, long, value_name = "HOST:PORT", value_parser = sets("--bootstrap-servers", "kafka.bootstrap_servers"))]
    bootstrap_servers: Option<Override>,
    /// Consumer group
    #[arg(long, value_name = "NAME", value_parser = sets("--group", "kafka.group"))]
    group: Option<Override>,
    /// Event log
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = sets("--log-file", "log.path"))]
    log_file: Option<Override>,
    /// Topic to read commands from
    #[arg(long, value_name = "TOPIC", value_parser = sets("--commands-topic", "topics.commands"))]
    commands_topic: Option<Override>,
    /// Topic for notifications
    #[arg(long, value_name = "TOPIC", value_parser = sets("--notifications-topic", "topics.notifications"))]
    notifications_topic: Option<Override>,
    /// Topic for rejections
    #[arg(long, value_name = "TOPIC", value_parser = sets("--rejections-topic", "topics.rejections"))]
    rejections_topic: Option<Override>,
    /// exactly-once or at-least-once
    #[arg(long, value_parser = guarantee(), hide_possible_values = true)]
    guarantee: Option<Override>,
    /// Set any key of the configuration (repeatable)
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = any_key)]
    set: Vec<Override>,
    /// Set a librdkafka property (repeatable); a secret is better set in the environment
    #[arg(short = 'X', value_name = "PROPERTY=VALUE", value_parser = property)]
    properties: Vec<Override>,
}

/// Commands that work without a configuration.
const UNCONFIGURED: [&str; 2] = ["completions", "man"];

impl Parser for Args {}

impl CommandFactory for Args {
    fn command() -> clap::Command {
        ConfigOptions::augment_args(with_options(Program::command()))
    }

    fn command_for_update() -> clap::Command {
        Self::command()
    }
}

/// Adds the options to every subcommand that does something itself.
fn with_options(command: clap::Command) -> clap::Command {
    if command.has_subcommands() {
        command.mut_subcommands(with_options)
    } else if UNCONFIGURED.contains(&command.get_name()) {
        command
    } else {
        ConfigOptions::augment_args(command)
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let levels = iter::successors(Some(matches), |matches| Some(matches.subcommand()?.1));
        let with_options = levels.filter(|matches| matches.try_contains_id("config").is_ok());
        let options = with_options.map(ConfigOptions::from_arg_matches).collect::<Result<_, _>>()?;
        Ok(Self { options, command: Command::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args {
    /// All that the configuration is made of: the file, the process's environment, the options.
    pub(super) fn sources(&self) -> Sources {
        Sources::of_process(self.config_file(), self.overrides())
    }

    fn config_file(&self) -> Option<PathBuf> {
        self.options.iter().rev().find_map(|options| options.config.clone())
    }

    /// The later wins: an option of a key's own over `--set`, and one after the subcommand over one before it.
    fn overrides(&self) -> Vec<Override> {
        self.options.iter().flat_map(ConfigOptions::overrides).cloned().collect()
    }
}

impl ConfigOptions {
    fn overrides(&self) -> impl Iterator<Item = &Override> {
        let named = [
            &self.bootstrap_servers,
            &self.group,
            &self.log_file,
            &self.commands_topic,
            &self.notifications_topic,
            &self.rejections_topic,
            &self.guarantee,
        ];
        self.set.iter().chain(&self.properties).chain(named.into_iter().flatten())
    }
}

/// An option that sets one key.
fn sets(flag: &'static str, key: &'static str) -> impl TypedValueParser<Value = Override> {
    StringValueParser::new().map(move |value| Override::new(flag, key, value))
}

fn guarantee() -> impl TypedValueParser<Value = Override> {
    PossibleValuesParser::new(GUARANTEES.iter().map(|(word, _)| *word))
        .map(|word| Override::new("--guarantee", "processor.guarantee", word))
}

fn any_key(text: &str) -> Result<Override, &'static str> {
    assignment(text).map(|(key, value)| Override::new("--set", key, value))
}

fn property(text: &str) -> Result<Override, &'static str> {
    assignment(text).map(|(name, value)| Override::new("-X", format!("kafka.properties.{name}"), value))
}

#[cfg(test)]
mod tests;
