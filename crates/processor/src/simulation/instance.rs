//! One instance: a process with its log file, its sessions, and its stops and crashes.

pub mod files;
mod wrong;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use contract::{Decider, Limits};
use event_log::{EventLog, LogOptions, PAGE_BYTES, Synchronous};

use super::{
    Mutation, TOPIC, WINDOW_MS,
    clients::{Brokers, SimulatedSink, SimulatedSource},
    cluster::Shared,
    marker, replies,
};
use crate::{
    End, Observer, ProcessorError,
    batch::Batch,
    follow::{Follow, FollowOptions, Warmth},
    intake::{Caps, Intake},
    pipeline::{Pipeline, SessionOptions, Stage, Step},
    publish::PublishOptions,
    scripted::Unobserved,
    start::{self, Accept, Facts, Plan, Refusal, Start},
    supervise::Sessions,
    timing::Timing,
};

/// How many committed records the log of an instance may lack when it joins the group.
const MOST_BEHIND: i64 = 3;
/// So long that neither a simulated stop nor a drain ever times out.
const LONG: Duration = Duration::from_secs(3600);

/// A process and its files.
pub struct Instance {
    pub name: String,
    directory: PathBuf,
    cluster: Shared,
    decider: Decider,
    pub(super) mutation: Option<Mutation>,
    log: Option<Arc<Mutex<EventLog>>>,
    sessions: Sessions,
    /// Before it joins the group.
    warming: Option<Follow<SimulatedSource>>,
    session: Option<Session>,
    /// Its log has all partitions.
    pub follows: bool,
    /// It takes the group for one that stands still.
    impatient: bool,
    backups: Vec<PathBuf>,
    /// The group's clients of earlier sessions, which this process can no longer close.
    pub dead: Vec<u32>,
    /// The disk is full.
    pub full: bool,
    /// It must not be stepped.
    pub frozen: bool,
    /// The losses that a person accepts at the next start.
    pub accept: Accept,
    /// Out of service, for good.
    pub retired: bool,
    /// Another process may run on a copy of its log.
    pub watchful: bool,
    /// The processor's own message about why it stopped for good.
    pub stopped: Option<String>,
    reported: Arc<ReportedPositions>,
}

/// How far partitions are published, as reported to the observer since the last check.
#[derive(Debug, Default)]
struct ReportedPositions(Mutex<BTreeMap<i32, i64>>);

impl Observer for ReportedPositions {
    fn position(&self, partition: i32, published: i64, _: Option<End>) {
        self.0.lock().expect("no holder panics").insert(partition, published);
    }
}

/// From joining the group to leaving it.
struct Session {
    client: u32,
    pipeline: Pipeline<SimulatedSource, SimulatedSink>,
    /// A clean stop was requested.
    in_order: bool,
    /// Batches published before they were appended, which is a fault.
    late: VecDeque<Batch>,
}

/// What a session would record if it stopped now.
struct Drain {
    published: Vec<(i32, i64)>,
    is_drained: bool,
}

impl Drain {
    fn of(session: &Session) -> Self {
        let is_drained = session.of_intake(|intake| intake.is_drained()).unwrap_or_default();
        Self { published: session.pipeline.ownership.published(), is_drained }
    }
}

impl Session {
    fn of_intake<T>(&self, of: impl FnOnce(&mut Intake<SimulatedSource>) -> T) -> Option<T> {
        self.pipeline.intake.lock().expect("no holder panics").as_mut().map(of)
    }

    fn decided_to_follow(&self) -> Vec<i32> {
        let follow = self.pipeline.follow.lock().expect("no holder panics");
        follow.as_ref().map_or(Vec::new(), Follow::decided)
    }

    fn is_asked_to_stop(&self) -> bool {
        self.pipeline.ending.lock().expect("no holder panics").stop_by.is_some()
    }

    fn is_ending(&self) -> bool {
        self.is_asked_to_stop() || self.pipeline.ending.lock().expect("no holder panics").failed
    }

