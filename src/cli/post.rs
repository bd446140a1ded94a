//! `post`: publishes commands, and says which id each activity will have, or what the processor decided.

mod commands;
mod order;
mod show;
mod wait;

use std::{
    process::ExitCode,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

use anyhow::Context;
use contract::{OutputRecord, Record, topic_bits};
use kafka::{access::Operation, topics};

use super::{
    args,
    input::{Input, Inputs},
    poster::{Poster, still_posted},
    settings,
};
use crate::config::Config;
use commands::{Commands, Source};
use order::{Answer, InOrder};
use show::Show;

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
pub fn post(args: &args::Post, config: &Config) -> anyhow::Result<ExitCode> {
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
