//! Commands for all benchmarks: a function of a seed and a number, so that each run measures the same.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::{fmt::Write as _, path::Path};

use activity_stream::{
    cli::settings,
    config::{Config, Synchronous},
};
use contract::{Coordinates, Decider, Header, Record};
use event_log::EventLog;
use fastrand::Rng;

/// The program's own, for whatever is compared with it too.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2026-11-24T00:00:00Z, the timestamp of the first command; each is a millisecond later than the one before it.
const BEGIN: i64 = 1_795_478_400_000;
pub const TOPIC: &str = "activity.commands";
pub const LOG_FILE: &str = "activity.db";
const SEED: u64 = 4;
const WORDS: [&str; 16] = [
    "invoice",
    "approved",
    "customer",
    "is",
    "updated",
    "and",
    "the",
    "case",
    "was",
    "sent",
    "to",
    "accounting",
    "Zürich",
    "waiting",
    "for",
    "review",
];

/// A command as it is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub key: String,
    pub value: String,
    /// Of a command that may come again.
    pub idempotency_key: Option<String>,
}

impl Command {
    /// The record that it is on a topic.
    pub fn record(&self, partition: i32, offset: i64) -> Record {
        let keyed = self.idempotency_key.iter();
        Record {
            coordinates: Coordinates { partition, offset, timestamp: BEGIN + offset },
            key: Some(self.key.clone().into()),
            value: Some(self.value.clone().into()),
            headers: keyed.map(|key| Header::new("idempotency-key", key.as_bytes())).collect(),
        }
    }

    pub fn keyed(self, number: u64) -> Self {
        // Neighbouring keys have nothing in common, as a producer's have.
        let key =
            format!("{:032x}", u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        Self { idempotency_key: Some(key), ..self }
    }
}

fn random(number: u64) -> Rng {
    Rng::with_seed(SEED ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Two required fields: everyone may see it, nobody is notified.
pub fn small(number: u64) -> Command {
    let mut random = random(number);
    let (kind, id) = object(&mut random);
    let value = format!(r#"{{"objectType":"{kind}","objectId":"{id}"}}"#);
    Command { key: format!("{kind}/{id}"), value, idempotency_key: None }
}

/// About 330 bytes: two targets, one of which is notified, and an attachment.
pub fn usual(number: u64) -> Command {
    let mut random = random(number);
    let words = random.usize(8..16);
    command(number, &mut random, 2, words, 1)
}

/// One that is notified among one to five targets, up to two attachments, and a text of up to 40 words: 330 bytes on
/// average, as [`usual`], and no two alike.
pub fn varied(number: u64) -> Command {
    let mut random = random(number);
    let targets = *random.choice(&[1, 1, 2, 2, 2, 2, 3, 5]).expect("some");
    let words = *random.choice(&[0, 5, 10, 10, 15, 40]).expect("some");
    let attachments = *random.choice(&[0, 0, 1, 1, 2]).expect("some");
    command(number, &mut random, targets, words, attachments)
}

/// About 20 KB: 200 targets, ten of which are notified.
pub fn large(number: u64) -> Command {
    let mut random = random(number);
    let (kind, id) = object(&mut random);
    let targets: Vec<String> = (0..200)
        .map(|place| target(&format!("user-{place}-{}", random.u32(..100_000)), place % 20 == 0))
        .collect();
    let value = format!(
        r#"{{"@type":"share","actor":"anna","objectType":"{kind}","objectId":"{id}","targets":[{}],"content":"{}"}}"#,
        targets.join(","),
        text(&mut random, 800)
    );
    Command { key: format!("{kind}/{id}"), value, idempotency_key: None }
}

/// Three things wrong: an empty id, a misspelt name, and a word where true or false is wanted.
pub fn bad(number: u64) -> Command {
    let mut random = random(number);
    let (kind, _) = object(&mut random);
    let text = text(&mut random, 12);
    let value = format!(
        r#"{{"objectType":"{kind}","objectId":"","content":"{text}","targets":[{{"targetId":"anna","notfy":true}},{{"targetId":"bo","notify":"yes"}}]}}"#
    );
    Command { key: format!("{kind}/{number}"), value, idempotency_key: None }
}

fn object(random: &mut Rng) -> (&'static str, u32) {
    (random.choice(["case", "customer", "workitem", "order"]).expect("some"), random.u32(..1_000_000))
}

fn command(number: u64, random: &mut Rng, targets: u32, words: usize, attachments: u32) -> Command {
    let (kind, id) = object(random);
    let verb = random.choice(["share", "update", "assign", "complete"]).expect("some");
    let notified = random.u32(..targets);
    let audience: Vec<String> = (0..targets)
        .map(|place| target(&format!("user-{}-{place}", random.u32(..20_000)), place == notified))
        .collect();
    let files: Vec<String> =
        (0..attachments).map(|place| format!(r#""bill-{number}-{place}.pdf""#)).collect();
    let mut value = format!(
        r#"{{"@type":"{verb}","actor":{{"id":"user-{}","name":"Anna Berg"}},"objectType":"{kind}","objectId":"{id}","targets":[{}]"#,
        random.u32(..20_000),
        audience.join(",")
    );
    if !files.is_empty() {
        let _ = write!(value, r#","attachments":[{}]"#, files.join(","));
    }
    let _ = write!(value, r#","content":"{}"}}"#, text(random, words));
    Command { key: format!("{kind}/{id}"), value, idempotency_key: None }
}

fn target(id: &str, notify: bool) -> String {
    if notify {
        format!(r#"{{"targetId":"{id}","notify":true}}"#)
    } else {
        format!(r#"{{"targetId":"{id}"}}"#)
    }
}

fn text(random: &mut Rng, words: usize) -> String {
    let words: Vec<&str> = (0..words).map(|_| *random.choice(&WORDS).expect("some")).collect();
    words.join(" ")
}

/// With the default limits.
pub fn decider() -> Decider {
    settings::decider(&Config::default())
}

/// A new log in this folder, as a configuration that says nothing else has it.
pub fn log(folder: &Path, synchronous: Synchronous) -> EventLog {
    let mut config = Config::default();
    config.log.path = folder.join(LOG_FILE);
    config.log.synchronous = synchronous;
    settings::open_log(&config).expect("a new log")
}
