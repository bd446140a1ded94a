//! The required result, as a model that is as plain as possible, and its comparison with the actual result.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use contract::{
    ActivityId, CORRELATION_ID, Coordinates, Decision, Header, OutputRecord, Problems, Record, Reply,
    ReplyRecord, topic_bits,
};
use event_log::EventLog;
use kafka::OutputTopic;
use rusqlite::Connection;

use super::{TOPIC, WINDOW_MS, cluster::Cluster, replies::Ask};

/// What the maker of a command knows about it.
#[derive(Debug, Clone)]
pub struct Command {
    pub bad: bool,
    pub key: Option<u32>,
    pub content: u32,
    pub notified: usize,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Becomes {
    Event,
    Duplicate(Coordinates),
    Rejection,
}

/// The commands by partition and offset.
pub type Commands = BTreeMap<(i32, i64), Command>;

/// Makes a command and its record. Some are so large that appending them needs disk space, some request a reply.
pub fn command(rng: &mut fastrand::Rng, at: Coordinates, large: bool, asking: bool) -> (Command, Record) {
    let notified = rng.usize(0..4).saturating_sub(usize::from(rng.bool()));
    let command = Command {
        bad: rng.u32(0..8) == 0,
        key: (rng.u32(0..3) > 0).then(|| rng.u32(0..4)),
        content: if rng.u32(0..4) == 0 { rng.u32(0..3) } else { 0 },
        notified,
        ask: if asking { Ask::at(at) } else { Ask::Nothing },
    };
    // With a key, all of the content, including the number of targets, depends on it, except for some reuse.
    let command = Command { notified: command.key.map_or(notified, |key| key as usize % 3), ..command };
    let targets: Vec<String> = (0..command.notified)
        .map(|place| format!(r#"{{"targetId":"u{place}","notify":true}}"#))
        .chain([r#"{"@type":"Everyone"}"#.to_owned()])
        .collect();
    let wrong = if command.bad { r#","actor":7"# } else { "" };
    let is_large = large && command.key.map_or_else(|| rng.bool(), |key| key == 0);
    let padding = if is_large { format!(r#","padding":"{}""#, "x".repeat(9000)) } else { String::new() };
    let value = format!(
        r#"{{"objectType":"case","objectId":"1","content":"{}","targets":[{}]{wrong}{padding}}}"#,
        command.content,
        targets.join(",")
    );
    let mut headers = command.ask.headers(at);
    headers.extend(command.key.map(|key| Header::new("idempotency-key", key.to_string())));
    let record = Record { coordinates: at, key: Some("case/1".into()), value: Some(value.into()), headers };
    (command, record)
}

/// A range of offsets in a partition.
pub type Stretch = (i32, Range<i64>);

fn lies_in(stretches: &[Stretch], partition: i32, offset: i64) -> bool {
    stretches.iter().any(|(of, range)| *of == partition && range.contains(&offset))
}

/// The outcome of each command for a log that knows all commands except those in the gaps.
fn decide(
    cluster: &Cluster,
    commands: &Commands,
    gaps: &[Stretch],
) -> BTreeMap<(i32, i64), (Coordinates, Becomes)> {
    let mut decided = BTreeMap::new();
    let mut clocks: BTreeMap<i32, i64> = BTreeMap::new();
    let mut claims: HashMap<(i32, u32), (Coordinates, u32, i64)> = HashMap::new();
    for (&(partition, offset), command) in commands {
        if lies_in(gaps, partition, offset) {
            continue;
        }
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

/// Where the guarantee is weaker than "once", because somebody overruled a stop or a process could not know better.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// Output that a person gave up: published once or never.
    pub lost: Vec<Stretch>,
    /// Output that a person had published again: published once or twice.
    pub twice: Vec<Stretch>,
    /// Logs may have gaps, and so may not know all uses of keys.
    pub gaps: bool,
}

/// How often each output exists.
type Outputs = BTreeMap<String, u32>;

/// Checks the topics, at rest: they have the outputs of every command, each once, and nothing else.
pub fn check_outputs(cluster: &Cluster, commands: &Commands, allowed: &Allowed) -> Result<(), String> {
    let mut found: BTreeMap<(i32, i64), Outputs> = BTreeMap::new();
    for (topic, record) in &cluster.visible {
        let (of, name) = describe(*topic, record);
        *found.entry(of).or_default().entry(name).or_default() += 1;
    }
    for reply in &cluster.replies.visible {
        let (of, name) = describe_reply(reply, allowed.gaps);
        *found.entry(of).or_default().entry(name).or_default() += 1;
    }
    for ((partition, offset), (at, becomes)) in decide(cluster, commands, &[]) {
        let command = &commands[&(partition, offset)];
        let found = found.remove(&(partition, offset)).unwrap_or_default();
        let mut possible = vec![becomes.clone()];
        // Logs with gaps may have decided it differently, also if it was published again.
        if allowed.gaps && command.key.is_some() && !command.bad {
            possible = vec![Becomes::Event, Becomes::Rejection, Becomes::Duplicate(at)];
        }
        let fits = |published: &[&Becomes]| {
            let (mut wanted, mut perhaps) = (Outputs::new(), Outputs::new());
            for becomes in published {
                for name in outputs(command, at, becomes) {
                    *wanted.entry(name).or_default() += 1;
                }
                let reply = reply_name(&reply(at, becomes), allowed.gaps);
                match command.ask {
                    Ask::Reply => *wanted.entry(reply).or_default() += 1,
                    Ask::Perhaps => *perhaps.entry(reply).or_default() += 1,
                    Ask::Nothing | Ask::Nowhere => {}
                }
            }
            wanted.iter().all(|(name, times)| found.get(name) == Some(times))
                && found.iter().all(|(name, times)| {
                    wanted.contains_key(name) || perhaps.get(name).is_some_and(|most| times <= most)
                })
        };
        let is_lost = lies_in(&allowed.lost, partition, offset) && fits(&[]);
        let is_twice = lies_in(&allowed.twice, partition, offset)
            && possible.iter().any(|first| possible.iter().any(|second| fits(&[first, second])));
        if !is_lost && !is_twice && !possible.iter().any(|becomes| fits(&[becomes])) {
            let wanted = outputs(command, at, &becomes);
            let ask = command.ask;
            return Err(format!(
                "{partition}/{offset}: published {found:?}, wanted {wanted:?}, asked {ask:?}"
            ));
        }
    }
    found
        .into_iter()
        .next()
        .map_or(Ok(()), |(of, found)| Err(format!("{of:?}: published {found:?}, unasked")))
}

fn outputs(command: &Command, at: Coordinates, becomes: &Becomes) -> Vec<String> {
    let content = command.content;
    match becomes {
        Becomes::Duplicate(_) => Vec::new(),
        Becomes::Rejection => vec![format!("rejection: {content}")],
        Becomes::Event => {
            let id = ActivityId::new(topic_bits(TOPIC), at);
            let notification = |place| format!("notification {id}/{place} to Identity:u{place}: {content}");
            (0..command.notified).map(notification).collect()
        }
    }
}

fn reply(at: Coordinates, becomes: &Becomes) -> Reply {
    let id = |at: Coordinates| ActivityId::new(topic_bits(TOPIC), at);
    match becomes {
        Becomes::Event => Reply::Accepted { id: id(at) },
        Becomes::Duplicate(of) => Reply::Duplicate { id: id(*of) },
        Becomes::Rejection => Reply::Rejected { problems: Problems(Vec::new()) },
    }
}

/// Describes a reply with everything that must be correct. A log with gaps may know another first command of a duplicate.
fn reply_name(reply: &Reply, gaps: bool) -> String {
    match reply {
        Reply::Accepted { id } => format!("reply: accepted {id}"),
        Reply::Duplicate { .. } if gaps => "reply: duplicate".to_owned(),
        Reply::Duplicate { id } => format!("reply: duplicate {id}"),
        Reply::Rejected { .. } => "reply: rejected".to_owned(),
    }
}

fn describe_reply(reply: &ReplyRecord, gaps: bool) -> ((i32, i64), String) {
    let header = reply.record.headers.iter().find(|header| header.name == CORRELATION_ID.as_bytes());
    let of = text(header.and_then(|header| header.value.as_deref()));
    let (partition, offset) = of.split_once('/').expect("as it was given");
    let of = (partition.parse().expect("a partition"), offset.parse().expect("an offset"));
    let reply: Reply = serde_json::from_str(&text(reply.record.value.as_deref())).expect("a reply");
    (of, reply_name(&reply, gaps))
}

/// The record's command, and a description with everything that must be correct.
fn describe(topic: OutputTopic, record: &OutputRecord) -> ((i32, i64), String) {
    let header = |name: &str| {
        let header = record.headers.iter().find(|header| header.name == name.as_bytes());
        header.map_or("none".into(), |header| text(header.value.as_deref()))
    };
    let value: serde_json::Value = serde_json::from_str(&text(record.value.as_deref())).expect("JSON");
    let content = |value: &serde_json::Value| value["content"].as_str().unwrap_or("none").to_owned();
    match topic {
        OutputTopic::Notifications => {
            let id = header("ce_id");
            let activity: uuid::Uuid = id.split('/').next().and_then(|id| id.parse().ok()).expect("an id");
            let activity = ActivityId::from_uuid(activity).expect("an activity's id");
            let (to, content) = (text(record.key.as_deref()), content(&value["activity"]));
            ((activity.partition(), activity.offset()), format!("notification {id} to {to}: {content}"))
        }
        OutputTopic::Rejections => {
            let number = |name| header(&format!("__connect.errors.{name}")).parse().expect("a number");
            ((number("partition") as i32, number("offset")), format!("rejection: {}", content(&value)))
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// Checks a log, at rest: it has each command below `logged` once, with the outcome required by all commands that it has
/// seen.
pub fn check_log(
    cluster: &Cluster,
    commands: &Commands,
    log: &EventLog,
    file: &Connection,
    allowed: &Allowed,
) -> Result<(), String> {
    let sqlite = |error: rusqlite::Error| error.to_string();
    let doubled: i64 = file
        .query_row(
            "SELECT count(*) FROM (SELECT 1 FROM (SELECT partition, offset FROM events UNION ALL \
             SELECT partition, offset FROM duplicates UNION ALL SELECT partition, offset FROM rejections) \
             GROUP BY partition, offset HAVING count(*) > 1)",
            [],
            |row| row.get(0),
        )
        .map_err(sqlite)?;
    if doubled > 0 {
        return Err(format!("{doubled} commands became two things in a log"));
    }
    let gaps: Vec<Stretch> = file
        .prepare("SELECT partition, first_offset, next_offset FROM gaps")
        .and_then(|mut gaps| gaps.query_map([], |row| Ok((row.get(0)?, row.get(1)?..row.get(2)?)))?.collect())
        .map_err(sqlite)?;
    if !gaps.is_empty() && !allowed.gaps {
        return Err(format!("a log has gaps: {gaps:?}"));
    }
    let decided = decide(cluster, commands, &gaps);
    for cursor in log.cursors().map_err(|error| error.to_string())? {
        let committed = cluster.committed.get(&cursor.partition).copied();
        if cursor.published_seen > committed {
            return Err(format!("{cursor:?}, and committed is {committed:?}"));
        }
        let below = (cursor.partition, 0)..(cursor.partition, cursor.logged);
        let mut missing: BTreeMap<_, _> = decided.range(below).collect();
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
                Some(wanted) if *wanted == found => {}
                wanted => return Err(format!("a log has {found:?}, wanted {wanted:?}")),
            }
        }
        if let Some(missing) = missing.into_iter().next() {
            return Err(format!("a log lacks {missing:?}"));
        }
    }
    Ok(())
}
