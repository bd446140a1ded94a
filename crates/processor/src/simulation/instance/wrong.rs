//! Steps that break the rule on purpose.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::Instant,
};

use contract::{Decider, Decision, Fate, Reading};
use event_log::{EventLog, LogOptions};
use kafka::{OutputTopic, Source};

use super::{
    Instance, ReportedPositions, Session,
    files::{beside, copy},
};
use crate::{
    Observer, ProcessorError,
    append::Append,
    batch::Chunk,
    pipeline::{Stage, Step},
    progress::Progress,
    simulation::Mutation,
};

impl Session {
    /// Batches that outlived their epoch get the current one before they are published.
    fn renew_published(&self) {
        let mut publishing = self.pipeline.publishing.lock().expect("no holder panics");
        let publishing = publishing.as_mut().expect("no stage is closed here");
        publishing.batch.iter_mut().flatten().for_each(|chunk| self.renew(chunk));
        if let Some(mut batch) = self.pipeline.to_publish.take() {
            batch.iter_mut().for_each(|chunk| self.renew(chunk));
            self.pipeline.to_publish.put(batch);
        }
    }

    /// The same before they are appended.
    fn renew_appended(&self) {
        if let Some(mut batch) = self.pipeline.to_append.take() {
            batch.iter_mut().for_each(|chunk| self.renew(chunk));
            self.pipeline.to_append.put(batch);
        }
    }

    fn renew(&self, chunk: &mut Chunk) {
        let held = self.pipeline.ownership.held();
        chunk.epoch = held.get(&chunk.partition).map_or(chunk.epoch, |held| held.epoch);
    }

    /// Partitions that this process has lost or released count as held while something of theirs is in flight.
    fn hold_on(&self) {
        let publishing = self.pipeline.publishing.lock().expect("no holder panics");
        let in_publishing = publishing.as_ref().expect("no stage is closed here").batch.iter();
        let held = self.pipeline.ownership.held();
        for chunk in in_publishing.flatten().filter(|chunk| !held.contains_key(&chunk.partition)) {
            let (first, clock) = (chunk.first_offset, 0);
            self.of_intake(|intake| intake.owner.start_partition(chunk.partition, first, first, clock));
        }
        drop(publishing);
        self.renew_published();
    }

    /// The observer gets the read position instead of the published one.
    fn report_read(&self, progress: &Mutex<Progress>, reported: &ReportedPositions) {
        let positions = self.of_intake(|intake| intake.source.positions().expect("known"));
        for (partition, read) in positions.into_iter().flatten() {
            progress.lock().expect("no holder panics").moved(Instant::now(), partition, read, read);
            reported.position(partition, read, None);
        }
    }

    /// Commands that were decided before are decided again, and find their own keys.
    fn append_deciding_again(&self, decider: &Decider) -> Step {
        if self.pipeline.to_publish.is_full() {
            return Step::Worked;
        }
        let Some(mut batch) = self.pipeline.to_append.take() else { return Step::Worked };
        self.append(&mut batch);
        for chunk in batch.iter_mut().filter(|chunk| chunk.is_logged) {
            for (record, fate) in chunk.records.iter().zip(&mut chunk.fates) {
                if let Reading::Valid { event, key: Some(_) } = decider.read(record).reading {
                    *fate = Fate::Decided(Decision::Duplicate { of: event.id() });
                }
            }
        }
        self.pipeline.to_publish.put(batch);
        Step::Worked
    }

    /// Appends to a copy of the log, which is published, and to the log itself later.
    fn append_late(&mut self, copy: &LogOptions) -> Step {
        if let Some(mut batch) = self.late.pop_front() {
            self.append(&mut batch);
            return Step::Worked;
        }
        if self.pipeline.to_publish.is_full() {
            return Step::Worked;
        }
        let Some(mut batch) = self.pipeline.to_append.take() else { return Step::Worked };
        self.late.push_back(batch.clone());
        let ownership = self.pipeline.ownership.clone();
        let appended = EventLog::open(copy)
            .map_err(ProcessorError::Log)
            .and_then(|copy| Append::new(Arc::new(Mutex::new(copy)), ownership).append(&mut batch));
        match appended {
            Ok(()) => self.pipeline.to_publish.put(batch),
            Err(error) => self.pipeline.fail(error),
        }
        Step::Worked
    }
}

impl Instance {
    /// A step of a stage, which breaks the rule if that is wanted.
    pub(super) fn step_wrongly(&mut self, stage: Stage) -> Step {
        let Some(session) = &mut self.session else { return Step::Ended };
        match (self.mutation, stage) {
            (Some(Mutation::PublishAnyEpoch), Stage::Publish) => session.renew_published(),
            (Some(Mutation::AppendAnyEpoch), Stage::Append) => session.renew_appended(),
            (Some(Mutation::OutliveAssignment), Stage::Publish) => session.hold_on(),
            (Some(Mutation::ReadForPublished), Stage::Poll) => {
                let step = session.pipeline.step(stage);
                session.report_read(self.sessions.progress(), &self.reported);
                return step;
            }
            (Some(Mutation::PublishFollowed), Stage::Follow) => {
                let before = self.logged();
                let step = self.session.as_ref().expect("checked above").pipeline.step(stage);
                self.publish_since(&before);
                return step;
            }
            (Some(Mutation::DecideAgain), Stage::Append) => {
                return session.append_deciding_again(&self.decider);
            }
            (Some(Mutation::PublishFirst), Stage::Append) => {
                let scratch = self.directory.join("scratch.db");
                let _ = fs::remove_file(beside(&scratch, "-shm"));
                copy(&self.directory.join("activity.db"), &scratch);
                let options = self.options(scratch);
                let session = self.session.as_mut().expect("checked above");
                return session.append_late(&options);
            }
            _ => {}
        }
        session.pipeline.step(stage)
    }

    /// Publishes what was appended since.
    fn publish_since(&self, before: &BTreeMap<i32, i64>) {
        let mut text = String::new();
        for (partition, logged) in self.logged() {
            let log = self.log.as_ref().expect("open while it runs").lock().expect("no holder panics");
            let first = before.get(&partition).copied().unwrap_or(0);
            for recorded in log.recorded(partition, first..logged).expect("readable") {
                let Decision::Accepted(event) = recorded.decision else { continue };
                let mut notifications = event.notifications("simulation", &[]);
                while let Some(notification) = notifications.next_in(&mut text) {
                    let record = notification.output().to_record();
                    self.cluster.borrow_mut().visible.push((OutputTopic::Notifications, record));
                }
            }
        }
    }
}
