//! What must come out, said as plainly as it can be, and held against what did.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use super::{TOPIC, WINDOW_MS, cluster::Cluster};
use crate::{
    activity::{ActivityId, Coordinates, Decision, Header, OutputRecord, Record, topic_bits},
    event_log::EventLog,
    kafka::OutputTopic,
};

/// What whoever made a command knows of it.
#[derive(Debug, Clone)]
pub struct Command {
    pub bad: bool,
    pub key: Option<u32>,
    pub content: u32,
    pub notified: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Becomes {
    Event,
    Duplicate(Coordinates),
    Rejection,
}

/// The commands by partition and offset.
pub type Commands = BTreeMap<(i32, i64), Command>;

/// Makes a command and its record.
pub fn command(rng: &mut fastrand::Rng, at: Coordinates, keyed: bool) -> (Command, Record) {
    let notified = rng.usize(0..4).saturating_sub(usize::from(rng.bool()));
    let command = Command {
        bad: rng.u32(0..8) == 0,
        key: (keyed && rng.u32(0..3) > 0).then(|| rng.u32(0..4)),
        content: if rng.u32(0..4) == 0 { rng.u32(0..3) } else { 0 },
        notified,
    };
    // With a key, all of the content hangs on it but for some reuse; so is the number of targets.
    let command = Command { notified: command.key.map_or(notified, |key| key as usize % 3), ..command };
    let targets: Vec<String> = (0..command.notified)
        .map(|place| format!(r#"{{"targetId":"u{place}","notify":true}}"#))
        .chain([r#"{"@type":"Everyone"}"#.to_owned()])
        .collect();
    let wrong = if command.bad { r#","actor":7"# } else { "" };
    let value = format!(
        r#"{{"objectType":"case","objectId":"1","content":"{}","targets":[{}]{wrong}}}"#,
        command.content,
        targets.join(",")
    );
    let headers =
        command.key.map(|key| Header::new("idempotency-key", key.to_string())).into_iter().collect();
    let record =
        Record { coordinates: at, key: Some(b"case/1".to_vec()), value: Some(value.into_bytes()), headers };
    (command, record)
}

fn decide(cluster: &Cluster, commands: &Commands) -> BTreeMap<(i32, i64), (Coordinates, Becomes)> {
    let mut decided = BTreeMap::new();
    let mut clocks: BTreeMap<i32, i64> = BTreeMap::new();
    let mut claims: HashMap<(i32, u32), (Coordinates, u32, i64)> = HashMap::new();
    for (&(partition, offset), command) in commands {
        let record = cluster.topic[&partition][offset as usize].as_ref().expect("a command");
        let at = record.coordinates;
        let clock = clocks.entry(partition).or_insert(0);
        *clock = at.timestamp.max(*clock);
        let becomes = match command.key {
            _ if command.bad => Becomes::Rejection,
            None => Becomes::Event,
            Some(key) => {
                let claim = claims.get_mut(&(partition, key)).filter(|claim| *clock - claim.2 < WINDOW_MS);
                match claim {
                    Some((_, content, _)) if *content != command.content => Becomes::Rejection,
                    Some((first, _, seen)) => {
                        *seen = *clock;
                        Becomes::Duplicate(*first)
                    }
                    None => {
                        claims.insert((partition, key), (at, command.content, *clock));
                        Becomes::Event
                    }
                }
            }
        };
        decided.insert((partition, offset), (at, becomes));
    }
    decided
}

/// The topics, at rest: everything visible once, and nothing else.
pub fn check_outputs(cluster: &Cluster, commands: &Commands) -> Result<(), String> {
    let mut wanted: BTreeMap<String, u32> = BTreeMap::new();
    for ((partition, offset), (at, becomes)) in decide(cluster, commands) {
        let command = &commands[&(partition, offset)];
        match becomes {
            Becomes::Duplicate(_) => {}
            Becomes::Rejection => {
                wanted.insert(format!("rejection of {partition}/{offset}"), command.content);
            }
            Becomes::Event => {
                let id = ActivityId::new(topic_bits(TOPIC), at);
                let notification =
                    |place| (format!("notification {id}/{place} to Identity:u{place}"), command.content);
                wanted.extend((0..command.notified).map(notification));
            }
        }
    }
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for (topic, record) in &cluster.visible {
        let (name, content) = describe(*topic, record);
        if found.insert(name.clone(), content).is_some() {
            return Err(format!("doubled: {name}"));
        }
    }
    for (name, content) in &wanted {
        match found.remove(name) {
            None => return Err(format!("lost: {name}")),
            Some(other) if other != *content => return Err(format!("altered: {name}")),
            Some(_) => {}
        }
    }
    found.into_keys().next().map_or(Ok(()), |name| Err(format!("foreign: {name}")))
}

fn describe(topic: OutputTopic, record: &OutputRecord) -> (String, u32) {
    let header = |name: &str| {
        let header = record.headers.iter().find(|header| header.name == name.as_bytes());
        header.map_or("none".into(), |header| text(header.value.as_deref()))
    };
    let value: serde_json::Value = serde_json::from_str(&text(record.value.as_deref())).expect("JSON");
    let content = |value: &serde_json::Value| value["content"].as_str().and_then(|text| text.parse().ok());
    match topic {
        OutputTopic::Notifications => {
            let name = format!("notification {} to {}", header("ce_id"), text(record.key.as_deref()));
            (name, content(&value["activity"]).unwrap_or(u32::MAX))
        }
        OutputTopic::Rejections => {
            let at = ["partition", "offset"].map(|name| header(&format!("__connect.errors.{name}")));
            (format!("rejection of {}", at.join("/")), content(&value).unwrap_or(u32::MAX))
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// A log, at rest: each command below `logged` once, as what it must become. Gaps only where they may be.
pub fn check_log(
    cluster: &Cluster,
    commands: &Commands,
    log: &EventLog,
    file: &Connection,
    gaps: bool,
) -> Result<(), String> {
    let doubled: i64 = file
        .query_row(
            "SELECT count(*) FROM (SELECT 1 FROM (SELECT partition, offset FROM events UNION ALL \
             SELECT partition, offset FROM duplicates UNION ALL SELECT partition, offset FROM rejections) \
             GROUP BY partition, offset HAVING count(*) > 1)",
            [],
            |row| row.get(0),
        )
        .map_err(|error| error.to_string())?;
    if doubled > 0 {
        return Err(format!("{doubled} commands became two things in a log"));
    }
    let mut missing = BTreeMap::new();
    for cursor in log.cursors().map_err(|error| error.to_string())? {
        let below = (cursor.partition, 0)..(cursor.partition, cursor.logged);
        missing
            .extend(decide(cluster, commands).range(below).map(|(&place, decided)| (place, decided.clone())));
        let recorded = log.recorded(cursor.partition, 0..cursor.logged).map_err(|error| error.to_string())?;
        for recorded in recorded {
            let at = recorded.coordinates;
            let becomes = match &recorded.decision {
                Decision::Accepted(event) => {
                    if event.id() != ActivityId::new(topic_bits(TOPIC), at) {
                        return Err(format!("the event at {at:?} has another id"));
                    }
                    Becomes::Event
                }
                Decision::Duplicate { of } => Becomes::Duplicate(of.coordinates()),
                Decision::Rejected(_) => Becomes::Rejection,
            };
            let found = (at, becomes);
            match missing.remove(&(at.partition, at.offset)) {
                Some(wanted) if wanted == found => {}
                wanted => return Err(format!("a log has {found:?}, wanted {wanted:?}")),
            }
        }
    }
    let in_gap = |partition: i32, offset: i64| {
        file.query_row(
            "SELECT count(*) FROM gaps WHERE partition = ?1 AND first_offset <= ?2 AND next_offset > ?2",
            [i64::from(partition), offset],
            |row| row.get::<_, i64>(0),
        )
        .is_ok_and(|count| count == 1)
    };
    missing.retain(|&(partition, offset), _| !(gaps && in_gap(partition, offset)));
    missing.into_iter().next().map_or(Ok(()), |missing| Err(format!("a log lacks {missing:?}")))
}
