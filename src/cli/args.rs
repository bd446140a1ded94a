//! The command line, whole.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{
    ArgGroup, Parser, Subcommand, ValueEnum,
    builder::{ArgPredicate, PossibleValue, PossibleValuesParser, TypedValueParser},
};
use contract::{Code, CommandRef};
use event_log::Order;
use kafka::{OutputTopic, follow::Start};
use processor::start::Accept;

use super::when::When;
use crate::config::{GUARANTEES, Guarantee, Override, Sources, duration};

/// Decides "post an activity" commands from Kafka, keeps the accepted ones in an SQLite event log, and notifies the
/// audiences that asked, exactly once.
#[derive(Debug, Parser)]
#[command(name = "activity-stream", version, after_help = examples::TOP)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(Demo),
    Run(Run),
    Post(Post),
    Tail(Tail),
    Log(Log),
    Rejections(Rejections),
    Schema(Schema),
    Check(Check),
    Verify(Verify),
}

/// Shows the whole path in one process: embedded broker, processor and producer
#[derive(Debug, clap::Args)]
#[command(after_help = examples::DEMO)]
pub struct Demo {
    /// A .json file is one command; any other file, and - for standard input, one command a line. None: five good
    /// examples and some bad ones
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Keep the event log in this folder [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the processor until it is told to stop
#[derive(Debug, clap::Args)]
#[command(after_help = examples::RUN)]
pub struct Run {
    /// Start an embedded broker in this process, and print its address. It lives in memory, has no transactions, and is for
    /// librdkafka clients (Python, Go, .NET, C, kcat), not for those in pure Java or JavaScript. It ends when a client that
    /// assigns partitions in another way, such as kcat -G by default, joins the processor's group
    #[arg(long)]
    pub embedded: bool,
    /// Go on where the processor would stop, for this start only; the log records it
    #[arg(long, value_name = "LOSS", value_parser = losses())]
    accept: Vec<fn(&mut Accept)>,
    #[command(flatten)]
    settings: Settings,
}

impl Run {
    /// What the operator accepts, to get past a stop.
    #[must_use]
    pub fn accept(&self) -> Accept {
        let mut accept = Accept::default();
        self.accept.iter().for_each(|add| add(&mut accept));
        accept
    }
}

fn losses() -> impl TypedValueParser<Value = fn(&mut Accept)> {
    let losses: [(_, _, fn(&mut Accept)); 4] = [
        (
            "lost-commands",
            "The topic no longer holds commands that nobody has decided: take them to be lost, and go on after them",
            |accept| accept.lost_commands = true,
        ),
        (
            "republish",
            "How far the output was published is unknown: go on from the last place that the log knows of; what went out \
             after it goes out again, with the same ids",
            |accept| accept.republish = true,
        ),
        (
            "skip-unpublished",
            "How far the output was published is unknown: take all that is in the log to be out; what was not is never \
             published",
            |accept| accept.skip_unpublished = true,
        ),
        (
            "group-offset",
            "How far the output was published is unknown: take the group's committed offset for it, whoever committed \
             it; what was not published before it never is, and what was published after it is published again, with \
             the same ids",
            |accept| accept.group_offset = true,
        ),
    ];
    one_of(losses.map(|(word, help, add)| (PossibleValue::new(word).help(help), add)))
}

/// Posts commands, and prints the id that each activity will have
#[derive(Debug, clap::Args)]
#[command(after_help = examples::POST)]
pub struct Post {
    /// A .json file is one command; any other file, and - for standard input, one command a line
    #[arg(value_name = "FILE", default_value = "-")]
    pub files: Vec<PathBuf>,
    /// Check all commands before the first is sent, also those from standard input, which are then kept in memory. Without
    /// it files are checked before anything is sent, and standard input line by line
    #[arg(long)]
    pub check: bool,
    /// Post commands as they are, also those that would be rejected
    #[arg(long, conflicts_with = "check")]
    pub no_check: bool,
    /// Key of the record [default: OBJECTTYPE/OBJECTID of each command]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// By which the command, sent again, is known as a duplicate. For one command
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// A header of the record (repeatable)
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = assignment)]
    pub headers: Vec<(String, String)>,
    /// Wait for the processor's verdict on each command, by reply, for so long at most [default with --wait: 30s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s")]
    pub wait: Option<Patience>,
    /// Where to ask for the reply: one of the processor's topics.replies [default: the configured one]
    #[arg(long, value_name = "TOPIC", requires = "wait")]
    pub reply_topic: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// How long to wait, as the configuration writes lengths of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        duration(text).map(Self)
    }
}

