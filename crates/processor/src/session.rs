//! One session: the stages on their threads, from joining the group to leaving it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use contract::Decider;
use crossbeam_channel::{Receiver, Sender, bounded};
use event_log::EventLog;
use kafka::{Sink, Source};

use super::{
    Observer, ProcessorError,
    append::Append,
    batch::{Chunk, Fetched, Outcome, Read},
    decide::decide,
    intake::{Caps, Intake, IntakeOptions},
    ownership::Ownership,
    progress::Progress,
    publish::{Publish, PublishOptions},
    start::{Accept, Terms},
    timing::Timing,
};

/// How long polling waits when nothing is there. Stopping is noticed within it.
pub const IDLE: Duration = Duration::from_millis(50);
/// While the stage ahead is busy and there is room to gather more.
pub const BUSY: Duration = Duration::from_millis(1);
/// Batches that may be under way at once: one in each stage.
const MOST_UNDER_WAY: usize = 3;
/// How long a stop waits for what is in flight, out of the 5 s that it may take.
const STOP: Duration = Duration::from_secs(3);

/// What a session needs besides its source and its sink.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub accept: Accept,
    pub caps: Caps,
    pub publish: PublishOptions,
    pub timing: Timing,
    pub progress: Arc<Mutex<Progress>>,
}

/// The first error of any stage, and the wish to stop.
#[derive(Debug, Default)]
struct Ending {
    error: Mutex<Option<ProcessorError>>,
    failed: AtomicBool,
}

impl Ending {
    /// Runs a stage; an error or a panic of it ends the session.
    fn guard(&self, stage: impl FnOnce() -> Result<(), ProcessorError>) {
        let ended = catch_unwind(AssertUnwindSafe(stage)).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(ProcessorError::Panicked(text.unwrap_or_else(|| "no message".into())))
        });
        if let Err(error) = ended {
            self.error.lock().expect("no holder panics").get_or_insert(error);
            self.failed.store(true, Ordering::SeqCst);
        }
    }
}

/// Runs until `stop` is set (`Ok`) or a stage fails. The source leaves the group in either case.
pub fn run<S, K>(
    source: S,
    sink: K,
    log: &Arc<Mutex<EventLog>>,
    decider: &Decider,
    options: &SessionOptions,
    observer: &Arc<dyn Observer>,
    stop: &AtomicBool,
) -> Result<(), ProcessorError>
where
    S: Source,
    K: Sink<Membership = S::Membership> + Send,
{
    let timing = options.timing;
    let ownership = Arc::new(Ownership::default());
    let ending = Ending::default();
    let under_way = AtomicUsize::new(0);
    let (to_decide, fetched) = bounded::<Vec<Chunk<Fetched>>>(1);
    let (to_append, read) = bounded::<Vec<Chunk<Read>>>(1);
    let (to_publish, settled) = bounded::<Vec<Chunk<Vec<Outcome>>>>(1);
    let mut append = Append::new(Arc::clone(log), Arc::clone(&ownership));
    let mut publish =
        Publish::new(sink, Arc::clone(&ownership), options.publish.clone(), Arc::clone(observer), timing);
    let mut clean = Vec::new();
    thread::scope(|scope| {
        let (ending, under_way) = (&ending, &under_way);
        let stage = |name: &str| thread::Builder::new().name(name.to_owned());
        let spawned = [
            stage("decide")
                .spawn_scoped(scope, move || ending.guard(|| decide_all(decider, &fetched, &to_append))),
            stage("append").spawn_scoped(scope, move || {
                ending.guard(|| append_all(&mut append, &read, &to_publish, observer.as_ref()));
            }),
            stage("publish").spawn_scoped(scope, move || {
                ending.guard(|| {
                    publish.open()?;
                    settled.iter().try_for_each(|batch| {
                        let published = publish.publish(&batch);
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        published
                    })
                });
            }),
        ];
        if let Some(error) = spawned.into_iter().find_map(Result::err) {
            ending.guard(|| Err(ProcessorError::Panicked(format!("a thread could not be started: {error}"))));
        }
        let intake = Intake::new(
            source,
            Arc::clone(&ownership),
            Arc::clone(log),
            Arc::clone(observer),
            Arc::clone(&options.progress),
            IntakeOptions {
                terms: Terms { accept: options.accept, marker: options.publish.marker },
                caps: options.caps,
                timing,
            },
        );
        ending.guard(|| {
            clean = take_in(intake, to_decide, under_way, &ownership, ending, observer.as_ref(), stop)?;
            Ok(())
        });
        // Whatever ended the intake: nobody may wait for a broker that does not answer.
        ownership.abandon();
    });
    if let Some(error) = ending.error.into_inner().expect("no holder panics") {
        return Err(error);
    }
    log.lock().expect("no holder panics").record_clean_stop(&clean)?;
    Ok(())
}

