//! The commands of the model's topic: each partition has the same. The contract's own code reads them.

use contract::{
    ActivityId, Claim, Coordinates, Decider, Decision, Event, Header, IdempotencyKey, Limits, Reading, Record,
};

use super::rules::Settle;

/// The most commands that a state has room for.
pub const MOST: usize = 4;
/// The idempotency window, in milliseconds.
const WINDOW_MS: i64 = 100;
const TOPIC: &str = "activity.commands";

/// What a command became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Event,
    /// Of the command at this offset.
    Duplicate(u8),
    Rejected,
}

impl Outcome {
    /// Whether a notification or a rejection is published.
    pub fn has_output(self) -> bool {
        !matches!(self, Self::Duplicate(_))
    }
}

/// A command as its producer sees it, with the outcome that the contract requires.
pub struct Script {
    pub key: Option<&'static str>,
    pub content: &'static str,
    /// Milliseconds since 1970, which fit into a state.
    pub timestamp: u8,
    pub becomes: Outcome,
}

struct Command {
    checksum: u32,
    timestamp: u8,
    event: Event,
    key: Option<IdempotencyKey>,
    becomes: Outcome,
}

/// The commands by offset.
pub struct Commands(Vec<Command>);

impl Commands {
    pub fn new(script: &[Script]) -> Self {
        assert!(script.len() <= MOST);
        let decider = Decider::new(TOPIC, Limits::default());
        let command = |(offset, script): (i64, &Script)| {
            let value = format!(
                r#"{{"objectType":"case","objectId":"1","content":"{}","targets":[{{"targetId":"u","notify":true}}]}}"#,
                script.content
            );
            let record = Record {
                coordinates: Coordinates { partition: 0, offset, timestamp: script.timestamp.into() },
                key: Some("case/1".into()),
                value: Some(value.into()),
                headers: script.key.map(|key| Header::new("idempotency-key", key)).into_iter().collect(),
            };
            match decider.read(&record).reading {
                Reading::Valid { event, key } => Command {
                    checksum: record.checksum(),
                    timestamp: script.timestamp,
                    event,
                    key,
                    becomes: script.becomes,
                },
                Reading::Rejected(problems) => panic!("a command of the model is invalid: {problems:?}"),
            }
        };
        Self((0..).zip(script).map(command).collect())
    }

    pub fn count(&self) -> u8 {
        self.0.len() as u8
    }

    pub fn timestamp(&self, offset: u8) -> u8 {
        self.0[usize::from(offset)].timestamp
    }

    /// The partition's clock after the commands below `next`.
    pub fn clock(&self, next: u8) -> u8 {
        (0..next).map(|offset| self.timestamp(offset)).fold(0, u8::max)
    }

    pub fn coordinates(&self, partition: u8, offset: u8) -> Coordinates {
        let timestamp = self.timestamp(offset).into();
        Coordinates { partition: partition.into(), offset: offset.into(), timestamp }
    }

    pub fn checksum(&self, offset: u8) -> u32 {
        self.0[usize::from(offset)].checksum
    }

    /// What the command has to become.
    pub fn becomes(&self, offset: u8) -> Outcome {
        self.0[usize::from(offset)].becomes
    }

    /// Whether both have the same key, and lie so close that one is a repetition of the other.
    pub fn repeats(&self, one: u8, other: u8) -> bool {
        let apart = self.timestamp(one).abs_diff(self.timestamp(other));
        one != other && self.share_a_key(one, other) && i64::from(apart) < WINDOW_MS
    }

    /// Whether both have the same key.
    pub fn share_a_key(&self, one: u8, other: u8) -> bool {
        let key = |offset: u8| self.0[usize::from(offset)].key.map(|key| key.hash);
        key(one).is_some() && key(one) == key(other)
    }

    /// Decides a command. `claim` is the latest command that has a claim with its key: its offset, the offset of the event
    /// that the key stands for, and the partition's clock there.
    pub fn decide(&self, settle: Settle, offset: u8, claim: Option<(u8, u8, u8)>, clock: u8) -> Outcome {
        let Command { event, key, .. } = &self.0[usize::from(offset)];
        let claim = claim.map(|(latest, first, last_seen)| Claim {
            first: self.id(first),
            fingerprint: self.0[usize::from(latest)].key.expect("it has a claim").fingerprint,
            last_seen: last_seen.into(),
        });
        match settle(event.clone(), *key, claim.as_ref(), clock.into(), WINDOW_MS) {
            Decision::Accepted(_) => Outcome::Event,
            Decision::Duplicate { of } => Outcome::Duplicate(of.offset() as u8),
            Decision::Rejected(_) => Outcome::Rejected,
        }
    }

    fn id(&self, offset: u8) -> ActivityId {
        self.0[usize::from(offset)].event.id()
    }
}
