//! `post`: posts commands, and prints the id of each activity or, with `--wait`, the processor's verdict.

mod commands;
mod show;
mod wait;

use std::{
    cell::Cell, future::ready, path::PathBuf, process::ExitCode, str::FromStr, task::Poll, thread,
    time::Duration,
};

use anyhow::Context as _;
use contract::{Problems, Record};
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream};
use kafka::{access::Operation, topics};
use tokio::sync::mpsc::{self, Receiver};

use super::{
    client::{self, unshown},
    input::{Input, Inputs, Place},
    parsers::assignment,
    settings,
};
use crate::config::{self, Config};
use commands::{Commands, Source};

/// Posts commands, and prints the id that each activity will have
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream post customer-42.json
  activity-stream post -b kafka:9092 commands.ndjson
  echo '{\"objectType\":\"case\",\"objectId\":\"7\"}' | activity-stream post --idempotency-key share-case-7
  activity-stream post --wait --reply-topic my.answers customer-42.json

A command that the configured limits would reject is not posted; if it is in a file, no command is.
An id becomes an activity's only if the processor accepts the command: it alone knows which
idempotency keys were used. Exit code 1: not all were posted. With --wait: 0 accepted, 3 rejected,
4 duplicate, 1 no verdict; of several commands, the first of 1, 3 and 4 that applies.")]
pub struct Args {
    /// A .json file is one command; any other file, and - for standard input, has one command a line
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    /// Check all commands before the first is sent, also those from standard input, which are then kept in memory. Without
    /// it, files are checked before anything is sent, and standard input line by line
    #[arg(long)]
    check: bool,
    /// Post commands as they are, also those that would be rejected
    #[arg(long, conflicts_with = "check")]
    no_check: bool,
    /// Key of the record [default: OBJECTTYPE/OBJECTID of each command]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Makes the command a duplicate if it is sent again. For one command
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// A header of the record (repeatable)
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = assignment)]
    headers: Vec<(String, String)>,
    /// Wait up to this long for the processor's verdict on each command, by reply [default with --wait: 30s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s")]
    wait: Option<Patience>,
    /// Where to ask for the reply: one of the processor's topics.replies [default: the configured one]
    #[arg(long, value_name = "TOPIC", requires = "wait")]
    reply_topic: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// How long to wait, as the configuration writes lengths of time.
#[derive(Debug, Clone, Copy)]
struct Patience(Duration);

impl FromStr for Patience {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        config::duration(text).map(Self)
    }
}

/// Commands that are posted and not yet shown.
const WINDOW: usize = 10_000;
/// Commands to read ahead, so that answers are shown while the input is slow.
const AHEAD: usize = 64;
/// After this a command without an answer has failed. librdkafka's own default is five minutes.
const DELIVERY_TIMEOUT_MS: &str = "30000";

/// Posts the commands in the files. Exit code 1 if one was not posted.
///
/// Files are checked first: nothing is sent if one command would be rejected. Standard input, and anything else that can't
/// be read twice, is checked line by line: an invalid command is reported and skipped.
pub fn post(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let inputs = Inputs::open(&args.files)?;
    let total_bytes = inputs.total_bytes;
    let mut kafka = settings::kafka(config);
    kafka.properties.entry("delivery.timeout.ms".into()).or_insert_with(|| DELIVERY_TIMEOUT_MS.into());
    let commands = Commands::new(args, config);
    let source = commands.checked(args, inputs).map_err(|error| unshown(error, 0, 0, false))?;
    topics::require(&kafka, &kafka.topics.commands, Operation::Write)?;
    let runtime = client::runtime()?;
    let Some(timeout) = args.wait else {
        let client = &client::builder(&kafka).build()?;
        let post = async |record: Record| match client.enqueue(&record, None).await {
            Ok(answer) => answer.boxed_local(),
            Err(refused) => ready(Err(refused)).boxed_local(),
        };
        let mut show = show::Show::new(args.json, total_bytes);
        return runtime.block_on(run(source, &commands, WINDOW, post, &mut show));
    };
    let client = &client::builder(&kafka).reply_topic(wait::reply_topic(args, config)?).build()?;
    let post = async |record| client.post_record_and_wait(record, timeout.0).boxed_local();
    runtime.block_on(run(source, &commands, wait::WINDOW, post, &mut wait::Show::new(args.json)))
}

/// Prints and counts the results of commands.
trait Show<E> {
    /// An invalid command was not posted.
    fn command(&mut self, place: &Place, bytes: usize, end: &Result<E, Problems>) -> anyhow::Result<()>;
    /// Makes the results so far visible.
    fn flush(&mut self) -> anyhow::Result<()>;
    fn summary(&mut self) -> anyhow::Result<ExitCode>;
    /// The numbers of posted and of failed commands.
    fn counts(&self) -> (u64, u64);
}

