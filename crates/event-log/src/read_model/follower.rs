//! Updates the read model from the log.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::read_model::ReadModelError;
use crate::read_model::entries::{self, Entry};
use crate::read_model::model::{ReadModel, Run};
use crate::reader::LogReader;

/// While the log grows, fewer new events than this are not added. Queries read them from the log.
const SMALLEST_RUN: i64 = 4096;
/// After the log has not grown for this long, all its events are added.
const IDLE: Duration = Duration::from_secs(5);
/// Events of a full run. Sorting it takes 4 MiB. Ten million events are 39 runs, and a query searches each.
const FULL_RUN: i64 = 1 << 18;
/// More runs that are not full are merged.
const SMALL_RUNS: usize = 64;
/// Events in one read transaction. SQLite can checkpoint the log in between.
const STRIDE: i64 = 16_384;
/// Pauses between two reads of the log, and after a failure.
const POLL: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(30);
/// A stop is noticed after this.
const STOP_POLL: Duration = Duration::from_millis(20);

/// How much of the log the model covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last position that the model covers.
    pub covered: i64,
    /// The last position of the log.
    pub last: i64,
}

impl Progress {
    /// How many events the model does not cover.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.last - self.covered
    }
}

/// Updates the model, run by run.
#[derive(Debug)]
pub struct Follower {
    log: LogReader,
    path: PathBuf,
    model: ReadModel,
    runs: Vec<Run>,
}

/// A model that can't be opened now, and the reader with which to try again. The process that writes must not open the log
/// again: see [`EventLog::reader`](crate::EventLog::reader).
#[derive(Debug)]
pub struct Unopened {
    log: Box<LogReader>,
    error: ReadModelError,
}

impl From<Unopened> for ReadModelError {
    fn from(unopened: Unopened) -> Self {
        unopened.error
    }
}

impl Follower {
    /// Opens or creates the model of the log at `path`, and removes runs of another log.
    ///
    /// Call it before the log's writer appends: a log that was restored from an older copy is recognised by its length.
    pub fn open(log: LogReader, path: &Path) -> Result<Self, ReadModelError> {
        Self::open_or_keep(log, path).map_err(ReadModelError::from)
    }

    /// The same for [`follow_when_open`], which tries again.
    pub fn open_or_keep(log: LogReader, path: &Path) -> Result<Self, Unopened> {
        let model = match ReadModel::open_or_create(path) {
            Ok(model) => model,
            Err(error) => return Err(Unopened { log: Box::new(log), error }),
        };
        let mut follower = Self { log, path: path.to_owned(), model, runs: Vec::new() };
        match follower.reload().or_else(|error| follower.restart_if_damaged(error)) {
            Ok(()) => Ok(follower),
            Err(error) => Err(Unopened { log: Box::new(follower.log), error }),
        }
    }

