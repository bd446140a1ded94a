//! Files that can't be used as a log are refused and not changed.

use super::*;
use crate::instance::PROBE;

/// Names and contents of a directory's files, except the instance file.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with("-instance"))
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Opens a writer and a reader, and checks that neither changes the directory.
fn refused(options: &LogOptions) -> (LogError, Option<LogError>) {
    let directory = options.path.parent().unwrap();
    let before = files(directory);
    let writer = EventLog::open(options).map(|_| ()).unwrap_err();
    assert!(before == files(directory), "the writer left a trace");
    let reader = LogReader::open(&options.path).map(|_| ()).err();
    assert!(before == files(directory), "the reader left a trace");
    assert!(writer.to_string().contains(options.path.file_name().unwrap().to_str().unwrap()), "{writer}");
    (writer, reader)
}

/// A closed log with a few events.
fn closed() -> (TempDir, LogOptions) {
    let (directory, options, mut log) = new_log();
    log.append(plain(0..500), &[]).unwrap();
    drop(log);
    let names: Vec<_> = files(directory.path()).into_keys().collect();
    assert_eq!(names, ["activity.db"]);
    (directory, options)
}

fn damage(options: &LogOptions, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(&options.path).unwrap();
    change(&mut bytes);
    fs::write(&options.path, bytes).unwrap();
}

#[test]
fn a_text_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path().join("notes.txt"));
    for text in ["milk\n".to_owned(), "milk, butter, bread\n".repeat(100)] {
        fs::write(&options.path, text).unwrap();
        let (writer, reader) = refused(&options);
        assert!(matches!(writer, LogError::NotALog { .. }), "{writer}");
        assert!(matches!(reader, Some(LogError::NotALog { .. })));
        assert!(!with_suffix(&options.path, "-instance").exists());
    }
}

#[test]
fn another_programs_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path().join("places.sqlite"));
    let connection = Connection::open(&options.path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE places (url)").unwrap();
    connection.close().unwrap();
    let (writer, reader) = refused(&options);
    assert!(matches!(writer, LogError::NotALog { .. }), "{writer}");
    assert!(matches!(reader, Some(LogError::NotALog { .. })));
}

#[test]
fn a_newer_log_is_refused() {
    let (_directory, options) = closed();
    damage(&options, |bytes| bytes[63] = 9);
    let (writer, reader) = refused(&options);
    assert!(matches!(writer, LogError::NewerSchema { found: 9, supported: 3, .. }), "{writer}");
    assert!(matches!(reader, Some(LogError::NewerSchema { .. })));
}

#[test]
fn another_topics_log_is_refused() {
    let (_directory, options) = closed();
    let other = LogOptions { topic: "other".to_owned(), ..options.clone() };
    let (writer, reader) = refused(&other);
    match writer {
        LogError::OtherTopic { found, wanted, .. } => assert_eq!((&*found, &*wanted), (TOPIC, "other")),
        error => panic!("{error}"),
    }
    assert!(reader.is_none());
    EventLog::open(&options).unwrap();
}