    fn append(&self, batch: &mut Batch) {
        if let Err(error) = self.pipeline.append.append(batch) {
            self.pipeline.fail(error);
        }
    }
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
            sessions: Sessions::new(Accept::default()),
            warming: None,
            session: None,
            follows: false,
            impatient: false,
            backups: Vec::new(),
            dead: Vec::new(),
            full: false,
            frozen: false,
            accept: Accept::default(),
            retired: false,
            watchful: false,
            stopped: None,
            reported: Arc::default(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.session.is_some() || self.warming.is_some()
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join("activity.db")
    }

    pub fn log(&self) -> Option<&Arc<Mutex<EventLog>>> {
        self.log.as_ref()
    }

    fn options(&self, path: PathBuf) -> LogOptions {
        let pages =
            fs::metadata(&path).map_or(40, |file| (file.len() / u64::from(PAGE_BYTES)).max(40)) as u32;
        LogOptions {
            path,
            topic: TOPIC.to_owned(),
            synchronous: Synchronous::Normal,
            cache_bytes: 1 << 20,
            window_ms: WINDOW_MS,
            max_pages: self.full.then_some(pages),
        }
    }

    /// Opens the log if it is not open. Joins the group, at once or when it is warm.
    pub fn start(&mut self) -> Result<(), String> {
        let log = match &self.log {
            Some(log) => Arc::clone(log),
            None => {
                self.prepare_file();
                self.sessions = Sessions::new(std::mem::take(&mut self.accept));
                let log = EventLog::open(&self.options(self.path())).map_err(|error| error.to_string())?;
                Arc::clone(self.log.insert(Arc::new(Mutex::new(log))))
            }
        };
        if self.follows {
            let marker = marker(log.lock().expect("no holder panics").instance_id());
            // Some take the group for one that stands still at once.
            self.impatient = self.cluster.borrow_mut().marks.u32(0..8) == 0;
            let standstill = if self.impatient { Duration::ZERO } else { Duration::MAX };
            let options = FollowOptions {
                decider: self.decider.clone(),
                log,
                observer: Arc::new(Unobserved),
                caps: Caps { records: 2, bytes: 1 << 20 },
                timing: Timing { standstill, ..instant() },
                marker,
            };
            let brokers = Brokers { cluster: self.cluster.clone(), mutation: self.mutation };
            let follow = Follow::new(brokers, options);
            if self.mutation == Some(Mutation::AppendTaken) {
                follow.handover().ignore();
            }
            self.warming = Some(follow);
        } else {
            self.join(&log, None);
        }
        Ok(())
    }

    fn join(&mut self, log: &Arc<Mutex<EventLog>>, follow: Option<Follow<SimulatedSource>>) {
        let instance = log.lock().expect("no holder panics").instance_id();
        let source = SimulatedSource::join(&self.cluster, instance, self.mutation);
        let client = source.number;
        let id = self.cluster.borrow_mut().transactional_id(instance);
        let sink = SimulatedSink::new(&self.cluster, id, self.mutation);
        let rng = &mut self.cluster.borrow_mut().rng;
        let timing = Timing {
            // Long enough, or no time at all.
            drain: if rng.u32(0..4) > 0 { LONG } else { Duration::ZERO },
            fenced_twice: if self.watchful && self.mutation != Some(Mutation::NeverFencedTwice) {
                LONG
            } else {
                Duration::ZERO
            },
            ..instant()
        };
        let mut accept = self.sessions.accept();
        accept.lost_commands |= self.mutation == Some(Mutation::SkipLost);
        let caps = Caps { records: rng.usize(1..5), bytes: 1 << 20 };
        // Not drawn: the seeds keep their schedules.
        let batches = 2 + caps.records % 2;
        let options = PublishOptions {
            topic: TOPIC.into(),
            source: "simulation".into(),
            marker: marker(instance),
            rejection_bytes: 1 << 20,
            replies: replies::topics(),
            output_bytes: if rng.bool() { 1 << 20 } else { 1 },
        };
        let progress = Arc::clone(self.sessions.progress());
        let plan: Plan = match self.mutation {
            Some(Mutation::IgnorePublished) => publish_again,
            _ => start::plan,
        };
        let options = SessionOptions { accept, plan, caps, batches, publish: options, timing, progress };
        let observer = Arc::clone(&self.reported) as Arc<dyn Observer>;
        let pipeline = Pipeline::new(source, sink, follow, log, &self.decider, options, &observer);
        self.session = Some(Session { client, pipeline, in_order: false, late: VecDeque::new() });
    }

