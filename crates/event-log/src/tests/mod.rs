//! Tests of the log as a whole, on real files. What they share: records to append, a naive model of the
//! window, and an audit that reads a log file row by row.

mod any_value;
mod backup;
mod crash;
mod equivalence;
mod files;
mod reading;
mod refusal;
mod rot;
mod round_trip;
mod wal;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use contract::{ActivityId, Coordinates, Decision, Event, IdempotencyKey, Problems, Reading, Verdict};
use rusqlite::Connection;
use tempfile::TempDir;

use super::files::with_suffix;
use super::*;

const TOPIC: &str = "activity.commands";
const WINDOW_MS: i64 = 80;

/// Keeps what a check finds.
#[derive(Default)]
struct Findings(Vec<LogFinding>);

impl CheckReport for Findings {
    fn ahead(&mut self, _: u64) {}
    fn advanced(&mut self) {}
    fn finding(&mut self, finding: &LogFinding) -> std::io::Result<()> {
        self.0.push(finding.clone());
        Ok(())
    }
}

fn options(path: impl Into<PathBuf>) -> LogOptions {
    LogOptions {
        path: path.into(),
        topic: TOPIC.to_owned(),
        synchronous: Synchronous::Normal,
        cache_bytes: 1 << 20,
        window_ms: WINDOW_MS,
        max_pages: None,
    }
}

fn new_log() -> (TempDir, LogOptions, EventLog) {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path().join("activity.db"));
    let log = EventLog::open(&options).unwrap();
    (directory, options, log)
}

fn at(partition: i32, offset: i64, timestamp: i64) -> Coordinates {
    Coordinates { partition, offset, timestamp }
}

fn id(at: Coordinates) -> ActivityId {
    ActivityId::new(contract::topic_bits(TOPIC), at)
}

fn event(at: Coordinates, object: &str) -> Event {
    let json = format!(
        r#"{{"@type":"update","objectType":"case","objectId":"{object}","publishedAt":"2026-11-23T12:00:00.000Z","targets":[{{"@type":"Everyone","notify":false}}]}}"#
    );
    Event::from_log(contract::topic_bits(TOPIC), at, json).unwrap()
}

/// Two keys each share the 64 bits by which they are found in memory.
fn key(number: u8, content: u8) -> IdempotencyKey {
    let mut hash = [0; 16];
    hash[7] = number / 2;
    hash[15] = number;
    IdempotencyKey { hash, fingerprint: [content; 16], as_written: [content; 16] }
}

fn valid(at: Coordinates, key: Option<IdempotencyKey>) -> Verdict {
    let object = (at.offset % 3).to_string();
    let reading = Reading::Valid { event: event(at, &object), key };
    Verdict { coordinates: at, checksum: checksum(at), reading }
}

fn rejected(at: Coordinates) -> Verdict {
    Verdict { coordinates: at, checksum: checksum(at), reading: Reading::Rejected(problems("wrong_type")) }
}

fn checksum(at: Coordinates) -> u32 {
    (at.offset as u32).wrapping_mul(2_654_435_761).wrapping_add(at.partition as u32)
}

fn problems(code: &str) -> Problems {
    serde_json::from_value(
        serde_json::json!([{"pointer": "/targets", "code": code, "message": "expected an array, found null"}]),
    )
    .unwrap()
}

/// A chunk that ends behind its last record.
fn chunk(verdicts: Vec<Verdict>) -> Chunk {
    let last = verdicts.last().unwrap().coordinates;
    Chunk { partition: last.partition, next_offset: last.offset + 1, verdicts }
}

fn as_recorded(settled: &Settled) -> Recorded {
    let Settled { coordinates, position, decision } = settled.clone();
    Recorded { coordinates, checksum: checksum(coordinates), decision, position }
}

/// The first command with a key, its fingerprint, and the clock when the key was last seen.
type ModelClaim = (Coordinates, [u8; 16], i64);

/// What the window should say, as plainly as it can be written.
#[derive(Default)]
struct Model {
    clock: BTreeMap<i32, i64>,
    claims: HashMap<(i32, [u8; 16]), ModelClaim>,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Event,
    Duplicate(ActivityId),
    Rejected,
}