#[test]
fn a_damaged_log_is_refused() {
    type Damage = (&'static str, fn(&mut Vec<u8>));
    let damages: [Damage; 5] = [
        ("cut short", |bytes| bytes.truncate(bytes.len() - PAGE_BYTES as usize)),
        ("cut within a page", |bytes| bytes.truncate(bytes.len() - 100)),
        ("schema overwritten", |bytes| bytes[100..PAGE_BYTES as usize].fill(0xff)),
        ("tables overwritten", |bytes| bytes[PAGE_BYTES as usize..].fill(0xa5)),
        ("page size 3", |bytes| bytes[16..18].copy_from_slice(&[0, 3])),
    ];
    for (what, change) in damages {
        let (_directory, options) = closed();
        damage(&options, change);
        let (writer, _) = refused(&options);
        assert!(matches!(writer, LogError::Damaged { .. } | LogError::NotALog { .. }), "{what}: {writer}");
    }
}

#[test]
fn a_log_changed_by_another_program_is_refused() {
    for change in ["DELETE FROM events WHERE position = 500", "DROP TABLE batches", "DELETE FROM meta"] {
        let (_directory, options) = closed();
        Connection::open(&options.path).unwrap().execute_batch(change).unwrap();
        let (writer, reader) = refused(&options);
        assert!(matches!(writer, LogError::Damaged { .. }), "{change}: {writer}");
        assert!(matches!(reader, Some(LogError::Damaged { .. })), "{change}: {reader:?}");
    }
}

#[test]
fn appends_without_their_database_are_refused() {
    let (_directory, options, mut log) = new_log();
    log.append(plain(0..1), &[]).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = crash_copy(&options.path, elsewhere.path());
    fs::remove_file(&copy).unwrap();
    let (writer, _) = refused(&self::options(&copy));
    assert!(matches!(writer, LogError::Damaged { .. }), "{writer}");
}

#[test]
fn only_the_writer_creates_a_missing_log() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path().join("activity.db"));
    for make_empty in [false, true] {
        if make_empty {
            fs::write(&options.path, "").unwrap();
        }
        let error = LogReader::open(&options.path).map(|_| ()).unwrap_err();
        assert!(matches!(error, LogError::Missing { .. }), "{error}");
        assert_eq!(options.path.exists(), make_empty);
    }
    EventLog::open(&options).unwrap();
    LogReader::open(&options.path).unwrap();

    let nowhere = self::options(directory.path().join("nowhere/activity.db"));
    let error = EventLog::open(&nowhere).unwrap_err();
    assert!(matches!(error, LogError::NoFolder { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_log_in_use_is_locked_through_a_link_too() {
    let (directory, options, log) = new_log();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&options.path, &link).unwrap();
    for path in [&options.path, &link] {
        let error = EventLog::open(&self::options(path)).map(|_| ()).unwrap_err();
        assert!(matches!(error, LogError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("another process runs on"), "{error}");
    }
    LogReader::open(&options.path).unwrap();
    drop(log);
    EventLog::open(&options).unwrap();
}

#[test]
fn the_instance_id_stays_and_a_copy_gets_its_own() {
    let (directory, options, log) = new_log();
    let instance = log.instance_id();
    drop(log);
    let log = EventLog::open(&options).unwrap();
    assert_eq!(log.instance_id(), instance);
    drop(log);
    let copy = directory.path().join("copy.db");
    fs::copy(&options.path, &copy).unwrap();
    assert_ne!(EventLog::open(&self::options(&copy)).unwrap().instance_id(), instance);

    let file = with_suffix(&options.path, "-instance");
    fs::write(&file, "someone\n").unwrap();
    assert!(matches!(EventLog::open(&options), Err(LogError::BadInstance { .. })));
    fs::write(&file, &instance.to_string()[..20]).unwrap();
    assert_ne!(EventLog::open(&options).unwrap().instance_id(), instance, "an incomplete id was never used");
}

#[test]
fn probing_whether_a_log_is_in_use_does_not_fail_a_writer() {
    let (_directory, options) = closed();
    let held = || {
        let asks = File::open(with_suffix(&options.path, "-instance")).unwrap();
        let since = Instant::now();
        asks.lock_shared().unwrap();
        thread::scope(|scope| {
            let opened = scope.spawn(|| EventLog::open(&options).map(drop));
            thread::sleep(Duration::from_millis(20));
            drop(asks);
            let held = since.elapsed();
            (opened.join().unwrap(), held)
        })
    };
    // A busy machine may hold it for longer than anybody who asks.
    let opened = (0..100).map(|_| held()).find(|(opened, held)| opened.is_ok() || *held < PROBE);
    opened.expect("it was held too long, each time").0.unwrap();
}

#[test]
fn a_reader_leaves_nothing_behind() {
    let (directory, options) = closed();
    let before = files(directory.path());
    let reader = LogReader::open(&options.path).unwrap();
    assert_eq!(reader.stats().unwrap().counts.events, 500);
    drop(reader);
    assert_eq!(
        files(directory.path()).into_keys().collect::<Vec<_>>(),
        before.into_keys().collect::<Vec<_>>()
    );
}

#[test]
fn an_append_is_refused_if_another_program_changed_the_last_position() {
    let insert = "INSERT INTO events SELECT 700, partition, offset + 100, timestamp, checksum, object_type, object_id, \
                  json, row_checksum FROM events WHERE position = 1";
    for change in ["DELETE FROM events WHERE position = 20", insert] {
        for count in [1, 8, 20] {
            let (_directory, options, mut log) = new_log();
            log.append(plain(0..20), &[]).unwrap();
            let other = Connection::open(&options.path).unwrap();
            other.execute_batch(change).unwrap();
            let rows =
                || -> i64 { other.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap() };
            let before = rows();
            let error = log.append(plain(20..20 + count), &[]).unwrap_err();
            assert!(matches!(error, LogError::Damaged { .. }), "{change}, {count}: {error}");
            assert_eq!((rows(), log.cursor(0).unwrap().unwrap().logged), (before, 20));
        }
    }
}
