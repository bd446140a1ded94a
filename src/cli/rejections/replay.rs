//! `rejections replay`: posts rejected commands again.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    io::Write,
    ops::ControlFlow,
    process::ExitCode,
};

use activity_stream_client::{ActivityClient, PostError, Posted};
use clap::ArgGroup;
use contract::{
    ActivityId, Coordinates, DeadLetter, Decider, OutputRecord, PartitionOffset, Problem, Problems, Reading,
    Record,
};
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use kafka::{Settings, access::Operation, topics};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::{Chosen, Selection};
use crate::cli::{
    client,
    json::write_json,
    outcome::print_problem,
    output::{self, BAD, DOUBTFUL, FAINT, GOOD, Output, Unread, count, plain},
};

/// Posts the commands of chosen rejections again, each to the partition that it came from
#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("choice").args(["codes", "at", "all"]).required(true).multiple(true),
    after_help = "\
Examples:
  activity-stream rejections replay --code too_large --dry-run
  activity-stream rejections replay --code too_large
  activity-stream rejections replay --at 3:12345 --at 3:12346

A command keeps its idempotency key; one without a key gets one made of its partition and offset.
So replaying twice posts once. A command that the configured limits would reject again is named
with its problems and not posted.
Exit code 1: not all that were chosen were posted."
)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// All of them
    #[arg(long, conflicts_with_all = ["codes", "at"])]
    all: bool,
    /// Print what would be posted, and post nothing
    #[arg(long)]
    dry_run: bool,
    /// Post also what the configured limits would reject again
    #[arg(long)]
    no_check: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Commands that are posted and not yet answered.
const WINDOW: usize = 1000;

/// A command's line of `--json`.
#[derive(Debug, Serialize)]
struct ReplayLine<'a> {
    partition: i32,
    offset: i64,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
enum Outcome<'a> {
    /// With `--dry-run`.
    WouldBePosted,
    /// The id is null if the broker did not return the command's offset.
    Posted {
        id: Option<ActivityId>,
    },
    /// Another selected rejection has the same command, for example that of an earlier replay.
    Repeated {
        of: PartitionOffset,
    },
    /// It would be rejected again, and was not posted.
    StillInvalid {
        problems: &'a [Problem],
    },
    NotPosted {
        reason: &'a str,
    },
}

/// Posts the commands of the selected rejections again, each to its original partition. Exit code 1 if one was not posted or
/// would be rejected again, if a selected place has no rejection, or if not all rejections were read.
pub(super) fn replay(args: &Args, kafka: &Settings, decider: Decider) -> anyhow::Result<ExitCode> {
    let chosen = Chosen::of(&args.selection, kafka)?;
    let partitions = topics::require(kafka, &kafka.topics.commands, Operation::Write)?;
    let mut replay = Replay {
        client: if args.dry_run { None } else { Some(client::builder(kafka).build()?) },
        runtime: client::runtime()?,
        answers: FuturesUnordered::new(),
        decider: (!args.no_check).then_some(decider),
        commands: HashMap::new(),
        // Posting needs output for its results; a dry run posts nothing, and its exit code is an answer.
        out: output::stdout(if args.dry_run { Unread::GoOn } else { Unread::Stop }),
        json: args.json,
        is_read: false,
        partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        posted: 0,
        repeated: 0,
        invalid: 0,
        failed: 0,
    };
    let replayed = replay.all(args.dry_run, &chosen, kafka);
    match args.dry_run {
        true => replayed,
        false => replayed.map_err(|error| replay.unshown(error)),
    }
}

struct Replay {
    /// `None`: nothing is posted.
    client: Option<ActivityClient>,
    runtime: Runtime,
    /// The broker's answers.
    answers: FuturesUnordered<LocalBoxFuture<'static, (PartitionOffset, Result<Posted, PostError>)>>,
    /// Decides whether a command would be rejected again.
    decider: Option<Decider>,
    /// The first place of each selected command, by a hash of the command and its partition.
    commands: HashMap<blake3::Hash, PartitionOffset>,
    out: Output,
    json: bool,
    /// All rejections were read.
    is_read: bool,
    /// Of the current commands topic.
    partitions: i32,
    posted: u64,
    repeated: u64,
    invalid: u64,
    failed: u64,
}

impl Replay {
    fn all(&mut self, dry_run: bool, chosen: &Chosen<'_>, kafka: &Settings) -> anyhow::Result<ExitCode> {
        let mut not_found: BTreeSet<PartitionOffset> = chosen.places.iter().copied().collect();
        let read = super::read(kafka, |_, letter| {
            not_found.remove(&letter.at);
            if chosen.takes(letter) {
                self.one(letter)?;
                self.collect(WINDOW)?;
            }
            Ok(ControlFlow::Continue(()))
        });
        // Report what was posted before reading failed.
        self.collect(0)?;
        let passed = read?;
        self.is_read = true;
        let nothing = match passed.unread.is_empty() {
            true => format!("no rejection of the command there is on '{}'", kafka.topics.rejections),
            false => format!("no rejection of the command there was read of '{}'", kafka.topics.rejections),
        };
        not_found
            .into_iter()
            .try_for_each(|place| self.say(place, Outcome::NotPosted { reason: &nothing }))?;
        let summary = self.summary(dry_run)?;
        let again = match dry_run {
            true => "run this command again then",
            false => "run this command again then; a command that is posted twice becomes one activity",
        };
        passed.whole(kafka, again)?;
        Ok(summary)
    }

