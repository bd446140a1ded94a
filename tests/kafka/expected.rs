//! The required outcomes of a load's commands, given their offsets in the topic.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use super::{
    content::{Content, Notification, time},
    load::{Command, Load, Meaning, NUMBER, Problem},
    reading::Read,
};

/// Partition and offset.
pub type Place = (i32, i64);

/// One command in the topic, and what must become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub number: u32,
    pub timestamp: i64,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Event,
    /// Of the event at this offset of the same partition, with this timestamp.
    Duplicate {
        offset: i64,
        timestamp: i64,
    },
    Rejection(Problem),
}

/// Everything that must be in the output topics and in a complete log.
#[derive(Debug)]
pub struct Expected {
    pub load: Load,
    pub commands: BTreeMap<Place, Known>,
    /// Commands that the producer appended once more: each time is a command of its own.
    pub appended_again: u64,
    pub events: u64,
    pub duplicates: u64,
    pub rejections: u64,
    pub notifications: u64,
    /// How often the output of these must be there, where that is not once: an operator asked for it.
    pub copies: BTreeMap<Place, u64>,
    /// Whether output may be there more often: the guarantee is at-least-once.
    pub may_repeat: bool,
    /// The 12 bits of the topic's name in every id.
    topic_bits: u32,
    topic: String,
}

impl Expected {
    /// From the topic's records, in any order. They must be the load's, each at least once: else the test is at fault.
    pub fn of(load: Load, topic: &str, records: Vec<Read>) -> Self {
        let numbers = 0..load.commands;
        Self::of_parts(load, &[numbers], topic, records, &BTreeSet::new())
    }

    /// The same for a load of which only these numbers were posted. Commands in `lost` were deleted before anybody
    /// read them, so they lead to nothing.
    pub fn of_parts(
        load: Load,
        numbers: &[Range<u32>],
        topic: &str,
        mut records: Vec<Read>,
        lost: &BTreeSet<Place>,
    ) -> Self {
        records.sort_unstable_by_key(|record| (record.partition, record.offset));
        let topic_bits = crc32c::crc32c(topic.as_bytes()) & 0xfff;
        let mut expected = Self {
            load,
            commands: BTreeMap::new(),
            appended_again: 0,
            events: 0,
            duplicates: 0,
            rejections: 0,
            notifications: 0,
            copies: BTreeMap::new(),
            may_repeat: false,
            topic_bits,
            topic: topic.to_owned(),
        };
        let mut first_with: HashMap<(i32, String), (Place, u32, i64)> = HashMap::new();
        let mut missing: BTreeSet<u32> = numbers.iter().cloned().flatten().collect();
        for record in records {
            let number: u32 = record.header(NUMBER).and_then(|text| text.parse().ok()).expect("a number");
            let command = load.command(number);
            assert!(is_same(&record, &command), "command {number} is not in the topic as it was posted");
            let place = (record.partition, record.offset);
            let was_posted = numbers.iter().any(|numbers| numbers.contains(&number));
            assert!(was_posted, "command {number} was never posted, and is in the topic at {place:?}");
            if !missing.remove(&number) {
                expected.appended_again += 1;
            }
            if lost.contains(&place) {
                continue;
            }
            let outcome = expected.outcome(place, record.timestamp, number, command.meaning, &mut first_with);
            let known = Known { number, timestamp: record.timestamp, outcome };
            assert_eq!(expected.commands.insert(place, known), None, "{place:?} was read twice");
        }
        assert!(missing.is_empty(), "commands that were posted are not in the topic: {missing:?}");
        expected
    }

    fn outcome(
        &mut self,
        place: Place,
        timestamp: i64,
        number: u32,
        meaning: Meaning,
        first_with: &mut HashMap<(i32, String), (Place, u32, i64)>,
    ) -> Outcome {
        let (content, key) = match meaning {
            Meaning::Bad(problem) => {
                self.rejections += 1;
                return Outcome::Rejection(problem);
            }
            Meaning::Valid { content, idempotency_key } => (content, idempotency_key),
        };
        if let Some(key) = key {
            let first = first_with.entry((place.0, key)).or_insert((place, number, timestamp));
            if first.0 != place {
                let (offset, timestamp) = (first.0.1, first.2);
                let same = content.posted() == self.content(first.1).expect("valid").posted();
                if same {
                    self.duplicates += 1;
                    return Outcome::Duplicate { offset, timestamp };
                }
                self.rejections += 1;
                return Outcome::Rejection(Problem { pointer: "", code: "idempotency_key_reused" });
            }
        }
        self.events += 1;
        self.notifications += content.notified().count() as u64;
        Outcome::Event
    }

    /// The content of a valid command.
    pub fn content(&self, number: u32) -> Option<Content> {
        match self.load.command(number).meaning {
            Meaning::Valid { content, .. } => Some(content),
            Meaning::Bad(_) => None,
        }
    }

