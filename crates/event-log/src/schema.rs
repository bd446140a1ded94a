//! The tables, and how a database is recognised, created and upgraded.
//!
//! A file that is not a log, is damaged, is newer or belongs to another topic is refused before anything is written to it
//! or beside it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use crate::checksum::{self, META, UNCHECKED, check_row, tables};
use crate::claim_group;
use crate::cursor::CursorRow;
use crate::draft::Draft;
use crate::error::{BUSY_TIMEOUT_MS, LogError};
use crate::files::{self, Header, with_suffix};
use crate::lookup;

/// `AcSt`. <https://sqlite.org/pragma.html#pragma_application_id>
pub(crate) const APPLICATION_ID: u32 = 0x4163_5374;

/// Upgrades the schema by one version: first the statements, then what SQL can't do.
type Migration = (&'static str, fn(&Connection) -> rusqlite::Result<()>);

/// The index is the version to upgrade from. Released migrations must not change.
const MIGRATIONS: &[Migration] = &[
    (include_str!("schema/0001.sql"), |_| Ok(())),
    (include_str!("schema/0002.sql"), compute_checksums),
    (include_str!("schema/0003.sql"), group_claims),
];

/// The size of a new log's pages. Any other log keeps its own. <https://sqlite.org/pragma.html#pragma_page_size>
pub const PAGE_BYTES: u32 = 8192;

/// The schema version that this program writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// There is no file, or it is empty.
    Missing,
    /// Its header is that of a log with a supported version.
    Log,
}

/// Reads only the header: SQLite may create files beside a database just by opening it.
pub(crate) fn inspect(path: &Path) -> Result<Presence, LogError> {
    let found = files::find(path)?;
    for suffix in ["-wal", "-shm", "-journal"] {
        files::find_own(&with_suffix(path, suffix))?;
    }
    if found.is_none_or(|found| found.len() == 0) {
        for orphan in ["-wal", "-journal"].map(|suffix| with_suffix(path, suffix)) {
            if fs::metadata(&orphan).is_ok_and(|orphan| orphan.len() > 0) {
                // SQLite would replay that file onto the new database, or delete it.
                let found = format!("it is missing, while {} holds appends to it", orphan.display());
                return Err(LogError::damaged(path, found));
            }
        }
        return Ok(Presence::Missing);
    }
    let header = files::open(path).and_then(|file| Header::read(&file));
    let foreign = |found| LogError::NotALog { path: path.to_owned(), found };
    let header = header
        .map_err(LogError::io(path, "reading the header"))?
        .ok_or_else(|| foreign("no SQLite header".to_owned()))?;
    let id = header.application_id();
    if id != APPLICATION_ID {
        return Err(foreign(format!("an SQLite database with application id {id:#010x}")));
    }
    refuse_newer(path, header.user_version().into())?;
    Ok(Presence::Log)
}

/// Returns the schema version and the topic, or an error if the log can't be used. Writes nothing.
pub(crate) fn examine(
    path: &Path,
    connection: &Connection,
    topic: Option<&str>,
) -> Result<(i64, String), LogError> {
    let sqlite = |error| LogError::sqlite(path, Some(connection), error);
    let version = user_version(connection).map_err(sqlite)?;
    refuse_newer(path, version)?;
    if version < 1 {
        return Err(LogError::damaged(path, format!("its schema version is {version}")));
    }
    if version == 1 {
        create_version_1_views(connection).map_err(|error| schema_error(path, connection, error))?;
    }
    for table in tables(version) {
        connection
            .query_row(&format!("SELECT 1 FROM {} LIMIT 1", table.name), [], |_| Ok(()))
            .optional()
            .map_err(|error| schema_error(path, connection, error))?;
    }
    let found: Option<String> = connection
        .query_row(&format!("{} WHERE name = 'topic'", META.select), [], |row| {
            check_row(row, &META)?;
            row.get(1)
        })
        .optional()
        .map_err(sqlite)?;
    let found = found.ok_or_else(|| LogError::damaged(path, "the topic is missing from table meta"))?;
    if let Some(wanted) = topic.filter(|wanted| *wanted != found) {
        return Err(LogError::OtherTopic { path: path.to_owned(), found, wanted: wanted.to_owned() });
    }
    Ok((version, found))
}