/// Follows a topic, reading only what is committed
#[derive(Debug, clap::Args)]
#[command(after_help = examples::TAIL)]
pub struct Tail {
    /// Which topic
    #[arg(value_parser = one_of([
        ("notifications", OutputTopic::Notifications),
        ("rejections", OutputTopic::Rejections),
    ]))]
    pub topic: OutputTopic,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Where to start in each partition; with --until-end: beginning, unless given
    #[arg(
        long,
        value_parser = one_of([("beginning", Start::Beginning), ("end", Start::End)]),
        default_value = "end",
        default_value_if("until_end", ArgPredicate::IsPresent, "beginning")
    )]
    pub from: Start,
    /// Stop at the end that each partition has now, instead of waiting for more. What an open transaction holds back lies
    /// beyond it
    #[arg(long)]
    pub until_end: bool,
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    #[command(flatten)]
    settings: Settings,
}

/// Reads the event log, also while a processor writes it
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOG)]
pub struct Log {
    #[command(subcommand)]
    pub command: LogCommand,
}

/// What to read of the event log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    List(LogList),
    Show(LogShow),
    Stats(LogStats),
    Backup(LogBackup),
    Check(LogCheck),
    Rebuild(LogRebuild),
}

/// Lists events
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOG_LIST)]
pub struct LogList {
    /// Only those about this object
    #[arg(long, value_name = "TYPE/ID", value_parser = object)]
    pub object: Option<String>,
    /// Only those whose command arrived then or later: a date-time, a date (its start in UTC), or a time ago (2h, 7d)
    #[arg(long, value_name = "WHEN")]
    pub since: Option<When>,
    /// Only those whose command arrived before then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<When>,
    /// By position in the log
    #[arg(
        long,
        value_parser = one_of([("ascending", Order::OldestFirst), ("descending", Order::NewestFirst)]),
        default_value = "ascending"
    )]
    pub order: Order,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Shows what became of one command
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOG_SHOW)]
pub struct LogShow {
    /// Where the command lies
    #[arg(value_name = "PARTITION:OFFSET|ID")]
    pub at: CommandRef,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Counts what the log holds, and shows cursors and gaps
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOG_STATS)]
pub struct LogStats {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Reads all of the log, and says what is damaged
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOG_CHECK)]
pub struct LogCheck {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Copies the event log to a new file, also while a processor writes it
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOG_BACKUP)]
pub struct LogBackup {
    /// The copy, which must not exist yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Makes the read model anew, through which events are found by object and time
#[derive(Debug, clap::Args)]
#[command(after_help = examples::LOG_REBUILD)]
pub struct LogRebuild {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Reads the rejections topic, and posts rejected commands again
#[derive(Debug, clap::Args)]
#[command(after_help = examples::REJECTIONS)]
pub struct Rejections {
    #[command(subcommand)]
    pub command: RejectionsCommand,
}

/// What to do with rejections.
#[derive(Debug, Subcommand)]
pub enum RejectionsCommand {
    List(RejectionsList),
    Show(RejectionsShow),
    Replay(RejectionsReplay),
}

/// Which rejections.
#[derive(Debug, clap::Args)]
pub struct Selection {
    /// Only those with a problem of this code (repeatable)
    #[arg(long = "code", value_name = "CODE", value_parser = one_of(Code::ALL.iter().map(|code| (code.as_str(), *code))))]
    pub codes: Vec<Code>,
    /// Only that of the command there (repeatable)
    #[arg(long, value_name = "PARTITION:OFFSET|ID")]
    pub at: Vec<CommandRef>,
}

/// Counts rejections by the code of their first problem; lists those that are chosen one by one
#[derive(Debug, clap::Args)]
#[command(after_help = examples::REJECTIONS_LIST)]
pub struct RejectionsList {
    #[command(flatten)]
    pub selection: Selection,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Shows the rejection of one command: problems, headers and value
#[derive(Debug, clap::Args)]
#[command(after_help = examples::REJECTIONS_SHOW)]
pub struct RejectionsShow {
    /// Where the command lies
    #[arg(value_name = "PARTITION:OFFSET|ID")]
    pub at: CommandRef,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Posts the commands of chosen rejections again, to the partition that each came from
#[derive(Debug, clap::Args)]
#[command(
    after_help = examples::REJECTIONS_REPLAY,
    group = ArgGroup::new("choice").args(["codes", "at", "all"]).required(true).multiple(true)
)]
pub struct RejectionsReplay {
    #[command(flatten)]
    pub selection: Selection,
    /// All of them
    #[arg(long, conflicts_with_all = ["codes", "at"])]
    pub all: bool,
    /// Say which would be posted, and post nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Post also what would be rejected again by the configured limits
    #[arg(long)]
    pub no_check: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Prints the contract for machines: JSON Schemas of what travels, or an AsyncAPI document of the topics
#[derive(Debug, clap::Args)]
#[command(after_help = examples::SCHEMA)]
pub struct Schema {
    /// Of what
    #[arg(value_enum, value_name = "DOCUMENT")]
    pub document: Document,
    #[command(flatten)]
    settings: Settings,
}

/// A part of the contract for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// What is accepted on the commands topic
    Command,
    /// An event, as 'log list' and 'log show' print it
    Event,
    /// A value on the notifications topic
    Notification,
    /// The problems of a rejection, which stand in its header __connect.errors.exception.message
    Rejection,
    /// A value on a topic for replies
    Reply,
    /// Topics, keys, headers and replies: AsyncAPI 3.0
    Asyncapi,
}

/// Shows the configuration in force, and tries brokers, topics and log file
#[derive(Debug, clap::Args)]
#[command(after_help = examples::CHECK)]
pub struct Check {
    /// Only ask the processor that runs at admin.listen whether it is ready; exit 1 if it is not
    #[arg(long)]
    pub ready: bool,
    /// Fail also where an access right is missing that this command needs (repeatable); those of 'run' are always needed
    #[arg(long = "for", value_name = "COMMAND", conflicts_with = "ready")]
    pub commands: Vec<Purpose>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// A command that works with the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    Run,
    Tail,
    Post,
    Verify,
    Rejections,
}

impl Check {
    /// Whose rights must be there.
    #[must_use]
    pub fn purposes(&self) -> Vec<Purpose> {
        [&[Purpose::Run], &self.commands[..]].concat()
    }
}

/// Proves that logs and topics are what deciding every command again says, as far as the output is out
#[derive(Debug, clap::Args)]
#[command(after_help = examples::VERIFY)]
pub struct Verify {
    /// The log of one of the group's processors (repeatable); together they must know of every command [default: the
    /// configured one]
    #[arg(long = "log", value_name = "FILE")]
    pub logs: Vec<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Options that change the configuration. They stand before or after the subcommand, and both count: clap's own
/// global options would drop the earlier ones of a repeated option.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Configuration")]
struct Settings {
    /// Read the configuration from this file [env: ACTIVITY_STREAM_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Brokers to begin with, separated by commas
    #[arg(short, long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// Consumer group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Event log
    #[arg(long, value_name = "FILE")]
    log_file: Option<String>,
    /// Topic to read commands from
    #[arg(long, value_name = "TOPIC")]
    commands_topic: Option<String>,
    /// Topic for notifications
    #[arg(long, value_name = "TOPIC")]
    notifications_topic: Option<String>,
    /// Topic for rejections
    #[arg(long, value_name = "TOPIC")]
    rejections_topic: Option<String>,
    /// exactly-once or at-least-once
    #[arg(long, value_parser = one_of(GUARANTEES.iter().copied()), hide_possible_values = true)]
    guarantee: Option<Guarantee>,
    /// Set any key of the configuration (repeatable)
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Set a librdkafka property (repeatable); a secret is better set in the environment
    #[arg(short = 'X', value_name = "PROPERTY=VALUE", value_parser = assignment)]
    properties: Vec<(String, String)>,
}

impl Args {
    /// The configuration file, where a flag names one.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.settings().into_iter().rev().find_map(|settings| settings.config.clone())
    }

