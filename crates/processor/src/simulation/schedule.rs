//! A schedule: what happens to the instances and to Kafka, drawn from a seed, and the checks after it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    rc::Rc,
};

use contract::Coordinates;

use super::{
    FOLLOWING, Mutation,
    cluster::{Cluster, Faults, Shared},
    disaster::Disaster,
    instance::Instance,
    model::{Allowed, Commands, command},
};
use crate::pipeline::Stage;

/// A schedule after which something was wrong.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub reason: String,
    pub trace: Vec<String>,
}

/// What may happen in one schedule. A few kinds at a time reach states that all kinds together would not.
#[derive(Debug)]
pub struct Kinds {
    pub crash: bool,
    pub power_loss: bool,
    pub removal: bool,
    pub freeze: bool,
    pub rebalance: bool,
    pub stop: bool,
    pub disk: bool,
    pub refusal: bool,
    pub retention: bool,
    pub loss: bool,
    pub stall: bool,
    pub disaster: Option<Disaster>,
}

impl Kinds {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        // Drawn apart: a seed without this kind of fault does what it did before there was one, as do those in `FOUND`.
        let loss = fastrand::Rng::with_seed(rng.get_seed() ^ 5).u32(0..10) < 3;
        let stall = fastrand::Rng::with_seed(rng.get_seed() ^ 7).u32(0..10) < 2;
        let mut apart = fastrand::Rng::with_seed(rng.get_seed() ^ 9);
        let foreign =
            (apart.u32(0..10) == 0).then(|| Disaster::ForeignOffsets { while_running: apart.bool() });
        let mut draw = |in_ten: u32| rng.u32(0..10) < in_ten;
        Self {
            crash: draw(5),
            power_loss: draw(4),
            removal: draw(2),
            freeze: draw(4),
            rebalance: draw(5),
            stop: draw(4),
            disk: draw(2),
            refusal: draw(3),
            retention: draw(2),
            loss,
            stall,
            disaster: foreign.or(draw(4).then(|| Disaster::draw(rng))),
        }
    }
}

/// A running schedule.
pub struct Schedule {
    pub cluster: Shared,
    pub rng: fastrand::Rng,
    pub kinds: Kinds,
    pub instances: Vec<Instance>,
    pub commands: Commands,
    pub allowed: Allowed,
    pub directory: tempfile::TempDir,
    clock: i64,
}

/// How often each event happened in a schedule.
pub type Happened = BTreeMap<&'static str, u64>;

/// Runs the schedule of this seed. If it fails, runs it again to record what happened.
pub fn run(seed: u64, mutation: Option<Mutation>) -> Result<Happened, Failure> {
    match attempt(seed, mutation, false) {
        Ok(cluster) => Ok(cluster.borrow().happened.clone()),
        Err((first, _)) => match attempt(seed, mutation, true) {
            Ok(_) => {
                let reason =
                    format!("{first}; and not when it was run again, so something is not the seed's");
                Err(Failure { seed, reason, trace: Vec::new() })
            }
            Err((reason, cluster)) => {
                let trace = cluster.try_borrow().map(|cluster| cluster.trace.clone()).unwrap_or_default();
                Err(Failure { seed, reason, trace })
            }
        },
    }
}

fn attempt(seed: u64, mutation: Option<Mutation>, tracing: bool) -> Result<Shared, (String, Shared)> {
    attempt_with(seed, mutation, tracing, |schedule, steps| {
        if let Some(disaster) = schedule.kinds.disaster {
            schedule.strike(disaster)?;
            schedule.disturb(steps / 3)?;
        }
        Ok(())
    })
}

/// `strike` is called after a number of steps with faults, which it gets as an argument, and before the rest.
pub fn attempt_with(
    seed: u64,
    mutation: Option<Mutation>,
    tracing: bool,
    strike: impl FnOnce(&mut Schedule, u32) -> Result<(), String>,
) -> Result<Shared, (String, Shared)> {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(2));
    let partitions = rng.i32(2..=3);
    let cluster = Rc::new(RefCell::new(Cluster::new(seed.wrapping_mul(2) + 1, partitions)));
    cluster.borrow_mut().tracing = tracing;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut schedule = Schedule::new(rng, &cluster, mutation);
        schedule.instances.iter_mut().for_each(|instance| instance.follows = seed >= FOLLOWING);
        let steps = schedule.rng.u32(60..350);
        schedule.disturb(steps)?;
        strike(&mut schedule, steps)?;
        schedule.rest()?;
        schedule.check()
    }));
    match ran {
        Ok(Ok(())) => Ok(cluster),
        Ok(Err(reason)) => Err((reason, cluster)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map_or("no message", String::as_str);
            Err((format!("panicked: {text}"), cluster))
        }
    }
}

