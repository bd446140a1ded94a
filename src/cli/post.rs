//! `post`: posts commands, and prints the id of each activity or, with `--wait`, the processor's verdict.

mod commands;
mod show;
mod wait;

use std::{cell::Cell, future::ready, process::ExitCode, task::Poll, thread};

use anyhow::Context as _;
use contract::{Problems, Record};
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream};
use kafka::{access::Operation, topics};
use tokio::sync::mpsc::{self, Receiver};

use super::{
    args,
    client::{self, unshown},
    input::{Input, Inputs, Place},
    settings,
};
use crate::config::Config;
use commands::{Commands, Source};

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
pub fn post(args: &args::Post, config: &Config) -> anyhow::Result<ExitCode> {
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
