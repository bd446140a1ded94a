//! The tables, and how a file is recognised, made and upgraded.
//!
//! A file that is not a log, is damaged, newer, or belongs to another topic is refused before anything is
//! written to it or beside it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::checksum::{self, META, TABLES, UNCHECKED, checked};
use super::cursor::CursorRow;
use super::draft::Draft;
use super::error::BUSY_TIMEOUT_MS;
use super::instance::beside;
use super::{LogError, files};

/// `AcSt`, by which `file` and the next start know the log. <https://sqlite.org/pragma.html#pragma_application_id>
pub(super) const APPLICATION_ID: u32 = 0x4163_5374;

/// Brings the schema from one version to the next: the statements, then what SQL can't say.
type Migration = (&'static str, fn(&Connection) -> rusqlite::Result<()>);

/// Each from the version that is its index; what was released is never edited.
const MIGRATIONS: &[Migration] =
    &[(include_str!("schema/0001.sql"), |_| Ok(())), (include_str!("schema/0002.sql"), compute_checksums)];

/// The schema version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// No file, or an empty one.
    Missing,
    /// By its header a log, of a version that can be read.
    Log,
}

/// Looks at the first 100 bytes only: opening a database by SQLite can already leave files beside it.
/// <https://sqlite.org/fileformat.html#the_database_header>
pub(super) fn inspect(path: &Path) -> Result<Presence, LogError> {
    let io = |source| LogError::Io { path: path.to_owned(), doing: "reading the header", source };
    let mut header = Vec::with_capacity(100);
    let found = files::find(path)?;
    for suffix in ["-wal", "-shm", "-journal"] {
        files::find_own(&beside(path, suffix))?;
    }
    if found.is_some() {
        files::open(path).map_err(io)?.take(100).read_to_end(&mut header).map_err(io)?;
    }
    if header.is_empty() {
        for left in ["-wal", "-journal"].map(|suffix| beside(path, suffix)) {
            if fs::metadata(&left).is_ok_and(|left| left.len() > 0) {
                // SQLite would replay that file onto the new database, or delete it.
                return Err(LogError::damaged(
                    path,
                    format!("it is missing, while {} holds appends to it", left.display()),
                ));
            }
        }
        return Ok(Presence::Missing);
    }
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return Err(LogError::NotALog { path: path.to_owned(), found: "no SQLite header".to_owned() });
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if number(68) != APPLICATION_ID {
        return Err(LogError::NotALog {
            path: path.to_owned(),
            found: format!("an SQLite database with application id {:#010x}", number(68)),
        });
    }
    refuse_newer(path, i64::from(number(60)))?;
    Ok(Presence::Log)
}

