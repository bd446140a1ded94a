//! `rejections replay`: back onto the commands topic.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    io::Write,
    ops::ControlFlow,
    process::ExitCode,
    time::Duration,
};

use contract::{
    ActivityId, Coordinates, DeadLetter, Decider, OutputRecord, PartitionOffset, Problem, Problems, Reading,
    Record, topic_bits,
};
use jiff::Timestamp;
use kafka::{Settings, access::Operation, posted::Delivered, topics};
use serde::Serialize;

use crate::cli::{
    args,
    json::write_json,
    outcome::print_problem,
    output::{self, BAD, DOUBTFUL, FAINT, GOOD, Output, Unread, count, plain},
    poster::{Delivery, Poster, still_posted},
};

/// Replays that are posted and not yet answered.
const WINDOW: usize = 1000;

/// A command's line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
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
    /// The id is null where the broker does not say where the command lies now.
    Posted {
        id: Option<ActivityId>,
    },
    /// Another one of the chosen has the same command, for example the rejection of an earlier replay.
    Repeated {
        of: PartitionOffset,
    },
    /// It would be rejected again, so it is not posted.
    StillInvalid {
        problems: &'a [Problem],
    },
    NotPosted {
        reason: &'a str,
    },
}

/// Posts the commands of the chosen rejections again, each to the partition that it came from. Exit code 1 where
/// one could not be posted or would be rejected again, a place was chosen of which there is no rejection, or not all
/// rejections could be read.
pub(super) fn replay(
    args: &args::RejectionsReplay,
    kafka: &Settings,
    decider: Decider,
) -> anyhow::Result<ExitCode> {
    let replayed = post_again(args, kafka, (!args.no_check).then_some(decider));
    if args.dry_run { replayed } else { replayed.map_err(still_posted) }
}

fn post_again(
    args: &args::RejectionsReplay,
    kafka: &Settings,
    decider: Option<Decider>,
) -> anyhow::Result<ExitCode> {
    let chosen = super::Chosen::of(&args.selection, kafka)?;
    let partitions = topics::require(kafka, &kafka.topics.commands, Operation::Write)?;
    let mut replay = Replay {
        poster: if args.dry_run { None } else { Some(Poster::new(kafka)?) },
        decider,
        places: Vec::new(),
        commands: HashMap::new(),
        // Nobody can know what was posted and not printed; a dry run posts nothing, and its exit code is an answer.
        out: output::stdout(if args.dry_run { Unread::GoOn } else { Unread::Stop }),
        json: args.json,
        topic_bits: topic_bits(&kafka.topics.commands),
        partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        posted: 0,
        repeated: 0,
        invalid: 0,
        failed: 0,
        under_way: 0,
    };
    let mut not_found: BTreeSet<PartitionOffset> = chosen.places.iter().copied().collect();
    let read = super::read(kafka, |_, letter| {
        not_found.remove(&letter.at);
        if chosen.takes(letter) {
            replay.take_up(letter)?;
            replay.collect(WINDOW)?;
        }
        Ok(ControlFlow::Continue(()))
    });
    // What was posted before the reading failed is told too.
    replay.collect(0)?;
    let passed = read?;
    let nothing = match passed.unread.is_empty() {
        true => format!("no rejection of the command there is on '{}'", kafka.topics.rejections),
        false => format!("no rejection of the command there was read of '{}'", kafka.topics.rejections),
    };
    not_found.into_iter().try_for_each(|place| replay.say(place, Outcome::NotPosted { reason: &nothing }))?;
    let summary = replay.summary(args.dry_run)?;
    let again = match args.dry_run {
        true => "run this command again then",
        false => "run this command again then; a command that is posted twice becomes one activity",
    };
    passed.whole(kafka, again)?;
    Ok(summary)
}

struct Replay {
    poster: Option<Poster>,
    /// By whose rules a command would be rejected again.
    decider: Option<Decider>,
    places: Vec<PartitionOffset>,
    /// What was taken up, by a hash of the command and its partition: where it was found first.
    commands: HashMap<blake3::Hash, PartitionOffset>,
    out: Output,
    json: bool,
    topic_bits: u16,
    /// Of the commands topic as it is now.
    partitions: i32,
    posted: u64,
    repeated: u64,
    invalid: u64,
    failed: u64,
    under_way: usize,
}

impl Replay {
    /// Posts the command, unless it was posted just now: a replay that was refused is a rejection of its own, and
    /// without this each further one would double them.
    fn take_up(&mut self, letter: &DeadLetter<'_>) -> anyhow::Result<()> {
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
            Ok(command) => command,
            Err(omitted) => return self.say(place, Outcome::NotPosted { reason: &omitted.to_string() }),
        };
        match self.commands.entry(hash(place.partition, &command)) {
            Entry::Occupied(first) => {
                let of = *first.get();
                return self.say(place, Outcome::Repeated { of });
            }
            Entry::Vacant(entry) => entry.insert(place),
        };
        if let Some(problems) = self.problems(place, &command) {
            return self.say(place, Outcome::StillInvalid { problems: &problems.0 });
        }
        let index = self.places.len();
        self.places.push(place);
        match &self.poster {
            None => self.say(place, Outcome::WouldBePosted),
            Some(poster) => match poster.post_record(index, Some(place.partition), &command) {
                Ok(()) => {
                    self.under_way += 1;
                    Ok(())
                }
                Err(reason) => self.say(place, Outcome::NotPosted { reason: &reason }),
            },
        }
    }

    /// Why it would be rejected again, where that is to be known.
    fn problems(&self, place: PartitionOffset, command: &OutputRecord) -> Option<Problems> {
        let OutputRecord { key, value, headers } = command.clone();
        let timestamp = Timestamp::now().as_millisecond();
        let coordinates = Coordinates { partition: place.partition, offset: place.offset, timestamp };
        match self.decider.as_ref()?.read(&Record { coordinates, key, value, headers }).reading {
            Reading::Valid { .. } => None,
            Reading::Rejected(problems) => Some(problems),
        }
    }

    /// Prints answers until at most so many are missing.
    fn collect(&mut self, missing: usize) -> anyhow::Result<()> {
        while self.under_way > missing {
            let Some(poster) = &self.poster else { return Ok(()) };
            for Delivery { index, result } in poster.deliveries(Duration::from_millis(50)) {
                self.under_way -= 1;
                let place = self.places[index];
                match result {
                    Ok(Delivered::At(at)) => {
                        let id = Some(ActivityId::new(self.topic_bits, at));
                        self.say(place, Outcome::Posted { id })?;
                    }
                    Ok(Delivered::SomewhereIn { .. }) => self.say(place, Outcome::Posted { id: None })?,
                    Err(reason) => self.say(place, Outcome::NotPosted { reason: &reason })?,
                }
            }
        }
        Ok(())
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
            return Ok(write_json(&Line { partition, offset, outcome }, out)?);
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

    fn summary(mut self, dry_run: bool) -> anyhow::Result<ExitCode> {
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

/// Of everything that would be posted.
fn hash(partition: i32, command: &OutputRecord) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&partition.to_le_bytes());
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
