//! What `post` prints without `--wait`.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use activity_stream_client::{PostError, Posted};
use contract::{ActivityId, Coordinates, Problems};
use indicatif::ProgressBar;
use serde::Serialize;

use super::commands::print_refused;
use crate::cli::{
    client,
    input::Place,
    json::write_json,
    output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count},
    time::JsonTime,
};

/// Prints and counts the broker's answers.
pub(super) struct Show {
    json: bool,
    out: Output,
    bar: ProgressBar,
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
    /// Id, offset and timestamp are null if the broker did not return them.
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
    pub(super) fn new(json: bool, total_bytes: Option<u64>) -> Self {
        let (out, bar) = (output::stdout(Unread::Stop), output::progress(total_bytes));
        Self { json, out, bar, posted: 0, failed: 0 }
    }
}

impl super::Show<Result<Posted, PostError>> for Show {
    fn command(
        &mut self,
        place: &Place,
        bytes: usize,
        end: &Result<Result<Posted, PostError>, Problems>,
    ) -> anyhow::Result<()> {
        self.bar.inc(bytes as u64 + u64::from(place.line.is_some()));
        match end {
            Ok(Ok(_)) => self.posted += 1,
            _ => self.failed += 1,
        }
        let reason;
        let told = match end {
            Ok(Ok(Posted::As(id))) => {
                let Coordinates { partition, offset, timestamp } = id.coordinates();
                let (offset, timestamp) = (Some(offset), Some(JsonTime(timestamp)));
                Told::Posted { id: Some(*id), partition, offset, timestamp }
            }
            Ok(Ok(Posted::SomewhereIn { partition })) => {
                Told::Posted { id: None, partition: *partition, offset: None, timestamp: None }
            }
            Ok(Err(error)) => {
                reason = client::reason(error);
                Told::Failed { error: &reason }
            }
            Err(problems) => return Ok(print_refused(place, problems, self.json, &mut self.out)?),
        };
        if self.json {
            return Ok(write_json(&Line::of(place, told), &mut self.out)?);
        }
        match told {
            Told::Posted { id: Some(id), .. } => {
                writeln!(self.out, "{GOOD}posted{GOOD:#}      {place}: {id}")?;
            }
            Told::Posted { id: None, partition, .. } => writeln!(
                self.out,
                "{DOUBTFUL}posted{DOUBTFUL:#}      {place}: into partition {partition}; its id is unknown, because the \
                 broker did not say at which offset"
            )?,
            Told::Failed { error } => writeln!(self.out, "{BAD}not posted{BAD:#}  {place}: {error}")?,
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.bar.is_hidden() || !io::stdout().is_terminal() {
            return Ok(self.out.flush()?);
        }
        // Lines and bar share the terminal.
        let out = &mut self.out;
        Ok(self.bar.suspend(|| out.flush())?)
    }

    fn summary(&mut self) -> anyhow::Result<ExitCode> {
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
        Ok(if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn counts(&self) -> (u64, u64) {
        (self.posted, self.failed)
    }
}