/// Posts commands, and shows their results in the order of the input. Stops reading when input can't be read or output can't
/// be written, and then still waits for what was posted.
async fn run<'a, E: 'a>(
    source: Source,
    commands: &'a Commands,
    window: usize,
    post: impl AsyncFn(Record) -> LocalBoxFuture<'a, E>,
    show: &mut impl Show<E>,
) -> anyhow::Result<ExitCode> {
    let mut inputs = read_ahead(source)?;
    let (is_unshown, is_complete) = (Cell::new(false), Cell::new(false));
    let inputs = stream::poll_fn(|context| {
        if is_unshown.get() {
            return Poll::Ready(None);
        }
        let input = inputs.poll_recv(context);
        is_complete.set(matches!(input, Poll::Ready(None)));
        input
    });
    // One after another into the queue, which has a limit in bytes.
    #[expect(clippy::async_yields_async, reason = "`buffered` awaits the answers")]
    let ends = inputs.then(async |input| {
        let Input { place, value } = match input {
            Ok(input) => input,
            Err(error) => return ready(Err(error)).boxed_local(),
        };
        let bytes = value.len();
        let record = commands.record(value);
        let end = match commands.problems(&record) {
            Some(problems) => ready(Err(problems)).boxed_local(),
            None => post(record).await.map(Ok).boxed_local(),
        };
        end.map(move |end| Ok((place, bytes, end))).boxed_local()
    });
    let mut ends = std::pin::pin!(ends.buffered(window));
    let (mut unshown_by, mut unreadable) = (None, None);
    let mut keep = |shown: anyhow::Result<()>| {
        if let Err(error) = shown {
            is_unshown.set(true);
            unshown_by.get_or_insert(error);
        }
    };
    loop {
        // Available results are printed in one go, later ones at once.
        let next = match ends.next().now_or_never() {
            Some(next) => next,
            None => {
                keep(show.flush());
                ends.next().await
            }
        };
        match next {
            Some(Ok((place, bytes, end))) => keep(show.command(&place, bytes, &end)),
            Some(Err(error)) => unreadable = Some(error),
            None => break,
        }
    }
    let shown = unshown_by.map_or_else(|| show.summary(), Err);
    let (posted, failed) = show.counts();
    let code = shown.map_err(|error| unshown(error, posted, failed, is_complete.get()))?;
    unreadable.map_or(Ok(code), Err)
}

/// Reads on a separate thread, up to the first failure.
fn read_ahead(inputs: Source) -> anyhow::Result<Receiver<anyhow::Result<Input>>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let read = move || {
        for input in inputs {
            let failed = input.is_err();
            if sender.blocking_send(input).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("input".into()).spawn(read).context("can't start a thread")?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// The lines and what became of their commands, as they are shown. An invalid command has no number.
    #[derive(Default)]
    struct Shown(Vec<(u64, Option<usize>)>);

    impl Show<usize> for Shown {
        fn command(&mut self, place: &Place, _: usize, end: &Result<usize, Problems>) -> anyhow::Result<()> {
            self.0.push((place.line.expect("a line"), end.as_ref().ok().copied()));
            Ok(())
        }

        fn flush(&mut self) -> anyhow::Result<()> {
            Ok(())
        }

        fn summary(&mut self) -> anyhow::Result<ExitCode> {
            Ok(ExitCode::SUCCESS)
        }

        fn counts(&self) -> (u64, u64) {
            (0, 0)
        }
    }

    #[test]
    fn results_are_shown_in_the_order_of_the_input_though_the_first_answer_is_the_last() {
        let args = Args {
            files: Vec::new(),
            check: false,
            no_check: false,
            key: None,
            idempotency_key: None,
            headers: Vec::new(),
            wait: None,
            reply_topic: None,
            json: false,
        };
        let commands = Commands::new(&args, &Config::default());
        let values =
            [r#"{"objectType":"case","objectId":"7"}"#, "{", r#"{"objectType":"case","objectId":"8"}"#];
        let inputs = values.into_iter().zip(1..).map(|(value, line)| {
            let place = Place { file: "commands.ndjson".into(), line: Some(line) };
            Ok(Input { place, value: value.into() })
        });
        // The first command is answered once the last one is.
        let (last, is_last) = oneshot::channel();
        let (last, is_last) = (Cell::new(Some(last)), Cell::new(Some(is_last)));
        let post = async |_: Record| match is_last.take() {
            Some(is_last) => is_last.map(|answered| answered.map_or(0, |()| 1)).boxed_local(),
            None => {
                let last = last.take().expect("two valid commands");
                async move { last.send(()).map_or(0, |()| 2) }.boxed_local()
            }
        };
        let mut shown = Shown::default();
        let inputs = Box::new(inputs);
        client::runtime().unwrap().block_on(run(inputs, &commands, WINDOW, post, &mut shown)).unwrap();
        assert_eq!(shown.0, [(1, Some(1)), (2, None), (3, Some(2))]);
    }
}