impl Model {
    fn settle(&mut self, verdict: &Verdict) -> Expected {
        let at = verdict.coordinates;
        let clock = self.clock.entry(at.partition).or_insert(0);
        if (0..=253_402_300_799_999).contains(&at.timestamp) {
            *clock = at.timestamp.max(*clock);
        }
        match &verdict.reading {
            Reading::Rejected(_) => Expected::Rejected,
            Reading::Valid { key: None, .. } => Expected::Event,
            Reading::Valid { key: Some(key), .. } => {
                let claim = self.claims.get_mut(&(at.partition, key.hash));
                match claim.filter(|claim| *clock - claim.2 < WINDOW_MS) {
                    Some((_, fingerprint, _)) if *fingerprint != key.fingerprint => Expected::Rejected,
                    Some((first, _, last_seen)) => {
                        *last_seen = *clock;
                        Expected::Duplicate(id(*first))
                    }
                    None => {
                        self.claims.insert((at.partition, key.hash), (at, key.fingerprint, *clock));
                        Expected::Event
                    }
                }
            }
        }
    }
}

fn expected(decision: &Decision) -> Expected {
    match decision {
        Decision::Accepted(_) => Expected::Event,
        Decision::Duplicate { of } => Expected::Duplicate(*of),
        Decision::Rejected(_) => Expected::Rejected,
    }
}

/// A log's files as they lie on disk at this moment, as after `kill -9`.
fn crash_copy(path: &Path, to: &Path) -> PathBuf {
    let copy = to.join("copy.db");
    for suffix in ["", "-wal", "-journal"] {
        match fs::copy(with_suffix(path, suffix), with_suffix(&copy, suffix)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let _ = fs::remove_file(with_suffix(&copy, suffix));
            }
            Err(error) => panic!("{error}"),
        }
    }
    let _ = fs::remove_file(with_suffix(&copy, "-shm"));
    copy
}

/// Reads the whole file and holds it against what the schema promises. Returns the events' number.
fn audit(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let events = number("SELECT count(*) FROM events");
    assert_eq!(number("SELECT coalesce(max(position), 0) FROM events"), events);
    for table in ["events", "duplicates", "rejections"] {
        let miscounted = format!(
            "SELECT count(*) FROM cursors AS c WHERE {table} <> (SELECT count(*) FROM {table} AS t WHERE t.partition = c.partition)"
        );
        assert_eq!(number(&miscounted), 0, "{table}");
        let ahead = format!(
            "SELECT count(*) FROM {table} AS t LEFT JOIN cursors AS c USING (partition) WHERE c.logged IS NULL OR t.offset >= c.logged"
        );
        assert_eq!(number(&ahead), 0, "{table}");
    }
    assert_eq!(
        number(
            "SELECT count(*) FROM (SELECT 1 FROM (SELECT partition, offset FROM events UNION ALL \
             SELECT partition, offset FROM duplicates UNION ALL SELECT partition, offset FROM rejections) \
             GROUP BY partition, offset HAVING count(*) > 1)"
        ),
        0,
        "a command became two things"
    );
    assert_eq!(number("SELECT coalesce(sum(events), 0) FROM batches"), events);
    assert_eq!(
        number(
            "SELECT count(*) FROM batches AS b WHERE events <> (SELECT count(*) FROM events AS e \
             WHERE position >= first_position AND position < first_position + b.events \
             AND e.partition = b.partition AND e.offset >= first_offset AND e.offset < next_offset)"
        ),
        0,
        "a batch is not where its row says"
    );
    assert_eq!(
        number(
            "SELECT count(*) FROM cursors AS c WHERE anchor_offset IS NOT (SELECT max(offset) FROM \
             (SELECT partition, offset FROM events UNION ALL SELECT partition, offset FROM duplicates \
             UNION ALL SELECT partition, offset FROM rejections) AS o WHERE o.partition = c.partition)"
        ),
        0,
        "an anchor is not the last record"
    );
    events
}
