//! Following: what the group gave to another instance is decided and appended here too, and not published.
//!
//! A decision depends on nothing but the records before it in its partition, so every instance can have all of them, and takes
//! over from another without reading its history first. A follower is the intake and the log's stage once more, on one thread,
//! with a source outside of the group; `handover` says which partitions are its own. If the brokers fail it, it takes a new
//! client, and the session does not notice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::Decider;
use event_log::EventLog;
use kafka::{
    Source, SourceError,
    mark::{Committed, Marker},
    repeats::{self, Origin},
};

use super::{
    End, Observer, ProcessorError,
    append::Append,
    batch::Batch,
    decide::decide,
    handover::{Change, Followed, Handover},
    intake::{Caps, Intake, IntakeOptions, Role},
    ownership::{self, Ownership, Publication},
    progress::Progress,
    start::{Accept, Terms, plan_following},
    timing::Timing,
};

/// Records in a followed batch, at most. The session's own batches wait while one is appended.
const RECORDS: usize = 2_000;
/// Bytes in one, at most.
const BYTES: usize = 2 << 20;

/// What a follower works with.
#[derive(Clone)]
pub(crate) struct FollowOptions {
    pub decider: Decider,
    pub log: Arc<Mutex<EventLog>>,
    pub observer: Arc<dyn Observer>,
    pub caps: Caps,
    pub timing: Timing,
    pub marker: Marker,
}

/// The follower of one session.
pub(crate) struct Follow<S: Source> {
    brokers: S::Brokers,
    options: FollowOptions,
    handover: Arc<Handover>,
    open: Option<Open<S>>,
    retry_at: Instant,
    standstill: Option<Standstill>,
}

/// Neither the group nor the log has moved.
#[derive(Debug)]
struct Standstill {
    at: Warmth,
    since: Instant,
    last_seen: Instant,
}

/// A follower that reads.
struct Open<S: Source> {
    intake: Intake<S>,
    publication: Publication<S::Membership>,
    append: Append<Followed<S::Membership>>,
    /// Decided, and not appended yet.
    decided: Batch,
    /// When to ask for the group's offsets.
    ask_at: Instant,
}

/// How far a log is with what the group has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warmth {
    /// The brokers do not say it now, for this reason.
    Unknown(String),
    /// There is nothing to wait for: the group has no other member, or neither it nor the log has moved for long.
    Alone,
    /// The log has `logged` of the `committed` records that the group has committed.
    Behind { logged: i64, committed: i64 },
}

impl Warmth {
    /// Whether to join the group now, if the log may lack that many records.
    #[must_use]
    pub fn is_enough(&self, max_lag_records: i64) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Alone => true,
            Self::Behind { logged, committed } => committed - logged <= max_lag_records,
        }
    }
}

impl<S: Source> Follow<S> {
    pub fn new(brokers: S::Brokers, mut options: FollowOptions) -> Self {
        options.caps.records = options.caps.records.min(RECORDS);
        options.caps.bytes = options.caps.bytes.min(BYTES);
        let retry_at = Instant::now();
        Self { brokers, options, handover: Arc::default(), open: None, retry_at, standstill: None }
    }

    /// For the session beside it.
    pub fn handover(&self) -> &Arc<Handover> {
        &self.handover
    }

    /// The partitions of which something is decided and not appended yet.
    #[cfg(test)]
    pub fn decided(&self) -> Vec<i32> {
        self.open.iter().flat_map(|open| &open.decided).map(|chunk| chunk.partition).collect()
    }

    /// Whether everything that is followed is appended, as far as it has arrived.
    #[cfg(test)]
    pub fn is_idle(&mut self) -> bool {
        let Some(open) = &mut self.open else { return !self.handover.is_needed() };
        open.intake.is_settled() && open.intake.is_empty() && open.decided.is_empty()
    }

    /// Before the session joins the group: everything is followed. The group may be joined if this is
    /// [enough](Warmth::is_enough).
    pub fn warm(&mut self) -> Result<Warmth, ProcessorError> {
        let asked = self.open().and_then(|open| {
            let source = &mut open.intake.source;
            if !source.has_other_members()? {
                return Ok(None);
            }
            let partitions = source.partitions()?;
            let committed = source.committed(&partitions)?.into_iter();
            let offset = |found: Option<Committed>| found.map_or(0, |found| found.offset);
            Ok(Some(
                committed.map(|(partition, found)| (partition, offset(found))).collect::<BTreeMap<_, _>>(),
            ))
        });
        match asked {
            Ok(Some(committed)) => {
                self.handover.know(&committed.keys().copied().collect::<Vec<_>>());
                let warmth = self.behind(&committed)?;
                if !self.is_at_a_standstill(&warmth) {
                    return Ok(warmth);
                }
                tracing::warn!(?warmth, "neither the group nor the log moves; joining the group as it is");
                Ok(self.alone())
            }
            Ok(None) => Ok(self.alone()),
            Err(error @ SourceError::Fatal(_)) => Err(ProcessorError::Source(error)),
            Err(error) => {
                self.interrupted(&error);
                self.standstill = None;
                Ok(Warmth::Unknown(error.to_string()))
            }
        }
    }

