//! Several instances of one group under load, and the check of all of them at the end.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    check::Findings,
    group, holds_within,
    load::{Load, Posting},
    process::{Instance, PATIENCE, Setup},
    progress::Progress,
    say, wait_for,
};

/// Instances of one group, by name, of which some run, and the load that they share.
pub struct Members<'a> {
    pub setup: &'a Setup,
    pub progress: Progress,
    pub running: BTreeMap<&'static str, Instance>,
    pub stopped: Vec<&'static str>,
    seed: u64,
    posting: Posting,
}

impl<'a> Members<'a> {
    /// Starts all of them, and a load of this number of commands per second, which lasts until they come to rest.
    pub fn start_all(setup: &'a Setup, names: &[&'static str], seed: u64, per_second: u32) -> Self {
        let load = Load { seed, commands: u32::MAX };
        let posting = load.post(&setup.servers, &setup.names.commands, 0..load.commands).steadily(per_second);
        let (running, stopped) = (BTreeMap::new(), names.to_vec());
        let mut members = Self { setup, progress: Progress::of(setup), running, stopped, seed, posting };
        for _ in names {
            members.start(0);
        }
        members
    }

    /// Starts one of those that do not run.
    pub fn start(&mut self, index: usize) {
        let name = self.stopped.remove(index);
        self.running.insert(name, self.setup.start(name, &[]));
    }

    /// Takes one of those that run, for it to be ended.
    pub fn take(&mut self, index: usize) -> Instance {
        let name = *self.running.keys().nth(index).expect("a running instance");
        self.stopped.push(name);
        self.running.remove(name).expect("a running instance")
    }

    /// None of those that should run has ended on its own.
    #[track_caller]
    pub fn assert_running(&mut self) {
        self.running.values_mut().for_each(Instance::assert_running);
    }

    /// Waits for the output of this number of further commands.
    #[track_caller]
    pub fn advance(&mut self, commands: u64) {
        let goal = wait_for("the brokers to tell what is published", || self.progress.published()) + commands;
        let running = &mut self.running;
        self.progress.await_published(goal, 2 * PATIENCE, || {
            running.values_mut().for_each(Instance::assert_running);
        });
    }

    /// Waits for the output of all that was posted by now, whatever has piled up, and of some that was posted later.
    #[track_caller]
    pub fn catch_up(&mut self) {
        let goal = u64::from(self.posting.posted()) + 500;
        let running = &mut self.running;
        self.progress.await_published(goal, 2 * PATIENCE, || {
            running.values_mut().for_each(Instance::assert_running);
        });
    }

    /// Posts no more, and waits until all that was posted is published.
    #[track_caller]
    pub fn rest(&mut self) {
        self.posting.pause();
        let running = &mut self.running;
        self.progress.await_published(self.progress.appended(), 2 * PATIENCE, || {
            running.values_mut().for_each(Instance::assert_running);
        });
    }

    /// Goes on posting after [`Members::rest`].
    pub fn go_on(&mut self) {
        self.posting.go_on();
    }

    /// Whether every instance that runs has partitions, and every partition has one that runs.
    pub fn share_all(&mut self) -> bool {
        self.assert_running();
        let owners = group::assignments(self.setup);
        let all: usize = owners.values().map(Vec::len).sum();
        owners.len() == self.running.len()
            && owners.values().all(|held| !held.is_empty())
            && all == self.setup.partitions as usize
    }

    /// Starts those that do not run, ends the load, waits until all of it is published, and checks topics and logs
    /// independently: whatever a log says is right, and each is complete for all partitions, whoever held them.
    #[track_caller]
    pub fn finish(mut self, test: &str, done: &str) {
        while !self.stopped.is_empty() {
            self.start(0);
        }
        let posting = self.posting;
        let load = Load { seed: self.seed, commands: posting.end() };
        let (setup, mut running) = (self.setup, self.running);
        self.progress.await_published(self.progress.appended(), 2 * PATIENCE, || {
            running.values_mut().for_each(Instance::assert_running);
        });
        let mut findings = Findings::of_topics(setup, load);
        let mut owners = BTreeMap::new();
        let partitions: Vec<i32> = (0..setup.partitions).collect();
        let complete = holds_within(PATIENCE, || {
            running.values_mut().for_each(Instance::assert_running);
            owners = group::assignments(setup);
            let all: usize = owners.values().map(Vec::len).sum();
            let everyone = owners.len() == running.len() && owners.values().all(|held| !held.is_empty());
            let whole = |name: &&str| findings.log_deviations(&setup.log(name), &partitions).is_empty();
            everyone && all == partitions.len() && running.keys().all(whole)
        });
        let logs: Vec<_> = running.values().map(|instance| instance.log.clone()).collect();
        for instance in running.into_values() {
            findings.log(&instance.log, &partitions);
            instance.stop();
        }
        for log in &logs {
            findings.verify(setup, &[log]);
        }
        findings.verify(setup, &logs.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        say!("{test}: {done}, {findings}");
        findings.assert_all_kinds();
        findings.assert_none();
        assert!(complete, "the partitions were not shared by all instances: {owners:?}");
    }
}
