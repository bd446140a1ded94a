//! `rejections replay`: back onto the commands topic.

use std::{io::Write, ops::ControlFlow, process::ExitCode, time::Duration};

use serde::Serialize;

use crate::{
    activity::{ActivityId, Place, topic_bits},
    cli::{
        args,
        json::write_json,
        output::{self, BAD, DOUBTFUL, GOOD, Output, count},
        poster::{Delivery, Poster},
    },
    kafka::{Settings, posted::Delivered, topics},
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
enum Outcome<'a> {
    /// With `--dry-run`.
    WouldBePosted,
    /// The id is null where the broker does not say where the command lies now.
    Posted {
        id: Option<ActivityId>,
    },
    NotPosted {
        reason: &'a str,
    },
}

/// Posts the commands of the chosen rejections again, each to the partition that it came from. Exit code 1 where
/// one could not be posted.
pub(super) fn replay(args: &args::RejectionsReplay, kafka: &Settings) -> anyhow::Result<ExitCode> {
    topics::require(kafka, &kafka.topics.commands)?;
    let mut replay = Replay {
        poster: if args.dry_run { None } else { Some(Poster::new(kafka)?) },
        places: Vec::new(),
        out: output::stdout(),
        json: args.json,
        topic_bits: topic_bits(&kafka.topics.commands),
        posted: 0,
        failed: 0,
        under_way: 0,
    };
    super::read(kafka, |_, letter| {
        if !args.selection.takes(letter) {
            return Ok(ControlFlow::Continue(()));
        }
        let command = match letter.command() {
            Ok(command) => command,
            Err(omitted) => {
                replay.say(letter.place, &Outcome::NotPosted { reason: &omitted.to_string() })?;
                return Ok(ControlFlow::Continue(()));
            }
        };
        let index = replay.places.len();
        replay.places.push(letter.place);
        match &replay.poster {
            None => replay.say(letter.place, &Outcome::WouldBePosted)?,
            Some(poster) => match poster.post_record(index, Some(letter.place.partition), &command) {
                Ok(()) => replay.under_way += 1,
                Err(reason) => replay.say(letter.place, &Outcome::NotPosted { reason: &reason })?,
            },
        }
        replay.collect(WINDOW)?;
        Ok(ControlFlow::Continue(()))
    })?;
    replay.collect(0)?;
    replay.summary(args.dry_run)
}

struct Replay {
    poster: Option<Poster>,
    places: Vec<Place>,
    out: Output,
    json: bool,
    topic_bits: u16,
    posted: u64,
    failed: u64,
    under_way: usize,
}

impl Replay {
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
                        self.say(place, &Outcome::Posted { id })?;
                    }
                    Ok(Delivered::SomewhereIn { .. }) => self.say(place, &Outcome::Posted { id: None })?,
                    Err(reason) => self.say(place, &Outcome::NotPosted { reason: &reason })?,
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, place: Place, outcome: &Outcome<'_>) -> anyhow::Result<()> {
        match outcome {
            Outcome::NotPosted { .. } => self.failed += 1,
            Outcome::Posted { .. } | Outcome::WouldBePosted => self.posted += 1,
        }
        let out = &mut self.out;
        if self.json {
            let Place { partition, offset } = place;
            let outcome = match outcome {
                Outcome::WouldBePosted => Outcome::WouldBePosted,
                Outcome::Posted { id } => Outcome::Posted { id: *id },
                Outcome::NotPosted { reason } => Outcome::NotPosted { reason },
            };
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
            Outcome::NotPosted { reason } => writeln!(out, "{BAD}not posted{BAD:#}  {place}: {reason}")?,
        }
        Ok(())
    }

    fn summary(mut self, dry_run: bool) -> anyhow::Result<ExitCode> {
        if !self.json {
            let verb = if dry_run { "would be posted" } else { "posted" };
            write!(self.out, "{}: {} {verb}", count(self.posted + self.failed, "rejection"), self.posted)?;
            if self.failed > 0 {
                write!(self.out, ", {} not", self.failed)?;
            }
            writeln!(self.out)?;
        }
        self.out.flush()?;
        Ok(if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
