//! A schedule: what happens to the instances and to Kafka, drawn from a seed, and the checks behind it.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    rc::Rc,
};

use rusqlite::Connection;

use super::{
    Mutation,
    cluster::{Cluster, Faults, Shared},
    instance::{Instance, Stage},
    model::{Commands, check_log, check_outputs, command},
};
use crate::activity::Coordinates;

const PARTITIONS: i32 = 2;
/// Rounds of every stage of every instance within which everything must have come to rest.
const ROUNDS: u32 = 500;

/// A schedule after which something was wrong.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub reason: String,
    pub trace: Vec<String>,
}

/// What may happen in one schedule. Few kinds at a time reach states that all at once drown out.
#[derive(Debug)]
struct Kinds {
    crash: bool,
    power_loss: bool,
    removal: bool,
    freeze: bool,
    rebalance: bool,
    stop: bool,
    disk: bool,
    refusal: bool,
    retention: bool,
}

impl Kinds {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let mut draw = |in_ten: u32| rng.u32(0..10) < in_ten;
        Self {
            crash: draw(5),
            power_loss: draw(4),
            removal: draw(2),
            freeze: draw(4),
            rebalance: draw(5),
            stop: draw(4),
            disk: draw(1),
            refusal: draw(3),
            retention: draw(1),
        }
    }
}

struct Schedule {
    cluster: Shared,
    rng: fastrand::Rng,
    kinds: Kinds,
    instances: Vec<Instance>,
    commands: Commands,
    clock: i64,
    _directory: tempfile::TempDir,
}

/// Runs the schedule of this seed.
pub fn run(seed: u64, mutation: Option<Mutation>) -> Result<(), Failure> {
    let cluster = Rc::new(RefCell::new(Cluster::new(seed.wrapping_mul(2) + 1, PARTITIONS)));
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut schedule = Schedule::new(seed, &cluster, mutation);
        schedule.disturb()?;
        schedule.rest()?;
        schedule.check()
    }));
    let reason = match ran {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(reason)) => reason,
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(text) => format!("panicked: {text}"),
            None => "panicked".to_owned(),
        },
    };
    let trace = cluster.try_borrow().map(|cluster| cluster.trace.clone()).unwrap_or_default();
    Err(Failure { seed, reason, trace })
}

/// In memory where the system has such a place: files are made by the thousand.
fn directory() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

