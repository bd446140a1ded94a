//! What a process does with commands, and how it ends, as in `processor::pipeline` and its stages.

use super::{
    commands::{Commands, MOST, Outcome},
    rules::{Break, Rules},
    state::{Accepted, Chunk, Held, Membership, Process, Session, State, Transaction, Who},
};

impl State {
    /// The process becomes a member, and its new producer fences the one before.
    pub fn begin(&mut self, who: Who, accepts: Option<Accepted>) {
        self.kafka.transactions[who.index()] = None;
        self.instances[who.index()].process = Process::Up(Session::new(accepts));
        self.join(who);
    }

    /// Cuts a batch up to `next`.
    pub fn decide(&mut self, who: Who, next: u8) {
        let session = self.running(who);
        let held = session.held.as_mut().expect("it holds the partition");
        let first = std::mem::replace(&mut held.sent, next);
        let is_logged = first < held.logged;
        session.decided = Some(Chunk { first, next, is_logged, is_current: true, outcomes: [None; MOST] });
    }

    /// Whether the batch that was read may go through the log: its epoch has not ended.
    pub fn may_append(&self, who: Who, rules: &Rules) -> bool {
        let is_current = |chunk: Chunk| chunk.is_current || rules.broken == Some(Break::AppendAnyEpoch);
        self.session(who)
            .is_some_and(|session| session.held.is_some() && session.decided.is_some_and(is_current))
    }

    /// New commands are appended, with the cursor in the same transaction; for others, the log has the decisions.
    pub fn append(&mut self, who: Who, commands: &Commands, rules: &Rules) {
        let session = self.running(who);
        let chunk = session.decided.take().expect("a batch");
        let Held { published, .. } = session.held.expect("it holds the partition");
        self.write(who, |log| {
            let clean = log.clean;
            if !chunk.is_logged {
                log.append(commands, rules.settle, chunk.first, chunk.next);
            }
            let is_early = rules.broken == Some(Break::SeenEarly);
            log.raise_seen(if is_early { chunk.next } else { published });
            log.clean |= clean && rules.broken == Some(Break::CleanForEver);
        });
        let log = self.instances[who.index()].log;
        let mut outcomes = [None; MOST];
        for offset in chunk.first..chunk.next {
            outcomes[usize::from(offset)] = if chunk.is_logged && rules.broken == Some(Break::DecideAgain) {
                Some(log.decide(commands, rules.settle, offset))
            } else {
                log.outcome(offset)
            };
        }
        let (session, chunk) = (self.running(who), Chunk { outcomes, ..chunk });
        let place = if session.appended.is_none() { &mut session.appended } else { &mut session.queued };
        *place = Some(chunk);
    }

    /// The batch that is to be published.
    pub fn publishable(&self, who: Who, commands: &Commands, rules: &Rules) -> Option<Chunk> {
        let session = self.session(who)?;
        if session.appended.is_some() || rules.broken != Some(Break::PublishFirst) {
            return session.appended;
        }
        let mut chunk = session.decided.filter(|chunk| !chunk.is_logged)?;
        let mut log = self.instances[who.index()].log;
        log.append(commands, rules.settle, chunk.first, chunk.next);
        chunk.outcomes = log.outcomes;
        Some(chunk)
    }

    /// The partition, if the batch may still be published.
    fn held_for(&self, who: Who, chunk: &Chunk, rules: &Rules) -> Option<Held> {
        let is_current = chunk.is_current || rules.broken == Some(Break::PublishAnyEpoch);
        let session = self.session(who)?;
        // On purpose wrong: what is followed counts as held.
        let followed = session.followed.filter(|_| rules.broken == Some(Break::PublishFollowed));
        let as_held = |_| Held { logged: 0, published: 0, clock: 0, sent: 0, done: 0 };
        session.held.or(followed.map(as_held)).filter(|_| is_current)
    }

    /// The transaction that the batch needs; `None` if its epoch has ended, or all of it is published.
    pub fn transaction(
        &self,
        who: Who,
        chunk: &Chunk,
        commands: &Commands,
        rules: &Rules,
    ) -> Option<Transaction> {
        let held = self.held_for(who, chunk, rules)?;
        let is_published = |offset: u8| (rules.is_published)(offset.into(), held.published.into());
        let mut outputs = [None; MOST];
        for offset in (chunk.first..chunk.next).filter(|offset| !is_published(*offset)) {
            let outcome = chunk.outcomes[usize::from(offset)];
            outputs[usize::from(offset)] = outcome.filter(|outcome: &Outcome| outcome.has_output());
        }
        if (chunk.first..chunk.next).all(is_published) && chunk.next <= held.published {
            return None;
        }
        let clock = commands.clock(held.clock, chunk.first, chunk.next);
        let is_held = self.session(who)?.held.is_some();
        Some(Transaction { is_held, outputs, offset: chunk.next, clock, has_offset: false, is_late: false })
    }