    /// One step before it joins the group, which it does when it is warm.
    fn warm(&mut self) -> Result<(), String> {
        let Some(mut follow) = self.warming.take() else { return Ok(()) };
        let warmth = follow.warm().and_then(|warmth| follow.step(Duration::ZERO).map(|_| warmth));
        match warmth {
            Err(error) => self.failed(error),
            Ok(warmth) => {
                if !warmth.is_enough(MOST_BEHIND) && self.mutation != Some(Mutation::JoinCold) {
                    self.warming = Some(follow);
                    return Ok(());
                }
                let log = Arc::clone(self.log.as_ref().expect("open while it runs"));
                if warmth == Warmth::Alone && self.impatient {
                    self.cluster.borrow_mut().count("an instance that was not warm joined, as nothing moved");
                } else {
                    self.check_warm(&log)?;
                }
                self.join(&log, Some(follow));
            }
        }
        Ok(())
    }

    /// Whoever joins a group that has members has nearly all that it has committed.
    fn check_warm(&self, log: &Mutex<EventLog>) -> Result<(), String> {
        let mut cluster = self.cluster.borrow_mut();
        if cluster.group.member_ids().is_empty() {
            return Ok(());
        }
        let log = log.lock().expect("no holder panics");
        let behind = cluster.committed.iter().map(|(&partition, &committed)| {
            let logged = log.cursor(partition).expect("readable").map_or(0, |cursor| cursor.logged);
            (committed - logged).max(0)
        });
        let behind: i64 = behind.sum();
        if behind > MOST_BEHIND {
            return Err(format!("{} joins the group, and is {behind} records behind it", self.name));
        }
        cluster.count("an instance was warm before it joined");
        Ok(())
    }

    /// One step of one stage. An error that may pass ends the session; any other ends the process, and is in `stopped`.
    pub fn step(&mut self, stage: Stage) -> Result<(), String> {
        if self.session.is_none() {
            return self.warm();
        }
        let before = Drain::of(self.session.as_ref().expect("checked above"));
        let decided = self.session.as_ref().map_or(Vec::new(), Session::decided_to_follow);
        let step = self.step_wrongly(stage);
        if stage == Stage::Poll && decided.iter().any(|partition| self.holds(*partition)) {
            self.cluster.borrow_mut().count("a partition was taken while something of it was decided");
        }
        self.check_order()?;
        self.check_reported()?;
        if stage == Stage::Poll {
            self.check_named()?;
        }
        match self.session.take_if(|_| (stage, step) == (Stage::Poll, Step::Ended)) {
            Some(session) => self.end_session(&session, &before),
            None => Ok(()),
        }
    }

