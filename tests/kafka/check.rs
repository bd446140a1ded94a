//! The independent check: compares the topics, as read by Kafka's own consumer, with the required outcome of the load.

use std::{collections::HashMap, fmt, path::Path, thread};

use super::{
    expected::{Expected, Outcome, Place},
    load::Load,
    logs::{self, Noted},
    process::Setup,
    progress::Progress,
    reading::{IDLE, LONG_IDLE, Read, read},
};

/// The number of deviations that are shown.
const SHOWN: usize = 20;

/// Counts and deviations, for a test's last line.
#[derive(Debug)]
pub struct Findings {
    pub expected: Expected,
    pub deviations: Vec<String>,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expected { load, appended_again, events, duplicates, rejections, notifications, .. } =
            &self.expected;
        write!(
            f,
            "seed {}, {} commands, {events} events, {duplicates} duplicates, {rejections} rejections, \
             {notifications} notifications, {} deviations",
            load.seed,
            u64::from(load.commands) + appended_again,
            self.deviations.len()
        )?;
        if *appended_again > 0 {
            write!(f, "; its producer appended {appended_again} of the commands twice")?;
        }
        Ok(())
    }
}

impl Findings {
    /// The topics of a test that has come to rest, against its load.
    pub fn of_topics(setup: &Setup, load: Load) -> Self {
        Self::of_output(setup, expected(setup, load))
    }

    /// The output topics of a test that has come to rest, against what must be in them.
    pub fn of_output(setup: &Setup, expected: Expected) -> Self {
        let servers = &setup.servers;
        let (notifications, rejections) = expected.output();
        let may_repeat = expected.may_repeat;
        let deviations = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let topic = &setup.names.rejections;
                let copies = |place: &Place| expected.copies(*place);
                compare(servers, topic, rejections, may_repeat, copies, |read| expected.judge_rejection(read))
            });
            let topic = &setup.names.notifications;
            let copies = |(place, _): &(Place, usize)| expected.copies(*place);
            let mut deviations = compare(servers, topic, notifications, may_repeat, copies, |read| {
                expected.judge_notification(read)
            });
            deviations.extend(reading.join().expect("a reading"));
            deviations
        });
        Self { expected, deviations }
    }

    /// A log must be right in all that it says, and complete for the partitions in `whole`.
    pub fn log(&mut self, path: &Path, whole: &[i32]) {
        let deviations = self.log_deviations(path, whole);
        self.deviations.extend(deviations);
    }

    /// The same for a log that must have noted these gaps and interventions.
    pub fn log_with(&mut self, path: &Path, whole: &[i32], noted: &Noted) {
        self.deviations.extend(logs::compare(path, &self.expected, whole, noted));
    }

    /// What [`Findings::log`] would add.
    pub fn log_deviations(&self, path: &Path, whole: &[i32]) -> Vec<String> {
        logs::compare(path, &self.expected, whole, &Noted::default())
    }

    /// What `activity-stream verify` finds in the same topics and these logs: it must agree, in every number.
    pub fn verify(&mut self, setup: &Setup, logs: &[&Path]) {
        let mut command = setup.program(&["verify", "--json"]);
        for log in logs {
            command.arg("--log").arg(log);
        }
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let last: serde_json::Value =
            said.lines().last().and_then(|line| line.parse().ok()).unwrap_or_default();
        let Expected {
            load, appended_again, events, duplicates, rejections, notifications, may_repeat, ..
        } = &self.expected;
        // It names what is there more often, whatever the guarantee.
        let repeated =
            if *may_repeat { said.matches(r#"{"deviation":{"kind":"doubled""#).count() as u64 } else { 0 };
        let wanted = [
            ("commands", u64::from(load.commands) + appended_again),
            ("events", *events),
            ("duplicates", *duplicates),
            ("rejections", *rejections),
            ("notifications", *notifications),
            ("deviations", repeated),
            ("unchecked", 0),
        ];
        let agrees = wanted.iter().all(|(name, count)| last["summary"][name] == *count);
        if !agrees || output.status.success() != (repeated == 0) {
            let lines: Vec<&str> = said.lines().take(SHOWN).chain(said.lines().last()).collect();
            self.deviations.push(format!(
                "verify ended with {}:\n{}\n{}",
                output.status,
                lines.join("\n"),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }

    /// Ends the test where its commands did not become everything that commands can become: it would prove nothing of
    /// what is not there.
    #[track_caller]
    pub fn assert_all_kinds(&self) {
        let Expected { events, duplicates, rejections, notifications, .. } = &self.expected;
        let kinds = [*events, *duplicates, *rejections, *notifications];
        assert!(kinds.iter().all(|&count| count > 0), "{self}: a kind is missing");
    }

    /// Ends the test where there is any deviation.
    #[track_caller]
    pub fn assert_none(&self) {
        let shown = self.deviations.iter().take(SHOWN).map(|deviation| format!("\n  {deviation}"));
        assert!(self.deviations.is_empty(), "{self}:{}", shown.collect::<String>());
    }
}

/// What must become of the commands, from the topic itself.
pub fn expected(setup: &Setup, load: Load) -> Expected {
    let topic = &setup.names.commands;
    let progress = Progress::of(setup);
    for idle in [IDLE, LONG_IDLE] {
        // A new leader may know of fewer at first.
        let appended = progress.appended();
        let mut records = Vec::new();
        read(&setup.servers, topic, idle, None, |record| records.push(record));
        if records.len() as u64 >= appended {
            let mut expected = Expected::of(load, topic, records);
            expected.may_repeat = setup.is_at_least_once();
            return expected;
        }
    }
    panic!("not all commands in the topic {topic} can be read");
}

/// Every record of a topic must be found right, each as often as `copies` says or more often if they may be repeated, and so
/// many of them.
fn compare<K: std::hash::Hash + Eq>(
    servers: &str,
    topic: &str,
    wanted: u64,
    may_repeat: bool,
    copies: impl Fn(&K) -> u64,
    judge: impl Fn(&Read) -> Result<K, String>,
) -> Vec<String> {
    let mut deviations = Vec::new();
    for idle in [IDLE, LONG_IDLE] {
        let mut seen = HashMap::new();
        deviations.clear();
        read(servers, topic, idle, None, |record| match judge(&record) {
            Ok(key) => {
                let most = copies(&key);
                let times = seen.entry(key).or_insert(0_u64);
                if *times < most {
                    *times += 1;
                } else if !may_repeat {
                    let (place, id) = (record.place(), record.header("ce_id").unwrap_or_default());
                    deviations.push(format!("{topic} {place}: {id} is there more than {most} times"));
                }
            }
            Err(problem) => deviations.push(format!("{topic} {}: {problem}", record.place())),
        });
        let missing = wanted - seen.values().sum::<u64>();
        if missing == 0 {
            break;
        }
        deviations.push(format!("{topic}: {missing} of {wanted} are missing"));
    }
    deviations
}

impl Outcome {
    /// For messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Duplicate { .. } => "duplicate",
            Self::Rejection(_) => "rejection",
        }
    }
}
