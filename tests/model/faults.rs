//! The faults: which of them may happen in a state, and what each does.

use super::{
    broker::GroupOffset,
    rules::Break,
    state::{Logs, Partition, Process, State, Who},
    steps::{Fault, Step},
    world::World,
};

impl World {
    pub fn fault_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let mut faults = Vec::new();
        state.everybody().for_each(|who| self.faults_of(state, who, &mut faults));
        state.partitions().for_each(|partition| self.faults_of_partition(state, partition, &mut faults));
        faults.retain(|fault| (self.may_happen)(*fault));
        steps.extend(self.copying(state));
        steps.extend(faults.into_iter().map(Step::Fault));
    }

    fn faults_of(&self, state: &State, who: Who, faults: &mut Vec<Fault>) {
        let instance = state.instance(who);
        let kill = (!self.times_out).then_some(Fault::Kill(who));
        match &instance.process {
            Process::Down => {
                let differs = |of: &Who| self.restored(state, who, *of) != instance.logs;
                faults.extend(state.everybody().filter(differs).map(|of| Fault::Restore(who, of)));
            }
            Process::Gone | Process::Refused => {}
            Process::Warming(_) => {
                faults.push(Fault::Crash(who));
                faults.extend(kill);
                faults.extend(instance.synced.as_ref().map(|_| Fault::PowerLoss(who)));
            }
            Process::Up(session) => {
                faults.extend([Fault::Crash(who), Fault::Stop(who)]);
                faults.extend(kill);
                faults.extend(instance.synced.as_ref().map(|_| Fault::PowerLoss(who)));
                if state.kafka.partitions.iter().any(|topic| topic.owner == Some(who)) {
                    faults.push(Fault::Evict(who));
                }
                let has_others = state.others(who).any(|other| state.session(other).is_some());
                let owned = |partition: &Partition| state.kafka.partition(*partition).owner == Some(who);
                let stays = |partition: &Partition| !session.assignment(*partition).is_revoking;
                let moved =
                    state.partitions().filter(|partition| has_others && owned(partition) && stays(partition));
                faults.extend(moved.map(|partition| Fault::HandOver(who, partition)));
                if session.is_in_doubt {
                    return;
                }
                if let Some(open) = state.kafka.client(who).transaction {
                    // Fenced with nothing open, it would notice as soon as it has something open, which is the same.
                    faults.extend([Fault::Abort(who), Fault::Fence(who)]);
                    if open.has_offsets {
                        faults.extend([Fault::CommitUnnoticed(who), Fault::CommitLate(who)]);
                    }
                }
            }
        }
    }

    fn faults_of_partition(&self, state: &State, partition: Partition, faults: &mut Vec<Fault>) {
        let topic = state.kafka.partition(partition);
        for offset in 0..=topic.end {
            if topic.committed != Some(GroupOffset { offset, mark: None }) {
                faults.push(Fault::CommitAsOther(partition, offset));
            }
        }
        faults.extend(topic.committed.map(|_| Fault::ForgetOffset(partition)));
        let deletes = (topic.start + 1..=topic.end).filter(|start| self.may_delete(*start));
        faults.extend(deletes.map(|start| Fault::Delete(partition, start)));
    }

    /// Somebody may copy the log of the first instance; one that was never copied can be replaced by an empty one.
    fn copying(&self, state: &State) -> Option<Step> {
        let who = Who(0);
        let instance = state.instance(who);
        let may_restore = state.everybody().any(|other| (self.may_happen)(Fault::Restore(other, who)));
        let differs = instance.logs.iter().any(|log| log.is_known) && instance.copy != instance.logs;
        (may_restore && differs).then_some(Step::Copy(who))
    }

    /// The copy of an instance's log, as another instance finds it, which has its own id: the clean stop was not its own.
    fn restored(&self, state: &State, who: Who, of: Who) -> Logs {
        let mut logs = state.instance(of).copy.clone();
        if who != of {
            for log in &mut logs {
                log.clean &= self.rules.broken == Some(Break::CleanTravels);
                log.is_stopped = false;
            }
        }
        logs
    }

    /// Repetitions are recognized among the commands that the topic retains.
    fn may_delete(&self, start: u8) -> bool {
        let is_repeated = |old: u8| (start..self.commands.count()).any(|new| self.commands.repeats(old, new));
        !(0..start).any(is_repeated)
    }

    pub fn strike(&self, state: &mut State, fault: Fault) {
        state.faults -= 1;
        match fault {
            Fault::HandOver(who, partition) => {
                state.running(who).assignment_mut(partition).is_revoking = true;
                state.next_generation(Some(who));
            }
            Fault::Evict(who) => state.remove_member(who),
            Fault::Crash(who) => self.crash(state, who),
            Fault::Kill(who) => {
                self.crash(state, who);
                state.instance_mut(who).process = Process::Gone;
            }
            Fault::PowerLoss(who) => {
                self.crash(state, who);
                let instance = state.instance_mut(who);
                instance.logs = instance.synced.take().expect("a write that is not synced");
            }
            Fault::Stop(who) => self.stop(state, who),
            Fault::Restore(who, of) => {
                let logs = self.restored(state, who, of);
                let instance = state.instance_mut(who);
                (instance.logs, instance.synced) = (logs, None);
            }
            Fault::CommitUnnoticed(who) => {
                state.kafka.commit(who);
                self.doubt(state, who);
            }
            Fault::CommitLate(who) => {
                let open = &mut state.kafka.client_mut(who).transaction;
                open.as_mut().expect("an open transaction").is_late = true;
                self.doubt(state, who);
            }
            Fault::Abort(who) => {
                state.kafka.abort(who);
                state.running(who).attempt = None;
            }
            Fault::Fence(who) => state.kafka.abort(who),
            Fault::CommitAsOther(partition, offset) => {
                state.kafka.partition_mut(partition).committed = Some(GroupOffset { offset, mark: None });
                state.is_disturbed = true;
            }
            Fault::ForgetOffset(partition) => {
                state.kafka.partition_mut(partition).committed = None;
                state.is_disturbed = true;
            }
            Fault::Delete(partition, start) => {
                let topic = state.kafka.partition_mut(partition);
                topic.start = start;
                state.is_disturbed |= start > topic.published;
            }
        }
    }
}
