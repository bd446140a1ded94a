//! Backups; they and new logs change no other file.

use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use super::*;

fn back_up(log: &LogReader, to: &Path) -> Result<Backup, CheckError> {
    log.back_up(to, &mut Findings::default())
}

fn refused(log: &LogReader, to: &Path) -> LogError {
    match back_up(log, to) {
        Err(CheckError::Log(error)) => error,
        other => panic!("{}: {other:?}", to.display()),
    }
}

fn append(log: &mut EventLog, offsets: Range<i64>) {
    log.append(plain(offsets), &[]).unwrap();
}

#[test]
fn a_backup_is_a_complete_log_of_another_instance() {
    let (directory, options, mut log) = new_log();
    append(&mut log, 0..500);
    let reader = log.reader().unwrap();
    let backup = directory.path().join("backup.db");
    assert_eq!(back_up(&reader, &backup).unwrap(), Backup::Made { events: 500 });
    append(&mut log, 500..1000);
    let error = refused(&reader, &backup);
    assert!(matches!(error, LogError::Exists { .. }), "{error}");
    assert!(!names(directory.path()).iter().any(|name| name.starts_with("backup.db-")));
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777 & !0o640, 0);

    // The remains of another log with that name.
    fs::write(directory.path().join("other.db-wal"), "appends").unwrap();
    let error = refused(&reader, &directory.path().join("other.db"));
    assert!(matches!(error, LogError::Exists { .. }), "{error}");
    let error = refused(&reader, &directory.path().join("nowhere/backup.db"));
    assert!(matches!(error, LogError::Io { .. }), "{error}");

    let mut copy = EventLog::open(&self::options(&backup)).unwrap();
    assert_ne!(copy.instance_id(), log.instance_id());
    append(&mut copy, 500..1000);
    assert_eq!(copy.cursors().unwrap(), log.cursors().unwrap());
    drop((copy, log, reader));
    assert_eq!((audit(&backup), audit(&options.path)), (1000, 1000));
    // A log that is not open is read without a lock, or through a connection that may write.
    let at_rest = directory.path().join("at-rest.db");
    let made = back_up(&LogReader::open(&options.path).unwrap(), &at_rest).unwrap();
    assert_eq!(made, Backup::Made { events: 1000 });
    assert_eq!(audit(&at_rest), 1000);
}

#[test]
fn a_backup_and_a_new_log_change_no_other_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // Earlier versions gave these names to drafts.
    let precious = ["new.db-new", "new.db-new-journal", "events-new-new", "new.db-draft", "events-draft"];
    for name in precious {
        fs::write(at(name), "precious").unwrap();
    }
    let options = options(at("events-new"));
    let mut log = EventLog::open(&options).unwrap();
    append(&mut log, 0..100);
    assert_eq!(back_up(&log.reader().unwrap(), &at("events")).unwrap(), Backup::Made { events: 100 });
    log.files().check().unwrap();
    append(&mut log, 100..200);
    drop(log);
    assert_eq!((audit(&options.path), audit(&at("events"))), (200, 100));

    drop(EventLog::open(&self::options(at("new.db"))).unwrap());
    for name in precious {
        assert_eq!(fs::read(at(name)).unwrap(), b"precious", "{name}");
    }
    let mut wanted: Vec<_> = ["events", "events-new", "events-new-instance", "new.db", "new.db-instance"]
        .into_iter()
        .chain(precious)
        .collect();
    wanted.sort_unstable();
    assert_eq!(names(directory.path()), wanted);
}

