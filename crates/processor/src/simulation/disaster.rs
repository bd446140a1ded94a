//! Disasters from which the processor can't recover on its own: it must stop with its message, publish nothing twice, and
//! continue in each way that the message offers.

use std::collections::BTreeMap;

use super::{instance::files::CursorSeen, model::check_outputs, schedule::Schedule};
use crate::{pipeline::Stage, start::Accept};

/// Rounds within which a process must have stopped.
const ROUNDS: u32 = 400;

/// Something that only a person can resolve. At most one in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disaster {
    /// The brokers lose the group's offsets while no process runs, or somebody moves them back.
    OffsetsForgotten { after_clean_stop: bool, lower: bool },
    /// Another consumer joins the group and commits for it, or somebody sets its offsets while no process runs.
    ForeignOffsets { while_running: bool },
    /// Retention deletes undecided commands.
    CommandsLost,
    /// The commands topic is created again, shorter or longer.
    TopicMadeAgain,
    /// A second process runs on a copy of a log and of the files beside it.
    Copied,
}

const OFFSETS: &str = "the group's committed offset is";
pub(super) const FOREIGN: &str = "was not committed by this program";
const LOST: &str = "commands were deleted before they were decided";
const OTHER_TOPIC: [&str; 2] = ["not the topic that the log was made from", "beyond the topic's end"];
const FENCED: &str = "fenced twice by a newer producer";

const ALL: Accept =
    Accept { lost_commands: true, republish: true, skip_unpublished: true, group_offset: true };

impl Disaster {
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(0..6) {
            0 => Self::OffsetsForgotten { after_clean_stop: true, lower: rng.bool() },
            1 | 2 => Self::OffsetsForgotten { after_clean_stop: false, lower: rng.bool() },
            3 => Self::CommandsLost,
            4 => Self::TopicMadeAgain,
            _ => Self::Copied,
        }
    }
}

impl Schedule {
    pub fn strike(&mut self, disaster: Disaster) -> Result<(), String> {
        self.note(|| format!("disaster: {disaster:?}"));
        let faults = self.cluster.borrow().faults;
        self.cease();
        match disaster {
            Disaster::OffsetsForgotten { after_clean_stop, lower } => {
                self.forget_offsets(after_clean_stop, lower)?;
            }
            Disaster::ForeignOffsets { while_running } => self.move_offsets(while_running)?,
            Disaster::CommandsLost => self.lose_commands()?,
            Disaster::TopicMadeAgain => self.make_topic_again()?,
            Disaster::Copied => self.run_a_copy()?,
        }
        self.cluster.borrow_mut().faults = faults;
        Ok(())
    }

    pub(super) fn count(&self, what: &'static str) {
        self.cluster.borrow_mut().count(what);
    }

    /// Ends all processes, and lets the group and the broker notice.
    pub(super) fn end_all(&mut self, in_order: bool) -> Result<(), String> {
        for number in 0..self.instances.len() {
            if in_order {
                self.instances[number].ask_to_stop(true);
                for stage in Stage::ALL.repeat(40) {
                    self.step(number, stage)?;
                }
            }
            self.instances[number].crash();
        }
        self.cease();
        Ok(())
    }

    /// Starts these processes, and runs until one of them stops; its message must be one of these.
    pub(super) fn expect_stop(
        &mut self,
        who: &[usize],
        accept: Accept,
        says: &[&str],
    ) -> Result<usize, String> {
        for round in 0..ROUNDS {
            for &number in who {
                if !self.instances[number].is_running() {
                    self.instances[number].accept = accept;
                    self.restart(number)?;
                }
                for stage in Stage::ALL {
                    self.attempt(number, stage)?;
                    let Some(error) = self.instances[number].stopped.take() else { continue };
                    return if says.iter().any(|says| error.contains(says)) {
                        Ok(number)
                    } else {
                        Err(format!("i{number} stopped with another message than {says:?}: {error}"))
                    };
                }
            }
            // Neither because nobody has work, nor because the group assigns everything to one process.
            if round % 8 == 0 {
                if accept == Accept::default() && says == [FENCED] {
                    self.produce();
                }
                self.cluster.borrow_mut().group.call_to_join();
            }
        }
        Err(format!("nobody stopped with {says:?}"))
    }

    /// One process alone, started with what a person accepted, brings everything to rest. Then the others may start.
    pub(super) fn continue_with(&mut self, number: usize, accept: Accept) -> Result<(), String> {
        self.end_all(false)?;
        self.note(|| format!("i{number} continues with {accept:?}"));
        self.instances[number].accept = accept;
        self.restart(number)?;
        self.settle(number)
    }

