//! What a process does with commands, and how it ends, as in `processor::intake`, `append` and `pipeline`.

use processor::LogPartitions;

use super::{
    commands::MOST,
    following::Follower,
    rules::{Break, Rules},
    starting::{Accepted, offset},
    state::{Batch, CURRENT, Chunk, MOST_PARTITIONS, Partition, Process, Session, State, Who},
    world::World,
};

/// Where a batch ends, by partition, if it has commands of it.
pub type Ends = [Option<u8>; MOST_PARTITIONS];

impl World {
    /// The process becomes a member, and its new producer fences the one before.
    pub fn begin(&self, state: &mut State, who: Who, accepts: Option<Accepted>) {
        state.kafka.abort(who);
        let partitions = state.kafka.partitions.len();
        let mut session = Session::new(partitions, accepts);
        session.follower = (self.log_partitions == LogPartitions::All).then(|| Follower::new(partitions));
        state.instance_mut(who).process = Process::Up(session);
        state.join(who);
    }

    /// The batches that could be cut: of each partition no command, one, or all that are there.
    pub fn ends(state: &State, session: &Session) -> Vec<Ends> {
        let mut all = vec![Ends::default()];
        if !session.decided.is_empty() {
            return Vec::new();
        }
        for partition in session.assigned(|assignment| !assignment.is_revoking) {
            let (topic, place) = (state.kafka.partition(partition), usize::from(partition));
            let Some(running) = session.assignment(partition).running else { continue };
            if !(topic.start..topic.end).contains(&running.sent) {
                continue;
            }
            // A chunk ends at `logged`.
            let logged = if running.sent < running.logged { running.logged } else { topic.end };
            let (one, most) = (running.sent + 1, topic.end.min(logged));
            let mut longer = Vec::new();
            for end in [Some(one), (most > one).then_some(most)].into_iter().flatten() {
                longer.extend(all.iter().map(|ends| {
                    let mut ends = *ends;
                    ends[place] = Some(end);
                    ends
                }));
            }
            all.extend(longer);
        }
        all.retain(|ends| *ends != Ends::default());
        all
    }

    /// Whether the chunk may go through the log: its epoch has not ended.
    fn may_append(&self, session: &Session, chunk: &Chunk) -> bool {
        let partition = chunk.partition.into();
        let is_held_again =
            self.rules.broken == Some(Break::AppendAnyEpoch) && session.held.contains_key(&partition);
        session.held.held_in(partition, chunk.epoch).is_some() || is_held_again
    }

    /// Whether some of the batch that was read may go through the log.
    pub fn may_append_some(&self, session: &Session) -> bool {
        session.decided.iter().any(|chunk| self.may_append(session, chunk))
    }

    /// New commands are appended, with the cursors in the same transaction; for others, the log has the decisions.
    pub fn append(&self, state: &mut State, who: Who) {
        let (commands, Rules { settle, broken, .. }) = (&self.commands, self.rules);
        let mut batch = std::mem::take(&mut state.running(who).decided);
        let session = state.session(who).expect("it runs");
        batch.retain(|chunk| self.may_append(session, chunk));
        let published = session.held.published();
        state.write(who, |logs| {
            let clean: Vec<bool> = logs.iter().map(|log| log.clean).collect();
            for chunk in batch.iter().filter(|chunk| !chunk.is_logged) {
                let log = &mut logs[usize::from(chunk.partition)];
                log.append(commands, settle, chunk.first, chunk.next);
                if broken == Some(Break::SeenEarly) {
                    log.raise_seen(chunk.next);
                }
            }
            for (partition, published) in published {
                logs[partition as usize].raise_seen(offset(published));
            }
            for (log, clean) in logs.iter_mut().zip(clean) {
                log.clean |= clean && broken == Some(Break::CleanForEver);
            }
        });
        for chunk in &mut batch {
            let log = state.log(who, chunk.partition);
            for offset in chunk.first..chunk.next {
                let is_again = chunk.is_logged && broken == Some(Break::DecideAgain);
                let again = is_again.then(|| log.decide(commands, settle, offset));
                chunk.outcomes[usize::from(offset)] = again.or(log.outcome(offset));
            }
        }
        let session = state.running(who);
        let place = if session.appended.is_empty() { &mut session.appended } else { &mut session.queued };
        *place = batch;
    }

    /// The process is killed; the group has not noticed yet.
    pub fn crash(&self, state: &mut State, who: Who) {
        let last = state.session(who).map_or(Batch::new(), |session| {
            if session.queued.is_empty() { session.appended.clone() } else { session.queued.clone() }
        });
        let instance = state.instance_mut(who);
        instance.process = Process::Down;
        for chunk in last.into_iter().filter(|chunk| !chunk.is_logged) {
            let log = &mut instance.logs[usize::from(chunk.partition)];
            match self.rules.broken {
                Some(Break::CursorApart) => log.logged = chunk.first,
                Some(Break::ClaimsApart) => log.drop_claims(chunk.first, chunk.next),
                _ => {}
            }
        }
    }

    /// Leaves the group. The log records the stop as clean if everything was finished.
    pub fn stop(&self, state: &mut State, who: Who) {
        let session = state.session(who).expect("it runs").clone();
        let partitions: Vec<Partition> = state.partitions().collect();
        state.release(who, &partitions);
        // A session that is in doubt has not finished either.
        let is_drained = session.is_drained();
        if is_drained || self.rules.broken == Some(Break::CleanInFlight) {
            state.write(who, |logs| {
                for (partition, published) in session.held.published() {
                    logs[partition as usize].record_clean_stop(offset(published), is_drained);
                }
            });
        }
        state.instance_mut(who).process = Process::Down;
        state.remove_member(who);
    }
}

impl State {
    /// Cuts a batch.
    pub fn decide(&mut self, who: Who, ends: Ends) {
        let session = self.running(who);
        for (partition, end) in (0..).zip(ends) {
            let Some(next) = end else { continue };
            let running = session.assignment_mut(partition).running.as_mut().expect("it is read");
            let first = std::mem::replace(&mut running.sent, next);
            let is_logged = first < running.logged;
            let outcomes = [None; MOST];
            session.decided.push(Chunk { partition, epoch: CURRENT, first, next, is_logged, outcomes });
        }
    }

    /// Ends the epochs, records how far the output is published, and lets go of the partitions.
    pub fn release(&mut self, who: Who, partitions: &[Partition]) {
        let numbers: Vec<i32> = partitions.iter().copied().map(i32::from).collect();
        let session = self.running(who);
        let published = session.held.published();
        session.held.release(&numbers);
        session.rename_epochs();
        for partition in partitions {
            session.assignment_mut(*partition).release();
        }
        if let Some(follower) = &mut session.follower {
            follower.shares.give(&numbers);
            follower.act();
        }
        self.write(who, |logs| {
            for (partition, published) in published.into_iter().filter(|(number, _)| numbers.contains(number))
            {
                logs[partition as usize].raise_seen(offset(published));
            }
        });
        for partition in partitions {
            self.kafka.partition_mut(*partition).owner.take_if(|owner| *owner == who);
        }
    }
}
