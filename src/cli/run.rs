//! `run`: the processor with the configured brokers, until a signal stops it.

mod files;

use std::{
    io::Write,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::builder::{PossibleValue, TypedValueParser};
use contract::Decision;
use event_log::{
    self, EventLog, LogError,
    read_model::{self, Follower, Progress},
};
use indicatif::HumanCount;
use kafka::{
    client,
    embedded::EmbeddedBroker,
    repeats::{self, Origin},
    replies::{ReplyCounts, Undeliverable},
    topics::{self, Missing, Report},
};
use processor::{AbortReason, Accept, DecidedCommands, End, Loss, Observer, ProcessorError, Warmth};
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    output,
    parsers::one_of,
    settings,
    stop::{self, Signals},
};
use crate::{
    admin::{self, Health},
    config::{Config, Guarantee},
    metrics::{self, Metrics},
    telemetry,
};

/// Runs the processor until it is stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream run -b kafka:9092 --log-file /var/lib/activity-stream/activity.db
  activity-stream run --embedded
  ACTIVITY_STREAM_KAFKA_PROPERTIES_SASL_PASSWORD=… activity-stream run --config production.toml

Stops on SIGINT or SIGTERM once the work in flight is done; on a second signal at once.")]
pub struct Args {
    /// Start an embedded broker in this process, and print its address. It lives in memory, has no transactions, and works
    /// with librdkafka clients (Python, Go, .NET, C, kcat), not with those in pure Java or JavaScript. It ends when a client
    /// that assigns partitions in another way, such as kcat -G by default, joins the processor's group
    #[arg(long)]
    embedded: bool,
    /// Continue where the processor would stop, for this start only; the log records it
    #[arg(long, value_name = "LOSS", value_parser = losses())]
    accept: Vec<Loss>,
}

fn losses() -> impl TypedValueParser<Value = Loss> {
    let help = |loss| match loss {
        Loss::LostCommands => {
            "The topic no longer holds commands that nobody has decided: count them as lost, and continue after them"
        }
        Loss::Republish => {
            "How far the output was published is unknown: continue from the last offset that the log knows of; output \
             that was published after it is published again, with the same ids"
        }
        Loss::SkipUnpublished => {
            "How far the output was published is unknown: take everything in the log as published; output that was not \
             is never published"
        }
        Loss::GroupOffset => {
            "How far the output was published is unknown: trust the group's committed offset, whoever committed it; \
             unpublished output before it never is, and published output after it is published again, with the same ids"
        }
    };
    one_of(Loss::ALL.map(|loss| (PossibleValue::new(loss.as_str()).help(help(loss)), loss)))
}

/// Between two attempts to reach the brokers, or to open the log, at the start.
const RETRY: Duration = Duration::from_secs(2);

/// Runs the processor.
pub(super) fn run(args: &Args, mut config: Config) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("can't start the asynchronous runtime")?;
    // First, so that no signal is missed.
    let guard = runtime.enter();
    let signals = Signals::listen()?;
    drop(guard);
    let broker = args.embedded.then(|| embed(&mut config)).transpose()?;
    client::check_properties(&settings::kafka(&config)).map_err(|reason| anyhow!(reason))?;
    let code =
        runtime.block_on(serve(config, args.accept.iter().copied().collect(), broker.is_some(), signals));
    runtime.shutdown_background();
    code.map_err(|error| match (error.downcast_ref(), &broker) {
        (Some(ProcessorError::Refused(_) | ProcessorError::TopicDiffers { .. }), Some(_)) => error.context(
            "an embedded broker is empty at every start, and the event log was made with another. Name a new \
             file: --log-file FILE",
        ),
        _ => error,
    })
}

/// Starts the embedded broker and points the configuration at it.
fn embed(config: &mut Config) -> anyhow::Result<EmbeddedBroker> {
    if config.processor.guarantee == Guarantee::ExactlyOnce {
        tracing::warn!("the embedded broker has no working transactions: running at-least-once");
        config.processor.guarantee = Guarantee::AtLeastOnce;
    }
    let broker = EmbeddedBroker::start(&settings::kafka(config).topics)?;
    config.kafka.bootstrap_servers = broker.bootstrap_servers();
    config.kafka.properties.entry("fetch.wait.max.ms".into()).or_insert_with(|| "10".into());
    let mut out = std::io::stdout().lock();
    let address = &config.kafka.bootstrap_servers;
    let printed = writeln!(
        out,
        "embedded broker at {address}\nfor librdkafka clients (Python, Go, .NET, C, kcat and this program); those in pure \
         Java or JavaScript need a real Kafka"
    );
    if let Err(error) = printed.and_then(|()| out.flush()) {
        tracing::warn!(%error, "can't write to standard output: embedded broker at {address}");
    }
    Ok(broker)
}