    /// Nothing is followed until the group has said which partitions are others'.
    fn alone(&mut self) -> Warmth {
        (self.open, self.handover) = (None, Arc::default());
        Warmth::Alone
    }

    /// Whether waiting longer is of no use, whatever the group says of its members. Its offsets may be beyond the topic's end,
    /// or what the log lacks may be gone: a member can say so. Time in which nothing was heard of the group does not count.
    fn is_at_a_standstill(&mut self, warmth: &Warmth) -> bool {
        let longest = self.options.timing.standstill;
        let now = Instant::now();
        let before = self.standstill.take();
        let before = before.filter(|before| before.at == *warmth && now - before.last_seen < longest / 2);
        let since = before.map_or(now, |before| before.since);
        self.standstill = Some(Standstill { at: warmth.clone(), since, last_seen: now });
        now - since >= longest
    }

    fn behind(&self, of_group: &BTreeMap<i32, i64>) -> Result<Warmth, ProcessorError> {
        let log = self.options.log.lock().expect("no holder panics");
        let mut logged = 0;
        for (&partition, &committed) in of_group {
            logged += log.cursor(partition)?.map_or(0, |cursor| cursor.logged).min(committed);
        }
        Ok(Warmth::Behind { logged, committed: of_group.values().sum() })
    }

    /// Checkpoints the log if that is due. Call it when nothing owned waits to be appended.
    pub fn checkpoint_if_due(&self) {
        self.options.log.lock().expect("no holder panics").checkpoint_if_due();
    }

    /// Whether it has something to read, and a source to read it from.
    pub fn is_reading(&self) -> bool {
        self.open.is_some()
    }

    /// Reads, decides and appends what has arrived. Returns how long that took, without waiting for records.
    pub fn step(&mut self, timeout: Duration) -> Result<Duration, ProcessorError> {
        if !self.handover.is_needed() {
            self.open = None;
            return Ok(Duration::ZERO);
        }
        if Instant::now() < self.retry_at {
            return Ok(Duration::ZERO);
        }
        let stepped = match self.open() {
            Ok(_) => self.advance(timeout),
            Err(error) => Err(ProcessorError::Source(error)),
        };
        match stepped {
            Err(ProcessorError::Source(error)) => {
                self.interrupted(&error);
                Ok(Duration::ZERO)
            }
            stepped => stepped,
        }
    }

    /// The next step takes a new client.
    fn interrupted(&mut self, error: &SourceError) {
        repeats::warn(Origin::Program, &format!("following is interrupted: {error}; trying again"));
        self.open = None;
        self.retry_at = Instant::now() + self.options.timing.reset;
    }

    fn open(&mut self) -> Result<&mut Open<S>, SourceError> {
        if self.open.is_none() {
            self.handover.restart();
            self.open = Some(self.opened()?);
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    fn opened(&self) -> Result<Open<S>, SourceError> {
        let FollowOptions { log, observer, caps, timing, marker, .. } = &self.options;
        let source = S::follower(&self.brokers)?;
        let (owner, publication) = ownership::handles();
        let ownership = Ownership::clone(&owner);
        let intake = Intake::new(
            source,
            owner,
            Arc::clone(log),
            Arc::new(AsFollowed(Arc::clone(observer))),
            Arc::new(Mutex::new(Progress::default())),
            IntakeOptions {
                terms: Terms { accept: Accept::default(), marker: *marker, plan: plan_following },
                caps: *caps,
                timing: *timing,
                role: Role::Follower(Arc::clone(&self.handover)),
            },
        );
        let followed = Followed { ownership, handover: Arc::clone(&self.handover) };
        let append = Append::new(Arc::clone(log), followed);
        let (decided, ask_at) = (Batch::new(), Instant::now() + timing.ends);
        Ok(Open { intake, publication, append, decided, ask_at })
    }

    fn advance(&mut self, timeout: Duration) -> Result<Duration, ProcessorError> {
        let Self { options, handover, open: Some(open), .. } = self else { return Ok(Duration::ZERO) };
        let begun = Instant::now();
        // Before the changes: whether they were acted on must not matter to an append.
        open.append(options)?;
        let appended = begun.elapsed();
        while let Some(change) = handover.next() {
            match change {
                Change::Follow(partition) => open.intake.assign(vec![partition]),
                Change::Leave(partition) => open.intake.release(&[partition])?,
            }
        }
        open.intake.step(timeout)?;
        open.intake.gather_arrived()?;
        open.note_published(options, handover)?;
        if !open.intake.is_ready(0) {
            return Ok(appended);
        }
        let begun = Instant::now();
        open.decided = open.intake.take_batch()?;
        decide(&options.decider, &mut open.decided);
        Ok(appended + begun.elapsed())
    }
}

impl<S: Source> Open<S> {
    fn append(&mut self, options: &FollowOptions) -> Result<(), ProcessorError> {
        if self.decided.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.decided);
        self.append.append(&mut batch)?;
        // Publishing is another instance's matter, so there is nothing left to do here.
        for chunk in &batch {
            self.publication.set_published(chunk.partition, chunk.epoch, chunk.next_offset);
            self.publication.set_done(chunk.partition, chunk.epoch, chunk.next_offset);
        }
        let commands = batch.iter().map(|chunk| chunk.records.len()).sum();
        let next_offsets: Vec<_> = batch.iter().map(|chunk| (chunk.partition, chunk.next_offset)).collect();
        options.observer.followed(&next_offsets, commands);
        Ok(())
    }

    /// At intervals: the log records how far others have published.
    fn note_published(&mut self, options: &FollowOptions, handover: &Handover) -> Result<(), ProcessorError> {
        let now = Instant::now();
        if now < self.ask_at {
            return Ok(());
        }
        self.ask_at = now + options.timing.ends;
        let partitions: Vec<i32> = self.publication.held().keys().copied().collect();
        let committed = self.intake.source.committed(&partitions).map_err(ProcessorError::Source)?;
        let mut log = options.log.lock().expect("no holder panics");
        let marked = committed.into_iter().filter_map(|(partition, found)| {
            let found = found.filter(|found| found.mark.is_some() && handover.may_append(partition))?;
            Some((partition, found.offset))
        });
        Ok(log.record_published(&marked.collect::<Vec<_>>())?)
    }
}

/// Observes the intake of a follower.
struct AsFollowed(Arc<dyn Observer>);

impl Observer for AsFollowed {
    fn position(&self, partition: i32, logged: i64, end: Option<End>) {
        self.0.followed_to(partition, logged, end);
    }
}

#[cfg(test)]
mod tests {
    use contract::Limits;

