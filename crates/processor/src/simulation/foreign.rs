//! Offsets of the group that somebody else committed: another consumer that joined it, or a person. A process that gets such
//! a partition must stop, and continue in each way that the message offers.

use std::collections::BTreeMap;

use kafka::Polled;

use super::{disaster::FOREIGN, instance::files::CursorSeen, schedule::Schedule};
use crate::{pipeline::Stage, start::Accept};

/// Rounds within which another consumer must have got a partition.
const ROUNDS: u32 = 400;

impl Schedule {
    pub(super) fn move_offsets(&mut self, while_running: bool) -> Result<(), String> {
        let partitions = if while_running {
            self.admit_another_consumer()?
        } else {
            let in_order = self.rng.bool();
            self.end_all(in_order)?;
            let all = 0..self.partitions();
            let some: Vec<i32> = all.clone().filter(|_| self.rng.bool()).collect();
            if some.is_empty() { all.collect() } else { some }
        };
        let truth = self.commit_as_other(&partitions);
        if truth.is_empty() {
            return Ok(());
        }
        let visible = self.cluster.borrow().visible.len();
        let everybody: Vec<usize> = (0..self.instances.len()).collect();
        let number = self.expect_stop(&everybody, Accept::default(), &[FOREIGN])?;
        self.count(if while_running {
            "another consumer committed for the group"
        } else {
            "somebody set the group's offsets"
        });
        // A single process gets all partitions at once, so a refusal of one blocks all.
        if self.instances.len() == 1 && !while_running && self.cluster.borrow().visible.len() != visible {
            return Err("output was published before it stopped".into());
        }
        self.settle_foreign(number, &truth)
    }

    /// Another consumer than the processors joins the group until it gets partitions, and leaves. Returns those partitions.
    fn admit_another_consumer(&mut self) -> Result<Vec<i32>, String> {
        let other = self.cluster.borrow_mut().group.join();
        for round in 0..ROUNDS {
            for number in 0..self.instances.len() {
                self.restart(number)?;
                for stage in Stage::ALL {
                    self.step(number, stage)?;
                }
            }
            let mut cluster = self.cluster.borrow_mut();
            let cluster = &mut *cluster;
            cluster.group.progress(&mut cluster.rng);
            match cluster.group.poll(other) {
                Some(Polled::Assigned(partitions)) => {
                    cluster.note(|| format!("  another consumer is given {partitions:?}"));
                    cluster.group.leave(other);
                    return Ok(partitions);
                }
                Some(Polled::Revoked(partitions)) => cluster.group.release(other, &partitions),
                _ => {}
            }
            if round % 8 == 0 {
                cluster.group.call_to_join();
            }
        }
        Err("another consumer is never given a partition".into())
    }

    /// Commits other offsets than the group's. Returns the group's offsets of the changed partitions: a partition without
    /// another possible offset is left out.
    fn commit_as_other(&mut self, partitions: &[i32]) -> BTreeMap<i32, i64> {
        // A log that was stopped cleanly accepts the offset that it has seen, even if others have published more since.
        let cursors: Vec<CursorSeen> = self
            .instances
            .iter()
            .flat_map(|instance| instance.cursors())
            .filter(|cursor| cursor.clean)
            .collect();
        let mut truth = BTreeMap::new();
        for &partition in partitions {
            let mut cluster = self.cluster.borrow_mut();
            let committed = cluster.committed.get(&partition).copied();
            let vouched = |offset: &i64| {
                cursors.iter().any(|cursor| (cursor.partition, cursor.seen) == (partition, Some(*offset)))
            };
            let others: Vec<i64> = (0..=cluster.end(partition))
                .filter(|offset| Some(*offset) != committed && !vouched(offset))
                .collect();
            if let Some(&offset) = self.rng.choice(&others) {
                cluster.commit_as_other(partition, offset);
                truth.insert(partition, committed.unwrap_or(cluster.starts[&partition]));
            }
        }
        truth
    }

    /// The four ways out. None of several processes knows everything, so with several only the group's offset resolves it.
    fn settle_foreign(&mut self, number: usize, truth: &BTreeMap<i32, i64>) -> Result<(), String> {
        self.end_all(false)?;
        let choice = if self.instances.len() == 1 { self.rng.u32(0..4) } else { self.rng.u32(0..2) };
        let cursors: BTreeMap<i32, CursorSeen> =
            self.instances[number].cursors().into_iter().map(|cursor| (cursor.partition, cursor)).collect();
        let mut lost_commands = false;
        for (&partition, &published) in truth {
            let mut cluster = self.cluster.borrow_mut();
            let start = cluster.starts[&partition];
            let cursor = cursors.get(&partition);
            let seen = cursor.map_or(start, |cursor| cursor.seen.unwrap_or(0));
            let begins = match choice {
                0 => {
                    cluster.commit_as_other(partition, published);
                    published
                }
                1 => cluster.committed[&partition],
                2 => seen,
                _ => cursor.map_or(0, |cursor| cursor.logged).max(seen),
            };
            // Retention may have deleted commands, and then that is overruled too.
            lost_commands |= begins < start;
            self.allowed.twice.push((partition, begins..published));
            self.allowed.lost.push((partition, published..begins));
        }
        let accept = Accept {
            group_offset: choice < 2,
            republish: choice == 2,
            skip_unpublished: choice == 3,
            lost_commands,
        };
        self.count(
            [
                "the group's offsets were put back",
                "accepted: group-offset",
                "accepted: republish",
                "accepted: skip-unpublished",
            ][choice as usize],
        );
        self.continue_with(number, accept)
    }
}