    /// What the flags set. A flag of its own wins over `--set`, and what stands after the subcommand over what stands
    /// before it.
    pub fn overrides(&self) -> Vec<Override> {
        self.settings().into_iter().flat_map(Settings::overrides).collect()
    }

    /// All that the configuration is made of: the file, the process's environment, the flags.
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config_file(), self.overrides())
    }

    /// Before the subcommand, and after it.
    fn settings(&self) -> [&Settings; 2] {
        let after = match &self.command {
            Command::Demo(demo) => &demo.settings,
            Command::Run(run) => &run.settings,
            Command::Post(post) => &post.settings,
            Command::Tail(tail) => &tail.settings,
            Command::Log(Log { command: LogCommand::List(list) }) => &list.settings,
            Command::Log(Log { command: LogCommand::Show(show) }) => &show.settings,
            Command::Log(Log { command: LogCommand::Stats(stats) }) => &stats.settings,
            Command::Log(Log { command: LogCommand::Check(check) }) => &check.settings,
            Command::Log(Log { command: LogCommand::Backup(backup) }) => &backup.settings,
            Command::Log(Log { command: LogCommand::Rebuild(rebuild) }) => &rebuild.settings,
            Command::Rejections(Rejections { command: RejectionsCommand::List(list) }) => &list.settings,
            Command::Rejections(Rejections { command: RejectionsCommand::Show(show) }) => &show.settings,
            Command::Rejections(Rejections { command: RejectionsCommand::Replay(replay) }) => {
                &replay.settings
            }
            Command::Schema(schema) => &schema.settings,
            Command::Check(check) => &check.settings,
            Command::Verify(verify) => &verify.settings,
        };
        [&self.settings, after]
    }
}

