//! The faults: which of them may happen in a state, and what each does.

use super::{
    state::{BOTH, GroupOffset, Process, State},
    steps::{Fault, Step},
    world::World,
};

impl World {
    pub fn fault_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let kafka = &state.kafka;
        let mut faults = Vec::new();
        for who in BOTH {
            let instance = &state.instances[who.index()];
            if let Process::Warming(_) = &instance.process {
                faults.push(Fault::Crash(who));
                faults.extend(instance.synced.map(|_| Fault::PowerLoss(who)));
            }
            let Process::Up(session) = &instance.process else {
                if instance.process == Process::Down && instance.copy != instance.log {
                    faults.push(Fault::Restore(who));
                }
                continue;
            };
            faults.extend([Fault::Crash(who), Fault::Stop(who)]);
            faults.extend(instance.synced.map(|_| Fault::PowerLoss(who)));
            if kafka.owner == Some(who) {
                faults.push(Fault::Evict(who));
                if !session.is_revoking && state.session(who.other()).is_some() {
                    faults.push(Fault::HandOver(who));
                }
            }
            if let Some(open) = kafka.transactions[who.index()].filter(|_| !session.is_in_doubt) {
                faults.extend([Fault::Abort(who), Fault::TimeOutEarly(who)]);
                if open.has_offset {
                    faults.extend([Fault::CommitUnnoticed(who), Fault::CommitLate(who)]);
                }
            }
        }
        for offset in 0..=kafka.end {
            if kafka.committed != Some(GroupOffset { offset, clock: None }) {
                faults.push(Fault::CommitAsOther(offset));
            }
        }
        faults.extend(kafka.committed.map(|_| Fault::ForgetOffset));
        let deletes = (kafka.start + 1..=kafka.end).filter(|start| self.may_delete(*start));
        faults.extend(deletes.map(Fault::Delete));
        faults.retain(|fault| (self.may_happen)(*fault));
        steps.extend(self.copying(state));
        steps.extend(faults.into_iter().map(Step::Fault));
    }

    /// Somebody may copy the log of the first instance; one that was never copied can be replaced by an empty one.
    fn copying(&self, state: &State) -> Option<Step> {
        let (who, instance) = (BOTH[0], &state.instances[0]);
        let differs = instance.log.is_known && instance.copy != instance.log;
        ((self.may_happen)(Fault::Restore(who)) && differs).then_some(Step::Copy(who))
    }

    /// Repetitions are recognized among the commands that the topic retains.
    fn may_delete(&self, start: u8) -> bool {
        let is_repeated = |old: u8| (start..self.commands.count()).any(|new| self.commands.repeats(old, new));
        !(0..start).any(is_repeated)
    }

    pub fn strike(&self, state: &mut State, fault: Fault) {
        state.faults -= 1;
        match fault {
            Fault::HandOver(who) => {
                state.running(who).is_revoking = true;
                state.next_generation(Some(who));
            }
            Fault::Evict(who) => state.remove_member(who),
            Fault::Crash(who) => state.crash(who, &self.rules),
            Fault::PowerLoss(who) => {
                state.crash(who, &self.rules);
                let instance = &mut state.instances[who.index()];
                instance.log = instance.synced.take().expect("a write that is not synced");
            }
            Fault::Stop(who) => state.stop(who, &self.rules),
            Fault::Restore(who) => {
                let instance = &mut state.instances[who.index()];
                (instance.log, instance.synced) = (instance.copy, None);
            }
            Fault::CommitUnnoticed(who) => {
                state.kafka.commit(who);
                state.doubt(who, &self.rules);
            }
            Fault::CommitLate(who) => {
                state.kafka.transactions[who.index()].as_mut().expect("an open transaction").is_late = true;
                state.doubt(who, &self.rules);
            }
            Fault::Abort(who) => {
                state.kafka.transactions[who.index()] = None;
                state.running(who).attempt = None;
            }
            Fault::TimeOutEarly(who) => state.kafka.transactions[who.index()] = None,
            Fault::CommitAsOther(offset) => {
                state.kafka.committed = Some(GroupOffset { offset, clock: None });
                state.is_disturbed = true;
            }
            Fault::ForgetOffset => {
                state.kafka.committed = None;
                state.is_disturbed = true;
            }
            Fault::Delete(start) => {
                state.kafka.start = start;
                state.is_disturbed |= start > state.kafka.published;
            }
        }
    }
}
