//! `post --wait`: prints the processor's verdict on each command.

use std::{io::Write as _, process::ExitCode};

use activity_stream_client::{Posted, Reply, WaitError};
use anyhow::bail;
use contract::{ActivityId, Problem, Problems};
use serde::Serialize;

use super::{Args, commands::print_refused, show::Line};
use crate::{
    cli::{
        input::Place,
        json::write_json,
        outcome::print_rejection,
        output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count},
    },
    config::Config,
};

/// Commands that wait for their verdicts at the same time.
pub(super) const WINDOW: usize = 500;
/// Exit codes for verdicts, different from that for a command without one.
const REJECTED: u8 = 3;
const DUPLICATE: u8 = 4;

/// With the outcomes of `log show` and `demo`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
enum Verdict<'a> {
    Event { id: ActivityId },
    Duplicate { of: ActivityId },
    Rejection { problems: &'a [Problem] },
    Unknown { error: String },
}

/// Counts for the exit code.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    events: u64,
    duplicates: u64,
    rejections: u64,
    unposted: u64,
    without_verdict: u64,
}

/// Prints and counts verdicts.
pub(super) struct Show {
    json: bool,
    out: Output,
    counts: Counts,
}

/// The topic for the verdicts.
pub(super) fn reply_topic(args: &Args, config: &Config) -> anyhow::Result<String> {
    let mut configured = config.topics.replies.names();
    match (&args.reply_topic, configured.next(), configured.next()) {
        (Some(topic), ..) => Ok(topic.clone()),
        (None, Some(topic), None) => Ok(topic.to_owned()),
        (None, None, _) => bail!(
            "--wait needs a topic that the processor may reply on: name one of its topics.replies with --reply-topic \
             TOPIC"
        ),
        (None, Some(_), Some(_)) => bail!(
            "--wait needs one topic for replies, and topics.replies names several: choose one with --reply-topic TOPIC"
        ),
    }
}

impl Show {
    pub(super) fn new(json: bool) -> Self {
        Self { json, out: output::stdout(Unread::Stop), counts: Counts::default() }
    }
}

impl super::Show<Result<Reply, WaitError>> for Show {
    fn command(
        &mut self,
        place: &Place,
        _: usize,
        end: &Result<Result<Reply, WaitError>, Problems>,
    ) -> anyhow::Result<()> {
        let Self { json, out, counts } = self;
        match end {
            Ok(Ok(Reply::Accepted { .. })) => counts.events += 1,
            Ok(Ok(Reply::Duplicate { .. })) => counts.duplicates += 1,
            Ok(Ok(Reply::Rejected { .. })) => counts.rejections += 1,
            Ok(Err(_)) => counts.without_verdict += 1,
            Err(_) => counts.unposted += 1,
        }
        let end = match end {
            Ok(end) => end,
            Err(problems) => return Ok(print_refused(place, problems, *json, out)?),
        };
        if *json {
            return Ok(write_json(&line(place, end), out)?);
        }
        match end {
            Ok(Reply::Accepted { id }) => writeln!(out, "{GOOD}event{GOOD:#}      {place}: {id}")?,
            Ok(Reply::Duplicate { id }) => {
                writeln!(out, "{DOUBTFUL}duplicate{DOUBTFUL:#}  {place}: of {id}")?;
            }
            Ok(Reply::Rejected { problems }) => print_rejection(place, problems, out)?,
            Err(error) => writeln!(out, "{BAD}no verdict{BAD:#} {place}: {}", sentence(error))?,
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }

    /// The exit code is that of the worst result: 1 if a command has no verdict or was not posted, 3 if one is rejected, 4 if
    /// one is a duplicate, 0 if all are accepted.
    fn summary(&mut self) -> anyhow::Result<ExitCode> {
        let Counts { events, duplicates, rejections, unposted, without_verdict } = self.counts;
        let failed = unposted + without_verdict;
        if !self.json {
            write!(
                self.out,
                "{}: {}, {}, {}",
                count(events + duplicates + rejections + failed, "command"),
                count(events, "event"),
                count(duplicates, "duplicate"),
                count(rejections, "rejection"),
            )?;
            for (number, what) in [(unposted, "not posted"), (without_verdict, "without a verdict")] {
                if number > 0 {
                    write!(self.out, "; {number} {what}")?;
                }
            }
            writeln!(self.out)?;
        }
        self.out.flush()?;
        Ok(match (failed, rejections, duplicates) {
            (1.., ..) => ExitCode::FAILURE,
            (0, 1.., _) => ExitCode::from(REJECTED),
            (0, 0, 1..) => ExitCode::from(DUPLICATE),
            (0, 0, 0) => ExitCode::SUCCESS,
        })
    }

    fn counts(&self) -> (u64, u64) {
        let Counts { events, duplicates, rejections, unposted, without_verdict } = self.counts;
        (events + duplicates + rejections, unposted + without_verdict)
    }
}

/// The error, and how to find out about the command.
fn sentence(error: &WaitError) -> String {
    match error {
        WaitError::TimedOut { posted: Some(Posted::As(id)), .. } => format!(
            "{error}. Start the processor, and name the reply topic in its topics.replies; 'activity-stream log show \
             {id}' says what became of the command"
        ),
        _ => error.to_string(),
    }
}

fn line<'a>(place: &'a Place, end: &'a Result<Reply, WaitError>) -> Line<'a, Verdict<'a>> {
    let verdict = match end {
        Ok(Reply::Accepted { id }) => Verdict::Event { id: *id },
        Ok(Reply::Duplicate { id }) => Verdict::Duplicate { of: *id },
        Ok(Reply::Rejected { problems }) => Verdict::Rejection { problems: &problems.0 },
        Err(error) => Verdict::Unknown { error: sentence(error) },
    };
    Line::of(place, verdict)
}