/// A folder in memory, if the system has one, because thousands of files are created.
fn directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

impl Schedule {
    fn new(mut rng: fastrand::Rng, cluster: &Shared, mutation: Option<Mutation>) -> Self {
        let directory = directory();
        let kinds = Kinds::draw(&mut rng);
        cluster.borrow_mut().note(|| format!("{kinds:?}"));
        cluster.borrow_mut().faults = Faults {
            lost_answer: [0, 20, 100][rng.usize(0..3)],
            refused: [0, 30][rng.usize(0..2)],
            moves: if kinds.rebalance { [5, 30][rng.usize(0..2)] } else { 0 },
            patient: kinds.disaster == Some(Disaster::Copied),
        };
        let count = rng.usize(1..=3).max(rng.usize(1..=2));
        let mut instances: Vec<_> = (0..count)
            .map(|number| Instance::new(format!("i{number}"), directory.path(), cluster, mutation))
            .collect();
        for instance in &mut instances {
            instance.watchful = kinds.disaster == Some(Disaster::Copied);
        }
        let (cluster, commands) = (Rc::clone(cluster), Commands::new());
        let allowed = Allowed { gaps: kinds.retention, ..Allowed::default() };
        Self { cluster, rng, kinds, instances, commands, allowed, directory, clock: 1000 }
    }

    pub fn note(&self, step: impl FnOnce() -> String) {
        self.cluster.borrow_mut().note(step);
    }

    /// Appends commands and control records to a partition.
    pub fn produce(&mut self) {
        let partition = self.rng.i32(0..self.partitions());
        self.produce_to(partition);
    }

    pub fn partitions(&self) -> i32 {
        self.cluster.borrow().topic.len() as i32
    }

    pub fn produce_to(&mut self, partition: i32) {
        for _ in 0..self.rng.usize(1..5) {
            let mut cluster = self.cluster.borrow_mut();
            let offset = cluster.end(partition);
            self.clock += self.rng.i64(-3..8);
            let entry = (self.rng.u32(0..5) > 0).then(|| {
                let at = Coordinates { partition, offset, timestamp: self.clock };
                let (command, record) =
                    command(&mut self.rng, at, self.kinds.disk, cluster.replies.asked_for);
                cluster.note(|| format!("produced {partition}/{offset} at {}: {command:?}", at.timestamp));
                self.commands.insert((partition, offset), command);
                record
            });
            cluster.topic.get_mut(&partition).expect("a partition").push(entry);
        }
    }

    fn disturb(&mut self, steps: u32) -> Result<(), String> {
        self.produce();
        for number in 0..self.instances.len() {
            self.restart(number)?;
        }
        for _ in 0..steps {
            let number = self.rng.usize(0..self.instances.len());
            match self.rng.u32(0..100) {
                0..=6 => self.produce(),
                7..=15 => self.fault(number)?,
                16..=17 => self.instances[number].back_up(),
                // Continues for a while without faults.
                18..=25 => {
                    for stage in Stage::ALL.repeat(self.rng.usize(1..8)) {
                        self.step(number, stage)?;
                    }
                }
                _ => {
                    let stage =
                        Stage::ALL[self.rng.usize(0..Stage::ALL.len() - usize::from(!self.follows()))];
                    self.step(number, stage)?;
                }
            }
            if self.kinds.stall {
                self.stall();
            }
            if let Some(violation) = self.cluster.borrow().violation.clone() {
                return Err(violation);
            }
        }
        Ok(())
    }

    fn follows(&self) -> bool {
        self.instances.iter().any(|instance| instance.follows)
    }

    /// Occasionally makes a partition unreadable, or readable again.
    fn stall(&mut self) {
        let partition = self.rng.i32(0..self.partitions());
        if self.rng.u32(0..30) > 0 {
            return;
        }
        let mut cluster = self.cluster.borrow_mut();
        if !cluster.stalled.remove(&partition) {
            cluster.stalled.insert(partition);
            cluster.count("a partition stalled");
        }
        cluster.note(|| format!("partition {partition} changes whether it can be read"));
    }