impl Settings {
    fn overrides(&self) -> Vec<Override> {
        let set = self.set.iter().map(|(key, value)| Override {
            key: key.clone(),
            value: value.clone(),
            flag: "--set".to_owned(),
        });
        let properties = self.properties.iter().map(|(name, value)| Override {
            key: format!("kafka.properties.{name}"),
            value: value.clone(),
            flag: "-X".to_owned(),
        });
        let guarantee = GUARANTEES.iter().find(|(_, guarantee)| Some(*guarantee) == self.guarantee);
        let named = [
            ("--bootstrap-servers", "kafka.bootstrap_servers", &self.bootstrap_servers),
            ("--group", "kafka.group", &self.group),
            ("--log-file", "log.path", &self.log_file),
            ("--commands-topic", "topics.commands", &self.commands_topic),
            ("--notifications-topic", "topics.notifications", &self.notifications_topic),
            ("--rejections-topic", "topics.rejections", &self.rejections_topic),
            ("--guarantee", "processor.guarantee", &guarantee.map(|(word, _)| (*word).to_owned())),
        ];
        let named = named.into_iter().filter_map(|(flag, key, value)| {
            let value = value.clone()?;
            Some(Override { key: key.to_owned(), value, flag: flag.to_owned() })
        });
        set.chain(properties).chain(named).collect()
    }
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("expected a name, = and a value"),
    }
}

/// One of a few words, as what it stands for.
fn one_of<T: Clone + Send + Sync + 'static>(
    words: impl IntoIterator<Item = (impl Into<PossibleValue>, T)>,
) -> impl TypedValueParser<Value = T> {
    let words: Vec<(PossibleValue, T)> =
        words.into_iter().map(|(word, value)| (word.into(), value)).collect();
    PossibleValuesParser::new(words.iter().map(|(word, _)| word.clone())).map(move |given| {
        let found = words.iter().find(|(word, _)| word.get_name() == given);
        found.expect("it is one of the words").1.clone()
    })
}

/// Types and ids may hold slashes themselves, so this is not taken apart.
fn object(text: &str) -> Result<String, &'static str> {
    match text.split_once('/') {
        Some((object_type, object_id)) if !object_type.is_empty() && !object_id.is_empty() => {
            Ok(text.to_owned())
        }
        _ => Err("expected the object's type, / and its id, such as customer/42"),
    }
}

