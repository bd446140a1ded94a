//! One instance: a process with its log file, its sessions and its ends.

pub mod files;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::{Decider, Limits};
use event_log::{EventLog, LogOptions, Synchronous};
use files::{beside, copy};

use super::{
    MARKER, Mutation, TOPIC, WINDOW_MS,
    clients::{SimulatedSink, SimulatedSource},
    cluster::Shared,
    replies,
    session::Session,
};
use crate::{
    End, Observer, ProcessorError, Unobserved,
    append::Append,
    intake::{Caps, Intake, IntakeOptions},
    ownership::Ownership,
    progress::Progress,
    publish::{Place, Publish, PublishOptions},
    start::{Accept, Terms},
    timing::Timing,
};

/// A process and its files.
pub struct Instance {
    pub name: String,
    directory: PathBuf,
    cluster: Shared,
    decider: Decider,
    pub(super) mutation: Option<Mutation>,
    log: Option<Arc<Mutex<EventLog>>>,
    session: Option<Session>,
    backups: Vec<PathBuf>,
    /// Clients of the group that this process had and can't give back.
    pub dead: Vec<u32>,
    /// The disk is full.
    pub full: bool,
    /// Not to be stepped.
    pub frozen: bool,
    /// What the latest stop in order put down.
    pub put_down: Vec<(i32, i64)>,
    /// What a person overrules at the next start.
    pub accept: Accept,
    /// Taken out of service.
    pub retired: bool,
    /// Somebody may run on a copy of its log.
    pub watchful: bool,
    /// The processor's own word of why it stopped for good.
    pub stopped: Option<String>,
    progress: Arc<Mutex<Progress>>,
    told: Arc<Told>,
}

/// Up to where partitions are published, as whoever watches was told since the last look.
#[derive(Debug, Default)]
struct Told(Mutex<BTreeMap<i32, i64>>);

impl Observer for Told {
    fn position(&self, partition: i32, published: i64, _: Option<End>) {
        self.0.lock().expect("no holder panics").insert(partition, published);
    }
}

/// A step of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Intake,
    Decide,
    Append,
    Publish,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Intake, Self::Decide, Self::Append, Self::Publish];
}

