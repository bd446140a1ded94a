//! The files: what may be at the log's path, locks, and files that are removed while the log is open.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

fn refusal(path: &Path) -> (LogError, LogError) {
    let writer = EventLog::open(&options(path)).map(drop).unwrap_err();
    (writer, LogReader::open(path).map(drop).unwrap_err())
}

#[test]
fn refuses_what_is_not_a_regular_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink("/dev/null", at("device")).unwrap();
    symlink(at("fifo"), at("link")).unwrap();
    symlink(at("nothing"), at("dangling")).unwrap();
    let before = names(directory.path());
    for name in ["directory", "fifo", "socket", "device", "link", "dangling", "new.db/"] {
        let (writer, reader) = refusal(&at(name));
        assert!(matches!(writer, LogError::NotAFile { .. }), "{name}: {writer}");
        assert!(matches!(reader, LogError::NotAFile { .. }), "{name}: {reader}");
    }
    for name in ["", ":memory:", "file:activity.db", "file::memory:?cache=shared"] {
        let (writer, reader) = refusal(Path::new(name));
        assert!(matches!(writer, LogError::NotAFile { .. }), "{name}: {writer}");
        assert!(matches!(reader, LogError::NotAFile { .. }), "{name}: {reader}");
    }
    assert_eq!(names(directory.path()), before, "something was made or replaced");
}

#[test]
fn refuses_a_log_with_a_link_beside_it() {
    for suffix in ["-wal", "-shm", "-journal"] {
        let (directory, options, log) = new_log();
        drop(log);
        let target = directory.path().join("target");
        fs::write(&target, "somebody's").unwrap();
        symlink(&target, with_suffix(&options.path, suffix)).unwrap();
        let (writer, reader) = refusal(&options.path);
        assert!(matches!(writer, LogError::NotAFile { .. }), "{suffix}: {writer}");
        assert!(matches!(reader, LogError::NotAFile { .. }), "{suffix}: {reader}");
        assert_eq!(fs::read(&target).unwrap(), b"somebody's");
    }
}