    fn forget_offsets(&mut self, after_clean_stop: bool, lower: bool) -> Result<(), String> {
        // A log does not know what other processes have published since: see the limits in docs/guarantees.md.
        let after_clean_stop = after_clean_stop && self.instances.len() == 1;
        self.end_all(after_clean_stop)?;
        let truth = self.cluster.borrow().committed.clone();
        let logs: Vec<Vec<CursorSeen>> = self.instances.iter().map(|instance| instance.cursors()).collect();
        // A log that has followed a partition, and nothing of it was published then, knows no more than a new one.
        let knows = |log: &Vec<CursorSeen>| {
            truth.keys().all(|of| log.iter().any(|cursor| cursor.partition == *of && cursor.seen.is_some()))
        };
        let stale =
            |cursor: &&CursorSeen| cursor.clean && cursor.seen != truth.get(&cursor.partition).copied();
        if truth.is_empty() || !logs.iter().all(knows) || logs.iter().flatten().any(|cursor| stale(&cursor)) {
            if self.instances.len() == 1 && !self.kinds.power_loss && logs.iter().flatten().any(|c| stale(&c))
            {
                return Err(format!("marked clean: {logs:?}, committed: {truth:?}"));
            }
            return Ok(());
        }
        let forgotten = if lower { self.set_back(&truth, &logs) } else { BTreeMap::new() };
        self.note(|| format!("the group's offsets were {truth:?} and are {forgotten:?}"));
        // A log without a clean stop has seen offsets published that contradict the group's.
        let disagrees = |cursor: &CursorSeen| {
            let committed = forgotten.get(&cursor.partition);
            !cursor.clean
                && truth.contains_key(&cursor.partition)
                && committed.is_none_or(|&committed| committed < cursor.seen.unwrap_or(0))
        };
        let stops = logs.iter().all(|log| log.iter().any(disagrees));
        let is_known = logs
            .iter()
            .flatten()
            .all(|cursor| cursor.clean || forgotten.get(&cursor.partition) == truth.get(&cursor.partition));
        self.cluster.borrow_mut().committed = forgotten.clone();
        if is_known && !stops {
            self.count("offsets were forgotten after a clean stop");
            return self.continue_with(0, Accept::default());
        }
        if !stops {
            self.cluster.borrow_mut().committed = truth;
            return Ok(());
        }
        let visible = self.cluster.borrow().visible.len();
        let everybody: Vec<usize> = (0..self.instances.len()).collect();
        let number = self.expect_stop(&everybody, Accept::default(), &[OFFSETS])?;
        self.count("offsets were forgotten after a kill");
        if self.cluster.borrow().visible.len() != visible && self.instances.len() == 1 {
            return Err("output was published before it stopped".into());
        }
        let doubtful = logs[0].iter().copied().filter(disagrees).collect();
        self.settle_offsets(number, &truth, doubtful)
    }

    /// Lower offsets than the logs have seen, if they have seen any.
    fn set_back(&mut self, truth: &BTreeMap<i32, i64>, logs: &[Vec<CursorSeen>]) -> BTreeMap<i32, i64> {
        let mut lower = truth.clone();
        for (partition, offset) in &mut lower {
            let cursors = logs.iter().flatten().filter(|cursor| cursor.partition == *partition);
            if let Some(seen) = cursors.filter_map(|cursor| cursor.seen).min().filter(|&seen| seen > 0) {
                *offset = self.rng.i64(0..seen);
            }
        }
        lower
    }

    /// The three ways out. None of several processes knows everything, so with several the offsets are restored.
    fn settle_offsets(
        &mut self,
        number: usize,
        truth: &BTreeMap<i32, i64>,
        doubtful: Vec<CursorSeen>,
    ) -> Result<(), String> {
        let choice = if self.instances.len() == 1 { self.rng.u32(0..3) } else { 0 };
        if choice == 0 {
            self.end_all(false)?;
            for (&partition, &offset) in truth {
                let mut cluster = self.cluster.borrow_mut();
                // More may have been published in partitions that were not affected.
                if cluster.committed.get(&partition).is_none_or(|&now| now < offset) {
                    cluster.commit_as_other(partition, offset);
                }
            }
            self.count("the group's offsets were put back");
            return self.continue_with(number, Accept { group_offset: true, ..Accept::default() });
        }
        let mut lost_commands = false;
        for CursorSeen { partition, logged, seen, .. } in doubtful {
            let (published, seen) = (truth[&partition], seen.unwrap_or(0));
            let begins = if choice == 1 { seen } else { logged.max(seen) };
            self.allowed.twice.push((partition, begins..published));
            self.allowed.lost.push((partition, published..begins));
            // Retention may have deleted commands, and then that is overruled too.
            lost_commands |= begins < self.cluster.borrow().starts[&partition];
        }
        let (republish, skip_unpublished) = (choice == 1, choice == 2);
        self.count(if republish { "accepted: republish" } else { "accepted: skip-unpublished" });
        self.continue_with(number, Accept { republish, skip_unpublished, lost_commands, group_offset: false })
    }

