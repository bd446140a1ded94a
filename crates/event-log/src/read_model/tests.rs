use std::{
    fs,
    ops::ControlFlow,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use contract::{Coordinates, Decider, Limits, Record};
use proptest::prelude::*;
use tempfile::TempDir;

use super::follower::follow;
use super::*;
use crate::{
    Chunk, DamagedRow, EventLog, ListQuery, Listed, LogError, LogOptions, LogReader, Order, Synchronous,
};

struct Place {
    _folder: TempDir,
    options: LogOptions,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("activity.db");
        let options = LogOptions {
            path,
            topic: "c".into(),
            synchronous: Synchronous::Normal,
            cache_bytes: 1 << 20,
            window_ms: 1000,
            max_pages: None,
        };
        Self { _folder: folder, options }
    }

    fn log(&self) -> EventLog {
        EventLog::open(&self.options).unwrap()
    }

    fn reader(&self) -> LogReader {
        LogReader::open(&self.options.path).unwrap()
    }

    fn follower(&self) -> Follower {
        Follower::open(self.reader(), &self.options.path).unwrap()
    }

    fn model(&self) -> ReadModel {
        ReadModel::open(&self.options.path).expect("a read model")
    }

    fn path_of_model(&self) -> PathBuf {
        ReadModel::path_of(&self.options.path)
    }
}

