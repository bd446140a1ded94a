//! How a process publishes a batch, as in `processor::publish`: in one transaction, with the offsets of all its partitions
//! that are held.

use processor::{Contents, HeldPartition, HeldPartitions};

use super::{
    broker::{Part, Transaction},
    commands::{MOST, Outcome},
    following::Followed,
    rules::Break,
    starting::offset,
    state::{Batch, Chunk, MOST_PARTITIONS, Membership, Session, State, Who},
    world::World,
};

impl World {
    /// The batch that is to be published.
    pub fn publishable(&self, state: &State, who: Who) -> Batch {
        let Some(session) = state.session(who) else { return Batch::new() };
        if !session.appended.is_empty() || self.rules.broken != Some(Break::PublishFirst) {
            return session.appended.clone();
        }
        let undecided = session.decided.iter().filter(|chunk| !chunk.is_logged);
        let decided = |chunk: &Chunk| {
            let mut log = *state.log(who, chunk.partition);
            log.append(&self.commands, self.rules.settle, chunk.first, chunk.next);
            Chunk { outcomes: log.outcomes, ..*chunk }
        };
        undecided.map(decided).collect()
    }

    /// The partitions that the publisher holds. If the rule is broken, also such as it does not hold.
    fn held(&self, session: &Session, batch: &Batch) -> HeldPartitions {
        let mut held = session.held.clone();
        for chunk in batch {
            let (partition, epoch, first) = (chunk.partition.into(), chunk.epoch, chunk.first.into());
            let as_new = HeldPartition { epoch, published: first, done: first, clock: 0 };
            let known = held.get(&partition).copied();
            let has_others = session.held.keys().any(|held| *held != partition);
            let is_followed = session
                .follower
                .as_ref()
                .is_some_and(|follower| matches!(follower.followed(chunk.partition), Followed::Up { .. }));
            match (self.rules.broken, known) {
                (Some(Break::PublishAnyEpoch), Some(known)) => {
                    held.start(partition, HeldPartition { epoch, ..known });
                }
                (Some(Break::PublishAll), Some(known)) => {
                    held.start(partition, HeldPartition { published: 0, ..known });
                }
                (Some(Break::OutliveAssignment), None) if has_others => held.start(partition, as_new),
                (Some(Break::PublishFollowed), None) if is_followed => held.start(partition, as_new),
                _ => {}
            }
        }
        held
    }

    /// The transaction that the batch needs; `None` if its epochs have ended, or all of it is published.
    pub fn transaction(&self, state: &State, who: Who, batch: &Batch) -> Option<Transaction> {
        let session = state.session(who)?;
        let held = self.held(session, batch);
        let mut contents = Contents::default();
        let mut outputs = [[None; MOST]; MOST_PARTITIONS];
        for chunk in batch {
            let Some(held) = held.held_in(chunk.partition.into(), chunk.epoch) else { continue };
            for offset in chunk.first..chunk.next {
                if contents.pass(self.commands.coordinates(chunk.partition, offset), held) {
                    let outcome = chunk.outcomes[usize::from(offset)].filter(|outcome| outcome.has_output());
                    outputs[usize::from(chunk.partition)][usize::from(offset)] = outcome;
                }
            }
            contents.pass_end(chunk.partition.into(), chunk.next.into(), held);
        }
        let part = |(partition, outputs): (i32, [Option<Outcome>; MOST])| {
            let next_offset = *contents.offsets.get(&partition)?;
            Some(Part {
                is_held: session.held.contains_key(&partition),
                outputs,
                offset: offset(next_offset),
                clock: contents.clock(partition, &held[&partition]) as u8,
            })
        };
        let mut numbered = (0..).zip(outputs);
        let parts = std::array::from_fn(|_| numbered.next().and_then(part));
        let transaction = Transaction { parts, has_offsets: false, is_late: false };
        (!contents.offsets.is_empty()).then_some(transaction)
    }

    /// Begins a transaction and sends the output.
    pub fn send(&self, state: &mut State, who: Who) {
        let batch = self.publishable(state, who);
        state.kafka.client_mut(who).transaction = self.transaction(state, who, &batch);
        let session = state.running(who);
        session.attempt = Some(session.membership);
    }

    /// Adds the offsets, which the broker accepts from a member of the present generation only.
    pub fn add_offsets(&self, state: &mut State, who: Who) {
        let batch = self.publishable(state, who);
        let session = state.session(who).expect("it runs");
        let Some(open) = state.kafka.client(who).transaction else {
            // Fenced.
            state.running(who).is_in_doubt = true;
            return;
        };
        let is_in = |chunk: &&Chunk| open.parts[usize::from(chunk.partition)].is_some();
        let epochs = batch.iter().filter(is_in).map(|chunk| (chunk.partition.into(), chunk.epoch));
        let still_holds = self.held(session, &batch).are_held_in(epochs);
        let is_member =
            session.attempt == Some(Membership::Current) || self.rules.broken == Some(Break::AnyMembership);
        if still_holds && is_member {
            let open = &mut state.kafka.client_mut(who).transaction;
            open.as_mut().expect("found above").has_offsets = true;
        } else {
            state.kafka.abort(who);
            state.running(who).attempt = None;
        }
    }

    /// Commits, and moves the cursors of what is still held.
    pub fn commit(&self, state: &mut State, who: Who) {
        let batch = self.publishable(state, who);
        let Transaction { parts, .. } =
            state.kafka.client(who).transaction.expect("checked before this step");
        state.kafka.commit(who);
        let held = &mut state.running(who).held;
        for chunk in &batch {
            if let Some(part) = parts[usize::from(chunk.partition)] {
                let partition = chunk.partition.into();
                held.set_clock(partition, chunk.epoch, part.clock.into());
                held.set_published(partition, chunk.epoch, part.offset.min(chunk.next).into());
            }
        }
        self.pass(state, who, &batch);
    }

    /// Drops a batch of which nothing is to be published.
    pub fn drop_appended(&self, state: &mut State, who: Who) {
        let batch = self.publishable(state, who);
        self.pass(state, who, &batch);
    }

    /// The batch has been through all stages.
    fn pass(&self, state: &mut State, who: Who, batch: &Batch) {
        let session = state.running(who);
        for chunk in batch {
            let partition = chunk.partition.into();
            for offset in chunk.first..chunk.next {
                let clock = self.commands.timestamp(offset).into();
                session.held.set_clock(partition, chunk.epoch, clock);
            }
            session.held.set_done(partition, chunk.epoch, chunk.next.into());
        }
        session.finish();
    }

    /// Gets no answer to a commit.
    pub fn doubt(&self, state: &mut State, who: Who) {
        let session = state.running(who);
        if self.rules.broken == Some(Break::RetryUnknown) {
            session.attempt = None;
        } else {
            session.is_in_doubt = true;
        }
    }
}

impl State {
    /// A new producer fences the old one, and everything restarts from the cursors.
    pub fn recover(&mut self, who: Who) {
        self.kafka.abort(who);
        let session = self.running(who);
        (session.attempt, session.is_in_doubt) = (None, false);
        session.restart();
    }
}
