//! The partitions that the group assigned to this instance, and their states.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::gather::Running;
use crate::start::Accept;

/// Revoked partitions, and until when they may drain. Their gathered records are dropped, so no batch may be cut for them:
/// it would skip the dropped records.
#[derive(Debug)]
pub(super) struct Revoking {
    pub partitions: Vec<i32>,
    pub deadline: Instant,
}

/// Partitions that cannot start yet, because some of their facts are unknown.
#[derive(Debug)]
pub(super) struct Delayed {
    /// The reasons, by partition.
    pub unknown: BTreeMap<i32, String>,
    pub since: Instant,
    pub logged_at: Instant,
    pub retry_at: Instant,
    /// Attempts since something changed.
    pub failed: u32,
}

#[derive(Debug, Default)]
pub(super) struct Assignments {
    /// By partition; `None` until it starts.
    partitions: BTreeMap<i32, Option<Running>>,
    /// The group has assigned partitions, be it none.
    pub were_given: bool,
    /// Until they are drained.
    pub revoking: Option<Revoking>,
    pub delayed: Option<Delayed>,
    /// The losses accepted for partitions that have not started yet, as the log records them: the flags, and the offset that
    /// counts as published. That offset may be committed already, and then no stop asks about it again.
    pub accepted: BTreeMap<i32, (String, i64)>,
    /// For these, no further loss is accepted: the operator accepted it for the state at the start.
    started_once: BTreeSet<i32>,
}

impl Assignments {
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    pub fn contains(&self, partition: i32) -> bool {
        self.partitions.contains_key(&partition)
    }

    pub fn all(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// Those that have not started.
    pub fn waiting(&self) -> Vec<i32> {
        let waiting = self.partitions.iter().filter(|(_, running)| running.is_none());
        waiting.map(|(&partition, _)| partition).collect()
    }

    pub fn running(&self, partition: i32) -> Option<&Running> {
        self.partitions.get(&partition)?.as_ref()
    }

    pub fn running_mut(&mut self, partition: i32) -> Option<&mut Running> {
        self.partitions.get_mut(&partition)?.as_mut()
    }

    pub fn all_running(&self) -> Vec<i32> {
        self.all().into_iter().filter(|&partition| self.running(partition).is_some()).collect()
    }

    /// The partitions for which a batch may be cut.
    pub fn cuttable(&mut self) -> impl Iterator<Item = (i32, &mut Running)> {
        let Self { partitions, revoking, .. } = self;
        let running =
            partitions.iter_mut().filter_map(|(&partition, running)| Some((partition, running.as_mut()?)));
        // The records of a revoked partition were dropped, so its position must not be used.
        running.filter(|(partition, _)| !is_revoking(revoking.as_ref(), *partition))
    }

    pub fn is_revoking(&self, partition: i32) -> bool {
        is_revoking(self.revoking.as_ref(), partition)
    }

    pub fn assign(&mut self, partitions: Vec<i32>) {
        self.partitions.extend(partitions.into_iter().map(|partition| (partition, None)));
        self.were_given = true;
        self.retry_now();
    }

    pub fn start(&mut self, partition: i32, running: Running) {
        self.accepted.remove(&partition);
        self.started_once.insert(partition);
        self.partitions.insert(partition, Some(running));
    }

    /// The partition stays assigned.
    pub fn halt(&mut self, partition: i32) {
        self.partitions.insert(partition, None);
    }

    pub fn remove(&mut self, partitions: &[i32]) {
        // Lost while it drained: if it still counted as revoked, its next assignment would be released again.
        if let Some(revoking) = &mut self.revoking {
            revoking.partitions.retain(|partition| !partitions.contains(partition));
        }
        self.revoking.take_if(|revoking| revoking.partitions.is_empty());
        self.partitions.retain(|partition, _| !partitions.contains(partition));
    }

    /// The operator's acceptance applies to the first time that the partition is held.
    pub fn accept(&self, partition: i32, accept: Accept) -> Accept {
        if self.started_once.contains(&partition) { Accept::default() } else { accept }
    }

    /// Something changed, so the next attempt to start partitions need not wait.
    pub fn retry_now(&mut self) {
        if let Some(delayed) = &mut self.delayed {
            (delayed.retry_at, delayed.failed) = (Instant::now(), 0);
        }
    }
}

fn is_revoking(revoking: Option<&Revoking>, partition: i32) -> bool {
    revoking.is_some_and(|revoking| revoking.partitions.contains(&partition))
}