/// Refuses a log that cannot be worked on, without writing. Returns its schema version and topic.
pub(super) fn examine(
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
        add_stand_ins(connection).map_err(|error| no_such_table_is_damage(path, connection, error))?;
    }
    for table in TABLES {
        connection
            .query_row(&format!("SELECT 1 FROM {} LIMIT 1", table.name), [], |_| Ok(()))
            .optional()
            .map_err(|error| no_such_table_is_damage(path, connection, error))?;
    }
    let found: Option<String> = connection
        .query_row(&format!("{} WHERE name = 'topic'", META.select), [], |row| {
            checked(row, &META)?;
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

/// Compares the events with what the cursors count of them.
pub(super) fn check_counts(path: &Path, connection: &Connection) -> Result<(), LogError> {
    let read = || -> rusqlite::Result<_> {
        // One state for both questions.
        let snapshot = connection.unchecked_transaction()?;
        let counted: u64 = CursorRow::load_all(&snapshot)?
            .values()
            .fold(0, |sum: u64, row| sum.saturating_add(row.counts.events));
        let last: i64 =
            snapshot.query_row("SELECT coalesce(max(position), 0) FROM events", [], |row| row.get(0))?;
        Ok((last, counted))
    };
    let (last, counted) = read().map_err(|error| LogError::sqlite(path, Some(connection), error))?;
    if u64::try_from(last) != Ok(counted) {
        let found = format!("the last event is at position {last}, while the cursors count {counted} events");
        return Err(LogError::damaged(path, found));
    }
    Ok(())
}

/// A connection to look at the file before a writer or a reader opens it. It takes no locks and leaves no files, as far
/// as that is possible. The writer holds the instance's lock meanwhile; a reader asks again where it finds that somebody
/// has begun to write.
pub(super) fn open_at_rest(path: &Path) -> Result<Connection, LogError> {
    if at_rest(path) {
        not_cut_short(path)?;
        open_immutable(path)
    } else {
        open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }
}

/// Lets a reader ask a log of version 1 as it asks one of this version: the columns that it lacks say so.
fn add_stand_ins(connection: &Connection) -> rusqlite::Result<()> {
    for table in TABLES {
        let claims = if table.name == "cursors" { format!("{UNCHECKED} AS claims, ") } else { String::new() };
        connection.execute_batch(&format!(
            "CREATE TEMP VIEW IF NOT EXISTS {0} AS SELECT *, {claims}{UNCHECKED} AS row_checksum FROM main.{0}",
            table.name
        ))?;
    }
    Ok(())
}

/// All that was appended is in the database file itself.
pub(super) fn at_rest(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).map_or(true, |wal| wal.len() == 0)
}

/// A new, empty log. It gets its name when it is complete, so that a crash leaves no half-made log.
pub(super) fn create(path: &Path, topic: &str) -> Result<(), LogError> {
    let draft = Draft::beside(path)?;
    let mut connection = open(draft.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut fill = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        migrate(&mut connection, MIGRATIONS)?;
        let topic_bits = ValueRef::Integer(contract::topic_bits(topic).into());
        for (name, value) in [("topic", ValueRef::Text(topic.as_bytes())), ("topic_bits", topic_bits)] {
            checksum::insert_one(&connection, &META, &[ValueRef::Text(name.as_bytes()), value])?;
        }
        // Last, so that the header on disk, which is looked at before SQLite is, is complete.
        connection.pragma_update(None, "journal_mode", "WAL")
    };
    let filled = fill();
    filled.map_err(|error| LogError::sqlite(path, Some(&connection), error))?;
    connection.close().map_err(|(connection, error)| LogError::sqlite(path, Some(&connection), error))?;
    draft.complete_over_empty(path)
}

/// Brings an older log up to date, each step whole or not at all.
pub(super) fn upgrade(path: &Path, connection: &mut Connection) -> Result<(), LogError> {
    let upgraded = migrate(connection, MIGRATIONS).and_then(|changed| {
        // The version must not be found only in the -wal file: the header is looked at first.
        if changed {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    });
    upgraded.map_err(|error| LogError::sqlite(path, Some(connection), error))
}

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

/// Between two log lines that say how far an upgrade is.
const PROGRESS: Duration = Duration::from_secs(10);

fn compute_checksums(connection: &Connection) -> rusqlite::Result<()> {
    let (mut rows, mut said) = (0, Instant::now());
    checksum::seal(connection, |more| {
        rows += more;
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            tracing::info!(rows, "upgrading the event log to schema version 2: computing checksums");
        }
    })
}

/// A connection that makes no new file unless `flags` say so.
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, LogError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| LogError::sqlite(path, None, error))?;
    connection
        .busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))
        .map_err(|error| LogError::sqlite(path, None, error))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A connection for a file that nobody changes: no locks, no files beside it.
/// <https://sqlite.org/uri.html#uriimmutable>
pub(super) fn open_immutable(path: &Path) -> Result<Connection, LogError> {
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

/// Compares the file's length with what its header counts; true of a file without a -wal file only.
fn not_cut_short(path: &Path) -> Result<(), LogError> {
    let io = |source| LogError::Io { path: path.to_owned(), doing: "reading the header", source };
    let mut header = [0; 32];
    let mut file = File::open(path).map_err(io)?;
    file.read_exact(&mut header).map_err(io)?;
    let found = file.metadata().map_err(io)?.len();
    // 1 stands for 65,536, which does not fit.
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        page => u64::from(page),
    };
    let wanted = page * u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    if found < wanted {
        return Err(LogError::damaged(path, format!("{found} bytes long, while its header counts {wanted}")));
    }
    Ok(())
}

pub(super) fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn refuse_newer(path: &Path, found: i64) -> Result<(), LogError> {
    if found > VERSION {
        return Err(LogError::NewerSchema { path: path.to_owned(), found, known: VERSION });
    }
    Ok(())
}

/// After the header was ours, SQLite's plain error (`no such table`) says that the schema is not.
fn no_such_table_is_damage(path: &Path, connection: &Connection, error: rusqlite::Error) -> LogError {
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
    fn a_failed_migration_leaves_the_version_before_it() {
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
        let connection = Connection::open_in_memory().unwrap();
        for (statements, _) in MIGRATIONS {
            connection.execute_batch(statements).unwrap();
        }
        let tables: i64 = connection
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
        assert_eq!((tables, indexes), (TABLES.len() as i64, 0));
    }

    #[test]
    fn every_column_is_part_of_its_rows_checksum() {
        let connection = Connection::open_in_memory().unwrap();
        for (statements, _) in MIGRATIONS {
            connection.execute_batch(statements).unwrap();
        }
        for table in TABLES {
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