    /// Begins a transaction and sends the output.
    pub fn send(&mut self, who: Who, commands: &Commands, rules: &Rules) {
        let chunk = self.publishable(who, commands, rules).expect("a batch");
        self.kafka.transactions[who.index()] = self.transaction(who, &chunk, commands, rules);
        let session = self.running(who);
        session.attempt = Some(session.membership);
    }

    /// Drops a batch of which nothing is to be published.
    pub fn pass(&mut self, who: Who, commands: &Commands) {
        let session = self.running(who);
        let chunk = session.appended.expect("a batch");
        session.finish();
        if let Some(held) = session.held.as_mut().filter(|_| chunk.is_current) {
            held.done = held.done.max(chunk.next);
            held.clock = commands.clock(held.clock, chunk.first, chunk.next);
        }
    }

    /// Adds the offset, which the broker accepts from a member of the present generation only.
    pub fn add_offset(&mut self, who: Who, commands: &Commands, rules: &Rules) {
        let chunk = self.publishable(who, commands, rules).expect("a batch");
        let still_holds = self.held_for(who, &chunk, rules).is_some();
        let session = self.running(who);
        let is_member =
            session.attempt == Some(Membership::Current) || rules.broken == Some(Break::AnyMembership);
        let transaction = &mut self.kafka.transactions[who.index()];
        match transaction {
            // Timed out: this producer is fenced.
            None => self.running(who).is_in_doubt = true,
            Some(open) if still_holds && is_member => open.has_offset = true,
            Some(_) => {
                *transaction = None;
                self.running(who).attempt = None;
            }
        }
    }

    /// Commits, and moves `published` if the epoch has not ended.
    pub fn commit(&mut self, who: Who, commands: &Commands, rules: &Rules) {
        let Some(Transaction { clock, .. }) = self.kafka.transactions[who.index()] else {
            self.running(who).is_in_doubt = true;
            return;
        };
        let chunk = self.publishable(who, commands, rules).expect("a batch");
        let may_move = self.held_for(who, &chunk, rules).is_some();
        self.kafka.commit(who);
        let session = self.running(who);
        session.finish();
        if let Some(held) = session.held.as_mut().filter(|_| may_move) {
            held.published = held.published.max(chunk.next);
            held.done = held.done.max(chunk.next);
            held.clock = clock;
        }
    }

    /// Gets no answer to a commit.
    pub fn doubt(&mut self, who: Who, rules: &Rules) {
        let session = self.running(who);
        if rules.broken == Some(Break::RetryUnknown) {
            session.attempt = None;
        } else {
            session.is_in_doubt = true;
        }
    }

    /// A new producer fences the old one, and everything restarts from the cursors.
    pub fn recover(&mut self, who: Who) {
        self.kafka.transactions[who.index()] = None;
        let session = self.running(who);
        (session.attempt, session.is_in_doubt) = (None, false);
        session.end_epoch();
    }

    /// Ends the epoch, records how far the output is published, and lets go of the partition.
    pub fn release(&mut self, who: Who) {
        let session = self.running(who);
        let held = session.held;
        session.end_epoch();
        (session.is_assigned, session.is_revoking) = (false, false);
        if let Some(held) = held {
            self.write(who, |log| log.raise_seen(held.published));
        }
        self.kafka.owner.take_if(|owner| *owner == who);
    }

    /// Leaves the group. The log records the stop as clean if everything was finished.
    pub fn stop(&mut self, who: Who, rules: &Rules) {
        let session = *self.running(who);
        self.release(who);
        let is_drained = session.is_drained();
        let is_recorded = is_drained || rules.broken == Some(Break::CleanInFlight);
        if let Some(held) = session.held.filter(|_| is_recorded) {
            self.write(who, |log| log.record_clean_stop(held.published, is_drained));
        }
        self.instances[who.index()].process = Process::Down;
        self.remove_member(who);
    }

    /// The process is killed; the group has not noticed yet.
    pub fn crash(&mut self, who: Who, rules: &Rules) {
        let last = self.session(who).and_then(|session| session.queued.or(session.appended));
        let last = last.filter(|chunk| !chunk.is_logged);
        let instance = &mut self.instances[who.index()];
        instance.process = Process::Down;
        match (rules.broken, last) {
            (Some(Break::CursorApart), Some(chunk)) => instance.log.logged = chunk.first,
            (Some(Break::ClaimsApart), Some(chunk)) => instance.log.drop_claims(chunk.first, chunk.next),
            _ => {}
        }
    }
}
