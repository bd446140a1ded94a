//! A disk that silently changes a row of the log: a processor that needs the row must stop without publishing anything of
//! it, and continue with an older copy of the log, or without one.

use event_log::EventLog;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Mutation, schedule, schedule::Schedule};
use crate::{pipeline::Stage, start::Accept};

const DAMAGED: &str = "the event log is damaged: table ";
const ROTTED: &str = "a row of a log rotted";
const SCHEDULES: u64 = 200;

impl Schedule {
    /// Lets one instance append commands that it can't publish, changes one of these rows, and restarts the instance.
    fn rot(&mut self) -> Result<(), String> {
        let faults = self.cluster.borrow().faults;
        self.end_all(false)?;
        let number = self.instances.iter().position(|instance| !instance.retired).expect("one is left");
        self.instances[number].accept = Accept::default();
        self.restart(number)?;
        self.settle(number)?;
        (0..6).for_each(|_| self.produce());
        for stage in [Stage::Poll, Stage::Decide, Stage::Append].repeat(60) {
            self.step(number, stage)?;
        }
        self.instances[number].crash();
        self.cease();
        self.instances[number].back_up();
        let Some(what) = self.change_a_row(number) else { return Ok(()) };
        self.note(|| format!("i{number}: rot in {what}"));
        self.count(ROTTED);
        let stopped = self.expect_stop(&[number], Accept::default(), &[DAMAGED]);
        if self.instances[number].mutation.is_none() {
            stopped?;
            // A backup is restored or the log moved away, as the message says. A new log lacks the commands that retention
            // deleted, so it may decide differently.
            let restored = self.kinds.retention || self.rng.bool();
            let backup = self.instances[number].backups() - 1;
            self.instances[number].lose_tail(restored.then_some(backup), false);
        }
        self.continue_with(number, Accept::default())?;
        self.cluster.borrow_mut().faults = faults;
        Ok(())
    }

    /// Flips a bit in the row of a command that is not published yet.
    fn change_a_row(&mut self, number: usize) -> Option<String> {
        let file = Connection::open(self.instances[number].path()).expect("the log");
        let cursors = self.instances[number].cursors();
        let committed = self.cluster.borrow().committed.clone();
        let changes = [
            // Another audience.
            ("events", "json", r#"replace(json, '"u0"', '"t0"')"#),
            ("events", "timestamp", "timestamp + 1"),
            ("duplicates", "of_offset", "(of_offset | 64) - (of_offset & 64)"),
            ("rejections", "problems", "replace(problems, '_type', '_tyqe')"),
        ];
        let first = self.rng.usize(0..changes.len());
        for index in 0..changes.len() {
            let (table, column, change) = changes[(first + index) % changes.len()];
            for cursor in &cursors {
                let from = committed.get(&cursor.partition).copied().unwrap_or(0);
                let sql = format!(
                    "SELECT offset FROM {table} WHERE partition = ?1 AND offset >= ?2 AND {column} <> {change} LIMIT 1"
                );
                let row: Option<i64> = file
                    .query_row(&sql, params![cursor.partition, from], |row| row.get(0))
                    .optional()
                    .expect("a table of the log");
                let Some(offset) = row else { continue };
                let sql =
                    format!("UPDATE {table} SET {column} = {change} WHERE partition = ?1 AND offset = ?2");
                file.execute(&sql, params![cursor.partition, offset]).expect("a row of the log");
                if self.instances[number].mutation == Some(Mutation::RowsUnchecked) {
                    // Without checksums, no difference is noticed.
                    EventLog::update_checksums(&file);
                }
                return Some(format!("{table}.{column} of {}/{offset}", cursor.partition));
            }
        }
        None
    }
}

fn run(seed: u64, mutation: Option<Mutation>) -> Result<bool, String> {
    let ran = schedule::attempt_with(seed, mutation, false, |schedule, _| schedule.rot());
    let cluster = ran.map_err(|(reason, _)| reason)?;
    let rotted = cluster.borrow().happened.contains_key(ROTTED);
    Ok(rotted)
}

#[test]
fn a_row_that_rotted_is_never_published() {
    let ran =
        (0..SCHEDULES).map(|seed| run(seed, None).unwrap_or_else(|reason| panic!("seed {seed}: {reason}")));
    let rotted = ran.filter(|rotted| *rotted).count();
    assert!(rotted > SCHEDULES as usize / 3, "{rotted} of {SCHEDULES}");
}

#[test]
fn not_checking_rows_is_noticed() {
    let noticed: Vec<_> =
        (0..SCHEDULES).filter_map(|seed| run(seed, Some(Mutation::RowsUnchecked)).err()).collect();
    assert!(noticed.iter().any(|reason| reason.contains("published {")), "{noticed:?}");
}
