//! Tests of the whole log on real files, and what they share: records to append, sample logs, a simple model of the
//! window, and an audit that reads a log file row by row.

mod any_value;
mod backup;
mod claims;
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
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use contract::{ActivityId, Coordinates, Decision, Event, Fate, IdempotencyKey, Problems, Reading, Verdict};
use rusqlite::Connection;
use tempfile::TempDir;

use super::files::with_suffix;
use super::*;

const TOPIC: &str = "activity.commands";
const WINDOW_MS: i64 = 80;

/// Collects the findings of a check.
#[derive(Default)]
struct Findings(Vec<LogFinding>);

impl CheckReport for Findings {
    fn expect_rows(&mut self, _: u64) {}
    fn row_read(&mut self) {}
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

/// Each pair of keys shares the 64 bits that the window holds.
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

/// A chunk that ends after its last record.
fn chunk(verdicts: Vec<Verdict>) -> Chunk {
    let last = verdicts.last().unwrap().coordinates;
    Chunk { partition: last.partition, next_offset: last.offset + 1, verdicts }
}

/// Commands without a key in partition 0.
fn plain(offsets: Range<i64>) -> Vec<Chunk> {
    vec![chunk(offsets.map(|offset| valid(at(0, offset, 1), None)).collect())]
}

fn as_recorded(settled: &Settled) -> Recorded {
    let Settled { coordinates, position, decision } = settled.clone();
    Recorded { coordinates, checksum: checksum(coordinates), decision, position }
}

/// The first command with a key, its fingerprint, and the clock at the last command with it.
type ModelClaim = (Coordinates, [u8; 16], i64);

/// The simplest implementation of the window.
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
        if at.has_valid_timestamp() {
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

/// A log that version 0.1.0 of the program wrote, with schema version 1.
fn bytes_of_version_1() -> Vec<u8> {
    fs::read("tests/fixtures/event-log-v1.sqlite").unwrap()
}

/// A closed log with rows in every table.
fn filled() -> (TempDir, LogOptions) {
    let (directory, options, mut log) = new_log();
    for batch in 0..4_i64 {
        let chunks = (0..2).map(|partition| {
            let offsets = (batch * 16..batch * 16 + 16).filter(|offset| offset % 5 != 4);
            chunk(
                offsets
                    .map(|offset| {
                        let at = at(partition, offset, 1000 + offset);
                        match offset % 4 {
                            0 => rejected(at),
                            1 => valid(at, Some(key((offset / 8) as u8 / 2, 1))),
                            2 => valid(at, Some(key(40 + offset as u8, 1))),
                            _ => valid(at, None),
                        }
                    })
                    .collect(),
            )
        });
        log.append(chunks.collect(), &[(0, batch)]).unwrap();
    }
    let logged = log.cursor(1).unwrap().unwrap().logged;
    let gap = Gap { first_offset: logged, next_offset: 90, reason: "retention".to_owned() };
    let intervention = Intervention { at: 1, flag: "--accept".to_owned(), details: "a test".to_owned() };
    log.record_intervention(1, &intervention, 1).unwrap();
    log.start_partition(1, Some(gap), Some(1)).unwrap();
    log.record_clean_stop(&[(0, 3), (1, 90)]).unwrap();
    (directory, options)
}

fn version_1() -> (TempDir, LogOptions) {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path().join("activity.db"));
    fs::write(&options.path, bytes_of_version_1()).unwrap();
    (directory, options)
}

fn check(reader: &LogReader) -> Result<(Checked, Vec<String>), CheckError> {
    let mut findings = Findings::default();
    let checked = reader.check(&mut findings)?;
    assert_eq!(checked.findings, findings.0.len() as u64);
    Ok((checked, findings.0.iter().map(ToString::to_string).collect()))
}

fn list(reader: &LogReader, query: &ListQuery) -> Result<Vec<Result<Listed, DamagedRow>>, LogError> {
    let mut listed = Vec::new();
    reader.list(query, |one| {
        listed.push(one);
        Ok::<_, LogError>(ControlFlow::Continue(()))
    })?;
    Ok(listed)
}

fn list_all(reader: &LogReader, order: Order) -> Result<Vec<Result<Listed, DamagedRow>>, LogError> {
    list(reader, &ListQuery { order, ..ListQuery::default() })
}

fn change(options: &LogOptions, change: &str) {
    Connection::open(&options.path).unwrap().execute_batch(change).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Copies a log's files as they are on disk, as after `kill -9`.
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

/// Compares the whole file with what the schema promises. Returns the number of events.
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
    let miscounted = "SELECT count(*) FROM cursors AS c WHERE claims <> \
                      (SELECT count(*) FROM claim_groups WHERE id >> 48 = c.partition)";
    assert_eq!(number(miscounted), 0, "claims");
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
