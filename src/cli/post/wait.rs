//! `post --wait`: posts commands, and says what the processor decided of each, in the order of the input.

use std::{io::Write as _, process::ExitCode, time::Duration};

use activity_stream_client::{ActivityClient, Posted, Reply, WaitError};
use anyhow::{Context as _, anyhow, bail};
use contract::{ActivityId, Problem, Problems};
use futures::{StreamExt as _, stream};
use kafka::Settings;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    Args,
    commands::{Commands, Source, print_refused},
    show::Line,
};
use crate::{
    cli::{
        input::{Input, Place},
        json::write_json,
        outcome::print_rejection,
        output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count},
    },
    config::Config,
};

/// Commands whose verdict is waited for at once.
const WINDOW: usize = 500;
/// What has a verdict, and is not good. Different from the exit code of a command that has none.
const REJECTED: u8 = 3;
const DUPLICATE: u8 = 4;

/// What became of a command.
enum End {
    Replied(Reply),
    /// It would be rejected, so it was not posted.
    Invalid(Problems),
    NoVerdict(WaitError),
}

/// With the outcomes that `log show` and `demo` have.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
enum Verdict<'a> {
    Event { id: ActivityId },
    Duplicate { of: ActivityId },
    Rejection { problems: &'a [Problem] },
    Unknown { error: String },
}

/// Counted by what the exit code says of them.
#[derive(Debug, Default)]
struct Counts {
    events: u64,
    duplicates: u64,
    rejections: u64,
    unposted: u64,
    without_verdict: u64,
}

struct Show {
    json: bool,
    out: Output,
    counts: Counts,
}

/// Posts the commands, and prints each verdict.
///
/// The exit code is that of the worst: 1 where a command has no verdict or was not posted, 3 where one is rejected, 4
/// where one is a duplicate, 0 where all are accepted.
pub(super) fn post_and_wait(
    args: &Args,
    config: &Config,
    kafka: &Settings,
    timeout: Duration,
    commands: &Commands,
    source: Source,
) -> anyhow::Result<ExitCode> {
    let client = client(args, config, kafka)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the asynchronous runtime")?;
    let mut show = Show { json: args.json, out: output::stdout(Unread::Stop), counts: Counts::default() };
    let unreadable = runtime.block_on(async {
        let client = &client;
        let (sender, mut inputs) = mpsc::channel(super::AHEAD);
        super::read_ahead(source, move |input| sender.blocking_send(input).is_ok())?;
        let inputs = stream::poll_fn(move |context| inputs.poll_recv(context));
        let ended = inputs.map(|input| async move {
            let Input { place, value } = input?;
            let record = commands.record(value);
            let end = match commands.problems(&record) {
                Some(problems) => End::Invalid(problems),
                None => match client.post_record_and_wait(record, timeout).await {
                    Ok(reply) => End::Replied(reply),
                    Err(error) => End::NoVerdict(error),
                },
            };
            anyhow::Ok((place, end))
        });
        let mut ended = ended.buffered(WINDOW);
        let mut unreadable = None;
        while let Some(next) = ended.next().await {
            match next {
                Ok((place, end)) => show.command(&place, &end)?,
                // What was posted before it is still to be answered, and nothing is read after it.
                Err(error) => unreadable = Some(error),
            }
        }
        anyhow::Ok(unreadable)
    })?;
    let code = show.summary()?;
    match unreadable {
        Some(error) => Err(error),
        None => Ok(code),
    }
}

fn client(args: &Args, config: &Config, kafka: &Settings) -> anyhow::Result<ActivityClient> {
    let mut configured = config.topics.replies.names();
    let reply_topic = match (&args.reply_topic, configured.next(), configured.next()) {
        (Some(topic), ..) => topic,
        (None, Some(topic), None) => topic,
        (None, None, _) => bail!(
            "--wait needs a topic that the processor may reply on: name one of its topics.replies with --reply-topic \
             TOPIC"
        ),
        (None, Some(_), Some(_)) => bail!(
            "--wait needs one topic for replies, and topics.replies names several: choose one with --reply-topic TOPIC"
        ),
    };
    let mut builder = ActivityClient::builder(kafka.bootstrap_servers.as_str())
        .commands_topic(kafka.topics.commands.as_str())
        .reply_topic(reply_topic);
    for (name, value) in &kafka.properties {
        builder = builder.property(name, value);
    }
    builder.build().map_err(|error| anyhow!("{error}"))
}

impl Show {
    /// At once, since a verdict is waited for.
    fn command(&mut self, place: &Place, end: &End) -> anyhow::Result<()> {
        let Self { json, out, counts } = self;
        match end {
            End::Replied(Reply::Accepted { .. }) => counts.events += 1,
            End::Replied(Reply::Duplicate { .. }) => counts.duplicates += 1,
            End::Replied(Reply::Rejected { .. }) => counts.rejections += 1,
            End::Invalid(_) => counts.unposted += 1,
            End::NoVerdict(_) => counts.without_verdict += 1,
        }
        match end {
            End::Invalid(problems) => print_refused(place, problems, *json, out)?,
            _ if *json => write_json(&line(place, end), out)?,
            End::Replied(Reply::Accepted { id }) => writeln!(out, "{GOOD}event{GOOD:#}      {place}: {id}")?,
            End::Replied(Reply::Duplicate { id }) => {
                writeln!(out, "{DOUBTFUL}duplicate{DOUBTFUL:#}  {place}: of {id}")?;
            }
            End::Replied(Reply::Rejected { problems }) => print_rejection(place, problems, out)?,
            End::NoVerdict(error) => {
                writeln!(out, "{BAD}no verdict{BAD:#} {place}: {}", sentence(error))?;
            }
        }
        Ok(out.flush()?)
    }

    fn summary(mut self) -> anyhow::Result<ExitCode> {
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
}

/// What happened, and how to learn what became of the command.
fn sentence(error: &WaitError) -> String {
    match error {
        WaitError::TimedOut { posted: Some(Posted::As(id)), .. } => format!(
            "{error}. Start the processor, and name the reply topic in its topics.replies; 'activity-stream log show \
             {id}' says what became of the command"
        ),
        _ => error.to_string(),
    }
}

fn line<'a>(place: &'a Place, end: &'a End) -> Line<'a, Verdict<'a>> {
    let verdict = match end {
        End::Replied(Reply::Accepted { id }) => Verdict::Event { id: *id },
        End::Replied(Reply::Duplicate { id }) => Verdict::Duplicate { of: *id },
        End::Replied(Reply::Rejected { problems }) | End::Invalid(problems) => {
            Verdict::Rejection { problems: &problems.0 }
        }
        End::NoVerdict(error) => Verdict::Unknown { error: sentence(error) },
    };
    Line::of(place, verdict)
}