#[test]
fn of_concurrent_backups_to_one_name_exactly_one_is_made() {
    let (directory, _, mut log) = new_log();
    append(&mut log, 0..2000);
    for round in 0..5 {
        let to = directory.path().join(format!("{round}.db"));
        let begin = Barrier::new(4);
        let readers: Vec<_> = (0..4).map(|_| log.reader().unwrap()).collect();
        let ended: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = readers
                .into_iter()
                .map(|reader| {
                    scope.spawn(|| {
                        let reader = reader;
                        begin.wait();
                        back_up(&reader, &to)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let made = ended.iter().filter(|ended| matches!(ended, Ok(Backup::Made { events: 2000 }))).count();
        let taken = |ended: &&_| matches!(ended, Err(CheckError::Log(LogError::Exists { .. })));
        assert_eq!((made, ended.iter().filter(taken).count()), (1, 3), "{ended:?}");
        assert_eq!(audit(&to), 2000);
    }
    assert!(!names(directory.path()).iter().any(|name| name.contains("-draft-")));
}

#[test]
fn a_damaged_log_is_not_backed_up() {
    let (directory, options, mut log) = new_log();
    append(&mut log, 0..50);
    drop(log);
    let (before, last_good) = (names(directory.path()), directory.path().join("last-good.db"));
    let made = back_up(&LogReader::open(&options.path).unwrap(), &last_good).unwrap();
    assert_eq!(made, Backup::Made { events: 50 });
    let connection = Connection::open(&options.path).unwrap();
    connection.execute("UPDATE events SET timestamp = timestamp + 1 WHERE position = 7", []).unwrap();
    drop(connection);

    let to = directory.path().join("backup.db");
    let mut findings = Findings::default();
    let reader = LogReader::open_damaged(&options.path).unwrap();
    let backup = reader.back_up(&to, &mut findings).unwrap();
    assert!(matches!(backup, Backup::Damaged { findings: 1.. }), "{backup:?}");
    let reported: Vec<_> = findings.0.iter().map(ToString::to_string).collect();
    assert!(reported.iter().any(|row| row.contains("table events, position 7")), "{reported:?}");
    // The same findings as those of the log itself.
    let mut wanted = Findings::default();
    reader.check(&mut wanted).unwrap();
    assert_eq!(findings.0, wanted.0);
    drop(reader);
    fs::remove_file(&last_good).unwrap();
    assert_eq!(names(directory.path()), before);
}

#[test]
fn a_backup_rejects_reserved_and_taken_names() {
    let (directory, _, mut log) = new_log();
    append(&mut log, 0..10);
    let reader = log.reader().unwrap();
    for suffix in ["-wal", "-shm", "-journal", "-instance", "-read-model"] {
        let error = refused(&reader, &directory.path().join(format!("other.db{suffix}")));
        assert!(matches!(error, LogError::BackupName { .. }), "{suffix}: {error}");
    }
    // SQLite would replay these onto the copy.
    for suffix in ["-wal", "-journal"] {
        let taken = directory.path().join(format!("other.db{suffix}"));
        fs::write(&taken, "of another").unwrap();
        let error = refused(&reader, &directory.path().join("other.db"));
        assert!(matches!(&error, LogError::Exists { path } if *path == taken), "{suffix}: {error}");
        fs::remove_file(&taken).unwrap();
    }
}

#[test]
fn a_new_log_is_refused_beside_an_orphaned_journal() {
    for suffix in ["-wal", "-journal"] {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path().join("activity.db"));
        fs::write(with_suffix(&options.path, suffix), "precious").unwrap();
        let error = EventLog::open(&options).map(drop).unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{suffix}: {error}");
        assert_eq!(fs::read(with_suffix(&options.path, suffix)).unwrap(), b"precious");
    }
}

/// A path need not be UTF-8.
#[test]
fn a_backups_folder_may_have_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let (directory, _, mut log) = new_log();
    append(&mut log, 0..10);
    let folder = directory.path().join(std::ffi::OsStr::from_bytes(b"a \xff'?%"));
    fs::create_dir(&folder).unwrap();
    let made = back_up(&log.reader().unwrap(), &folder.join("backup.db")).unwrap();
    assert_eq!(made, Backup::Made { events: 10 });
    assert_eq!(names(&folder), ["backup.db"]);
}