mod examples {
    pub(super) const TOP: &str = "\
Examples:
  activity-stream demo                            See it work; needs no broker
  activity-stream run -b kafka:9092               Process commands
  activity-stream post -b kafka:9092 case-7.json  Post one

Every option can be set in a file or in the environment too: see config/default.toml.";
    pub(super) const DEMO: &str = "\
Examples:
  activity-stream demo
  activity-stream demo --json commands.ndjson --data-dir ./demo
  generate | activity-stream demo -";
    pub(super) const RUN: &str = "\
Examples:
  activity-stream run -b kafka:9092 --log-file /var/lib/activity-stream/activity.db
  activity-stream run --embedded
  ACTIVITY_STREAM_KAFKA_PROPERTIES_SASL_PASSWORD=… activity-stream run --config production.toml

Stops on SIGINT or SIGTERM once what is in flight is done; on a second one at once.";
    pub(super) const POST: &str = "\
Examples:
  activity-stream post customer-42.json
  activity-stream post -b kafka:9092 commands.ndjson
  echo '{\"objectType\":\"case\",\"objectId\":\"7\"}' | activity-stream post --idempotency-key share-case-7
  activity-stream post --wait --reply-topic my.answers customer-42.json

A command that the configured limits would reject is not posted. If it is in a file, none is.
An id becomes an activity's if the processor accepts the command: it alone knows which idempotency
keys were used. Exit code 1: not all were posted. With --wait: 0 accepted, 3 rejected, 4 duplicate,
1 no verdict; of several, the first of 1, 3 and 4 that applies.";
    pub(super) const TAIL: &str = "\
Examples:
  activity-stream tail notifications
  activity-stream tail rejections --until-end --json
  activity-stream tail notifications --until-end --limit 10

Ends on Ctrl-C, at the limit, or with --until-end. Without it, added partitions are followed.
With --json, bytes that are not UTF-8 stand in the field base16 too.";
    pub(super) const LOG: &str = "\
Examples:
  activity-stream log list --object customer/42
  activity-stream log show 01a20ada-2c7b-89d1-8003-000000003039
  activity-stream log stats";
    pub(super) const LOG_LIST: &str = "\
Examples:
  activity-stream log list --object customer/42 --since 7d
  activity-stream log list --since 2026-01-01 --until 2026-02-01 --json
  activity-stream log list --order descending --limit 10";
    pub(super) const LOG_SHOW: &str = "\
Examples:
  activity-stream log show 3:12345
  activity-stream log show 01a20ada-2c7b-89d1-8003-000000003039 --json";
    pub(super) const LOG_STATS: &str = "\
Example:
  activity-stream log stats --log-file /var/lib/activity-stream/activity.db";
    pub(super) const LOG_CHECK: &str = "\
Example:
  activity-stream log check --log-file /var/lib/activity-stream/activity.db

Exits with 1 where it finds something. A processor may be running.";
    pub(super) const LOG_BACKUP: &str = "\
Example:
  activity-stream log backup --log-file /var/lib/activity-stream/activity.db /backup/activity.db";
    pub(super) const LOG_REBUILD: &str = "\
Example:
  activity-stream log rebuild --log-file /var/lib/activity-stream/activity.db";
    pub(super) const REJECTIONS: &str = "\
Examples:
  activity-stream rejections list
  activity-stream rejections show 3:12345
  activity-stream rejections replay --code too_large --dry-run";
    pub(super) const REJECTIONS_LIST: &str = "\
Examples:
  activity-stream rejections list
  activity-stream rejections list --code bad_date_time --json";
    pub(super) const REJECTIONS_SHOW: &str = "\
Examples:
  activity-stream rejections show 3:12345
  activity-stream rejections show 01a20ada-2c7b-89d1-8003-000000003039";
    pub(super) const REJECTIONS_REPLAY: &str = "\
Examples:
  activity-stream rejections replay --code too_large --dry-run
  activity-stream rejections replay --code too_large
  activity-stream rejections replay --at 3:12345 --at 3:12346

A command keeps its idempotency key; one without gets one that is made of its place. So replaying twice posts once.
One that would be rejected again, by the limits of this configuration, is named with its problems and not posted.
Exit code 1: not all that were chosen were posted.";
    pub(super) const SCHEMA: &str = "\
Examples:
  activity-stream schema command
  activity-stream schema asyncapi --config production.toml

Topics, brokers and the limits of a command are those of the configuration.
The command's schema lists what goes beyond a schema.";
    pub(super) const CHECK: &str = "\
Examples:
  activity-stream check --config production.toml
  activity-stream check --ready --set admin.listen=127.0.0.1:9464";
    pub(super) const VERIFY: &str = "\
Examples:
  activity-stream verify --config production.toml
  activity-stream verify -b kafka:9092 --log one/activity.db --log two/activity.db --json

Wants the processors' limits, window, topics.replies, processor.source and group. They may go on meanwhile.
Exit code 1: something deviates.";
}

#[cfg(test)]
mod tests;
