//! One session of an instance: the processor's own stages, with queues between them, one step at a time.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use contract::{Decider, Decision, Reading};

use super::{
    Mutation,
    clients::{SimulatedSink, SimulatedSource},
    group::Membership,
};
use crate::{
    ProcessorError,
    append::Append,
    batch::{Chunk, Fetched, Outcome, Read},
    decide::decide,
    intake::Intake,
    ownership::Ownership,
    publish::{Place, Progress, Publish},
};

/// From joining the group to leaving it.
pub struct Session {
    pub client: u32,
    pub ownership: Arc<Ownership<Membership>>,
    pub intake: Intake<SimulatedSource>,
    pub append: Append<Membership>,
    pub publish: Publish<SimulatedSink>,
    pub fetched: VecDeque<Vec<Chunk<Fetched>>>,
    pub read: VecDeque<Vec<Chunk<Read>>>,
    pub settled: VecDeque<Vec<Chunk<Vec<Outcome>>>>,
    pub place: Place,
    /// Published before they were appended, which is a fault.
    pub late: VecDeque<Vec<Chunk<Read>>>,
    pub capacity: usize,
    pub stopping: bool,
    /// It stops without waiting for what is in flight.
    pub hurried: bool,
}

impl Session {
    pub fn take_in(&mut self) -> Result<(), ProcessorError> {
        if self.stopping {
            return self.intake.serve();
        }
        self.intake.step(Duration::ZERO)?;
        if self.fetched.len() < self.capacity && self.intake.is_ready(0) {
            let batch = self.intake.take_batch()?;
            if !batch.is_empty() {
                self.fetched.push_back(batch);
            }
        }
        Ok(())
    }

    pub fn decide(&mut self, decider: &Decider) {
        if self.read.len() < self.capacity
            && let Some(batch) = self.fetched.pop_front()
        {
            self.read.push_back(decide(decider, batch));
        }
    }

    pub fn append(&mut self, decider: &Decider, mutation: Option<Mutation>) -> Result<(), ProcessorError> {
        if self.settled.len() >= self.capacity {
            return Ok(());
        }
        let Some(batch) = self.read.pop_front() else { return Ok(()) };
        let known: Vec<_> = batch
            .iter()
            .filter(|chunk| matches!(chunk.content, Read::Known(_)))
            .map(|chunk| (chunk.partition, chunk.first_offset))
            .collect();
        let mut settled = self.append.append(batch)?;
        if mutation == Some(Mutation::DecideAgain) {
            for chunk in settled.iter_mut().filter(|c| known.contains(&(c.partition, c.first_offset))) {
                chunk.content.iter_mut().for_each(|outcome| decide_again(decider, outcome));
            }
        }
        self.settled.push_back(settled);
        Ok(())
    }

    pub fn publish(&mut self, mutation: Option<Mutation>) -> Result<(), ProcessorError> {
        if mutation == Some(Mutation::PublishAnyEpoch) {
            let held = self.ownership.snapshot().held;
            for chunk in self.settled.front_mut().into_iter().flatten() {
                chunk.epoch = held.get(&chunk.partition).map_or(chunk.epoch, |held| held.epoch);
            }
        }
        let batch = self.settled.front().map_or(&[][..], Vec::as_slice);
        match self.publish.attempt(batch, self.place)? {
            Progress::Through => {
                self.settled.pop_front();
                self.place = Place::default();
            }
            Progress::UpTo(place) => self.place = place,
            Progress::Wait(_) => {}
        }
        Ok(())
    }
}

/// A command that was decided already meets its own key.
fn decide_again(decider: &Decider, outcome: &mut Outcome) {
    if let Reading::Valid { event, key: Some(_) } = decider.read(&outcome.record).reading {
        outcome.decision = Decision::Duplicate { of: event.id() };
    }
}
