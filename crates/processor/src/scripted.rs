//! For tests of one stage: a source that gives what the test put in, and a log.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::Record;
use event_log::{EventLog, LogOptions, Synchronous};
use kafka::{
    Answer, Bounds, Ends, Polled, Source, SourceError,
    liveness::Probe,
    mark::{Committed, Marker, NextOffset, RulesHash},
};

use super::start::{Accept, Terms};

/// Answers as it is told to.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    pub polled: VecDeque<Polled>,
    /// Why the group's offsets can't be had; where there is no reason, they can.
    pub held_up: Option<String>,
    /// Partitions whose bounds nobody tells.
    pub leaderless: BTreeSet<i32>,
    /// What becomes of the first offsets, one answer after the other; then they are committed.
    pub commits: VecDeque<SourceError>,
    /// Where there is none, one of this program's.
    pub committed: Option<Committed>,
    pub member: bool,
    pub reach: Option<Probe>,
    pub asked: u32,
    pub ends: Option<Ends>,
    pub error: Option<String>,
}

/// Nothing is accepted.
pub(super) fn terms() -> Terms {
    Terms { accept: Accept::default(), marker: Marker { instance: uuid::Uuid::nil(), rules: RulesHash(7) } }
}

/// A new log of the topic `c`.
pub(super) fn log(folder: &Path) -> Arc<Mutex<EventLog>> {
    let log = EventLog::open(&LogOptions {
        path: folder.join("activity.db"),
        topic: "c".into(),
        synchronous: Synchronous::Normal,
        cache_bytes: 1 << 20,
        window_ms: 1,
        max_pages: None,
    });
    Arc::new(Mutex::new(log.unwrap()))
}

impl Source for Scripted {
    type Membership = u32;

    fn poll(&mut self, _: Duration) -> Result<Polled, SourceError> {
        Ok(self.polled.pop_front().unwrap_or(Polled::Nothing))
    }

    fn start(&mut self, _: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }

    fn halt(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }

    fn release(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }

    fn positions(&mut self) -> Result<Vec<(i32, i64)>, SourceError> {
        Ok(Vec::new())
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Committed>)>, SourceError> {
        let own = Some(Committed { offset: 0, mark: Some(terms().marker.mark(0)) });
        match &self.held_up {
            Some(reason) => Err(SourceError::Retriable(reason.clone())),
            None => Ok(partitions.iter().map(|&partition| (partition, self.committed.or(own))).collect()),
        }
    }

    fn commit_first(&mut self, _: &[NextOffset]) -> Result<(), SourceError> {
        self.commits.pop_front().map_or(Ok(()), Err)
    }

    fn bounds(&mut self, partition: i32) -> Result<Bounds, SourceError> {
        if self.leaderless.contains(&partition) {
            return Err(SourceError::Retriable("no leader".into()));
        }
        Ok(Bounds { start: 0, end: 0 })
    }

    fn ends(&mut self, _: &[i32]) -> Option<Ends> {
        self.ends.clone()
    }

    fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }

    fn records_at(&mut self, wanted: &[(i32, i64)]) -> Result<Vec<Answer<Option<Record>>>, SourceError> {
        Ok(vec![Ok(None); wanted.len()])
    }

    fn membership(&mut self) -> Option<u32> {
        self.member.then_some(1)
    }

    fn probe(&mut self, _: Instant) -> Option<Probe> {
        self.asked += 1;
        self.reach.clone()
    }
}
