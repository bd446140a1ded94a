//! Runs one session after another: after an error that may pass, the next one restarts from the cursors; any other error
//! ends the processor.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use contract::Decider;
use event_log::EventLog;
use kafka::{
    Settings,
    at_least_once::AtLeastOnce,
    client,
    consumer::GroupConsumer,
    mark::{Marker, RulesHash},
    transactional::{self, Transactional},
};

use super::{
    Observer, ProcessorError, driver,
    follow::{Follow, FollowOptions, Warmth},
    intake::Caps,
    pipeline::{IDLE, Pipeline, SessionOptions},
    progress::Progress,
    publish::PublishOptions,
    start::{self, Accept},
    timing::Timing,
};

/// The first pause between two sessions, then doubled up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// How often an instance that is not warm asks how far the group is.
const WARMTH: Duration = Duration::from_secs(1);
/// A session that lasted this long was successful: the next failure is a new one.
const WORKED: Duration = Duration::from_secs(60);

/// What a consumer of the output topics may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Output and offsets in one Kafka transaction: visible once to a `read_committed` consumer.
    ExactlyOnce,
    /// Offsets after output, for brokers without transactions: visible once or, after a crash, more often.
    AtLeastOnce,
}

/// The partitions in the log of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPartitions {
    /// All of the topic. Those of other instances are followed: decided and appended, and not published.
    All,
    /// Those that the group gives to it. Whoever takes another one over reads its history first.
    Owned,
}

/// The processor's options.
#[derive(Debug, Clone)]
pub struct ProcessorOptions {
    pub kafka: Settings,
    pub guarantee: Guarantee,
    /// The first part of the transactional id, before the group and the log's instance id.
    pub transactional_id_prefix: String,
    /// `ce_source` of the notifications.
    pub source: String,
    pub caps: Caps,
    /// Bytes of the largest record that the rejections topic accepts.
    pub rejection_bytes: usize,
    /// Bytes of the largest batch that each output topic accepts.
    pub batch_bytes: usize,
    /// Bytes of output at which a transaction closes.
    pub output_bytes: usize,
    /// How long a partition with records may make no progress.
    pub stall_timeout: Duration,
    pub partitions: LogPartitions,
    /// With all partitions, an instance joins a group that has other members once its log lacks at most this many of the
    /// records that the group has committed.
    pub max_lag_records: i64,
    pub accept: Accept,
}

/// The state that one session of the process leaves to the next.
#[derive(Debug)]
pub(crate) struct Sessions {
    accept: Accept,
    /// The pause before the next session if this one fails.
    pause: Duration,
    progress: Arc<Mutex<Progress>>,
}

impl Sessions {
    pub fn new(accept: Accept) -> Self {
        Self { accept, pause: SHORTEST, progress: Arc::default() }
    }

    /// The losses that the next session may accept.
    pub fn accept(&self) -> Accept {
        self.accept
    }

    pub fn progress(&self) -> &Arc<Mutex<Progress>> {
        &self.progress
    }

    /// A session of this length failed. Returns the pause before the next one, or the error if another session would fail
    /// with it too.
    pub fn failed(
        &mut self,
        error: ProcessorError,
        lasted: Duration,
        observer: &dyn Observer,
    ) -> Result<Duration, ProcessorError> {
        if !error.is_retriable() {
            return Err(error);
        }
        // The operator accepted losses for the state at the start only.
        self.accept = Accept::default();
        if lasted >= WORKED {
            self.pause = SHORTEST;
        }
        {
            let mut progress = self.progress.lock().expect("no holder panics");
            progress.hear(Instant::now(), error.to_string());
            progress.interrupted();
        }
        observer.interrupted(&error);
        tracing::warn!(%error, "left the consumer group; will rejoin and resume when this clears");
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        Ok(pause)
    }
}

/// Processes commands until `stop` is set.
pub fn run(
    options: &ProcessorOptions,
    decider: &Decider,
    log: &Arc<Mutex<EventLog>>,
    observer: &Arc<dyn Observer>,
    stop: &AtomicBool,
) -> Result<(), ProcessorError> {
    let mut sessions = Sessions::new(options.accept);
    while !stop.load(Ordering::SeqCst) {
        let mut begun = Instant::now();
        let Err(error) = run_once(options, &sessions, decider, log, observer, stop, &mut begun) else {
            return Ok(());
        };
        let pause = sessions.failed(error, begun.elapsed(), observer.as_ref())?;
        wait(pause, stop);
        await_log(log, observer, stop)?;
    }
    Ok(())
}

