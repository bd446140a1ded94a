//! `demo`: embedded broker, processor and producer in one process.

mod examples;
mod order;
mod show;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use activity_stream_client::{ActivityClient, PostError, Posted as Delivered};
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use contract::{Coordinates, Decision, Header, Record, object_key};
use event_log::EventLog;
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use kafka::embedded::EmbeddedBroker;
use processor::{DecidedCommands, Observer, ProcessorError};
use tokio::runtime::Runtime;

use super::{
    client,
    input::{Input, Inputs},
    outcome::{Decided, Published},
    settings,
    stop::{self, StopRequest},
};
use crate::config::{Config, Guarantee, LogPartitions};
use order::InOrder;
use show::Show;

/// Shows the whole path in one process: embedded broker, processor and producer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream demo
  activity-stream demo --json commands.ndjson --data-dir ./demo
  generate | activity-stream demo -")]
pub struct Args {
    /// A .json file is one command; any other file, and - for standard input, has one command a line. Without files: five
    /// good examples and some bad ones
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Keep the event log in this folder [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Commands that are posted and not yet decided. This and [`WINDOW_BYTES`] keep the embedded broker from dropping what does
/// not fit into its memory.
const WINDOW: usize = 5_000;
/// Of the 5 MiB that one partition of the embedded broker keeps.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Without progress for so long, the demonstration fails.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of the largest command that the embedded broker can keep together with its rejection.
const LARGEST: usize = 4 * 1024 * 1024;
/// How long to wait for input while nothing is under way.
const TYPED: Duration = Duration::from_millis(50);

/// Runs the demonstration, and prints the outcome of every command.
///
/// The exit code is 0 if every command was decided, 1 if one was too large to post, and the signal's (130, 143, 129) after a
/// signal, on which it stops in order and removes its temporary folder.
pub fn demo(args: &Args, mut config: Config) -> anyhow::Result<ExitCode> {
    let stop_request = stop::on_signal(None)?;
    let inputs: Box<dyn Iterator<Item = anyhow::Result<Posted>> + Send>;
    let mut total_bytes = None;
    if args.files.is_empty() {
        inputs = Box::new(examples::all().into_iter().map(Ok));
    } else {
        let files = Inputs::open(&args.files)?;
        total_bytes = files.total_bytes;
        inputs = Box::new(files.map(|input| Ok(Posted { input: input?, headers: Vec::new() })));
    }
    let temporary;
    let folder: &Path = match &args.data_dir {
        Some(folder) => {
            // As private as the files of a log.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.with_context(|| format!("can't make '{}'", folder.display()))?;
            folder
        }
        None => {
            temporary = tempfile::tempdir().context("can't make a temporary folder")?;
            temporary.path()
        }
    };
    config.log.path = folder.join("activity.db");
    if config.log.path.exists() {
        bail!(
            "'{}' holds the log of an earlier run, whose commands the embedded broker does not have: it starts \
             empty. Name another folder, or read that log with 'activity-stream log list --log-file {}'",
            folder.display(),
            config.log.path.display()
        );
    }
    let show = Show::new(args.json, total_bytes);
    run(config, inputs, show, stop_request)
}

/// A command with its headers.
#[derive(Debug)]
struct Posted {
    input: Input,
    headers: Vec<Header>,
}

fn run(
    mut config: Config,
    inputs: Box<dyn Iterator<Item = anyhow::Result<Posted>> + Send>,
    show: Show,
    stop_request: Arc<StopRequest>,
) -> anyhow::Result<ExitCode> {
    // The configuration is for other brokers.
    config.kafka.properties.clear();
    config.kafka.properties.insert("fetch.wait.max.ms".into(), "10".into());
    config.processor.guarantee = Guarantee::AtLeastOnce;
    // Nobody else publishes.
    config.log.partitions = LogPartitions::Owned;
    let broker = EmbeddedBroker::start(&settings::kafka(&config).topics)?;
    config.kafka.bootstrap_servers = broker.bootstrap_servers();

    let log = Arc::new(Mutex::new(settings::open_log(&config)?));
    let (sender, decided) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let processor = spawn(&config, &log, sender, &stop)?;
    let posted = Demonstration {
        client: client::builder(&settings::kafka(&config)).build()?,
        runtime: client::runtime()?,
        answers: FuturesUnordered::new(),
        decided,
        order: InOrder::default(),
        show,
        stop_request,
    }
    .run(&read(inputs)?);
    stop.store(true, Ordering::SeqCst);
    let processed = processor.join().map_err(|_| anyhow!("the processor's thread failed"))?;
    // Its error is the reason why deciding stopped.
    processed?;
    posted
}

fn spawn(
    config: &Config,
    log: &Arc<Mutex<EventLog>>,
    sender: Sender<Decided>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<thread::JoinHandle<Result<(), ProcessorError>>> {
    let options = settings::processor(config, Default::default(), None);
    let decider = settings::decider(config);
    let observer: Arc<dyn Observer> =
        Arc::new(Watch { source: options.source.clone(), sender: Mutex::new(sender) });
    let (log, stop) = (Arc::clone(log), Arc::clone(stop));
    thread::Builder::new()
        .name("processor".into())
        .spawn(move || processor::run(&options, &decider, &log, &observer, &stop))
        .context("can't start a thread")
}

/// Reads a little ahead: standard input may be slow.
fn read(
    inputs: Box<dyn Iterator<Item = anyhow::Result<Posted>> + Send>,
) -> anyhow::Result<Receiver<anyhow::Result<Posted>>> {
    let (sender, receiver) = mpsc::sync_channel(16);
    thread::Builder::new()
        .name("input".into())
        .spawn(move || inputs.into_iter().try_for_each(|posted| sender.send(posted)))
        .context("can't start a thread")?;
    Ok(receiver)
}

/// Passes decisions to the demonstration.
struct Watch {
    source: String,
    sender: Mutex<Sender<Decided>>,
}

impl Observer for Watch {
    fn decided(&self, _: i32, commands: DecidedCommands<'_>) {
        let sender = self.sender.lock().expect("never poisoned");
        for (record, decision) in commands.iter() {
            let notifications = match decision {
                Decision::Accepted(event) => event
                    .notifications(&self.source, &record.headers)
                    .map(|notification| Published {
                        id: notification.id.clone(),
                        key: text(notification.record.key.as_deref()),
                        value: text(notification.record.value.as_deref()),
                    })
                    .collect(),
                _ => Vec::new(),
            };
            // The demonstration may have failed.
            let _ = sender.send(Decided::new(record.coordinates, decision, notifications));
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// Posts commands no faster than they are decided, and shows the decisions in the order of the input.
struct Demonstration {
    client: ActivityClient,
    runtime: Runtime,
    /// The broker's answers, with the number of the command.
    answers: FuturesUnordered<LocalBoxFuture<'static, (usize, Result<Delivered, PostError>)>>,
    decided: Receiver<Decided>,
    order: InOrder,
    show: Show,
    /// A signal arrived.
    stop_request: Arc<StopRequest>,
}

impl Demonstration {
    fn run(mut self, inputs: &Receiver<anyhow::Result<Posted>>) -> anyhow::Result<ExitCode> {
        while !self.is_stopping() {
            // A person who types commands sees each decision before the next command.
            match inputs.recv_timeout(if self.order.is_empty() { TYPED } else { Duration::ZERO }) {
                Ok(posted) => self.post(posted?)?,
                Err(RecvTimeoutError::Timeout) => self.advance()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        while !self.order.is_empty() && !self.is_stopping() {
            self.advance()?;
        }
        // After a signal a summary would look complete.
        match self.stop_request.exit_code() {
            Some(code) => Ok(ExitCode::from(code)),
            None => self.show.summary(),
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop_request.is_made()
    }

    fn post(&mut self, Posted { input: Input { place, value }, headers }: Posted) -> anyhow::Result<()> {
        if value.len() > LARGEST {
            let found = value.len();
            return self.show.unposted(
                &place,
                &format!(
                    "expected at most {LARGEST} bytes, which the embedded broker can keep, found {found}"
                ),
            );
        }
        while !self.has_room(value.len()) {
            self.advance()?;
        }
        let index = self.order.posted(place.clone(), value.len());
        let coordinates =
            Coordinates { partition: 0, offset: 0, timestamp: Timestamp::now().as_millisecond() };
        let key = object_key(&value).map(Bytes::from);
        let record = Record { coordinates, key, value: Some(value.into()), headers };
        let answer = self.runtime.block_on(self.client.enqueue(&record, None));
        let answer =
            answer.map_err(|error| anyhow!("{place} can't be posted: {}", client::reason(&error)))?;
        self.answers.push(answer.map(move |answer| (index, answer)).boxed_local());
        if index.is_multiple_of(64) { self.collect(Duration::ZERO) } else { Ok(()) }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let (commands, under_way) = self.order.under_way();
        commands == 0 || (commands < WINDOW && under_way + bytes <= WINDOW_BYTES)
    }

    /// Waits for a decision.
    fn advance(&mut self) -> anyhow::Result<()> {
        self.collect(Duration::from_millis(1))?;
        if !self.order.is_empty() && self.order.silence() > SILENCE {
            bail!("nothing was decided for {} s", SILENCE.as_secs());
        }
        Ok(())
    }

    fn collect(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let mut patience = timeout;
        loop {
            match self.decided.recv_timeout(patience) {
                Ok(decided) => self.order.decided(decided),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => bail!("the processor stopped"),
            }
            patience = Duration::ZERO;
        }
        while let Some(Some((index, answer))) = self.answers.next().now_or_never() {
            match answer {
                Ok(Delivered::As(id)) => self.order.delivered(index, id.coordinates()),
                Ok(Delivered::SomewhereIn { partition }) => {
                    bail!("the embedded broker does not say where in partition {partition} a command lies")
                }
                Err(error) => {
                    let (place, reason) = (self.order.place(index), client::reason(&error));
                    bail!("{place} was not taken by the embedded broker: {reason}")
                }
            }
        }
        while let Some((place, bytes, decided)) = self.order.next() {
            self.show.command(&place, bytes, &decided)?;
        }
        self.show.refresh(self.order.is_empty())
    }
}