    /// Continues with an empty model if the error is that the model is damaged.
    fn restart_if_damaged(&mut self, error: ReadModelError) -> Result<(), ReadModelError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.model = ReadModel::replace_damaged(&self.path, &error)?;
        self.runs.clear();
        Ok(())
    }

    /// Opens the model and removes all runs.
    pub fn rebuild(log: LogReader, path: &Path) -> Result<Self, ReadModelError> {
        let mut follower = Self::open(log, path)?;
        while !follower.runs.is_empty() {
            let all = 0..follower.runs.len();
            follower.replace(all, None)?;
        }
        Ok(follower)
    }

    /// Reads the runs, and removes those of another log.
    fn reload(&mut self) -> Result<(), ReadModelError> {
        loop {
            self.runs = self.model.all_runs()?;
            let own = self.model.runs(&self.log)?.len();
            if own == self.runs.len() {
                return Ok(());
            }
            let (dropped, path) = (self.runs.len() - own, self.path.display());
            tracing::info!(%path, dropped, "removing runs that are not in the log: it was restored or replaced");
            if let Some(runs) = self.model.replace(&self.runs, own..self.runs.len(), None)? {
                self.runs = runs;
                return Ok(());
            }
        }
    }

    /// Adds at most one run of new events: with `all` if there are any, otherwise if there are enough.
    pub fn advance(&mut self, all: bool) -> Result<Progress, ReadModelError> {
        if !self.model.is_in_place() {
            tracing::info!(path = %self.path.display(), "the read model was deleted or replaced; opening it again");
            self.runs.clear();
            self.model = self.model.reopen(&self.path)?;
            self.reload().or_else(|error| self.restart_if_damaged(error))?;
        }
        let last = self.log.last_position()?;
        let covered = self.covered();
        let to = last.min(covered + FULL_RUN);
        if to - covered >= if all { 1 } else { SMALLEST_RUN } {
            let (run, entries) = self.read_run(covered + 1, to)?;
            let end = self.runs.len();
            let added = self.replace(end..end, Some((run, &entries))).and_then(|()| self.merge());
            added.or_else(|error| self.restart_if_damaged(error))?;
        }
        Ok(Progress { covered: self.covered(), last })
    }

    /// Reads a run up to `last`, or up to the end of the append that contains it.
    fn read_run(&self, first: i64, last: i64) -> Result<(Run, Vec<Entry>), ReadModelError> {
        let mut entries = Vec::with_capacity(usize::try_from(last - first + 1).unwrap_or(0));
        let (mut earliest, mut latest) = (i64::MAX, i64::MIN);
        let mut add = |position, timestamp: i64, hash| {
            entries.push(Entry { hash, position });
            earliest = earliest.min(timestamp);
            latest = latest.max(timestamp);
        };
        let mut next = first;
        while next <= last {
            match self.log.take_appended(next) {
                Ok(appended) => {
                    for (position, timestamp, object) in appended.iter() {
                        add(position, timestamp, entries::hash_of_object(object));
                    }
                    next = appended.next_position();
                }
                Err(later) => {
                    let to = last.min(next + STRIDE - 1).min(later.map_or(last, |later| later - 1));
                    self.log.objects(next..=to, |position, timestamp, object_type, object_id| {
                        add(position, timestamp, entries::hash(object_type, object_id));
                    })?;
                    next = to + 1;
                }
            }
        }
        // An append is taken as a whole.
        let last = next - 1;
        entries.sort_unstable();
        let last_record = self.log.record_at(last)?.ok_or_else(|| ReadModelError::Io {
            path: self.path.clone(),
            doing: "reading the event log",
            source: std::io::Error::other(format!("the event at position {last} is gone")),
        })?;
        Ok((
            Run { id: 0, first_position: first, last_position: last, earliest, latest, last_record },
            entries,
        ))
    }

    fn covered(&self) -> i64 {
        self.runs.last().map_or(0, |run| run.last_position)
    }

    /// The progress, if an update failed.
    fn progress(&self) -> Option<Progress> {
        self.log.last_position().ok().map(|last| Progress { covered: self.covered(), last })
    }

    /// Merges the last runs that are not full, if together they fill one or if they are too many.
    fn merge(&mut self) -> Result<(), ReadModelError> {
        let small = self.runs.iter().rev().take_while(|run| run.events() < FULL_RUN).count();
        let tail = self.runs.len() - small..self.runs.len();
        let events: i64 = self.runs[tail.clone()].iter().map(Run::events).sum();
        if small < 2 || (events < FULL_RUN && small <= SMALL_RUNS) {
            return Ok(());
        }
        let merged = &self.runs[tail.clone()];
        let mut entries = self.model.entries(merged)?;
        entries.sort_unstable();
        let last = merged[small - 1];
        let run = Run {
            first_position: merged[0].first_position,
            earliest: merged.iter().map(|run| run.earliest).min().unwrap_or(last.earliest),
            latest: merged.iter().map(|run| run.latest).max().unwrap_or(last.latest),
            ..last
        };
        self.replace(tail, Some((run, &entries)))
    }

    /// If another follower has changed the model, its runs are used instead.
    fn replace(
        &mut self,
        replaced: std::ops::Range<usize>,
        new: Option<(Run, &[Entry])>,
    ) -> Result<(), ReadModelError> {
        match self.model.replace(&self.runs, replaced, new)? {
            Some(runs) => {
                self.runs = runs;
                Ok(())
            }
            None => self.reload(),
        }
    }
}

/// Follows the log until `stop` is set. Logs a failure once and retries.
pub(super) fn follow(mut follower: Follower, stop: &AtomicBool, mut watch: impl FnMut(Progress)) {
    let mut failing = false;
    let (mut last, mut grew_at) = (0, Instant::now());
    while !stop.load(Ordering::SeqCst) {
        let pause = match follower.advance(grew_at.elapsed() >= IDLE) {
            Ok(progress) => {
                failing = false;
                if progress.last != last {
                    (last, grew_at) = (progress.last, Instant::now());
                }
                watch(progress);
                // Large runs cost less than many small ones that are merged.
                if progress.lag() >= FULL_RUN { Duration::ZERO } else { POLL }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "cannot update the read model; queries read the log instead; retrying every 30 s");
                }
                failing = true;
                follower.progress().into_iter().for_each(&mut watch);
                RETRY
            }
        };
        wait(pause, stop);
    }
}

/// Follows the log until `stop` is set. If the model could not be opened, retries that first; until then it covers nothing.
pub fn follow_when_open(
    opened: Result<Follower, Unopened>,
    path: &Path,
    stop: &AtomicBool,
    mut watch: impl FnMut(Progress),
) {
    let follower = match opened {
        Ok(follower) => Some(follower),
        Err(Unopened { log, error }) => {
            tracing::warn!(%error, "cannot open the read model; queries read the log instead; retrying");
            retry_open(*log, path, stop, &mut watch)
        }
    };
    if let Some(follower) = follower {
        follow(follower, stop, watch);
    }
}

/// `None` if `stop` was set.
fn retry_open(
    mut log: LogReader,
    path: &Path,
    stop: &AtomicBool,
    watch: &mut impl FnMut(Progress),
) -> Option<Follower> {
    let mut pause = POLL;
    while !stop.load(Ordering::SeqCst) {
        if let Ok(last) = log.last_position() {
            watch(Progress { covered: 0, last });
        }
        match Follower::open_or_keep(log, path) {
            Ok(follower) => {
                tracing::info!("opened the read model");
                return Some(follower);
            }
            Err(unopened) => {
                tracing::debug!(error = %unopened.error, "cannot open the read model yet");
                log = *unopened.log;
            }
        }
        wait(pause, stop);
        pause = RETRY.min(2 * pause);
    }
    None
}

fn wait(pause: Duration, stop: &AtomicBool) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !stop.load(Ordering::SeqCst) {
        thread::sleep(STOP_POLL);
    }
}