impl Schedule {
    fn new(seed: u64, cluster: &Shared, mutation: Option<Mutation>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(2));
        let directory = directory();
        let kinds = Kinds::draw(&mut rng);
        cluster.borrow_mut().note(|| format!("{kinds:?}"));
        cluster.borrow_mut().faults = Faults {
            lost_answer: [0, 20, 100][rng.usize(0..3)],
            refused: [0, 30][rng.usize(0..2)],
            moves: if kinds.rebalance { [5, 30][rng.usize(0..2)] } else { 0 },
        };
        let count = rng.usize(1..=3).max(rng.usize(1..=2));
        let instances = (0..count)
            .map(|number| Instance::new(format!("i{number}"), directory.path(), cluster, mutation))
            .collect();
        let (cluster, commands) = (Rc::clone(cluster), Commands::new());
        Self { cluster, rng, kinds, instances, commands, clock: 1000, _directory: directory }
    }

    fn note(&self, step: impl FnOnce() -> String) {
        self.cluster.borrow_mut().note(step);
    }

    /// Appends commands and control records to a partition.
    fn produce(&mut self) {
        let partition = self.rng.i32(0..PARTITIONS);
        for _ in 0..self.rng.usize(1..5) {
            let mut cluster = self.cluster.borrow_mut();
            let offset = cluster.end(partition);
            self.clock += self.rng.i64(-3..8);
            let entry = (self.rng.u32(0..5) > 0).then(|| {
                let at = Coordinates { partition, offset, timestamp: self.clock };
                // What a log with a hole knows of keys depends on the hole.
                let (command, record) = command(&mut self.rng, at, !self.kinds.retention);
                cluster.note(|| format!("produced {partition}/{offset} at {}: {command:?}", at.timestamp));
                self.commands.insert((partition, offset), command);
                record
            });
            cluster.topic.get_mut(&partition).expect("a partition").push(entry);
        }
    }

    fn disturb(&mut self) -> Result<(), String> {
        self.produce();
        for instance in &mut self.instances {
            instance.start()?;
        }
        for _ in 0..self.rng.u32(60..350) {
            let number = self.rng.usize(0..self.instances.len());
            match self.rng.u32(0..100) {
                0..=6 => self.produce(),
                7..=15 => self.fault(number)?,
                16..=17 => self.instances[number].back_up(),
                // Goes on for a while undisturbed.
                18..=25 => {
                    for stage in Stage::ALL.repeat(self.rng.usize(1..8)) {
                        self.step(number, stage)?;
                    }
                }
                _ => {
                    let stage = Stage::ALL[self.rng.usize(0..4)];
                    self.step(number, stage)?;
                }
            }
            if let Some(violation) = self.cluster.borrow().violation.clone() {
                return Err(violation);
            }
        }
        Ok(())
    }

    fn step(&mut self, number: usize, stage: Stage) -> Result<(), String> {
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
                instance.crash();
            }
            1 if kinds.power_loss && instance.backups() > 0 => {
                let backup = self.rng.usize(0..instance.backups());
                cluster.borrow_mut().note(|| format!("i{number} loses power, its log is copy {backup}"));
                instance.lose_tail(Some(backup));
            }
            2 if kinds.removal => {
                cluster.borrow_mut().note(|| format!("i{number} loses its log"));
                instance.lose_tail(None);
            }
            3 | 4 if kinds.freeze => {
                instance.frozen = !instance.frozen;
                let frozen = instance.frozen;
                cluster.borrow_mut().note(|| format!("i{number} frozen: {frozen}"));
                if frozen && self.rng.bool() {
                    cluster.borrow_mut().time_out_member();
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
                instance.crash();
                instance.full = !instance.full;
                let full = instance.full;
                cluster.borrow_mut().note(|| format!("i{number} full: {full}"));
            }
            8 if kinds.refusal => {
                let mut cluster = cluster.borrow_mut();
                cluster.refusing = !cluster.refusing;
                let refusing = cluster.refusing;
                cluster.note(|| format!("the broker refuses: {refusing}"));
            }
            9 if kinds.retention => cluster.borrow_mut().delete_old(),
            9 => cluster.borrow_mut().time_out_transaction(),
            _ => {}
        }
        // Whoever is down comes back some time.
        if self.rng.u32(0..3) == 0 {
            let other = self.rng.usize(0..self.instances.len());
            self.restart(other)?;
        }
        Ok(())
    }

    fn restart(&mut self, number: usize) -> Result<(), String> {
        let instance = &mut self.instances[number];
        if instance.is_running() || instance.frozen {
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

    /// All faults cease, and some instances run until there is nothing to do.
    fn rest(&mut self) -> Result<(), String> {
        self.note(|| "all faults cease".into());
        let mut cluster = self.cluster.borrow_mut();
        cluster.faults = Faults::default();
        cluster.refusing = false;
        for id in cluster.open_transactions() {
            cluster.expire(&id);
        }
        for instance in &mut self.instances {
            instance.dead.drain(..).for_each(|client| cluster.group.leave(client));
        }
        drop(cluster);
        let survivor = self.rng.usize(0..self.instances.len());
        for number in 0..self.instances.len() {
            let instance = &mut self.instances[number];
            instance.frozen = false;
            if std::mem::take(&mut instance.full) {
                instance.crash();
                let mut cluster = self.cluster.borrow_mut();
                instance.dead.drain(..).for_each(|client| cluster.group.leave(client));
            }
            if number == survivor || self.rng.bool() {
                self.restart(number)?;
            }
        }
        let mut still = 0;
        for _ in 0..ROUNDS {
            for number in 0..self.instances.len() {
                for stage in Stage::ALL {
                    self.step(number, stage)?;
                }
            }
            // Nobody is left where the last one had been asked to stop; a retriable end is followed by a start.
            if !self.instances[survivor].is_running() {
                self.restart(survivor)?;
            }
            let idle = self.instances.iter().all(|instance| instance.is_idle() && instance.lacks().is_none());
            let cluster = self.cluster.borrow();
            still = if idle && cluster.is_published() && cluster.group.is_settled() { still + 1 } else { 0 };
            if still == 4 {
                return Ok(());
            }
        }
        let lacks = self.instances.iter().find_map(Instance::lacks);
        Err(format!("it never comes to rest; lacking: {lacks:?}"))
    }

    fn check(&mut self) -> Result<(), String> {
        let cluster = self.cluster.borrow();
        if let Some(violation) = &cluster.violation {
            return Err(violation.clone());
        }
        check_outputs(&cluster, &self.commands)?;
        let mut owned = 0;
        for instance in self.instances.iter().filter(|instance| instance.is_running()) {
            let log = instance.log().expect("open while it runs").lock().expect("no holder panics");
            let file = Connection::open(instance.path()).expect("the log");
            let gaps = self.kinds.retention;
            check_log(&cluster, &self.commands, &log, &file, gaps)
                .map_err(|wrong| format!("{}: {wrong}", instance.name))?;
            drop(log);
            owned += instance.owned().len();
            if let Some(lacks) = instance.lacks() {
                return Err(format!("{}: {lacks}", instance.name));
            }
        }
        drop(cluster);
        if owned != PARTITIONS as usize {
            return Err(format!("{owned} partitions have an owner"));
        }
        self.check_stop()
    }

    /// After a stop in order, the log knows exactly what is published.
    fn check_stop(&mut self) -> Result<(), String> {
        let mut running = self.instances.iter_mut().filter(|instance| instance.is_running());
        // The others lose partitions by its leaving.
        let Some(instance) = running.next() else { return Ok(()) };
        let owned = instance.owned();
        instance.ask_to_stop(true);
        for stage in Stage::ALL {
            instance.step(stage)?;
        }
        let committed = |partition: i32| self.cluster.borrow().committed.get(&partition).copied();
        let wanted: Vec<_> = owned.into_iter().filter_map(|p| Some((p, committed(p)?))).collect();
        if instance.is_running() || instance.put_down != wanted {
            return Err(format!("{} put down {:?}, wanted {wanted:?}", instance.name, instance.put_down));
        }
        let file = Connection::open(instance.path()).expect("the log");
        for (partition, offset) in wanted {
            let found: (bool, i64) = file
                .query_row(
                    "SELECT clean, published_seen FROM cursors WHERE partition = ?1",
                    [partition],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .map_err(|error| format!("partition {partition} was not put down: {error}"))?;
            if found != (true, offset) {
                return Err(format!("{}: put down as {found:?}, wanted {offset}", instance.name));
            }
        }
        Ok(())
    }
}