/// Appends events of these objects, a second apart, from offset `from` on.
fn append_chunk(log: &mut EventLog, partition: i32, from: i64, objects: &[String]) -> Result<(), LogError> {
    let decider = Decider::new("c", Limits::default());
    let verdicts = (from..).zip(objects).map(|(offset, object)| {
        let value = format!(r#"{{"@type":"share","objectType":"case","objectId":"{object}"}}"#);
        let coordinates = Coordinates { partition, offset, timestamp: 1_000_000 + offset * 1000 };
        decider.read(&Record {
            coordinates,
            key: None,
            value: Some(value.to_owned().into()),
            headers: Vec::new(),
        })
    });
    let next_offset = from + objects.len() as i64;
    log.append(vec![Chunk { partition, next_offset, verdicts: verdicts.collect() }], &[]).map(drop)
}

fn append(log: &mut EventLog, partition: i32, from: i64, objects: &[String]) {
    append_chunk(log, partition, from, objects).unwrap();
}

/// `count` ids of `different` objects.
fn objects(count: usize, different: usize) -> Vec<String> {
    (0..count).map(|number| (number * 7 % different).to_string()).collect()
}

fn collect(
    list: impl FnOnce(
        &mut dyn FnMut(Result<Listed, DamagedRow>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure>,
) -> Vec<Listed> {
    let mut found = Vec::new();
    list(&mut |listed| {
        found.push(listed.unwrap());
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    found
}

#[derive(Debug)]
#[expect(dead_code, reason = "printed if a test fails")]
enum Failure {
    Log(LogError),
    Model(ReadModelError),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<ReadModelError> for Failure {
    fn from(error: ReadModelError) -> Self {
        Self::Model(error)
    }
}

/// Compares the model's answer with that of a scan.
fn assert_same(place: &Place, query: &ListQuery) -> usize {
    let (log, model) = (place.reader(), place.model());
    let wanted = collect(|each| log.list(query, each));
    let found = collect(|each| model.list(&log, query, each));
    assert_eq!(found, wanted, "{query:?}");
    wanted.len()
}

fn assert_same_for_many_queries(place: &Place) {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for object in [None, Some("case/3"), Some("case/none")] {
            for (since, until) in [(None, None), (Some(3_000_000), None), (Some(4_000_000), Some(9_000_000))]
            {
                for limit in [None, Some(0), Some(3)] {
                    let object = object.map(str::to_owned);
                    assert_same(place, &ListQuery { object, since, until, order, limit });
                }
            }
        }
    }
}

#[test]
fn answers_are_those_of_a_scan_however_much_the_model_covers() {
    let place = Place::new();
    let mut log = place.log();
    append(&mut log, 0, 0, &objects(10_000, 50));
    let mut follower = place.follower();
    assert_eq!(follower.advance(false).unwrap(), Progress { covered: 10_000, last: 10_000 });
    assert_same_for_many_queries(&place);

    // Too few events for a run are read from the log.
    append(&mut log, 1, 0, &objects(3000, 50));
    assert_eq!(follower.advance(false).unwrap(), Progress { covered: 10_000, last: 13_000 });
    assert_same_for_many_queries(&place);
    assert_eq!(follower.advance(true).unwrap().lag(), 0);
    assert_same_for_many_queries(&place);
    let of_one = ListQuery { object: Some("case/3".into()), ..ListQuery::default() };
    assert_eq!(assert_same(&place, &of_one), 260);
}

#[test]
fn small_runs_are_merged_without_loss() {
    let place = Place::new();
    let mut log = place.log();
    let mut follower = place.follower();
    for batch in 0..70 {
        append(&mut log, batch % 3, i64::from(batch) * 10_000, &objects(20, 50));
        assert_eq!(follower.advance(true).unwrap().lag(), 0);
    }
    let runs = place.model().all_runs().unwrap();
    assert!(runs.len() < 10 && runs[0].events() == 65 * 20, "{runs:?}");
    assert_same_for_many_queries(&place);
}

/// After an older copy is restored, other events are appended at positions that the model covers.
#[test]
fn a_restored_log_is_followed_from_its_end() {
    let place = Place::new();
    {
        let mut log = place.log();
        append(&mut log, 0, 0, &objects(100, 10));
        place.follower().advance(true).unwrap();
    }
    let older = place.options.path.with_extension("older");
    fs::copy(&place.options.path, &older).unwrap();
    {
        append(&mut place.log(), 0, 100, &objects(100, 10));
        place.follower().advance(true).unwrap();
    }
    fs::copy(&older, &place.options.path).unwrap();
    assert_eq!(place.model().covered(&place.reader()).unwrap(), 100);
    assert_same_for_many_queries(&place);

    let mut log = place.log();
    let mut follower = Follower::open(log.reader().unwrap(), &place.options.path).unwrap();
    append(&mut log, 1, 0, &objects(150, 7));
    assert_eq!(follower.advance(true).unwrap(), Progress { covered: 250, last: 250 });
    assert_same_for_many_queries(&place);
}

#[test]
fn another_log_at_the_same_path_is_not_answered_from_the_old_model() {
    let place = Place::new();
    append(&mut place.log(), 0, 0, &objects(100, 10));
    place.follower().advance(true).unwrap();
    for suffix in ["", "-instance", "-wal", "-shm"] {
        let mut name = place.options.path.clone().into_os_string();
        name.push(suffix);
        let _ = fs::remove_file(name);
    }
    append(&mut place.log(), 3, 5, &objects(300, 3));
    assert_eq!(place.model().covered(&place.reader()).unwrap(), 0);
    assert_same_for_many_queries(&place);
    assert_eq!(place.follower().advance(true).unwrap().lag(), 0);
    assert_same_for_many_queries(&place);
}

#[test]
fn a_model_that_is_damaged_or_of_another_version_is_rebuilt() {
    let place = Place::new();
    append(&mut place.log(), 0, 0, &objects(100, 10));
    place.follower().advance(true).unwrap();
    let damages: [&dyn Fn(); 3] = [
        &|| {
            let mut bytes = fs::read(place.path_of_model()).unwrap();
            bytes[100..].fill(b'x');
            fs::write(place.path_of_model(), bytes).unwrap();
        },
        &|| {
            let connection = rusqlite::Connection::open(place.path_of_model()).unwrap();
            connection.pragma_update(None, "user_version", 77).unwrap();
        },
        &|| ReadModel::delete(&place.options.path).unwrap(),
    ];
    for damage in damages {
        damage();
        assert!(ReadModel::open(&place.options.path).is_none_or(|model| model.check().is_err()));
        assert_eq!(place.follower().advance(true).unwrap(), Progress { covered: 100, last: 100 });
        assert_same_for_many_queries(&place);
    }
}

#[test]
fn a_file_that_may_not_be_a_read_model_is_not_changed() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    append(&mut place.log(), 0, 0, &objects(100, 10));
    let (log, model) = (&place.options.path, place.path_of_model());
    let elsewhere = log.with_extension("elsewhere");
    let database = |path: &PathBuf| {
        let other = rusqlite::Connection::open(path).unwrap();
        other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE precious (a)").unwrap();
    };
    let cases: [&dyn Fn(); 5] = [
        &|| fs::write(&model, "precious").unwrap(),
        &|| fs::write(&model, "precious, and longer than the header of a database ".repeat(9)).unwrap(),
        &|| database(&model),
        &|| {
            // A link to another log's model, which must not be written to.
            place.follower();
            fs::rename(&model, &elsewhere).unwrap();
            symlink(&elsewhere, &model).unwrap();
        },
        &|| {
            fs::write(&elsewhere, "precious").unwrap();
            symlink(&elsewhere, model.with_extension("db-read-model-wal")).unwrap();
        },
    ];
    for (number, put) in cases.iter().enumerate() {
        put();
        let read = || [&model, &elsewhere].map(|path| fs::read(path).ok());
        let before = read();
        for opened in [Follower::open(place.reader(), log), Follower::rebuild(place.reader(), log)] {
            let error = opened.unwrap_err();
            assert!(matches!(error, ReadModelError::Foreign { .. }), "{number}: {error}");
            assert!(error.to_string().contains("move it away"), "{error}");
        }
        assert!(ReadModel::open(log).is_none());
        ReadModel::delete(log).unwrap_err();
        assert_eq!(read(), before, "{number}");
        for path in [&model, &elsewhere, &model.with_extension("db-read-model-wal")] {
            let _ = fs::remove_file(path);
        }
    }
    fs::write(&model, "").unwrap();
    assert_eq!(place.follower().advance(true).unwrap().covered, 100);
}

#[test]
fn a_deleted_or_replaced_model_is_rebuilt() {
    let place = Place::new();
    let mut log = place.log();
    append(&mut log, 0, 0, &objects(100, 10));
    let mut follower = place.follower();
    follower.advance(true).unwrap();
    let remove = |suffixes: &[&str]| {
        for suffix in suffixes {
            let mut name = place.path_of_model().into_os_string();
            name.push(suffix);
            fs::remove_file(name).unwrap();
        }
    };
    let changes: [&dyn Fn(); 5] = [
        &|| remove(&["", "-wal", "-shm"]),
        &|| remove(&[""]),
        &|| remove(&["-wal"]),
        &|| ReadModel::delete(&place.options.path).unwrap(),
        &|| {
            remove(&["", "-wal", "-shm"]);
            Follower::rebuild(place.reader(), &place.options.path).unwrap().advance(true).unwrap();
        },
    ];
    for (number, change) in (1..).zip(changes) {
        change();
        append(&mut log, 0, number * 100, &objects(100, 10));
        let progress = follower.advance(true).unwrap();
        assert_eq!(progress, Progress { covered: number * 100 + 100, last: number * 100 + 100 });
        assert_eq!(place.model().covered(&place.reader()).unwrap(), progress.last, "{number}");
        assert_same_for_many_queries(&place);
        place.model().check().unwrap();
    }
    // A follower that can't write covers nothing.
    remove(&["", "-wal", "-shm"]);
    fs::write(place.path_of_model(), "precious").unwrap();
    let (stop, mut lags) = (AtomicBool::new(false), None);
    follow(follower, &stop, |progress| {
        lags = Some(progress.lag());
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(lags, Some(600));
    assert_eq!(fs::read(place.path_of_model()).unwrap(), b"precious");
}

#[test]
fn no_flipped_bit_of_the_model_changes_an_answer() {
    let place = Place::new();
    let mut log = place.log();
    append(&mut log, 0, 0, &objects(3000, 50));
    place.follower().advance(true).unwrap();
    append(&mut log, 1, 0, &objects(2000, 50));
    place.follower().advance(true).unwrap();
    let bytes = fs::read(place.path_of_model()).unwrap();
    let model = |bit: usize| {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(place.path_of_model(), flipped).unwrap();
        ReadModel::open(&place.options.path)
    };
    let query = ListQuery { object: Some("case/7".to_owned()), ..ListQuery::default() };
    let reader = place.reader();
    let mut wanted = collect(|each| reader.list(&query, each));
    let mut random = fastrand::Rng::with_seed(7);
    let (mut found_by_check, mut rebuilt) = (0, 0);
    for number in 0..300 {
        // The runs and the schema are in the first pages, the blocks in the others.
        let end = if number % 2 == 0 { bytes.len() } else { 4 * 4096 };
        let bit = random.usize(..end * 8);
        if let Some(model) = model(bit) {
            let found = collect(|each| model.list(&reader, &query, each));
            assert_eq!(found.len(), wanted.len(), "bit {bit}");
            assert_eq!(found, wanted, "bit {bit}");
            found_by_check += u32::from(model.check().is_err());
        }
        if number % 10 == 0 {
            // A follower rebuilds a damaged model and continues.
            append(&mut log, 2, number * 10, &objects(10, 50));
            let now = place.reader();
            wanted = collect(|each| now.list(&query, each));
            let before = now.last_position().unwrap();
            let Ok(mut follower) = Follower::open(place.reader(), &place.options.path) else { continue };
            let mut progress = follower.advance(true).unwrap();
            rebuilt += u32::from(progress.covered < before);
            while progress.lag() > 0 {
                progress = follower.advance(true).unwrap();
            }
            drop(follower);
            assert_eq!(collect(|each| place.model().list(&now, &query, each)), wanted, "bit {bit}");
        }
    }
    assert!(found_by_check > 30, "{found_by_check}, {rebuilt}");
}

#[test]
fn two_followers_share_a_model_and_a_rebuild_clears_it() {
    let place = Place::new();
    let mut log = place.log();
    append(&mut log, 0, 0, &objects(100, 10));
    let (mut one, mut other) = (place.follower(), place.follower());
    one.advance(true).unwrap();
    append(&mut log, 0, 100, &objects(100, 10));
    assert_eq!(other.advance(true).unwrap().covered, 100);
    assert_eq!(other.advance(true).unwrap().covered, 200);
    let mut again = Follower::rebuild(place.reader(), &place.options.path).unwrap();
    assert_eq!(place.model().covered(&place.reader()).unwrap(), 0);
    again.advance(true).unwrap();
    one.advance(true).unwrap();
    assert_eq!(place.model().all_runs().unwrap().len(), 1);
    assert_same_for_many_queries(&place);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_runs_give_the_answers_of_a_scan(
        batches in prop::collection::vec((1_usize..900, 1_usize..40, any::<bool>()), 1..12),
        is_passed_on: bool,
    ) {
        let place = Place::new();
        let mut log = place.log();
        let reader = if is_passed_on { log.reader_for_follower().unwrap() } else { place.reader() };
        let mut follower = Follower::open(reader, &place.options.path).unwrap();
        let mut offset = 0;
        for (count, different, follow) in batches {
            append(&mut log, 0, offset, &objects(count, different));
            offset += count as i64;
            if follow {
                follower.advance(true).unwrap();
            }
        }
        assert_same_for_many_queries(&place);
    }
}

#[test]
fn an_idle_log_is_covered_to_its_last_event() {
    let place = Place::new();
    let mut log = place.log();
    append(&mut log, 0, 0, &objects(10, 3));
    let (stop, mut lags) = (AtomicBool::new(false), Vec::new());
    let begun = Instant::now();
    follow(place.follower(), &stop, |progress| {
        lags.push(progress.lag());
        let is_over = progress.lag() == 0 || begun.elapsed() > Duration::from_secs(60);
        stop.store(is_over, Ordering::SeqCst);
    });
    assert_eq!((lags.first(), lags.last()), (Some(&10), Some(&0)));
    assert_same_for_many_queries(&place);
}

#[test]
fn a_model_that_could_not_be_opened_is_opened_later() {
    let place = Place::new();
    let mut log = place.log();
    append(&mut log, 0, 0, &objects(10, 3));
    let model = place.path_of_model();
    fs::write(&model, "somebody's notes").unwrap();
    let opened = Follower::open_or_keep(log.reader_for_follower().unwrap(), &place.options.path);
    assert!(opened.is_err());
    append(&mut log, 0, 10, &objects(10, 3));
    // The process that writes must not open the log again: the reader is kept, with what was passed on to it. If the event
    // were read from the log, this would be noticed.
    log.connection.execute_batch("UPDATE events SET timestamp = timestamp + 1 WHERE position = 15").unwrap();
    let (stop, mut lags) = (AtomicBool::new(false), Vec::new());
    let begun = Instant::now();
    follow_when_open(opened, &place.options.path, &stop, |progress| {
        // After a retry that fails.
        if lags.len() == 1 {
            fs::remove_file(&model).unwrap();
        }
        lags.push(progress.lag());
        let is_over = progress.lag() == 0 || begun.elapsed() > Duration::from_secs(60);
        stop.store(is_over, Ordering::SeqCst);
    });
    assert_eq!((lags.first(), lags.last()), (Some(&20), Some(&0)));
    log.connection.execute_batch("UPDATE events SET timestamp = timestamp - 1 WHERE position = 15").unwrap();
    #[cfg(target_os = "linux")]
    assert!(has_lock_of_sqlite(&place.options.path));
    drop(log);
    assert_same_for_many_queries(&place);
}

/// Whether SQLite still has its lock on the log. Afterwards it has not: that file was closed once more.
#[cfg(target_os = "linux")]
fn has_lock_of_sqlite(path: &std::path::Path) -> bool {
    use nix::libc;
    let mut shared = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        // <https://sqlite.org/src/file/src/os.h>: SHARED_FIRST and SHARED_SIZE
        l_start: 0x4000_0002,
        l_len: 510,
        l_pid: 0,
    };
    let file = fs::File::open(path).unwrap();
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut shared)).unwrap();
    shared.l_type != libc::F_UNLCK as libc::c_short
}

#[test]
fn the_writer_passes_on_what_it_has_committed() {
    let place = Place::new();
    let mut log = place.log();
    append(&mut log, 0, 0, &objects(100, 10));
    let reader = log.reader_for_follower().unwrap();
    let mut follower = Follower::open(reader, &place.options.path).unwrap();
    // The log has events that were not passed on.
    append(&mut log, 0, 100, &objects(100, 10));
    append(&mut log, 1, 0, &objects(100, 7));
    assert_eq!(follower.advance(true).unwrap(), Progress { covered: 300, last: 300 });
    assert_same_for_many_queries(&place);

    // Nothing of an append that fails.
    let fail = "CREATE TEMP TRIGGER fail BEFORE INSERT ON cursors BEGIN SELECT raise(ABORT, 'no'); END";
    log.connection.execute_batch(fail).unwrap();
    append_chunk(&mut log, 1, 100, &objects(100, 3)).unwrap_err();
    log.connection.execute_batch("DROP TRIGGER fail").unwrap();
    append(&mut log, 1, 100, &objects(100, 10));
    append(&mut log, 0, 200, &objects(100, 10));
    // It does not read them from the log: it would notice this.
    let last = log.reader().unwrap().last_position().unwrap();
    let change = format!("UPDATE events SET timestamp = timestamp + 1 WHERE position = {}", last - 50);
    rusqlite::Connection::open(&place.options.path).unwrap().execute_batch(&change).unwrap();
    assert_eq!(follower.advance(true).unwrap(), Progress { covered: last, last });
    let change = change.replace('+', "-");
    rusqlite::Connection::open(&place.options.path).unwrap().execute_batch(&change).unwrap();
    assert_same_for_many_queries(&place);
}