    fn lose_commands(&mut self) -> Result<(), String> {
        let in_order = self.rng.bool();
        self.end_all(in_order)?;
        let partition = self.rng.i32(0..self.partitions());
        self.produce_to(partition);
        let (committed, before, end) = {
            let cluster = self.cluster.borrow();
            (cluster.committed.get(&partition).copied(), cluster.starts[&partition], cluster.end(partition))
        };
        // Without any earlier process, the beginning is the topic's start.
        let Some(committed) = committed else { return Ok(()) };
        let start = self.rng.i64(committed + 1..=end);
        self.note(|| format!("partition {partition} begins at {start}, and {committed} is not published"));
        self.cluster.borrow_mut().starts.insert(partition, start);
        let everybody: Vec<usize> = (0..self.instances.len()).collect();
        let number = self.expect_stop(&everybody, Accept::default(), &[LOST])?;
        self.count("undecided commands were deleted");
        if self.rng.bool() {
            self.end_all(false)?;
            self.cluster.borrow_mut().starts.insert(partition, before);
            return self.continue_with(number, Accept::default());
        }
        self.allowed.lost.push((partition, committed..start));
        self.allowed.gaps = true;
        self.count("accepted: lost-commands");
        self.continue_with(number, Accept { lost_commands: true, ..Accept::default() })
    }

    fn make_topic_again(&mut self) -> Result<(), String> {
        self.end_all(self.kinds.stop)?;
        let partitions = self.partitions() as usize;
        let mut knowing = Vec::new();
        for (number, instance) in self.instances.iter().enumerate() {
            let anchored = instance.cursors().iter().filter(|cursor| cursor.anchored).count();
            if anchored == partitions {
                knowing.push(number);
            }
        }
        if knowing.is_empty() {
            return Ok(());
        }
        // Nothing more can come from the old topic. Its unpublished output is lost with it; nothing was published twice.
        self.allowed.lost.extend((0..partitions as i32).map(|partition| (partition, 0..i64::MAX)));
        check_outputs(&self.cluster.borrow(), &self.commands, &self.allowed)?;
        self.allowed.lost.clear();
        self.commands.clear();
        let keeps_offsets = self.rng.bool();
        let ends: Vec<i64> = (0..partitions as i32).map(|p| self.cluster.borrow().end(p)).collect();
        let mut cluster = self.cluster.borrow_mut();
        cluster.visible.clear();
        cluster.replies.visible.clear();
        cluster.make_topic_again();
        if !keeps_offsets {
            cluster.committed.clear();
        }
        drop(cluster);
        let longer = self.rng.bool();
        for (partition, end) in (0..).zip(ends) {
            self.produce_to(partition);
            while longer && self.cluster.borrow().end(partition) <= end {
                self.produce_to(partition);
            }
        }
        let accept = if self.rng.bool() { ALL } else { Accept::default() };
        self.expect_stop(&knowing, accept, &OTHER_TOPIC)?;
        self.count(if longer {
            "the topic was created again, longer"
        } else {
            "the topic was created again"
        });
        if !self.cluster.borrow().visible.is_empty() {
            return Err("output of the new topic was published before it stopped".into());
        }
        // New files and a new group.
        for instance in &mut self.instances {
            instance.lose_tail(None, true);
            instance.forget_backups();
        }
        self.cluster.borrow_mut().committed.clear();
        self.cease();
        Ok(())
    }

    fn run_a_copy(&mut self) -> Result<(), String> {
        let original = self.rng.usize(0..self.instances.len());
        // The others would only hold partitions in the meantime.
        for (number, instance) in self.instances.iter_mut().enumerate() {
            if number != original {
                instance.crash();
            }
        }
        self.cease();
        self.restart(original)?;
        self.note(|| format!("a copy of i{original} is made and started"));
        let copy = self.instances[original].copied("copy".into(), self.directory.path());
        self.instances.push(copy);
        let both = [original, self.instances.len() - 1];
        let stopped = self.expect_stop(&both, Accept::default(), &[FENCED])?;
        self.count("a copy of a log ran beside the original");
        if self.rng.bool() {
            self.instances[stopped].forget_identity();
        } else {
            self.instances[stopped].retired = true;
        }
        Ok(())
    }
}
