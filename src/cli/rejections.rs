//! `rejections`: lists and shows rejected commands, and replays them once the reason is gone.

mod list;
mod replay;
mod show;

use std::{ops::ControlFlow, process::ExitCode};

use anyhow::bail;
use clap::Subcommand;
use contract::{Code, CommandRef, DeadLetter, IdOfOtherTopic, PartitionOffset, Record};
use kafka::{
    Settings, SourceError,
    access::Operation,
    scan::{Scanner, Unread},
    topics,
};

use super::{parsers::one_of, settings};
use crate::config::Config;

/// Reads the rejections topic, and posts rejected commands again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream rejections list
  activity-stream rejections show 3:12345
  activity-stream rejections replay --code too_large --dry-run")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Replay(replay::Args),
}

/// Which rejections.
#[derive(Debug, clap::Args)]
struct Selection {
    /// Only those with a problem of this code (repeatable)
    #[arg(long = "code", value_name = "CODE", value_parser = one_of(Code::ALL.iter().map(|code| (code.as_str(), *code))))]
    codes: Vec<Code>,
    /// Only that of the command there (repeatable)
    #[arg(long, value_name = "PARTITION:OFFSET|ID")]
    at: Vec<CommandRef>,
}

/// Lists, shows or replays.
pub fn rejections(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let kafka = settings::kafka(config);
    match &args.command {
        Command::List(args) => list::list(args, &kafka),
        Command::Show(args) => show::show(args, &kafka),
        Command::Replay(args) => replay::replay(args, &kafka, settings::decider(config)),
    }
}

/// What else is on the rejections topic.
#[derive(Debug, Default)]
struct Passed {
    /// Records other than rejections of this commands topic.
    foreign: u64,
    /// What an open transaction hides.
    unread: Vec<Unread>,
}

impl Passed {
    /// Fails if not all rejections were read, so that the result does not look complete. `then` says what to do.
    fn whole(&self, kafka: &Settings, then: &str) -> anyhow::Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let held_back = |unread: &Unread| {
            let Unread { partition, offsets } = unread;
            format!("partition {partition} from offset {} to {}", offsets.start, offsets.end - 1)
        };
        let held_back: Vec<_> = self.unread.iter().map(held_back).collect();
        bail!(
            "not all of '{}' was read: an open transaction holds back {}. The brokers end it when its time-out is over; \
             {then}",
            kafka.topics.rejections,
            held_back.join(", ")
        )
    }
}

/// An error of `each` or of reading.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Gives each current rejection of the configured commands topic to `each`, until that breaks. Within a partition of the
/// rejections topic they come in its order.
fn read(
    kafka: &Settings,
    mut each: impl FnMut(&Record, &DeadLetter<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<Passed> {
    let topic = &kafka.topics.rejections;
    let partitions = topics::require(kafka, topic, Operation::Read)?;
    let mut scanner = Scanner::new(kafka)?;
    let bounds = scanner.bounds(topic, partitions)?;
    let wanted: Vec<_> = (0..).zip(bounds).map(|(partition, at)| (partition, at.start..at.end)).collect();
    let mut passed = Passed::default();
    let unread = scanner.read(topic, &wanted, |record| -> Result<_, Ended> {
        match DeadLetter::of(&record).filter(|letter| letter.topic == kafka.topics.commands) {
            Some(letter) => Ok(each(&record, &letter)?),
            None => {
                passed.foreign += 1;
                Ok(ControlFlow::Continue(()))
            }
        }
    });
    passed.unread = match unread {
        Ok(unread) => unread,
        // Unchanged: a closed standard output is recognised by its type.
        Err(Ended::Other(error)) => return Err(error),
        Err(Ended::Source(error)) => return Err(error.into()),
    };
    Ok(passed)
}

/// The selected rejections.
#[derive(Debug)]
struct Chosen<'a> {
    codes: &'a [Code],
    places: Vec<PartitionOffset>,
}

impl<'a> Chosen<'a> {
    fn of(selection: &'a Selection, kafka: &Settings) -> Result<Self, IdOfOtherTopic> {
        let places = selection.at.iter().map(|named| named.on(&kafka.topics.commands));
        Ok(Self { codes: &selection.codes, places: places.collect::<Result<_, _>>()? })
    }

    /// Without a selection, all are.
    fn takes(&self, letter: &DeadLetter<'_>) -> bool {
        let is_chosen = |code: &str| self.codes.iter().any(|chosen| chosen.as_str() == code);
        let by_code = || letter.problems.0.iter().any(|problem| is_chosen(&problem.code));
        (self.codes.is_empty() || by_code()) && (self.places.is_empty() || self.places.contains(&letter.at))
    }
}