async fn serve(
    config: Config,
    accept: Accept,
    embedded: bool,
    mut signals: Signals,
) -> anyhow::Result<ExitCode> {
    let health = Arc::new(Health::new());
    let metrics = Arc::new(Metrics::new());
    Undeliverable::ALL.iter().for_each(|reason| metrics.undeliverable(reason.as_str(), 0));
    AbortReason::ALL.iter().for_each(|reason| metrics.aborted(reason.as_str(), 0));
    let (end_admin, admin_ended) = oneshot::channel::<()>();
    if let Some(address) = config.admin.listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("can't listen at {address} (admin.listen)"))?;
        tracing::info!(address = %listener.local_addr()?, "health and metrics");
        let ended = async { drop(admin_ended.await) };
        tokio::spawn(admin::serve(listener, Arc::clone(&health), Arc::clone(&metrics), ended));
    }
    telemetry::draw(output::records());
    let stop = Arc::new(AtomicBool::new(false));
    let mut ended = spawn(
        config,
        accept,
        embedded,
        Arc::new(Watch { health, metrics, has_bar: AtomicBool::new(false) }),
        Arc::clone(&stop),
    )?;
    tokio::select! {
        ended = &mut ended => return finish(ended),
        signal = signals.next() => tracing::info!("{signal}: finishing what is in flight"),
    }
    stop.store(true, Ordering::SeqCst);
    drop(end_admin);
    tokio::select! {
        ended = &mut ended => finish(ended),
        () = tokio::time::sleep(stop::LONGEST) => {
            tracing::warn!("the brokers or the disk did not answer in time; the next start continues from the cursors");
            Ok(ExitCode::SUCCESS)
        }
        _ = signals.next() => Ok(at_once()),
    }
}

fn at_once() -> ExitCode {
    tracing::warn!("second signal: stopping at once; the next start continues from the cursors");
    ExitCode::from(stop::AT_ONCE)
}

fn finish(ended: Result<anyhow::Result<()>, oneshot::error::RecvError>) -> anyhow::Result<ExitCode> {
    // A thread that ends without sending has panicked, and a log line says where.
    let ended =
        ended.map_err(|_| anyhow!("the processor's thread panicked, which is a fault of the program"))?;
    ended.map(|()| {
        tracing::info!("stopped");
        ExitCode::SUCCESS
    })
}

/// The processor blocks, so it has its own thread; a stop does not wait for it forever.
fn spawn(
    config: Config,
    accept: Accept,
    embedded: bool,
    watch: Arc<Watch>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let (sender, ended) = oneshot::channel();
    thread::Builder::new()
        .name("processor".into())
        .spawn(move || {
            let _ = sender.send(process(&config, accept, embedded, &watch, &stop));
        })
        .context("can't start a thread")?;
    Ok(ended)
}

fn process(
    config: &Config,
    accept: Accept,
    embedded: bool,
    watch: &Arc<Watch>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    // Refuse a file that can never be a log before waiting for any broker.
    event_log::find(&config.log.path)?;
    // The embedded broker has just made its topics, and has no settings.
    let mut report = None;
    if !embedded {
        report = await_topics(config, watch, stop)?;
        if report.is_none() {
            return Ok(());
        }
    }
    // Only after the topic was found: a log belongs to one topic forever.
    let Some(mut log) = await_log(config, watch, stop)? else { return Ok(()) };
    let files = log.files();
    // Before the first append, as the read model requires.
    let reader = config.log.read_model.then(|| log.reader_for_follower());
    let follower = reader.and_then(|reader| match reader {
        Ok(reader) => Some(Follower::open_or_keep(reader, &config.log.path)),
        Err(error) => {
            tracing::warn!(%error, "the read model is not updated until the next start; queries read the log instead");
            None
        }
    });
    let log = Arc::new(Mutex::new(log));
    let options = settings::processor(config, accept, report.as_ref());
    let observer: Arc<dyn Observer> = Arc::<Watch>::clone(watch);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let metrics = &watch.metrics;
        let ended = &ended;
        let looking = thread::Builder::new()
            .name("log-files".into())
            .spawn_scoped(scope, move || files::watch(&files, metrics, ended, stop))
            .context("can't start a thread")?;
        let running = SetOnDrop(ended);
        if let Some(opened) = follower {
            let behind = |progress: Progress| {
                metrics.read_model_behind.set(progress.lag());
            };
            let path = &config.log.path;
            thread::Builder::new()
                .name("read-model".into())
                .spawn_scoped(scope, move || read_model::follow_when_open(opened, path, ended, behind))
                .context("can't start a thread")?;
        }
        processor::run(&options, &settings::decider(config), &log, &observer, stop)?;
        drop(running);
        // It has stopped the processor if a file is gone.
        Ok(looking.join().map_err(|_| anyhow!("the thread that watches the log's files failed"))??)
    })
}