    use super::*;
    use crate::scripted::{self, Scripted, Unobserved, terms};

    const STANDSTILL: Duration = Duration::from_secs(60);

    /// Of an instance with an empty log.
    fn follow(make: fn() -> Scripted) -> (Follow<Scripted>, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let options = FollowOptions {
            decider: Decider::new("c", Limits::default()),
            log: scripted::log(folder.path()),
            observer: Arc::new(Unobserved),
            caps: Caps { records: 10, bytes: 1 << 20 },
            timing: Timing { standstill: STANDSTILL, ..Timing::default() },
            marker: terms().marker,
        };
        (Follow::new(make, options), folder)
    }

    fn warmth(make: fn() -> Scripted) -> Warmth {
        follow(make).0.warm().expect("a log that can be read")
    }

    fn published(offset: i64) -> Option<Committed> {
        Some(Committed { offset, mark: Some(terms().marker.mark(0)) })
    }

    #[test]
    fn an_instance_waits_for_the_other_members_of_its_group() {
        let others = || Scripted { member: true, committed: published(40), ..Scripted::default() };
        assert_eq!(warmth(others), Warmth::Behind { logged: 0, committed: 40 });
        let nobody = || Scripted { committed: published(40), ..Scripted::default() };
        assert_eq!(warmth(nobody), Warmth::Alone);
        let unknown = || Scripted { held_up: Some("why".into()), ..Scripted::default() };
        assert_eq!(warmth(unknown), Warmth::Unknown("why".into()));
    }

    #[test]
    fn an_instance_waits_as_long_as_the_group_or_its_log_moves() {
        let (mut follow, _folder) = follow(Scripted::default);
        let behind = |logged, committed| Warmth::Behind { logged, committed };
        let mut is_at_a_standstill = |warmth| {
            if let Some(standstill) = &mut follow.standstill {
                standstill.since -= STANDSTILL;
            }
            follow.is_at_a_standstill(&warmth)
        };
        for moved in [behind(1, 10), behind(2, 10), behind(2, 11)] {
            assert!(!is_at_a_standstill(moved.clone()), "{moved:?}");
        }
        assert!(is_at_a_standstill(behind(2, 11)));
        // A frozen process, or one without brokers, has heard nothing.
        follow.standstill.as_mut().expect("it waits").last_seen -= STANDSTILL;
        assert!(!follow.is_at_a_standstill(&behind(2, 11)));
    }

    /// So that it joins, and says what is wrong.
    #[test]
    fn an_instance_does_not_wait_for_offsets_beyond_the_end_for_ever() {
        let (mut follow, _folder) =
            follow(|| Scripted { member: true, committed: published(40), end: 10, ..Scripted::default() });
        let waits = follow.warm().expect("a log that can be read");
        assert_eq!(waits, Warmth::Behind { logged: 0, committed: 40 });
        follow.standstill.as_mut().expect("it waits").since -= STANDSTILL;
        assert_eq!(follow.warm().expect("a log that can be read"), Warmth::Alone);
    }

    #[test]
    fn an_instance_is_warm_when_it_lacks_as_little_as_it_may() {
        let behind = |logged| Warmth::Behind { logged, committed: 100 };
        assert!(behind(90).is_enough(10) && !behind(89).is_enough(10) && behind(100).is_enough(0));
        assert!(Warmth::Alone.is_enough(0) && !Warmth::Unknown(String::new()).is_enough(1_000));
    }
}
