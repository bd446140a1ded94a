//! `post`: publishes commands, and says which id each activity will have.

mod order;
mod show;

use std::{
    io,
    process::ExitCode,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};

use super::{
    args,
    input::{Input, Inputs},
    json::write_json,
    outcome::print_rejection,
    output,
    poster::{Poster, still_posted},
    settings,
};
use crate::{
    activity::{Coordinates, Decider, Problem, Problems, Reading, Record, topic_bits},
    config::Config,
    kafka::topics,
};
use order::InOrder;
use show::Show;

/// Commands that are posted and not yet answered, or wait for one before them to be shown.
const WINDOW: usize = 10_000;
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// Commands that are read ahead, so that answers are shown while the input is slow.
const AHEAD: usize = 64;
/// Until a command without an answer is given up. librdkafka's own default is five minutes of silence.
const DELIVERY_TIMEOUT_MS: &str = "30000";

/// Posts what the files hold; exit code 1 where anything was not posted.
pub fn post(args: &args::Post, config: &Config) -> anyhow::Result<ExitCode> {
    let inputs = Inputs::open(&args.files)?;
    let total_bytes = inputs.total_bytes;
    let mut kafka = settings::kafka(config);
    kafka.properties.entry("delivery.timeout.ms".into()).or_insert_with(|| DELIVERY_TIMEOUT_MS.into());
    let inputs: Box<dyn Iterator<Item = anyhow::Result<Input>> + Send> = if args.check {
        // Standard input can't be read twice, so the commands stay in memory.
        let inputs = inputs.collect::<anyhow::Result<Vec<_>>>()?;
        refuse_invalid(&inputs, &settings::decider(config), args.json)?;
        Box::new(inputs.into_iter().map(Ok))
    } else {
        Box::new(inputs)
    };
    topics::require(&kafka, &kafka.topics.commands)?;
    let posting = Posting {
        poster: Poster::new(&kafka)?,
        order: InOrder::default(),
        show: Show::new(args.json, total_bytes, topic_bits(&kafka.topics.commands)),
    };
    posting.run(read_ahead(inputs)?).map_err(still_posted)
}

/// Prints what the processor would reject, and fails if there is any.
fn refuse_invalid(inputs: &[Input], decider: &Decider, json: bool) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let mut wrong = 0;
    for input in inputs {
        let Some(problems) = problems(input, decider) else { continue };
        wrong += 1;
        if json {
            write_json(
                &Wrong { file: &input.place.file, line: input.place.line, problems: &problems.0 },
                &mut out,
            )?;
        } else {
            print_rejection(&input.place, &problems, &mut out)?;
        }
    }
    io::Write::flush(&mut out)?;
    match wrong {
        0 => Ok(()),
        wrong => {
            let all = output::count(inputs.len() as u64, "command");
            Err(anyhow!("{wrong} of {all} would be rejected, so none was posted"))
        }
    }
}

/// A command's line of `--check --json`.
#[derive(Debug, serde::Serialize)]
struct Wrong<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    problems: &'a [Problem],
}

fn problems(input: &Input, decider: &Decider) -> Option<Problems> {
    let record = Record {
        // Where and when it will lie changes nothing of what is wrong with it.
        coordinates: Coordinates { partition: 0, offset: 0, timestamp: 0 },
        key: None,
        value: Some(input.value.clone()),
        headers: Vec::new(),
    };
    match decider.read(&record).reading {
        Reading::Valid { .. } => None,
        Reading::Rejected(problems) => Some(problems),
    }
}

/// Reads on a thread of its own, up to the first failure.
fn read_ahead(
    inputs: impl Iterator<Item = anyhow::Result<Input>> + Send + 'static,
) -> anyhow::Result<Receiver<anyhow::Result<Input>>> {
    let (sender, receiver) = mpsc::sync_channel(AHEAD);
    thread::Builder::new()
        .name("input".into())
        .spawn(move || {
            for input in inputs {
                let failed = input.is_err();
                if sender.send(input).is_err() || failed {
                    return;
                }
            }
        })
        .context("can't start a thread")?;
    Ok(receiver)
}

/// Posts commands, and shows the answers in the order of the input.
struct Posting {
    poster: Poster,
    order: InOrder,
    show: Show,
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

    fn post(&mut self, input: Input) {
        let index = self.order.posted(input.place, input.value.len());
        if let Err(reason) = self.poster.post(index, &input.value, &[]) {
            self.order.answered(index, Err(reason));
        }
    }

    fn collect(&mut self, timeout: Duration) -> anyhow::Result<()> {
        for delivery in self.poster.deliveries(timeout) {
            self.order.answered(delivery.index, delivery.result);
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
