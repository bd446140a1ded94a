//! Bringing the read model up to where the log is.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    ReadModelError,
    entries::{self, Entry},
    model::{ReadModel, Run},
};
use crate::LogReader;

/// While the log grows, fewer new events than this are left to the queries, which read them from the log.
const WORTH_A_RUN: i64 = 4096;
/// When the log has not grown for so long, the rest is added as well.
const IDLE: Duration = Duration::from_secs(5);
/// Events of a full run. Sorting one takes 4 MiB; ten million events are 39 of them, which a query asks one by one.
const FULL_RUN: i64 = 1 << 18;
/// Runs that are not full, at most, before they are merged.
const SMALL_RUNS: usize = 64;
/// Events read from the log in one transaction, so that the log's -wal file can be emptied in between.
const STRIDE: i64 = 16_384;
/// Between two looks at the log, and after a failure.
const LOOK: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_secs(30);
/// Until a stop is noticed.
const NOTICE: Duration = Duration::from_millis(20);

/// How far the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last position that the model covers.
    pub covered: i64,
    /// The last position of the log.
    pub last: i64,
}

impl Progress {
    /// Events that are in the log only.
    #[must_use]
    pub fn behind(&self) -> i64 {
        self.last - self.covered
    }
}

/// What brings the model up to date, run by run.
#[derive(Debug)]
pub struct Follower {
    log: LogReader,
    path: PathBuf,
    model: ReadModel,
    runs: Vec<Run>,
}

impl Follower {
    /// Opens the model of the log at `path`, or makes it, and takes out what is not of this log.
    ///
    /// To be called before the log's writer appends: a log that was put back to an older copy is told from a
    /// continued one by its length.
    pub fn open(log: LogReader, path: &Path) -> Result<Self, ReadModelError> {
        let model = ReadModel::open_or_make(path)?;
        let mut follower = Self { log, path: path.to_owned(), model, runs: Vec::new() };
        follower.reload().or_else(|error| follower.begin_again(error))?;
        Ok(follower)
    }

    /// With an empty model where the one that is there is damaged.
    fn begin_again(&mut self, error: ReadModelError) -> Result<(), ReadModelError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.model = ReadModel::make_again(&self.path, &error)?;
        self.runs.clear();
        Ok(())
    }

    /// Begins again with an empty model.
    pub fn rebuild(log: LogReader, path: &Path) -> Result<Self, ReadModelError> {
        let mut follower = Self::open(log, path)?;
        while !follower.runs.is_empty() {
            let all = 0..follower.runs.len();
            follower.replace(all, None)?;
        }
        Ok(follower)
    }

    /// What is there, less what is not of this log.
    fn reload(&mut self) -> Result<(), ReadModelError> {
        loop {
            self.runs = self.model.all_runs()?;
            let of_this_log = self.model.runs(&self.log)?.len();
            if of_this_log == self.runs.len() {
                return Ok(());
            }
            let (dropped, path) = (self.runs.len() - of_this_log, self.path.display());
            tracing::info!(%path, dropped, "the read model was ahead of the log, or of another; going back");
            if let Some(runs) = self.model.replace(&self.runs, of_this_log..self.runs.len(), None)? {
                self.runs = runs;
                return Ok(());
            }
        }
    }

    /// Adds one run of what is new in the log, if it is worth one, or whatever there is with `all`.
    pub fn advance(&mut self, all: bool) -> Result<Progress, ReadModelError> {
        if !self.model.is_in_place() {
            tracing::info!(path = %self.path.display(), "the read model was deleted or replaced; opening it again");
            self.runs.clear();
            self.model = self.model.open_again(&self.path)?;
            self.reload().or_else(|error| self.begin_again(error))?;
        }
        let last = self.log.last_position()?;
        let covered = self.runs.last().map_or(0, |run| run.last_position);
        let to = last.min(covered + FULL_RUN);
        if to - covered >= if all { 1 } else { WORTH_A_RUN } {
            let (run, entries) = self.read_run(covered + 1, to)?;
            let end = self.runs.len();
            let added = self.replace(end..end, Some((run, &entries))).and_then(|()| self.merge());
            added.or_else(|error| self.begin_again(error))?;
        }
        Ok(Progress { covered: self.runs.last().map_or(0, |run| run.last_position), last })
    }

    fn read_run(&self, first: i64, last: i64) -> Result<(Run, Vec<Entry>), ReadModelError> {
        let mut entries = Vec::with_capacity(usize::try_from(last - first + 1).unwrap_or(0));
        let (mut earliest, mut latest) = (i64::MAX, i64::MIN);
        let mut from = first;
        while from <= last {
            let to = last.min(from + STRIDE - 1);
            self.log.objects(from..=to, |position, timestamp, object_type, object_id| {
                entries.push(Entry { hash: entries::hash(object_type, object_id), position });
                earliest = earliest.min(timestamp);
                latest = latest.max(timestamp);
            })?;
            from = to + 1;
        }
        entries.sort_unstable();
        let mark = self.log.mark(last)?.ok_or_else(|| ReadModelError::Io {
            path: self.path.clone(),
            doing: "reading the event log",
            source: std::io::Error::other(format!("the event at position {last} is gone")),
        })?;
        Ok((Run { id: 0, first_position: first, last_position: last, earliest, latest, mark }, entries))
    }

    /// How far it is, where it can't go on.
    fn progress(&self) -> Option<Progress> {
        let covered = self.runs.last().map_or(0, |run| run.last_position);
        self.log.last_position().ok().map(|last| Progress { covered, last })
    }

    /// Makes one run of the last ones that are not full, when together they are, or when they are many.
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

    /// Where another follower was here, its work is taken over instead.
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

/// Follows the log until told to stop. What fails is said once, and tried again.
pub fn follow(mut follower: Follower, stop: &AtomicBool, mut watch: impl FnMut(Progress)) {
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
                if progress.behind() >= WORTH_A_RUN { Duration::ZERO } else { LOOK }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the read model falls behind; queries read the log instead");
                }
                failing = true;
                follower.progress().into_iter().for_each(&mut watch);
                RETRY
            }
        };
        wait(pause, stop);
    }
}

/// The same where it may be that the model could not be opened: then that is tried again, and all events are behind.
pub fn follow_when_open(
    opened: Result<Follower, ReadModelError>,
    path: &Path,
    stop: &AtomicBool,
    mut watch: impl FnMut(Progress),
) {
    let follower = match opened {
        Ok(follower) => Some(follower),
        Err(error) => {
            tracing::warn!(%error, "there is no read model; queries read the log instead, until it can be opened");
            await_model(path, stop, &mut watch)
        }
    };
    if let Some(follower) = follower {
        follow(follower, stop, watch);
    }
}

/// `None` where it was told to stop.
fn await_model(path: &Path, stop: &AtomicBool, watch: &mut impl FnMut(Progress)) -> Option<Follower> {
    let mut pause = LOOK;
    while !stop.load(Ordering::SeqCst) {
        let opened = LogReader::open(path).map_err(ReadModelError::from).and_then(|log| {
            watch(Progress { covered: 0, last: log.last_position()? });
            Follower::open(log, path)
        });
        match opened {
            Ok(follower) => {
                tracing::info!("the read model is open");
                return Some(follower);
            }
            Err(error) => tracing::debug!(%error, "the read model can't be opened yet"),
        }
        wait(pause, stop);
        pause = RETRY.min(2 * pause);
    }
    None
}

fn wait(pause: Duration, stop: &AtomicBool) {
    let until = Instant::now() + pause;
    while Instant::now() < until && !stop.load(Ordering::SeqCst) {
        thread::sleep(NOTICE);
    }
}