    /// The reported published offset of a partition is never above the group's committed offset.
    fn check_reported(&self) -> Result<(), String> {
        for (partition, published) in std::mem::take(&mut *self.reported.0.lock().expect("no holder panics"))
        {
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

    /// A partition with unpublished records is named as stalled, whatever the cause.
    fn check_named(&self) -> Result<(), String> {
        let Some(session) = &self.session else { return Ok(()) };
        let cluster = self.cluster.borrow();
        let pipeline = &session.pipeline;
        let is_ending = session.is_ending();
        if is_ending || cluster.refusing || cluster.lost.contains(&session.client) {
            return Ok(());
        }
        let progress = self.sessions.progress().lock().expect("no holder panics");
        let held = pipeline.ownership.held();
        let is_running =
            |number: i32| session.of_intake(|intake| intake.is_running(number)).unwrap_or_default();
        for (&partition, held) in held.iter().filter(|(number, _)| is_running(**number)) {
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
        let publishing = session.pipeline.publishing.lock().expect("no holder panics");
        let publishing = publishing.as_ref().expect("no stage is closed here");
        for (partition, published) in publishing.publish.sink.asked.take() {
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

    /// `in_order`: waits for the work in flight; otherwise the time for the stop is over at once.
    pub fn ask_to_stop(&mut self, in_order: bool) {
        if self.warming.take().is_some() {
            self.log = None;
        }
        if let Some(session) = &mut self.session {
            session.in_order |= in_order && !session.is_asked_to_stop();
            let waits = in_order && self.mutation != Some(Mutation::StopUndrained);
            session.pipeline.stop(if waits { LONG } else { Duration::ZERO });
        }
    }

    /// The process has left the group. After an error that may pass, it continues with its log; otherwise it ends.
    fn end_session(&mut self, session: &Session, before: &Drain) -> Result<(), String> {
        self.cluster.borrow_mut().group.leave(session.client);
        let name = &self.name;
        let Err(error) = session.pipeline.result() else {
            self.cluster.borrow_mut().note(|| format!("  {name} has stopped"));
            let log = self.log.take().expect("open while a session runs");
            // Its thread may be in the middle of a step.
            if let Some(follow) = &mut *session.pipeline.follow.lock().expect("no holder panics") {
                let _ = follow.step(Duration::ZERO);
            }
            if self.mutation == Some(Mutation::CleanInFlight) && !before.is_drained {
                log.lock().expect("no holder panics").record_clean_stop(&before.published).expect("room");
            }
            return self.check_clean(session.in_order, before);
        };
        self.failed(error);
        Ok(())
    }

    /// After an error that may pass, the process continues with its log; otherwise it ends.
    fn failed(&mut self, error: ProcessorError) {
        let name = &self.name;
        self.cluster.borrow_mut().note(|| format!("  {name} ends its session: {error}"));
        if matches!(&error, ProcessorError::Log(error) if error.is_transient()) {
            self.cluster.borrow_mut().count("the disk was full in the middle of an append");
        }
        if let Err(error) = self.sessions.failed(error, Duration::ZERO, &Unobserved) {
            self.log = None;
            self.stopped = Some(error.to_string());
        }
    }

    /// A stop that finished all work is recorded as clean for all held partitions; one that abandoned work is not.
    fn check_clean(&self, in_order: bool, before: &Drain) -> Result<(), String> {
        let Drain { published, is_drained } = before;
        if published.is_empty() {
            return Ok(());
        }
        let clean: Vec<_> = self.cursors().into_iter().filter(|cursor| cursor.clean).collect();
        let found: Vec<_> = clean.iter().map(|cursor| (cursor.partition, cursor.seen.unwrap_or(0))).collect();
        let name = &self.name;
        if in_order && found != *published {
            return Err(format!("{name} stopped in order with {published:?}, and recorded {found:?}"));
        }
        if !is_drained && !found.is_empty() {
            return Err(format!(
                "{name} abandoned batches in flight, and recorded a clean stop at {found:?}"
            ));
        }
        Ok(())
    }

    /// Kills the process in the middle of a transaction, if it has something to publish, and its session ends.
    pub fn crash_publishing(&mut self) {
        if let Some(session) = &self.session {
            self.cluster.borrow_mut().dying = true;
            for stage in [Stage::Publish, Stage::Append, Stage::Publish] {
                session.pipeline.step(stage);
            }
            let mut cluster = self.cluster.borrow_mut();
            cluster.dying = false;
            cluster.group.remove(session.client);
        }
        self.crash();
    }

    /// Kills the process: its files stay, and the group has not noticed yet.
    pub fn crash(&mut self) {
        self.dead.extend(self.session.take().map(|session| session.client));
        self.warming = None;
        self.log = None;
        let change = match self.mutation {
            Some(Mutation::CursorApart) => "UPDATE cursors SET logged = max(0, logged - 2)",
            Some(Mutation::ClaimsApart) => {
                "DELETE FROM claim_groups WHERE id IN (SELECT max(id) FROM claim_groups GROUP BY id >> 48)"
            }
            Some(Mutation::CleanForEver) => "UPDATE cursors SET clean = 1",
            _ => return,
        };
        self.change_file(change);
    }

    /// Fills the disk under the running log, or frees it.
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

    /// Whether there are batches that are decided, but not completely appended and published.
    pub fn has_batches_in_flight(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.pipeline.in_flight.load(Ordering::SeqCst) > 0)
    }

    fn holds(&self, partition: i32) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.pipeline.ownership.held().contains_key(&partition))
    }

    fn logged(&self) -> BTreeMap<i32, i64> {
        let log = self.log.as_ref().expect("open while it runs").lock().expect("no holder panics");
        log.cursors().expect("readable").iter().map(|cursor| (cursor.partition, cursor.logged)).collect()
    }

    /// Whether every partition assigned to it is being read.
    pub fn is_settled(&self) -> bool {
        let is_settled = |session: &Session| session.of_intake(|intake| intake.is_settled());
        self.session.as_ref().and_then(is_settled).unwrap_or_default()
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.warming.is_none()
            && self.session.as_ref().is_none_or(|session| {
                let mut follow = session.pipeline.follow.lock().expect("no holder panics");
                let follows = follow.as_mut().is_none_or(Follow::is_idle);
                let rests =
                    |intake: &mut Intake<_>| intake.is_settled() && intake.is_drained() && intake.is_empty();
                session.of_intake(rests) == Some(true)
                    && session.pipeline.in_flight.load(Ordering::SeqCst) == 0
                    && session.late.is_empty()
                    && follows
            })
    }

    /// What its log lacks of the partitions that it owns, or of all if it follows.
    pub fn lacks(&self) -> Option<String> {
        let log = self.log.as_ref().filter(|_| self.is_running())?.lock().expect("no holder panics");
        let cluster = self.cluster.borrow();
        let wanted = if self.follows { cluster.topic.keys().copied().collect() } else { self.owned() };
        wanted.into_iter().find_map(|partition| {
            let logged = log.cursor(partition).expect("readable").map_or(0, |cursor| cursor.logged);
            let end = cluster.end(partition);
            (logged != end)
                .then(|| format!("the log of partition {partition} ends at {logged}, wanted {end}"))
        })
    }

    /// Why it processes no commands, as `/readyz` reports it.
    pub fn waits_for(&mut self) -> Option<String> {
        let said = self.session.as_ref()?.of_intake(Intake::waits_for);
        said.flatten()
    }

    /// The partitions assigned to it.
    pub fn owned(&self) -> Vec<i32> {
        let session = self.session.as_ref();
        session.map_or(Vec::new(), |session| {
            self.cluster.borrow().group.owned(session.client).into_iter().collect()
        })
    }
}

/// Nothing waits.
fn instant() -> Timing {
    let nothing = Duration::ZERO;
    Timing {
        drain: nothing,
        retry: nothing,
        say: Duration::MAX,
        silence: nothing,
        unjoined: Duration::MAX,
        serve: nothing,
        positions: nothing,
        ends: nothing,
        unassigned: nothing,
        standstill: Duration::MAX,
        stall: nothing,
        generation: nothing,
        aborted: nothing,
        reset: nothing,
        fenced_once: nothing,
        fenced_twice: nothing,
        // Others abort nothing where fencings are counted.
        aborted_by_others: Duration::MAX,
    }
}

/// The rule without its `published` cursor: everything that is read is published.
fn publish_again(facts: &Facts, accept: Accept) -> Result<Start, Refusal> {
    start::plan(facts, accept).map(|start| Start { published: start.offset, ..start })
}