    /// A permanent stop is a failure here.
    pub fn step(&mut self, number: usize, stage: Stage) -> Result<(), String> {
        self.attempt(number, stage)?;
        match self.instances[number].stopped.take() {
            None => Ok(()),
            Some(error) => Err(format!("i{number} stopped: {error}")),
        }
    }

    pub fn attempt(&mut self, number: usize, stage: Stage) -> Result<(), String> {
        let instance = &mut self.instances[number];
        if instance.frozen || !instance.is_running() {
            return Ok(());
        }
        self.cluster.borrow_mut().note(|| format!("i{number} {stage:?}"));
        instance.step(stage)
    }

    fn fault(&mut self, number: usize) -> Result<(), String> {
        let kinds = &self.kinds;
        let instance = &mut self.instances[number];
        let cluster = &self.cluster;
        match self.rng.u32(0..11) {
            0 if kinds.crash => {
                cluster.borrow_mut().note(|| format!("i{number} is killed"));
                cluster.borrow_mut().count("an instance was killed");
                let is_publishing = cluster.borrow_mut().marks.bool();
                if is_publishing { instance.crash_publishing() } else { instance.crash() }
            }
            1 if kinds.power_loss && instance.backups() > 0 => {
                let backup = self.rng.usize(0..instance.backups());
                cluster.borrow_mut().note(|| format!("i{number} loses power, its log is copy {backup}"));
                instance.lose_tail(Some(backup), false);
                cluster.borrow_mut().count("a log went back to an older copy");
            }
            2 if kinds.removal => {
                cluster.borrow_mut().note(|| format!("i{number} loses its log"));
                instance.lose_tail(None, self.rng.bool());
                cluster.borrow_mut().count("a log was removed");
            }
            3 | 4 if kinds.freeze => {
                instance.frozen = !instance.frozen;
                let frozen = instance.frozen;
                let mut cluster = cluster.borrow_mut();
                cluster.note(|| format!("i{number} frozen: {frozen}"));
                if let Some(client) = instance.client().filter(|_| frozen && self.rng.u32(0..4) > 0) {
                    cluster.note(|| format!("  i{number} is declared dead"));
                    cluster.group.remove(client);
                    if instance.has_batches_in_flight() {
                        cluster.count("an instance with batches in flight was replaced");
                    }
                }
            }
            5 if kinds.rebalance => {
                let mut cluster = cluster.borrow_mut();
                cluster.note(|| "rebalance".to_owned());
                if self.rng.bool() { cluster.group.call_to_join() } else { cluster.time_out_member() }
            }
            6 if kinds.stop => {
                cluster.borrow_mut().note(|| format!("i{number} is asked to stop"));
                instance.ask_to_stop(self.rng.u32(0..4) > 0);
            }
            7 if kinds.disk => {
                let full = !instance.full;
                cluster.borrow_mut().note(|| format!("i{number} full: {full}"));
                instance.fill(full);
            }
            8 if kinds.refusal => {
                let mut cluster = cluster.borrow_mut();
                cluster.refusing = !cluster.refusing;
                let refusing = cluster.refusing;
                cluster.note(|| format!("the broker refuses: {refusing}"));
            }
            9 if kinds.retention => cluster.borrow_mut().delete_old(),
            9 => cluster.borrow_mut().time_out_transaction(),
            10 if kinds.loss => {
                let mut cluster = cluster.borrow_mut();
                cluster.note(|| format!("i{number} loses sight of the brokers"));
                if let Some(client) = instance.client() {
                    cluster.lost.insert(client);
                    // It sends nothing to the group either.
                    if self.rng.bool() {
                        cluster.group.remove(client);
                    }
                }
            }
            _ => {}
        }
        // Every stopped instance restarts at some time.
        if self.rng.u32(0..3) == 0 {
            let other = self.rng.usize(0..self.instances.len());
            self.restart(other)?;
        }
        Ok(())
    }

    pub fn restart(&mut self, number: usize) -> Result<(), String> {
        let instance = &mut self.instances[number];
        if instance.is_running() || instance.frozen || instance.retired {
            return Ok(());
        }
        if self.rng.bool() {
            let mut cluster = self.cluster.borrow_mut();
            instance.dead.drain(..).for_each(|client| cluster.group.leave(client));
        }
        let full = instance.full;
        self.cluster.borrow_mut().note(|| format!("i{number} starts"));
        match instance.start() {
            Err(_) if full => Ok(()),
            started => started,
        }
    }
}