fn run_once(
    options: &ProcessorOptions,
    sessions: &Sessions,
    decider: &Decider,
    log: &Arc<Mutex<EventLog>>,
    observer: &Arc<dyn Observer>,
    stop: &AtomicBool,
    begun: &mut Instant,
) -> Result<(), ProcessorError> {
    let kafka = &options.kafka;
    let timing = timing(kafka, options.stall_timeout);
    let marker = marker(log, decider);
    let mut follow = (options.partitions == LogPartitions::All).then(|| {
        let follow = FollowOptions {
            decider: decider.clone(),
            log: Arc::clone(log),
            observer: Arc::clone(observer),
            caps: options.caps,
            timing,
            marker,
        };
        Follow::<GroupConsumer>::new(kafka.clone(), follow)
    });
    if let Some(follow) = &mut follow {
        warm(follow, options.max_lag_records, observer.as_ref(), stop)?;
        if stop.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
    // What comes before is no success.
    *begun = Instant::now();
    let mut source = GroupConsumer::join(kafka).map_err(ProcessorError::Source)?;
    let session = SessionOptions {
        accept: sessions.accept(),
        plan: start::plan,
        caps: options.caps,
        batches: batches_in_flight(),
        publish: PublishOptions {
            topic: kafka.topics.commands.clone(),
            source: options.source.clone(),
            marker,
            rejection_bytes: options.rejection_bytes,
            replies: decider.reply_topics().clone(),
            output_bytes: options.output_bytes,
        },
        timing,
        progress: Arc::clone(sessions.progress()),
    };
    match options.guarantee {
        Guarantee::ExactlyOnce => {
            let prefix = &options.transactional_id_prefix;
            source.abort_pending(prefix, marker.instance);
            let id = transactional::id(prefix, &kafka.group, marker.instance);
            let sink = Transactional::new(kafka, id, options.batch_bytes);
            driver::run(&Pipeline::new(source, sink, follow, log, decider, session, observer), stop)
        }
        Guarantee::AtLeastOnce => {
            let sink = AtLeastOnce::new(kafka, source.committer(), options.batch_bytes);
            driver::run(&Pipeline::new(source, sink, follow, log, decider, session, observer), stop)
        }
    }
}

/// Follows until the log has nearly all that the group has committed, so that no partition waits for its history after it was
/// given to this instance.
fn warm(
    follow: &mut Follow<GroupConsumer>,
    max_lag_records: i64,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<(), ProcessorError> {
    let mut ask_at = Instant::now();
    let mut is_warming = false;
    while !stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        if now >= ask_at {
            ask_at = now + WARMTH;
            let warmth = follow.warm()?;
            if warmth.is_enough(max_lag_records) {
                if is_warming && warmth != Warmth::Alone {
                    tracing::info!("the log has what the group has published; joining it");
                }
                break;
            }
            observer.warming(&warmth);
            if let Warmth::Behind { logged, committed } = warmth
                && !is_warming
            {
                is_warming = true;
                tracing::info!(
                    logged,
                    committed,
                    "reading what the group has published, before this instance joins it"
                );
            }
        }
        follow.step(IDLE)?;
        follow.checkpoint_if_due();
        if !follow.is_reading() {
            thread::sleep(IDLE);
        }
    }
    Ok(())
}

/// One in each stage after polling. On two cores, which the stages share, a third one made nothing faster, and it takes
/// memory.
fn batches_in_flight() -> usize {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() <= 2) { 2 } else { 3 }
}

fn marker(log: &Mutex<EventLog>, decider: &Decider) -> Marker {
    let log = log.lock().expect("no holder panics");
    Marker { instance: log.instance_id(), rules: RulesHash::of(decider, log.window_ms()) }
}

fn timing(kafka: &Settings, stall: Duration) -> Timing {
    Timing::of_group(client::poll_interval(kafka), stall)
}

/// Stays out of the group while the disk is full or another program holds the write lock: rejoining only to fail would
/// disturb the other members.
fn await_log(
    log: &Arc<Mutex<EventLog>>,
    observer: &Arc<dyn Observer>,
    stop: &AtomicBool,
) -> Result<(), ProcessorError> {
    while !stop.load(Ordering::SeqCst) {
        match log.lock().expect("no holder panics").check_room() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => observer.interrupted(&ProcessorError::Log(error)),
            Err(error) => return Err(error.into()),
        }
        wait(LONGEST / 5, stop);
    }
    Ok(())
}

fn wait(duration: Duration, stop: &AtomicBool) {
    let until = Instant::now() + duration;
    while Instant::now() < until && !stop.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_time_that_its_members_may_take_to_join() {
        let unjoined = |properties: &[(&str, &str)]| {
            timing(&Settings::for_test("", properties), Duration::ZERO).unjoined.as_secs()
        };
        assert_eq!(unjoined(&[]), 330);
        assert_eq!(unjoined(&[("max.poll.interval.ms", "600000")]), 630);
        // Other members of the group may have the default.
        assert_eq!(unjoined(&[("max.poll.interval.ms", "60000")]), 330);
    }
}