/// Compares the last position with the number of events that the cursors count.
pub(crate) fn check_counts(path: &Path, connection: &Connection) -> Result<(), LogError> {
    let read = || -> rusqlite::Result<_> {
        let snapshot = connection.unchecked_transaction()?;
        let rows = CursorRow::load(&snapshot)?;
        let counted = rows.values().fold(0_u64, |sum, row| sum.saturating_add(row.counts.events));
        Ok((lookup::last_position(&snapshot)?, counted))
    };
    let (last, counted) = read().map_err(|error| LogError::sqlite(path, Some(connection), error))?;
    if u64::try_from(last) != Ok(counted) {
        let found = format!("the last event is at position {last}, while the cursors count {counted} events");
        return Err(LogError::damaged(path, found));
    }
    Ok(())
}

/// Opens the log to examine it. If all appends are in the database file, this takes no locks and creates no files. So a
/// writer must hold the instance's lock while it does this, and a reader must call [`at_rest`] again after reading.
pub(crate) fn open_at_rest(path: &Path) -> Result<Connection, LogError> {
    if at_rest(path) {
        refuse_truncated(path)?;
        open_immutable(path)
    } else {
        open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }
}

/// Adds the columns that version 1 lacks, so that its tables can be read like those of the current version.
fn create_version_1_views(connection: &Connection) -> rusqlite::Result<()> {
    for table in tables(1) {
        let claims = if table.name == "cursors" { format!("{UNCHECKED} AS claims, ") } else { String::new() };
        connection.execute_batch(&format!(
            "CREATE TEMP VIEW IF NOT EXISTS {0} AS SELECT *, {claims}{UNCHECKED} AS row_checksum FROM main.{0}",
            table.name
        ))?;
    }
    Ok(())
}

/// Whether all appends are in the database file itself.
pub(crate) fn at_rest(path: &Path) -> bool {
    fs::metadata(with_suffix(path, "-wal")).map_or(true, |wal| wal.len() == 0)
}

/// Creates an empty log. It gets its name when it is complete, so a crash leaves no incomplete log.
pub(crate) fn create(path: &Path, topic: &str) -> Result<(), LogError> {
    let draft = Draft::beside(path)?;
    let mut connection = open(draft.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut fill = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        migrate(&mut connection, MIGRATIONS)?;
        let topic_bits = ValueRef::Integer(contract::topic_bits(topic).into());
        for (name, value) in [("topic", ValueRef::Text(topic.as_bytes())), ("topic_bits", topic_bits)] {
            checksum::insert_one(&connection, &META, &[ValueRef::Text(name.as_bytes()), value])?;
        }
        // Last: `inspect` reads the header in the file, which must be complete, and not in the -wal file.
        connection.pragma_update(None, "journal_mode", "WAL")
    };
    let filled = fill();
    filled.map_err(|error| LogError::sqlite(path, Some(&connection), error))?;
    connection.close().map_err(|(connection, error)| LogError::sqlite(path, Some(&connection), error))?;
    draft.complete_over_empty(path)
}

/// Upgrades an older log; each version in one transaction.
pub(crate) fn upgrade(path: &Path, connection: &mut Connection) -> Result<(), LogError> {
    let upgraded = migrate(connection, MIGRATIONS).and_then(|is_changed| {
        // `inspect` reads the version in the file, so it must not be in the -wal file only.
        if is_changed {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    });
    upgraded.map_err(|error| LogError::sqlite(path, Some(connection), error))
}

/// Upgrades a log only so far, for tests.
#[cfg(test)]
pub(crate) fn upgrade_to(version: usize, path: &Path) {
    migrate(&mut Connection::open(path).unwrap(), &MIGRATIONS[..version]).unwrap();
}

/// Returns whether there was anything to do.
fn migrate(connection: &mut Connection, migrations: &[Migration]) -> rusqlite::Result<bool> {
    let mut changed = false;
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = user_version(&transaction)?;
        let Some((statements, then)) = usize::try_from(version).ok().and_then(|next| migrations.get(next))
        else {
            return Ok(changed);
        };
        transaction.execute_batch(statements)?;
        then(&transaction)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
        changed = true;
    }
}

fn compute_checksums(connection: &Connection) -> rusqlite::Result<()> {
    let mut progress = Progress::new("upgrading the event log to schema version 2: computing checksums");
    checksum::update_checksums(connection, |rows| progress.advance(rows))
}