/// The polling thread. Returns what is published, exactly, where everything in flight was finished.
fn take_in<S: Source>(
    mut intake: Intake<S>,
    to_decide: Sender<Vec<Chunk<Fetched>>>,
    under_way: &AtomicUsize,
    ownership: &Ownership<S::Membership>,
    ending: &Ending,
    observer: &dyn Observer,
    stop: &AtomicBool,
) -> Result<Vec<(i32, i64)>, ProcessorError> {
    let going_on = || !stop.load(Ordering::SeqCst) && !ending.failed.load(Ordering::SeqCst);
    while going_on() {
        // This thread is the only sender: what has room now has room when it sends.
        let before = under_way.load(Ordering::SeqCst);
        let busy = to_decide.is_full() || before >= MOST_UNDER_WAY;
        if busy && intake.is_full() {
            // Nothing more is taken in, but rebalances are served all the same.
            intake.serve()?;
            thread::sleep(BUSY);
        } else {
            intake.step(if intake.is_empty() && !busy {
                IDLE
            } else if busy || !intake.is_worth_a_batch(before) {
                BUSY
            } else {
                Duration::ZERO
            })?;
            intake.gather_arrived()?;
        }
        observer.polled(intake.held(), intake.waits_for().as_deref());
        if !busy && intake.is_ready(under_way.load(Ordering::SeqCst)) {
            let batch = intake.take_batch()?;
            if !batch.is_empty() {
                under_way.fetch_add(1, Ordering::SeqCst);
                if to_decide.send(batch).is_err() {
                    break;
                }
            }
        }
    }
    drop(to_decide);
    finish(intake, ownership, ending)
}

/// Finishes what is in flight, leaves the group, and says what is published.
fn finish<S: Source>(
    mut intake: Intake<S>,
    ownership: &Ownership<S::Membership>,
    ending: &Ending,
) -> Result<Vec<(i32, i64)>, ProcessorError> {
    let deadline = Instant::now() + STOP;
    let mut drained = intake.is_drained();
    while !drained && Instant::now() < deadline && !ending.failed.load(Ordering::SeqCst) {
        // The publisher may need the group's next generation to finish.
        intake.serve()?;
        thread::sleep(BUSY);
        drained = intake.is_drained();
    }
    let published = if drained { ownership.published() } else { Vec::new() };
    if !drained && !ending.failed.load(Ordering::SeqCst) {
        tracing::warn!(
            "stopping without waiting for what is in flight; the next start goes on at the cursors"
        );
    }
    // Nobody waits for a broker any more, and nothing of an ended epoch is published.
    ownership.abandon();
    drop(intake.close());
    Ok(published)
}

fn decide_all(
    decider: &Decider,
    fetched: &Receiver<Vec<Chunk<Fetched>>>,
    to_append: &Sender<Vec<Chunk<Read>>>,
) -> Result<(), ProcessorError> {
    for batch in fetched {
        if to_append.send(decide(decider, batch)).is_err() {
            break;
        }
    }
    Ok(())
}

fn append_all<M: Clone + PartialEq>(
    append: &mut Append<M>,
    read: &Receiver<Vec<Chunk<Read>>>,
    to_publish: &Sender<Vec<Chunk<Vec<Outcome>>>>,
    observer: &dyn Observer,
) -> Result<(), ProcessorError> {
    for batch in read {
        let begun = Instant::now();
        let outcomes = append.append(batch)?;
        let commands = outcomes.iter().map(|chunk| chunk.content.len()).sum();
        let next_offsets: Vec<_> =
            outcomes.iter().map(|chunk| (chunk.partition, chunk.next_offset)).collect();
        observer.appended(&next_offsets, commands, begun.elapsed());
        if to_publish.send(outcomes).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use contract::{Coordinates, Record};
    use kafka::Polled;

    use super::*;
    use crate::{
        Unobserved,
        scripted::{self, Scripted},
    };

    /// Ends the session when it was told often enough that the polling thread is alive.
    struct Counting<'a>(AtomicUsize, &'a Ending);

    impl Observer for Counting<'_> {
        fn polled(&self, _: usize, _: Option<&str>) {
            if self.0.fetch_add(1, Ordering::SeqCst) == 100 {
                self.1.failed.store(true, Ordering::SeqCst);
            }
        }
    }

    #[test]
    fn the_polling_thread_is_seen_alive_while_there_is_no_room() {
        let records = (0..10).map(|offset| {
            let coordinates = Coordinates { partition: 0, offset, timestamp: 1 };
            Polled::Record(Record { coordinates, key: None, value: None, headers: Vec::new() })
        });
        let mut polled = VecDeque::from([Polled::Assigned(vec![0]), Polled::Nothing]);
        polled.extend(records);
        let source = Scripted { member: true, polled, ..Scripted::default() };
        let folder = tempfile::tempdir().unwrap();
        let log = scripted::log(folder.path());
        let ownership = Arc::new(Ownership::default());
        let (caps, terms) = (Caps { records: 2, bytes: 1 << 20 }, scripted::terms());
        let timing = Timing::default();
        let intake = Intake::new(
            source,
            Arc::clone(&ownership),
            log,
            Arc::new(Unobserved),
            Arc::default(),
            IntakeOptions { terms, caps, timing },
        );
        // Nobody takes the batches.
        let (to_decide, batches) = bounded(1);
        let (stop, under_way, ending) = (AtomicBool::new(false), AtomicUsize::new(0), Ending::default());
        thread::scope(|scope| {
            let watchdog = scope.spawn(|| {
                thread::park_timeout(Duration::from_secs(120));
                stop.store(true, Ordering::SeqCst);
            });
            let observer = Counting(AtomicUsize::new(0), &ending);
            take_in(intake, to_decide, &under_way, &ownership, &ending, &observer, &stop).unwrap();
            watchdog.thread().unpark();
        });
        assert_eq!(batches.len(), 1, "there was no room for more");
        assert!(ending.failed.into_inner(), "it was not seen often enough");
    }
}