    /// Posts the command once. A rejected replay is a rejection of its own, so without this each further replay would double
    /// them.
    fn one(&mut self, letter: &DeadLetter<'_>) -> anyhow::Result<()> {
        let place = letter.at;
        if place.partition >= self.partitions {
            let reason = format!(
                "the topic '{}' has {} now",
                letter.topic,
                count(self.partitions.unsigned_abs().into(), "partition")
            );
            return self.say(place, Outcome::NotPosted { reason: &reason });
        }
        let command = match letter.command() {
            Ok(command) => posted_now(place, command),
            Err(omitted) => return self.say(place, Outcome::NotPosted { reason: &omitted.to_string() }),
        };
        match self.commands.entry(hash(&command)) {
            Entry::Occupied(first) => {
                let of = *first.get();
                return self.say(place, Outcome::Repeated { of });
            }
            Entry::Vacant(entry) => entry.insert(place),
        };
        if let Some(problems) = self.problems(&command) {
            return self.say(place, Outcome::StillInvalid { problems: &problems.0 });
        }
        let Some(client) = &self.client else { return self.say(place, Outcome::WouldBePosted) };
        match self.runtime.block_on(client.enqueue(&command, Some(place.partition))) {
            Ok(answer) => self.answers.push(answer.map(move |answer| (place, answer)).boxed_local()),
            Err(refused) => self.answered(place, Err(refused))?,
        }
        Ok(())
    }

    /// Why it would be rejected again. Nothing with `--no-check`.
    fn problems(&self, command: &Record) -> Option<Problems> {
        match self.decider.as_ref()?.read(command).reading {
            Reading::Valid { .. } => None,
            Reading::Rejected(problems) => Some(problems),
        }
    }

    /// Prints answers until at most `missing` are left.
    fn collect(&mut self, missing: usize) -> anyhow::Result<()> {
        while self.answers.len() > missing
            && let Some((place, answer)) = self.runtime.block_on(self.answers.next())
        {
            self.answered(place, answer)?;
        }
        Ok(())
    }

    fn answered(&mut self, place: PartitionOffset, answer: Result<Posted, PostError>) -> anyhow::Result<()> {
        match answer {
            Ok(posted) => self.say(place, Outcome::Posted { id: posted.id() }),
            Err(error) => self.say(place, Outcome::NotPosted { reason: &client::reason(&error) }),
        }
    }

    /// Waits for the commands under way, and adds the numbers of posted commands to the error.
    fn unshown(&mut self, error: anyhow::Error) -> anyhow::Error {
        while self.collect(0).is_err() {}
        client::unshown(error, self.posted, self.invalid + self.failed, self.is_read)
    }

    fn say(&mut self, place: PartitionOffset, outcome: Outcome<'_>) -> anyhow::Result<()> {
        match outcome {
            Outcome::NotPosted { .. } => self.failed += 1,
            Outcome::StillInvalid { .. } => self.invalid += 1,
            Outcome::Repeated { .. } => self.repeated += 1,
            Outcome::Posted { .. } | Outcome::WouldBePosted => self.posted += 1,
        }
        let out = &mut self.out;
        if self.json {
            let PartitionOffset { partition, offset } = place;
            return Ok(write_json(&ReplayLine { partition, offset, outcome }, out)?);
        }
        match outcome {
            Outcome::WouldBePosted => writeln!(out, "would be posted  {place}")?,
            Outcome::Posted { id: Some(id) } => writeln!(out, "{GOOD}posted{GOOD:#}      {place}: {id}")?,
            Outcome::Posted { id: None } => {
                writeln!(
                    out,
                    "{DOUBTFUL}posted{DOUBTFUL:#}      {place}: the broker did not say at which offset"
                )?;
            }
            Outcome::Repeated { of } => {
                writeln!(out, "{FAINT}repeated{FAINT:#}    {place}: the command of {of}")?;
            }
            Outcome::StillInvalid { problems } => {
                writeln!(out, "{BAD}not posted{BAD:#}  {place}: would be rejected again:")?;
                problems.iter().try_for_each(|problem| print_problem(problem, out))?;
            }
            Outcome::NotPosted { reason } => {
                writeln!(out, "{BAD}not posted{BAD:#}  {place}: {}", plain(reason))?;
            }
        }
        Ok(())
    }

    fn summary(&mut self, dry_run: bool) -> anyhow::Result<ExitCode> {
        if !self.json {
            let verb = if dry_run { "would be posted" } else { "posted" };
            write!(
                self.out,
                "{}: {} {verb}",
                count(self.posted + self.repeated + self.invalid + self.failed, "rejection"),
                self.posted
            )?;
            if self.repeated > 0 {
                write!(self.out, ", {} repeated", self.repeated)?;
            }
            if self.invalid > 0 {
                write!(self.out, ", {} would be rejected again", self.invalid)?;
            }
            if self.failed > 0 {
                write!(self.out, ", {} not", self.failed)?;
            }
            writeln!(self.out)?;
        }
        self.out.flush()?;
        Ok(if self.failed + self.invalid == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The command with the current time.
fn posted_now(place: PartitionOffset, command: OutputRecord) -> Record {
    let OutputRecord { key, value, headers } = command;
    let timestamp = Timestamp::now().as_millisecond();
    let coordinates = Coordinates { partition: place.partition, offset: place.offset, timestamp };
    Record { coordinates, key, value, headers }
}

/// Of the record and its partition.
fn hash(command: &Record) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&command.coordinates.partition.to_le_bytes());
    let mut add = |part: Option<&[u8]>| {
        // No part is as long as this.
        hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        hasher.update(part.unwrap_or_default());
    };
    add(command.key.as_deref());
    add(command.value.as_deref());
    for header in &command.headers {
        add(Some(&header.name));
        add(header.value.as_deref());
    }
    hasher.finalize()
}