    /// How many notifications and rejections must be there.
    pub fn output(&self) -> (u64, u64) {
        let (mut notifications, mut rejections) = (self.notifications, self.rejections);
        for (place, copies) in &self.copies {
            match self.commands.get(place) {
                Some(Known { outcome: Outcome::Event, number, .. }) => {
                    let each = self.content(*number).map_or(0, |content| content.notified().count() as u64);
                    notifications = notifications - each + copies * each;
                }
                Some(Known { outcome: Outcome::Rejection(_), .. }) => rejections = rejections - 1 + copies,
                _ => {}
            }
        }
        (notifications, rejections)
    }

    /// How often the output of the command at `place` must be there.
    pub fn copies(&self, place: Place) -> u64 {
        self.copies.get(&place).copied().unwrap_or(1)
    }

    /// The activity id of the record at `place`: contract, section 2.
    pub fn id(&self, (partition, offset): Place, timestamp: i64) -> String {
        let bits = (timestamp as u128) << 80
            | 8 << 76
            | u128::from(self.topic_bits) << 64
            | 0b10 << 62
            | (partition as u128) << 48
            | offset as u128;
        uuid::Uuid::from_u128(bits).to_string()
    }

    /// What must be at `target` of the event at `place`; `None` where nothing must.
    pub fn notification(&self, place: Place, target: usize) -> Option<Notification> {
        let known = self.commands.get(&place).filter(|known| known.outcome == Outcome::Event)?;
        let id = self.id(place, known.timestamp);
        self.content(known.number)?.notification(&id, target, known.timestamp)
    }

    /// What is wrong with a notification, if anything.
    pub fn judge_notification(&self, read: &Read) -> Result<(Place, usize), String> {
        let id = read.header("ce_id").unwrap_or_default();
        let place = place_of(id).ok_or_else(|| format!("an id that is none: {id:?}"))?;
        let (at, target) = place;
        let wanted = self.notification(at, target).ok_or_else(|| format!("{id} should not be there"))?;
        let known = &self.commands[&at];
        let time = time(known.timestamp);
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", &wanted.id),
            ("ce_source", "activity-stream"),
            ("ce_type", "activity-stream.notification"),
            ("ce_time", &time),
            ("ce_subject", &wanted.subject),
            ("content-type", "application/json"),
        ];
        let same_headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let found = read.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let same = read.key.as_deref() == Some(wanted.key.as_bytes())
            && read.value.as_deref() == Some(wanted.value.as_bytes())
            && found.eq(same_headers);
        if same { Ok(place) } else { Err(format!("{id} is altered: {read:?} instead of {wanted:?}")) }
    }

    /// What is wrong with a rejection, if anything.
    pub fn judge_rejection(&self, read: &Read) -> Result<Place, String> {
        let header = |name: &str| read.header(&format!("__connect.errors.{name}")).unwrap_or_default();
        let place = (header("partition").parse().unwrap_or(-1), header("offset").parse().unwrap_or(-1));
        let Some(Known { number, outcome: Outcome::Rejection(problem), .. }) = self.commands.get(&place)
        else {
            return Err(format!("a rejection of {place:?} should not be there"));
        };
        let mut command = self.load.command(*number);
        let problems = header("exception.message").to_owned();
        let (partition, offset) = (place.0.to_string(), place.1.to_string());
        let own = [
            ("__connect.errors.topic", self.topic.clone()),
            ("__connect.errors.partition", partition),
            ("__connect.errors.offset", offset),
            ("__connect.errors.stage", "decide".into()),
            ("__connect.errors.exception.class.name", problem.code.into()),
            ("__connect.errors.exception.message", problems.clone()),
        ];
        command.headers.extend(own);
        let problems: serde_json::Value = serde_json::from_str(&problems).unwrap_or_default();
        let named = problems.as_array().map_or(0, Vec::len) == 1
            && problems[0]["pointer"] == problem.pointer
            && problems[0]["code"] == problem.code;
        if named && is_same(read, &command) {
            Ok(place)
        } else {
            Err(format!("the rejection of {place:?} is altered: {read:?} instead of {command:?}"))
        }
    }
}

/// Whether a record is the command as it was posted.
fn is_same(read: &Read, command: &Command) -> bool {
    let headers = command.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let found = read.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    read.key.as_deref() == command.key.as_deref().map(str::as_bytes)
        && read.value == command.value
        && found.eq(headers)
}

/// Partition, offset and target of a notification's id.
fn place_of(id: &str) -> Option<(Place, usize)> {
    let (activity, target) = id.split_once('/')?;
    let bits = uuid::Uuid::parse_str(activity).ok()?.as_u128();
    let partition = i32::try_from(bits >> 48 & 0x3fff).ok()?;
    let offset = i64::try_from(bits & 0xffff_ffff_ffff).ok()?;
    Some(((partition, offset), target.parse().ok()?))
}
