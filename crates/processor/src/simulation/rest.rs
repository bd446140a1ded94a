//! The end of a schedule: all faults cease, the remaining instances run until they are idle, and the result is compared with
//! the model.

use rusqlite::Connection;

use super::{
    cluster::Faults,
    instance::Instance,
    model::{check_log, check_outputs},
    schedule::Schedule,
};
use crate::pipeline::Stage;

/// Rounds of every stage of every instance within which everything must be idle.
const ROUNDS: u32 = 500;

impl Schedule {
    /// Ends all faults, and runs some instances until there is nothing left to do.
    pub fn rest(&mut self) -> Result<(), String> {
        self.note(|| "all faults cease".into());
        self.cease();
        let available: Vec<usize> =
            (0..self.instances.len()).filter(|&number| !self.instances[number].retired).collect();
        let survivor = *self.rng.choice(&available).expect("one is left");
        for number in available {
            if number == survivor || self.rng.bool() {
                self.restart(number)?;
            }
        }
        self.settle(survivor)
    }

    /// Ends all faults, and removes the effects of earlier ones.
    pub fn cease(&mut self) {
        let mut cluster = self.cluster.borrow_mut();
        cluster.faults = Faults { patient: cluster.faults.patient, ..Faults::default() };
        cluster.refusing = false;
        cluster.stalled.clear();
        cluster.expire_all();
        for instance in &mut self.instances {
            instance.dead.drain(..).for_each(|client| cluster.group.leave(client));
            instance.frozen = false;
            instance.fill(false);
        }
    }

    /// Runs the running instances, and in any case the survivor, until there is nothing left to do.
    pub fn settle(&mut self, survivor: usize) -> Result<(), String> {
        let mut still = 0;
        for _ in 0..ROUNDS {
            for number in 0..self.instances.len() {
                for stage in Stage::ALL {
                    self.step(number, stage)?;
                }
            }
            // None is left if the last one was asked to stop. After a retriable error it starts again.
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

    pub fn check(&mut self) -> Result<(), String> {
        let cluster = self.cluster.borrow();
        if let Some(violation) = &cluster.violation {
            return Err(violation.clone());
        }
        check_outputs(&cluster, &self.commands, &self.allowed)?;
        let mut owned = 0;
        for instance in self.instances.iter().filter(|instance| instance.is_running()) {
            let log = instance.log().expect("open while it runs").lock().expect("no holder panics");
            let file = Connection::open(instance.path()).expect("the log");
            check_log(&cluster, &self.commands, &log, &file, &self.allowed)
                .map_err(|wrong| format!("{}: {wrong}", instance.name))?;
            drop(log);
            owned += instance.owned().len();
            if let Some(lacks) = instance.lacks() {
                return Err(format!("{}: {lacks}", instance.name));
            }
        }
        drop(cluster);
        if owned != self.partitions() as usize {
            return Err(format!("{owned} partitions have an owner"));
        }
        self.check_stop()
    }

    /// After a clean stop, the log knows exactly how far the output is published.
    fn check_stop(&mut self) -> Result<(), String> {
        let mut running = self.instances.iter_mut().filter(|instance| instance.is_running());
        // The others lose partitions when it leaves.
        let Some(instance) = running.next() else { return Ok(()) };
        let owned = instance.owned();
        let clean = |instance: &Instance| -> Vec<_> {
            let cursors = instance.cursors().into_iter().filter(|cursor| cursor.clean);
            cursors.map(|cursor| (cursor.partition, cursor.seen)).collect()
        };
        let before = clean(instance);
        instance.ask_to_stop(true);
        for stage in Stage::ALL {
            instance.step(stage)?;
        }
        let committed = |partition: i32| self.cluster.borrow().committed.get(&partition).copied();
        let wanted: Vec<_> = owned.into_iter().filter_map(|p| Some((p, Some(committed(p)?)))).collect();
        // For partitions that it did not hold, an earlier clean stop is still valid.
        let wanted = if wanted.is_empty() { before } else { wanted };
        let found = clean(instance);
        if instance.is_running() || found != wanted {
            return Err(format!("{} recorded a clean stop at {found:?}, wanted {wanted:?}", instance.name));
        }
        Ok(())
    }
}