#[test]
fn refuses_an_instance_file_that_it_did_not_write() {
    let (directory, options, log) = new_log();
    let (id, file) = (log.instance_id(), with_suffix(&options.path, "-instance"));
    drop(log);
    let foreign = ["someone\n", "someone", "[section]\nkey = 1\n", &"0".repeat(200), &format!("{id}{id}")];
    for text in foreign {
        fs::write(&file, text).unwrap();
        let error = EventLog::open(&options).map(drop).unwrap_err();
        assert!(matches!(error, LogError::BadInstance { .. }), "{text}: {error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "it was written to");
    }
    fs::write(&file, "x".repeat(10_000_000)).unwrap();
    let error = EventLog::open(&options).map(drop).unwrap_err();
    assert!(error.to_string().len() < 1000, "all of it was read");

    let target = directory.path().join("target");
    for text in ["", &id.to_string()] {
        fs::write(&target, text).unwrap();
        fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
        let error = EventLog::open(&options).map(drop).unwrap_err();
        assert!(matches!(error, LogError::NotAFile { found: "is a symbolic link", .. }), "{error}");
        assert!(!is_in_use(&options.path));
        assert_eq!(fs::read_to_string(&target).unwrap(), text);
    }
    fs::remove_file(&file).unwrap();
    mkfifo(&file, Mode::S_IRWXU).unwrap();
    assert!(!is_in_use(&options.path));
    let error = EventLog::open(&options).map(drop).unwrap_err();
    assert!(matches!(error, LogError::NotAFile { found: "is a FIFO", .. }), "{error}");

    // Power loss leaves a file that was being written like this.
    fs::remove_file(&file).unwrap();
    for unfinished in [Vec::new(), id.to_string().as_bytes()[..20].to_vec(), vec![0; 37]] {
        fs::write(&file, unfinished).unwrap();
        let new = EventLog::open(&options).unwrap().instance_id();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{new}\n"));
    }
}

#[test]
fn the_preflight_returns_the_writers_error() {
    let ask = |path: &Path| {
        let before = path.parent().filter(|folder| folder.exists()).map(names);
        let asked = examine_files(path).and_then(|_| check_writable(path));
        assert_eq!(path.parent().filter(|folder| folder.exists()).map(names), before);
        asked
    };
    let same = |path: &Path| {
        let writer = EventLog::open(&options(path)).map(drop).unwrap_err().to_string();
        assert_eq!(ask(path).unwrap_err().to_string(), writer);
        writer
    };
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none/activity.db");
    assert!(same(&missing).contains("the folder of the event log does not exist"));

    let (directory, options, log) = new_log();
    ask(&options.path).expect("a log in use is no problem");
    drop(log);
    assert!(examine_files(&options.path).unwrap());
    assert!(!examine_files(&directory.path().join("new.db")).unwrap());
    let instance = with_suffix(&options.path, "-instance");
    let id = fs::read(&instance).unwrap();
    for (content, refused) in [(&id[..20], false), (b"", false), (b"someone's\n", true)] {
        fs::write(&instance, content).unwrap();
        assert_eq!(ask(&options.path).is_err(), refused);
        assert_eq!(fs::read(&instance).unwrap(), content);
    }
    assert!(same(&options.path).contains("not an instance id"));
    fs::write(&instance, id).unwrap();
    let link = directory.path().join("hard-link.db");
    fs::hard_link(&options.path, &link).unwrap();
    // A symbolic link to one of the names is refused too.
    let symbolic = directory.path().join("symbolic.db");
    symlink(&link, &symbolic).unwrap();
    for path in [&options.path, &link, &symbolic] {
        assert!(same(path).contains("hard links"));
    }
}

#[test]
fn locks_the_database_under_every_name() {
    let (directory, options, log) = new_log();
    let link = directory.path().join("hard-link.db");
    fs::hard_link(&options.path, &link).unwrap();
    let before = names(directory.path());
    let error = EventLog::open(&self::options(&link)).map(drop).unwrap_err();
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    assert_eq!(names(directory.path()), before, "something was made beside the other name");
    drop(log);
    // A crash may have left appends beside only one of the names.
    for path in [&options.path, &link] {
        let error = EventLog::open(&self::options(path)).map(drop).unwrap_err();
        assert!(matches!(error, LogError::HardLinked { links: 2, .. }), "{error}");
    }
    fs::remove_file(&link).unwrap();
    EventLog::open(&options).unwrap();
}

#[test]
fn other_users_cannot_read_new_files() {
    let (directory, _options, mut log) = new_log();
    log.append(plain(0..1), &[]).unwrap();
    let names = names(directory.path());
    assert_eq!(names, ["activity.db", "activity.db-instance", "activity.db-shm", "activity.db-wal"]);
    for name in names {
        let mode = fs::metadata(directory.path().join(&name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & !0o640, 0, "{name} has mode {mode:o}");
    }
}

/// Whatever is removed, appends fail, and the file that replaced it is not changed.
#[test]
fn detects_files_that_are_removed_or_replaced_while_it_is_open() {
    for suffix in ["", "-wal", "-shm", "-instance"] {
        for replaced in [false, true] {
            let (directory, options, mut log) = new_log();
            log.append(plain(0..1), &[]).unwrap();
            let files = log.files();
            files.check().unwrap();
            let taken = with_suffix(&options.path, suffix);
            fs::rename(&taken, directory.path().join("taken")).unwrap();
            if replaced {
                fs::write(&taken, "another").unwrap();
            }
            let moved = |result: Result<(), LogError>| match result.unwrap_err() {
                LogError::Moved { path, .. } => assert_eq!(path, taken),
                error => panic!("{suffix}: {error}"),
            };
            moved(files.check());
            moved(log.append(plain(1..2), &[]).map(drop));
            moved(log.record_published(&[(0, 1)]));
            moved(log.record_clean_stop(&[(0, 1)]));
            moved(log.check_room());
            drop(log);
            if replaced {
                assert_eq!(fs::read(&taken).unwrap(), b"another", "{suffix}");
            }
        }
    }
}

#[test]
fn detects_that_its_folder_was_moved() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let log = EventLog::open(&options(folder.join("activity.db"))).unwrap();
    fs::rename(&folder, directory.path().join("elsewhere")).unwrap();
    let error = log.files().check().unwrap_err();
    assert!(matches!(error, LogError::Moved { .. }), "{error}");
}

#[test]
fn a_log_keeps_its_page_size() {
    for page_bytes in [512, 4096, 8192, 65_536] {
        let (directory, options, mut log) = new_log();
        log.append(plain(0..500), &[]).unwrap();
        drop(log);
        let other = Connection::open(&options.path).unwrap();
        let change = format!("PRAGMA page_size = {page_bytes}; VACUUM; PRAGMA journal_mode = WAL");
        other.execute_batch(&format!("PRAGMA journal_mode = DELETE; {change}")).unwrap();
        drop(other);

        let mut log = EventLog::open(&options).unwrap();
        log.append(plain(500..1000), &[]).unwrap();
        let pragma = |connection: &Connection, name| -> i64 {
            connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
        };
        let wal_bytes = pragma(&log.connection, "wal_autocheckpoint") * page_bytes;
        assert!((63 << 20..=64 << 20).contains(&wal_bytes), "{page_bytes}: {wal_bytes}");
        let (killed, backup) = (tempfile::tempdir().unwrap(), directory.path().join("backup.db"));
        let copy = crash_copy(&options.path, killed.path());
        assert_eq!(LogReader::open(&copy).unwrap().examine_wal().unwrap(), WalState::Sound);
        let made = log.reader().unwrap().back_up(&backup, &mut Findings::default()).unwrap();
        assert_eq!(made, Backup::Made { events: 1000 });
        drop(log);
        for path in [&options.path, &copy, &backup] {
            assert_eq!(check(&LogReader::open(path).unwrap()).unwrap().1, [""; 0]);
            assert_eq!(pragma(&Connection::open(path).unwrap(), "page_size"), page_bytes);
            assert_eq!(audit(path), 1000);
        }
    }
}