impl Instance {
    pub fn new(name: String, directory: &Path, cluster: &Shared, mutation: Option<Mutation>) -> Self {
        let directory = directory.join(&name);
        fs::create_dir(&directory).expect("a new directory");
        Self {
            name,
            directory,
            cluster: cluster.clone(),
            decider: Decider::new(TOPIC, Limits::default()).with_reply_topics(replies::topics()),
            mutation,
            log: None,
            session: None,
            backups: Vec::new(),
            dead: Vec::new(),
            full: false,
            frozen: false,
            put_down: Vec::new(),
            accept: Accept::default(),
            retired: false,
            watchful: false,
            stopped: None,
            progress: Arc::default(),
            told: Arc::default(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.session.is_some()
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join("activity.db")
    }

    pub fn log(&self) -> Option<&Arc<Mutex<EventLog>>> {
        self.log.as_ref()
    }

    fn options(&self, path: PathBuf) -> LogOptions {
        let pages = fs::metadata(&path).map_or(40, |file| (file.len() / 4096).max(40)) as u32;
        LogOptions {
            path,
            topic: TOPIC.to_owned(),
            synchronous: Synchronous::Normal,
            cache_bytes: 1 << 20,
            window_ms: WINDOW_MS,
            max_pages: self.full.then_some(pages),
        }
    }

    /// Opens the log where it is not open, and joins the group.
    pub fn start(&mut self) -> Result<(), String> {
        let log = match &self.log {
            Some(log) => Arc::clone(log),
            None => {
                self.prepare_file();
                let log = EventLog::open(&self.options(self.path())).map_err(|error| error.to_string())?;
                Arc::clone(self.log.insert(Arc::new(Mutex::new(log))))
            }
        };
        let ownership = Arc::new(Ownership::default());
        ownership.mutate(self.mutation);
        let source = SimulatedSource::join(&self.cluster, self.mutation);
        let instance = log.lock().expect("no holder panics").instance_id();
        let id = self.cluster.borrow_mut().transactional_id(instance);
        let sink = SimulatedSink::new(&self.cluster, id, self.mutation);
        let rng = &mut self.cluster.borrow_mut().rng;
        let nothing = Duration::ZERO;
        let timing = Timing {
            // Long enough or not at all.
            drain: if rng.u32(0..4) > 0 { Duration::from_secs(3600) } else { nothing },
            retry: nothing,
            say: Duration::MAX,
            silence: nothing,
            unjoined: Duration::MAX,
            serve: nothing,
            positions: nothing,
            ends: nothing,
            stall: nothing,
            generation: nothing,
            aborted: nothing,
            reset: nothing,
            fenced_twice: if self.watchful && self.mutation != Some(Mutation::NeverFencedTwice) {
                Duration::from_secs(3600)
            } else {
                nothing
            },
            // No fencing is the simulated broker's own doing.
            transaction: Duration::MAX,
        };
        let mut accept = std::mem::take(&mut self.accept);
        accept.lost_commands |= self.mutation == Some(Mutation::SkipLost);
        let caps = Caps { records: rng.usize(1..5), bytes: 1 << 20 };
        let options = PublishOptions {
            topic: TOPIC.into(),
            source: "simulation".into(),
            marker: MARKER,
            rejection_bytes: 1 << 20,
            replies: replies::topics(),
            output_bytes: if rng.bool() { 1 << 20 } else { 1 },
        };
        self.session = Some(Session {
            client: source.number,
            intake: Intake::new(
                source,
                Arc::clone(&ownership),
                Arc::clone(&log),
                Arc::clone(&self.told) as Arc<dyn Observer>,
                Arc::clone(&self.progress),
                IntakeOptions { terms: Terms { accept, marker: MARKER }, caps, timing },
            ),
            append: Append::new(Arc::clone(&log), Arc::clone(&ownership)),
            publish: Publish::new(sink, Arc::clone(&ownership), options, Arc::new(Unobserved), timing),
            ownership,
            fetched: VecDeque::new(),
            read: VecDeque::new(),
            settled: VecDeque::new(),
            place: Place::default(),
            late: VecDeque::new(),
            capacity: rng.usize(1..3),
            stopping: false,
            hurried: false,
        });
        Ok(())
    }

    /// One step of one stage. What may pass ends the session; what may not ends the process, and is in `stopped`.
    pub fn step(&mut self, stage: Stage) -> Result<(), String> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let stepped = match stage {
            Stage::Intake => session.take_in(),
            Stage::Decide => {
                session.decide(&self.decider);
                Ok(())
            }
            Stage::Append if self.mutation == Some(Mutation::PublishFirst) => self.append_late(),
            Stage::Append => session.append(&self.decider, self.mutation),
            Stage::Publish => session.publish(self.mutation),
        };
        self.check_order()?;
        self.check_told()?;
        if stage == Stage::Intake && stepped.is_ok() {
            self.check_named()?;
        }
        match stepped {
            Ok(()) => self.finish_stop(),
            Err(error) if error.is_retriable() => {
                let name = &self.name;
                self.cluster.borrow_mut().note(|| format!("  {name} ends its session: {error}"));
                if matches!(&error, ProcessorError::Log(_)) {
                    self.cluster.borrow_mut().count("the disk was full in the middle of an append");
                }
                self.end_session();
                Ok(())
            }
            Err(error) => {
                let name = &self.name;
                self.cluster.borrow_mut().note(|| format!("  {name} stops: {error}"));
                self.end_session();
                self.log = None;
                self.stopped = Some(error.to_string());
                Ok(())
            }
        }
    }

    /// What is told of a partition as published is what the group has committed of it, or less.
    fn check_told(&self) -> Result<(), String> {
        for (partition, published) in std::mem::take(&mut *self.told.0.lock().expect("no holder panics")) {
            let committed = self.cluster.borrow().committed.get(&partition).copied();
            if committed.is_some_and(|committed| committed < published) {
                return Err(format!(
                    "{} says that partition {partition} is published up to {published}, and the group has committed \
                     {committed:?}",
                    self.name
                ));
            }
        }
        Ok(())
    }

    /// A partition that has records whose output is not out is named, whatever holds it up.
    fn check_named(&self) -> Result<(), String> {
        let Some(session) = &self.session else { return Ok(()) };
        let cluster = self.cluster.borrow();
        if session.stopping || cluster.refusing || cluster.lost.contains(&session.client) {
            return Ok(());
        }
        let progress = self.progress.lock().expect("no holder panics");
        let held = session.ownership.snapshot().held;
        for (partition, held) in held.into_iter().filter(|(number, _)| session.intake.is_running(*number)) {
            let (offset, end) = (held.published.min(held.done), cluster.end(partition));
            let said = progress.reason(Instant::now(), Duration::ZERO, |number| number == partition, None);
            let names = said.as_ref().is_some_and(|said| {
                said.contains(&format!("partition {partition} is stalled at offset {offset} "))
                    && said.contains(&format!("ends at {end}"))
            });
            if names != (offset < end) {
                return Err(format!(
                    "{}: partition {partition} is at {offset} and ends at {end}, and it says {said:?}",
                    self.name
                ));
            }
        }
        Ok(())
    }

    /// `published <= logged`, for whatever this instance asked the broker to commit.
    fn check_order(&self) -> Result<(), String> {
        let (Some(session), Some(log)) = (&self.session, &self.log) else { return Ok(()) };
        for (partition, published) in session.publish.sink().asked.take() {
            let cursor = log.lock().expect("no holder panics").cursor(partition).ok().flatten();
            let logged = cursor.map_or(0, |cursor| cursor.logged);
            if published > logged {
                return Err(format!(
                    "{} published partition {partition} up to {published}, and its log goes to {logged}",
                    self.name
                ));
            }
        }
        Ok(())
    }

    /// `in_order`: what is in flight is waited for; else the time that a stop may take is over at once.
    pub fn ask_to_stop(&mut self, in_order: bool) {
        if let Some(session) = &mut self.session {
            session.stopping = true;
            session.hurried = !in_order;
        }
    }

    /// As `session::finish`: what is in flight is through, so what is published is known exactly.
    fn finish_stop(&mut self) -> Result<(), String> {
        let is_done =
            |session: &Session| session.stopping && (session.hurried || session.intake.is_drained());
        let Some(session) = self.session.take_if(|session| is_done(session)) else { return Ok(()) };
        let is_drained = session.intake.is_drained();
        let published = if is_drained { session.ownership.published() } else { Vec::new() };
        session.ownership.abandon();
        drop(session.intake.close());
        self.cluster.borrow_mut().group.leave(session.client);
        let name = &self.name;
        self.cluster.borrow_mut().note(|| format!("  {name} has stopped at {published:?}"));
        let log = self.log.take().expect("open while a session runs");
        let put_down = log.lock().expect("no holder panics").record_clean_stop(&published);
        match put_down {
            Err(error) if error.is_transient() => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(()) => {
                self.put_down = published;
                Ok(())
            }
        }
    }

    /// A session that failed leaves the group; the log stays open.
    fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            session.ownership.abandon();
            drop(session.intake.close());
            self.cluster.borrow_mut().group.leave(session.client);
        }
    }

    /// Killed: the files stay, and the group has yet to notice.
    pub fn crash(&mut self) {
        self.dead.extend(self.session.take().map(|session| session.client));
        self.log = None;
        let change = match self.mutation {
            Some(Mutation::CursorApart) => "UPDATE cursors SET logged = max(0, logged - 2)",
            Some(Mutation::ClaimsApart) => {
                "DELETE FROM claims WHERE (partition, offset) IN \
                 (SELECT partition, max(offset) FROM claims GROUP BY partition)"
            }
            Some(Mutation::CleanForEver) => "UPDATE cursors SET clean = 1",
            _ => return,
        };
        self.change_file(change);
    }

    /// The disk under the running log is full, or has room again.
    pub fn fill(&mut self, full: bool) {
        self.full = full;
        if let Some(log) = &self.log {
            log.lock().expect("no holder panics").fill_disk(full);
        }
    }

    /// The group's number of this process.
    pub fn client(&self) -> Option<u32> {
        self.session.as_ref().map(|session| session.client)
    }

    /// Decided, and neither appended nor published to the end.
    pub fn has_batches_in_flight(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.read.is_empty() || !session.settled.is_empty())
    }

    /// For the mutation that publishes what is appended to a copy only, and appended for good later.
    fn append_late(&mut self) -> Result<(), ProcessorError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        if let Some(batch) = session.late.pop_front() {
            return session.append.append(batch).map(drop);
        }
        if session.settled.len() >= session.capacity {
            return Ok(());
        }
        let Some(batch) = session.read.pop_front() else { return Ok(()) };
        let ownership = Arc::clone(&session.ownership);
        let scratch = self.directory.join("scratch.db");
        let _ = fs::remove_file(beside(&scratch, "-shm"));
        copy(&self.path(), &scratch);
        let copy = EventLog::open(&self.options(scratch))?;
        let settled = Append::new(Arc::new(Mutex::new(copy)), ownership).append(batch.clone())?;
        let session = self.session.as_mut().expect("checked above");
        session.settled.push_back(settled);
        session.late.push_back(batch);
        Ok(())
    }

    /// Whether all that the group gave it is being read.
    pub fn is_settled(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.intake.is_settled())
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.session.as_ref().is_none_or(|session| {
            session.intake.is_settled()
                && session.intake.is_drained()
                && session.intake.is_empty()
                && session.fetched.is_empty()
                && session.read.is_empty()
                && session.settled.is_empty()
                && session.late.is_empty()
        })
    }

    /// What its log lacks of a partition that it owns.
    pub fn lacks(&self) -> Option<String> {
        let log = self.log.as_ref().filter(|_| self.is_running())?.lock().expect("no holder panics");
        let cluster = self.cluster.borrow();
        self.owned().into_iter().find_map(|partition| {
            let logged = log.cursor(partition).expect("readable").map_or(0, |cursor| cursor.logged);
            let end = cluster.end(partition);
            (logged != end)
                .then(|| format!("the log of partition {partition} ends at {logged}, wanted {end}"))
        })
    }

    /// Why it processes no commands, as `/readyz` says it.
    pub fn waits_for(&mut self) -> Option<String> {
        self.session.as_mut().and_then(|session| session.intake.waits_for())
    }

    /// Partitions that the group gave it.
    pub fn owned(&self) -> Vec<i32> {
        let session = self.session.as_ref();
        session.map_or(Vec::new(), |session| {
            self.cluster.borrow().group.owned(session.client).into_iter().collect()
        })
    }
}