/// Ends the follower and the thread that watches the files, however the processor ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Opens the log; waits for disk space, and for another program's lock. `None` if it was stopped.
fn await_log(config: &Config, watch: &Watch, stop: &AtomicBool) -> anyhow::Result<Option<EventLog>> {
    attempt(watch, stop, RETRY, || match settings::open_log(config) {
        Err(error) if error.downcast_ref().is_some_and(LogError::is_transient) => {
            Ok(Err(format!("{error:#}")))
        }
        opened => opened.map(Ok),
    })
}

/// Checks the topics; waits for brokers that do not answer. `None` if it was stopped.
fn await_topics(config: &Config, watch: &Watch, stop: &AtomicBool) -> anyhow::Result<Option<Report>> {
    let missing = if config.topics.create { Missing::Create } else { Missing::Refuse };
    let report = attempt(watch, stop, RETRY, || match topics::prepare(&settings::kafka(config), missing) {
        Ok(report) => Ok(Ok(report)),
        Err(error) if error.is_of_connection() => Ok(Err(error.to_string())),
        Err(error) => Err(anyhow!(error)),
    })?;
    for warning in report.iter().flat_map(|report| &report.warnings) {
        tracing::warn!("{warning}");
    }
    Ok(report)
}

/// Retries while the attempt returns a reason that may pass. `None` if it was stopped.
fn attempt<T>(
    watch: &Watch,
    stop: &AtomicBool,
    retry: Duration,
    mut attempt: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<Option<T>> {
    while !stop.load(Ordering::SeqCst) {
        match attempt()? {
            Ok(done) => return Ok(Some(done)),
            Err(reason) => {
                watch.health.beat();
                repeats::warn(Origin::Program, &format!("{reason}; trying again"));
                watch.health.set_unready(reason);
                pause(stop, retry);
            }
        }
    }
    Ok(None)
}

/// Between two attempts.
fn pause(stop: &AtomicBool, retry: Duration) {
    let until = Instant::now() + retry;
    while Instant::now() < until && !stop.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Health and metrics.
#[derive(Debug)]
struct Watch {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Whether a bar shows how much of what the group has committed the log has.
    has_bar: AtomicBool,
}

impl Observer for Watch {
    fn decided(&self, _: i32, commands: DecidedCommands<'_>) {
        let (mut events, mut duplicates, mut rejections, mut bytes) = (0, 0, 0, 0);
        for (record, decision) in commands.iter() {
            match decision {
                Decision::Accepted(_) => events += 1,
                Decision::Duplicate { .. } => duplicates += 1,
                Decision::Rejected(_) => rejections += 1,
            }
            bytes += record.value.as_ref().map_or(0, Bytes::len);
        }
        self.metrics.decided(metrics::Outcome::Event, events);
        self.metrics.decided(metrics::Outcome::Duplicate, duplicates);
        self.metrics.decided(metrics::Outcome::Rejection, rejections);
        self.metrics.command_bytes.inc_by(bytes as u64);
    }

    fn position(&self, partition: i32, published: i64, end: Option<End>) {
        self.metrics.position(partition, published, end.map(|end| (end.offsets.high_watermark, end.at)));
    }

    fn published(&self, notifications: u64, rejections: u64, took: Duration) {
        self.metrics.notifications_published.inc_by(notifications);
        self.metrics.rejections_published.inc_by(rejections);
        self.metrics.publish_seconds.observe(took.as_secs_f64());
    }

    fn replied(&self, replies: &ReplyCounts) {
        self.metrics.replies_published.inc_by(replies.published);
        for (reason, count) in &replies.undeliverable {
            self.metrics.undeliverable(reason.as_str(), *count);
        }
    }

    fn appended(&self, next_offsets: &[(i32, i64)], commands: usize, took: Duration) {
        self.metrics.batches.inc();
        self.metrics.batch_records.observe(commands as f64);
        self.metrics.append_seconds.observe(took.as_secs_f64());
        for &(partition, next_offset) in next_offsets {
            self.metrics.logged(partition, next_offset);
        }
    }

    fn followed(&self, next_offsets: &[(i32, i64)], commands: usize) {
        self.metrics.followed_commands.inc_by(commands as u64);
        for &(partition, next_offset) in next_offsets {
            self.metrics.logged(partition, next_offset);
        }
    }

    fn followed_to(&self, partition: i32, logged: i64, end: Option<End>) {
        self.metrics.followed(partition, logged, end.map(|end| (end.offsets.high_watermark, end.at)));
    }

    fn warming(&self, warmth: &Warmth) {
        self.health.beat();
        repeats::log_due(Instant::now());
        self.metrics.hold_nothing();
        match warmth {
            Warmth::Behind { logged, committed } => {
                self.metrics.warming_lag.set(committed - logged);
                let [logged, committed] = [logged, committed].map(|offset| offset.unsigned_abs());
                self.has_bar.fetch_or(telemetry::progress(Some((logged, committed))), Ordering::Relaxed);
                let (logged, committed) = (HumanCount(logged), HumanCount(committed));
                self.health.set_unready(format!("warming: {logged} of {committed}"));
            }
            Warmth::Unknown(reason) => self.health.set_unready(format!("warming: {reason}")),
            Warmth::Alone => {}
        }
    }

    fn aborted(&self, reason: AbortReason) {
        self.metrics.aborted(reason.as_str(), 1);
    }

    fn interrupted(&self, error: &ProcessorError) {
        self.health.beat();
        repeats::log_due(Instant::now());
        self.health.set_unready(error.to_string());
    }

    fn polled(&self, partitions: usize, waits_for: Option<&str>) {
        self.health.beat();
        repeats::log_due(Instant::now());
        self.metrics.log_lines_dropped(telemetry::dropped_lines());
        self.metrics.partitions_held.set(i64::try_from(partitions).unwrap_or(i64::MAX));
        // It has joined the group.
        self.metrics.warming_lag.set(0);
        if self.has_bar.load(Ordering::Relaxed) && telemetry::progress(None) {
            self.has_bar.store(false, Ordering::Relaxed);
        }
        match waits_for {
            None => self.health.set_ready(),
            Some(reason) => self.health.set_unready(reason),
        }
    }

    fn released(&self, partition: i32) {
        self.metrics.forget(partition);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use kafka::SourceError;
    use testing::said_by;

    use super::*;
    use crate::cli::args;

    #[test]
    fn accepts_several_losses() {
        let line = "activity-stream run --accept lost-commands --accept republish";
        let args = args::Args::try_parse_from(line.split(' ')).expect("a command line");
        let args::Command::Run(run) = args.command else { panic!("run") };
        let wanted = Accept { lost_commands: true, republish: true, ..Accept::default() };
        assert_eq!(run.accept.into_iter().collect::<Accept>(), wanted);
    }

    fn watch() -> Watch {
        let (health, metrics) = (Arc::new(Health::new()), Arc::new(Metrics::new()));
        Watch { health, metrics, has_bar: AtomicBool::new(false) }
    }

    #[test]
    fn attempts_that_fail_alike_log_one_line() {
        let (watch, stop) = (watch(), AtomicBool::new(false));
        let mut left = 20;
        let (said, ended) = said_by(|| {
            attempt(&watch, &stop, Duration::ZERO, || {
                left -= 1;
                Ok(if left > 0 { Err("the disk of this test is full".into()) } else { Ok("open") })
            })
        });
        assert_eq!((ended.unwrap(), left), (Some("open"), 0));
        assert_eq!(said.matches("the disk of this test is full; trying again").count(), 1, "{said}");
    }

    /// After an outage there may be no other warning for days.
    #[test]
    fn polling_logs_the_counts_that_are_due() {
        let watch = watch();
        let polled = || watch.polled(1, None);
        let interrupted =
            || watch.interrupted(&ProcessorError::Source(SourceError::Retriable("away".into())));
        for (name, comes_by) in [("polled", &polled as &dyn Fn()), ("interrupted", &interrupted)] {
            // A warning of another test may log it first.
            let is_logged = (0..100).any(|number| {
                let text = format!("{name}-{number} is away");
                repeats::warned_long_ago(&text, 3);
                said_by(comes_by).0.contains(&format!("{text} repeats=2"))
            });
            assert!(is_logged, "{name}");
        }
    }
}
