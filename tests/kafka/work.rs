//! One test's program, and a load that is posted in parts with faults in between.

use std::{collections::BTreeSet, mem, ops::Range, path::Path};

use super::{
    broker,
    check::Findings,
    expected::{Expected, Place},
    load::{Load, Posting},
    process::{Instance, PATIENCE, Setup},
    progress::Progress,
    reading::{self, Read},
    say, seed,
};

pub const PARTITIONS: i32 = 3;
/// All of them.
pub const ALL: [i32; 3] = [0, 1, 2];
/// The largest distance of a repeated command from the first.
const APART: u32 = 1_000;

pub struct Work {
    pub setup: Setup,
    pub progress: Progress,
    seed: u64,
    posted: Vec<Range<u32>>,
    /// The commands topic as it was before some of it was deleted.
    remembered: Vec<Read>,
    lost: BTreeSet<Place>,
}

impl Work {
    /// On the broker that all tests share.
    pub fn new(test: &str) -> Self {
        Self::at(test, &broker::shared())
    }

    pub fn at(test: &str, servers: &str) -> Self {
        let setup = Setup::new(test, servers, PARTITIONS);
        let progress = Progress::of(&setup);
        let (posted, remembered, lost) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { setup, progress, seed: seed(test), posted, remembered, lost }
    }

    /// Posts this number of further commands, and waits until they are in the topic.
    pub fn post(&mut self, commands: u32) {
        let next = self.posted.last().map_or(0, |numbers| numbers.end);
        self.post_from(next, commands);
    }

    /// The same, and none of them repeats one of those that were posted before.
    pub fn post_apart(&mut self, commands: u32) {
        let next = self.posted.last().map_or(0, |numbers| numbers.end + APART);
        self.post_from(next, commands);
    }

    /// Posts commands that repeat none of those before, at this rate, until [`Work::end`].
    pub fn post_steadily_apart(&mut self, per_second: u32) -> Posting {
        let next = self.posted.last().map_or(0, |numbers| numbers.end + APART);
        self.posted.push(next..next);
        let (servers, topic) = (&self.setup.servers, &self.setup.names.commands);
        self.load().post(servers, topic, next..u32::MAX).steadily(per_second)
    }

    /// Waits until what was posted is in the topic.
    pub fn end(&mut self, posting: Posting) {
        self.posted.last_mut().expect("it was begun").end = posting.end();
    }

    fn post_from(&mut self, first: u32, commands: u32) {
        let numbers = first..first + commands;
        self.load().post(&self.setup.servers, &self.setup.names.commands, numbers.clone()).finish();
        self.posted.push(numbers);
    }

    /// How many were posted.
    pub fn posted(&self) -> u32 {
        self.posted.iter().map(|numbers| numbers.end - numbers.start).sum()
    }

    pub fn load(&self) -> Load {
        Load { seed: self.seed, commands: self.posted() }
    }

    /// Waits until the output of all that was posted is out.
    #[track_caller]
    pub fn await_published(&self, instance: &mut Instance) {
        let total = self.posted().into();
        self.progress.await_published(total, 2 * PATIENCE, || instance.assert_running());
    }

    /// Reads the commands topic, before some of it is deleted.
    pub fn remember(&mut self) {
        self.remembered = self.records();
    }

    /// These were deleted before anybody read them.
    pub fn lose(&mut self, places: impl IntoIterator<Item = Place>) {
        self.lost.extend(places);
    }

    /// The remembered places.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.remembered.iter().map(|record| (record.partition, record.offset))
    }

    /// What was remembered, and what the topic holds besides.
    fn records(&mut self) -> Vec<Read> {
        let mut records = mem::take(&mut self.remembered);
        let known: BTreeSet<Place> = records.iter().map(|read| (read.partition, read.offset)).collect();
        let wanted = self.posted() as usize;
        // A reader that gets nothing for this long is at the end, usually.
        for idle in [reading::IDLE, reading::LONG_IDLE] {
            if records.len() == wanted {
                break;
            }
            records.truncate(known.len());
            let retained = wanted - known.len() + self.retained(&known);
            let most = u32::try_from(retained).expect("a count");
            reading::read(&self.setup.servers, &self.setup.names.commands, idle, Some(most), |read| {
                if !known.contains(&(read.partition, read.offset)) {
                    records.push(read);
                }
            });
        }
        assert_eq!(records.len(), wanted, "commands that were posted are not in the topic");
        records
    }

    /// How many of the known places the topic still holds.
    fn retained(&self, known: &BTreeSet<Place>) -> usize {
        let starts = self.progress.starts();
        known.iter().filter(|(partition, offset)| *offset >= starts[partition]).count()
    }

    /// What must have become of the commands.
    pub fn expected(&mut self) -> Expected {
        let records = self.records();
        let topic = &self.setup.names.commands;
        Expected::of_parts(self.load(), &self.posted, topic, records, &self.lost)
    }

    /// The output topics against it.
    pub fn findings(&mut self) -> Findings {
        let expected = self.expected();
        Findings::of_output(&self.setup, expected)
    }

    /// What was published is right, and so is this log with all partitions. Prints what was done, with the counts.
    #[track_caller]
    pub fn assert_right(&mut self, done: &str, log: &Path) {
        let mut findings = self.findings();
        findings.log(log, &ALL);
        findings.verify(&self.setup, &[log]);
        say!("{done} {findings}");
        findings.assert_none();
    }
}
