//! Reads event logs with plain SQL, and compares them with the required content.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, Row};

use super::expected::{Expected, Known, Outcome, Place};

/// What a log must have noted besides commands. Usually nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Partition, first offset, next offset.
    pub gaps: Vec<(i32, i64, i64)>,
    /// Partition and flag, in the order in which they were given.
    pub interventions: Vec<(i32, String)>,
}

impl Noted {
    fn of(log: &Connection) -> rusqlite::Result<Self> {
        let gaps = "SELECT partition, first_offset, next_offset FROM gaps ORDER BY partition, first_offset";
        let interventions = "SELECT partition, flag FROM interventions ORDER BY id";
        Ok(Self {
            gaps: log
                .prepare(gaps)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?,
            interventions: log
                .prepare(interventions)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?,
        })
    }

    fn is_in_gap(&self, (partition, offset): Place) -> bool {
        self.gaps.iter().any(|&(of, first, next)| of == partition && (first..next).contains(&offset))
    }
}

/// What is wrong with a log: anything that it says and should not, and what it lacks of the partitions in `whole`.
pub fn compare(path: &Path, expected: &Expected, whole: &[i32], noted: &Noted) -> Vec<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let log = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the log");
    let mut found = Found { name, expected, places: HashSet::new(), deviations: Vec::new() };
    found.each(
        &log,
        "SELECT partition, offset, timestamp, json FROM events ORDER BY position",
        |known, place, row| {
            let content = expected.content(known.number)?;
            let same = row.get::<_, String>(3).ok()? == content.normal_form(known.timestamp);
            (known.outcome == Outcome::Event && same).then_some(place)
        },
    );
    let duplicates = "SELECT partition, offset, timestamp, of_offset, of_timestamp FROM duplicates";
    found.each(&log, duplicates, |known, place, row| {
        let of = Outcome::Duplicate { offset: row.get(3).ok()?, timestamp: row.get(4).ok()? };
        (known.outcome == of).then_some(place)
    });
    found.each(&log, "SELECT partition, offset, timestamp, problems FROM rejections", |known, place, row| {
        let Outcome::Rejection(problem) = known.outcome else { return None };
        let problems: serde_json::Value = serde_json::from_str(&row.get::<_, String>(3).ok()?).ok()?;
        let same = problems[0]["code"] == problem.code && problems[0]["pointer"] == problem.pointer;
        (same && problems.as_array()?.len() == 1).then_some(place)
    });
    let Found { name, places, mut deviations, .. } = found;
    for (&place, known) in &expected.commands {
        let (partition, offset) = place;
        if whole.contains(&partition) && !places.contains(&place) && !noted.is_in_gap(place) {
            deviations.push(format!("{name}: lacks the {} {partition}/{offset}", known.outcome.name()));
        }
    }
    let found = Noted::of(&log).expect("gaps and interventions");
    if found != *noted {
        deviations.push(format!("{name}: has noted {found:?} instead of {noted:?}"));
    }
    deviations
}

struct Found<'a> {
    name: String,
    expected: &'a Expected,
    places: HashSet<Place>,
    deviations: Vec<String>,
}

impl Found<'_> {
    /// Judges every row; `judge` gives nothing where the row is not what it should be.
    fn each(
        &mut self,
        log: &Connection,
        query: &str,
        judge: impl Fn(&Known, Place, &Row<'_>) -> Option<Place>,
    ) {
        let mut statement = log.prepare(query).expect(query);
        let mut rows = statement.query([]).expect(query);
        while let Some(row) = rows.next().expect("a row") {
            let place: Place = (row.get(0).expect("a partition"), row.get(1).expect("an offset"));
            let timestamp: i64 = row.get(2).expect("a timestamp");
            let known = self.expected.commands.get(&place).filter(|known| known.timestamp == timestamp);
            if known.and_then(|known| judge(known, place, row)).is_none() {
                self.deviations
                    .push(format!("{}: {place:?} is not the {known:?} that it should be", self.name));
            } else if !self.places.insert(place) {
                self.deviations.push(format!("{}: {place:?} is there twice", self.name));
            }
        }
    }
}

/// How many commands the log has decided; 0 before there is one.
pub fn decided(path: &Path) -> u64 {
    let count = || -> rusqlite::Result<i64> {
        let log = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let query = "SELECT coalesce(sum(events + duplicates + rejections), 0) FROM cursors";
        log.query_row(query, [], |row| row.get(0))
    };
    count().map_or(0, |count| count.try_into().expect("a count"))
}

/// Of each partition, what the log has seen published at least, and the next offset that it lacks; of none before there is a
/// log.
pub fn cursors(path: &Path) -> BTreeMap<i32, (i64, i64)> {
    let cursors = || -> rusqlite::Result<_> {
        let log = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement =
            log.prepare("SELECT partition, coalesce(published_seen, 0), logged FROM cursors")?;
        statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.collect()
    };
    cursors().unwrap_or_default()
}

/// A whole copy of a log, also of one that is in use: as docs/operations.md says that backups are made.
pub fn back_up(path: &Path, copy: &Path) {
    let log = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the log");
    let copy = copy.to_str().expect("a path that is text");
    log.execute("VACUUM INTO ?1", [copy]).expect("a backup");
}

/// Removes a log's files, but not the one that says which instance it is.
pub fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let file = beside(path, suffix);
        if let Err(error) = fs::remove_file(&file) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{}: {error}", file.display());
        }
    }
}

/// `a.db` and `-instance` give `a.db-instance`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
