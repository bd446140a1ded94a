//! `post`: publishes commands, and says which id each activity will have, or what the processor decided.

mod commands;
mod order;
mod show;
mod wait;

use std::{
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

use anyhow::Context;
use contract::{OutputRecord, Record, topic_bits};
use kafka::{access::Operation, topics};

use super::{
    input::{Input, Inputs},
    parsers::assignment,
    poster::{Poster, still_posted},
    settings,
};
use crate::config::{self, Config};
use commands::{Commands, Source};
use order::{Answer, InOrder};
use show::Show;

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

/// Commands that are posted and not yet answered, or wait for one before them to be shown.
const WINDOW: usize = 10_000;
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// Commands that are read ahead, so that answers are shown while the input is slow.
const AHEAD: usize = 64;
/// Until a command without an answer is given up. librdkafka's own default is five minutes of silence.
const DELIVERY_TIMEOUT_MS: &str = "30000";

/// Posts what the files hold; exit code 1 where anything was not posted.
///
/// Files are checked before anything is sent, and nothing is where one command would be rejected. Standard input, and
/// whatever else can't be read twice, is checked line by line: a bad one is named and left out.
pub fn post(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let inputs = Inputs::open(&args.files)?;
    let total_bytes = inputs.total_bytes;
    let mut kafka = settings::kafka(config);
    kafka.properties.entry("delivery.timeout.ms".into()).or_insert_with(|| DELIVERY_TIMEOUT_MS.into());
    let commands = Commands::new(args, config);
    let source = commands.checked(args, inputs).map_err(still_posted)?;
    topics::require(&kafka, &kafka.topics.commands, Operation::Write)?;
    let posted = match args.wait {
        Some(timeout) => wait::post_and_wait(args, config, &kafka, timeout.0, &commands, source),
        None => {
            let posting = Posting {
                poster: Poster::new(&kafka)?,
                order: InOrder::default(),
                show: Show::new(args.json, total_bytes, topic_bits(&kafka.topics.commands)),
                commands,
            };
            let (sender, inputs) = mpsc::sync_channel(AHEAD);
            read_ahead(source, move |input| sender.send(input).is_ok())?;
            posting.run(inputs)
        }
    };
    posted.map_err(still_posted)
}

/// Reads on a thread of its own, up to the first failure, or as long as `send` finds somebody who takes it.
fn read_ahead(
    inputs: Source,
    mut send: impl FnMut(anyhow::Result<Input>) -> bool + Send + 'static,
) -> anyhow::Result<()> {
    let read = move || {
        for input in inputs {
            let failed = input.is_err();
            if !send(input) || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("input".into()).spawn(read).context("can't start a thread")?;
    Ok(())
}

/// Posts commands, and shows the answers in the order of the input.
struct Posting {
    poster: Poster,
    order: InOrder,
    show: Show,
    commands: Commands,
}

impl Posting {
    fn run(mut self, inputs: Receiver<anyhow::Result<Input>>) -> anyhow::Result<ExitCode> {
        let (mut open, mut unreadable) = (true, None);
        let mut since_collected = 0;
        while open || !self.order.is_empty() {
            let next = if open && self.has_room() { self.next(&inputs)? } else { Err(TryRecvError::Empty) };
            let idle = next.is_err();
            match next {
                Ok(Ok(input)) => self.post(input),
                // What was posted before it is still to be answered.
                Ok(Err(error)) => unreadable = Some(error),
                Err(TryRecvError::Disconnected) => open = false,
                Err(TryRecvError::Empty) => {}
            }
            since_collected += 1;
            if idle || since_collected == 64 {
                since_collected = 0;
                self.collect(if idle { Duration::from_millis(1) } else { Duration::ZERO })?;
            }
        }
        let all_posted = self.show.summary()?;
        match unreadable {
            Some(error) => Err(error),
            None if all_posted => Ok(ExitCode::SUCCESS),
            None => Ok(ExitCode::FAILURE),
        }
    }

    /// The next command. Waits for it where there is nothing else to wait for.
    fn next(
        &mut self,
        inputs: &Receiver<anyhow::Result<Input>>,
    ) -> anyhow::Result<Result<anyhow::Result<Input>, TryRecvError>> {
        if !self.order.is_empty() {
            return Ok(inputs.try_recv());
        }
        self.show.flush()?;
        Ok(inputs.recv().map_err(|_| TryRecvError::Disconnected))
    }

    fn has_room(&self) -> bool {
        let (commands, bytes) = self.order.under_way();
        commands < WINDOW && bytes < WINDOW_BYTES
    }

    fn post(&mut self, Input { place, value }: Input) {
        let index = self.order.posted(place, value.len());
        let record = self.commands.record(value);
        if let Some(problems) = self.commands.problems(&record) {
            self.order.answered(index, Answer::Invalid(problems));
            return;
        }
        let Record { key, value, headers, .. } = record;
        if let Err(reason) = self.poster.post_record(index, None, &OutputRecord { key, value, headers }) {
            self.order.answered(index, Answer::NotPosted(reason));
        }
    }

    fn collect(&mut self, timeout: Duration) -> anyhow::Result<()> {
        for delivery in self.poster.deliveries(timeout) {
            self.order
                .answered(delivery.index, delivery.result.map_or_else(Answer::NotPosted, Answer::Posted));
        }
        while let Some(answered) = self.order.next() {
            self.show.command(&answered)?;
        }
        if !timeout.is_zero() {
            self.show.flush()?;
        }
        Ok(())
    }
}