fn group_claims(connection: &Connection) -> rusqlite::Result<()> {
    let mut progress = Progress::new("upgrading the event log to schema version 3: moving idempotency keys");
    claim_group::upgrade(connection, |claims| progress.advance(claims))
}

/// Logs every 10 s how many rows are done.
pub(crate) struct Progress {
    doing: &'static str,
    rows: usize,
    logged_at: Instant,
}

impl Progress {
    pub(crate) fn new(doing: &'static str) -> Self {
        Self { doing, rows: 0, logged_at: Instant::now() }
    }

    pub(crate) fn advance(&mut self, rows: usize) {
        self.rows += rows;
        if self.logged_at.elapsed() >= Duration::from_secs(10) {
            self.logged_at = Instant::now();
            tracing::info!(rows = self.rows, "{}", self.doing);
        }
    }
}

/// Creates no database unless `flags` say so.
pub(crate) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, LogError> {
    let open = || {
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    open().map_err(|error| LogError::sqlite(path, None, error))
}

/// Opens a database that nobody changes. Takes no locks and creates no files.
/// <https://sqlite.org/uri.html#uriimmutable>
pub(crate) fn open_immutable(path: &Path) -> Result<Connection, LogError> {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri.push_str("?immutable=1");
    open(&PathBuf::from(uri), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI).map_err(
        |error| match error {
            LogError::Sqlite { source, .. } => LogError::Sqlite { path: path.to_owned(), source },
            other => other,
        },
    )
}

/// Compares the file's length with its header. Do not call it while there is a -wal file.
fn refuse_truncated(path: &Path) -> Result<(), LogError> {
    let read = || {
        let file = File::open(path)?;
        Ok((file.metadata()?.len(), Header::read(&file)?.map_or(0, |header| header.database_bytes())))
    };
    let (found, wanted) = read().map_err(LogError::io(path, "reading the header"))?;
    if found < wanted {
        return Err(LogError::damaged(path, format!("{found} bytes long, while its header counts {wanted}")));
    }
    Ok(())
}

pub(crate) fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn refuse_newer(path: &Path, found: i64) -> Result<(), LogError> {
    if found > VERSION {
        return Err(LogError::NewerSchema { path: path.to_owned(), found, supported: VERSION });
    }
    Ok(())
}

/// Classifies SQLite's generic error (`no such table`) as damage, since the header is that of a log.
fn schema_error(path: &Path, connection: &Connection, error: rusqlite::Error) -> LogError {
    match LogError::sqlite(path, Some(connection), error) {
        LogError::Sqlite { source, .. }
            if matches!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::Unknown)) =>
        {
            LogError::damaged(path, source.to_string())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_migration_keeps_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let nothing: fn(&Connection) -> rusqlite::Result<()> = |_| Ok(());
        let steps =
            [("CREATE TABLE one (a)", nothing), ("CREATE TABLE two (a); CREATE TABLE one (a)", nothing)];
        migrate(&mut connection, &steps).unwrap_err();
        assert_eq!(user_version(&connection).unwrap(), 1);
        connection.execute_batch("SELECT a FROM one").unwrap();
        connection.execute_batch("SELECT a FROM two").unwrap_err();

        let steps = [steps[0], ("ALTER TABLE one ADD COLUMN b", nothing)];
        assert!(migrate(&mut connection, &steps).unwrap());
        assert!(!migrate(&mut connection, &steps).unwrap());
        assert_eq!(user_version(&connection).unwrap(), 2);
    }

    #[test]
    fn no_table_has_a_second_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        let found: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))
            .unwrap();
        let indexes: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema AS t, pragma_index_list(t.name) AS i \
                 WHERE t.type = 'table' AND i.origin <> 'pk'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!((found, indexes), (tables(VERSION).len() as i64, 0));
    }

    #[test]
    fn every_column_is_in_its_rows_checksum() {
        for version in 2..=MIGRATIONS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &MIGRATIONS[..version]).unwrap();
            for table in tables(version as i64) {
                let columns = |of: &str| -> Vec<String> {
                    let sql = format!("SELECT name FROM pragma_table_info('{}') {of}", table.name);
                    let mut statement = connection.prepare(&sql).unwrap();
                    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
                };
                assert_eq!(columns("WHERE name <> 'row_checksum'"), table.columns, "{}", table.name);
                assert_eq!(columns("WHERE pk > 0 ORDER BY pk"), table.columns[..table.key], "{}", table.name);
            }
        }
    }
}
