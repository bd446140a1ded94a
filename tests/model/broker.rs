//! What Kafka does: the group's generations, and transactions with an offset of the group.

use super::state::{BOTH, GroupOffset, Kafka, Membership, Process, State, Who};

impl State {
    /// The next generation begins: every membership that a process knows is old, except that of `knows`.
    pub fn next_generation(&mut self, knows: Option<Who>) {
        for who in BOTH {
            let Process::Up(session) = &mut self.instances[who.index()].process else { continue };
            session.membership = if knows == Some(who) { Membership::Current } else { Membership::Old };
            session.attempt = session.attempt.map(|_| Membership::Old);
        }
    }

    /// A process becomes a member, and knows it.
    pub fn join(&mut self, who: Who) {
        self.kafka.counted[who.index()] = true;
        self.next_generation(Some(who));
    }

    /// The coordinator counts the process as a member no more.
    pub fn remove_member(&mut self, who: Who) {
        self.kafka.counted[who.index()] = false;
        self.kafka.owner.take_if(|owner| *owner == who);
        self.next_generation(None);
    }
}

impl Kafka {
    /// Whether an open transaction may move the group's offset, so that the coordinator returns none.
    pub fn is_offset_unstable(&self) -> bool {
        self.transactions.iter().flatten().any(|transaction| transaction.has_offset)
    }

    /// The group's offset, if the program committed it.
    pub fn marked(&self) -> Option<u8> {
        self.committed.filter(|found| found.clock.is_some()).map(|found| found.offset)
    }

    /// Output and offset become visible at once.
    pub fn commit(&mut self, who: Who) {
        let transaction = self.transactions[who.index()].take().expect("an open transaction");
        for (visible, outcome) in self.visible.iter_mut().zip(transaction.outputs) {
            if outcome.is_some() {
                visible.times += 1;
                visible.outcome = outcome;
            }
        }
        self.published = self.published.max(transaction.offset);
        self.committed = Some(GroupOffset { offset: transaction.offset, clock: Some(transaction.clock) });
    }
}
