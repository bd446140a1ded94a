//! What `post` prints.

use std::io::{self, IsTerminal, Write};

use contract::ActivityId;
use indicatif::ProgressBar;
use kafka::posted::Delivered;
use serde::Serialize;

use super::{
    commands::print_refused,
    order::{Answer, Answered},
};
use crate::cli::{
    input::Place,
    json::write_json,
    output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count},
    time::JsonTime,
};

/// Prints answers, and counts them.
pub(super) struct Show {
    json: bool,
    out: Output,
    bar: ProgressBar,
    topic_bits: u16,
    posted: u64,
    failed: u64,
}

/// A command's line of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a, T> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(flatten)]
    told: T,
}

impl<'a, T: Serialize> Line<'a, T> {
    pub(super) fn of(place: &'a Place, told: T) -> Self {
        Self { file: &place.file, line: place.line, told }
    }
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told<'a> {
    /// Id, offset and timestamp are null where the broker does not tell them.
    Posted {
        id: Option<ActivityId>,
        partition: i32,
        offset: Option<i64>,
        timestamp: Option<JsonTime>,
    },
    Failed {
        error: &'a str,
    },
}

impl Show {
    pub(super) fn new(json: bool, total_bytes: Option<u64>, topic_bits: u16) -> Self {
        let (out, bar) = (output::stdout(Unread::Stop), output::progress(total_bytes));
        Self { json, out, bar, topic_bits, posted: 0, failed: 0 }
    }

    pub(super) fn command(&mut self, answered: &Answered) -> io::Result<()> {
        let Answered { place, bytes, answer } = answered;
        self.bar.inc(*bytes as u64 + u64::from(place.line.is_some()));
        match answer {
            Answer::Posted(_) => self.posted += 1,
            Answer::NotPosted(_) | Answer::Invalid(_) => self.failed += 1,
        }
        let told = match answer {
            Answer::Posted(Delivered::At(at)) => Told::Posted {
                id: Some(ActivityId::new(self.topic_bits, *at)),
                partition: at.partition,
                offset: Some(at.offset),
                timestamp: Some(JsonTime(at.timestamp)),
            },
            Answer::Posted(Delivered::SomewhereIn { partition }) => {
                Told::Posted { id: None, partition: *partition, offset: None, timestamp: None }
            }
            Answer::NotPosted(error) => Told::Failed { error },
            Answer::Invalid(problems) => return print_refused(place, problems, self.json, &mut self.out),
        };
        if self.json {
            return write_json(&Line::of(place, told), &mut self.out);
        }
        match told {
            Told::Posted { id: Some(id), .. } => {
                writeln!(self.out, "{GOOD}posted{GOOD:#}      {place}: {id}")
            }
            Told::Posted { id: None, partition, .. } => writeln!(
                self.out,
                "{DOUBTFUL}posted{DOUBTFUL:#}      {place}: into partition {partition}; its id is unknown, because the \
                 broker did not say at which offset"
            ),
            Told::Failed { error } => writeln!(self.out, "{BAD}not posted{BAD:#}  {place}: {error}"),
        }
    }

    /// Lets whoever reads see what there is.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.bar.is_hidden() || !io::stdout().is_terminal() {
            return self.out.flush();
        }
        // Lines and bar share the terminal, so one makes way for the other.
        let out = &mut self.out;
        self.bar.suspend(|| out.flush())
    }

    /// Says how it went, to people; whether everything was posted.
    pub(super) fn summary(mut self) -> io::Result<bool> {
        self.bar.finish_and_clear();
        if !self.json {
            write!(self.out, "{}: {} posted", count(self.posted + self.failed, "command"), self.posted)?;
            if self.failed > 0 {
                write!(self.out, ", {} not", self.failed)?;
            }
            let when = match self.posted {
                0 => "",
                1 => "; the id becomes an activity's if the processor accepts the command",
                _ => "; each id becomes an activity's if the processor accepts its command",
            };
            writeln!(self.out, "{when}")?;
        }
        self.out.flush()?;
        Ok(self.failed == 0)
    }
}
