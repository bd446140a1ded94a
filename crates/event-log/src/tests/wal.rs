//! Damage of the -wal file hides appends from SQLite; it is detected.

use super::*;

const BATCHES: i64 = 20;

/// A killed log, whose appends are all in the -wal file. With `reused` they overwrite some of the frames from before a
/// checkpoint.
fn killed(reused: bool) -> (TempDir, PathBuf) {
    let (directory, options, mut log) = new_log();
    let mut append = |from: i64| _ = log.append(plain(from..from + 4), &[]).unwrap();
    let mut from = 0;
    if reused {
        (0..2 * BATCHES).for_each(|batch| append(4 * batch));
        from = 8 * BATCHES;
        let moved = Connection::open(&options.path).unwrap();
        moved.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    }
    (0..BATCHES).for_each(|batch| append(from + 4 * batch));
    let copy = crash_copy(&options.path, directory.path());
    (directory, copy)
}

fn wal_findings(path: &Path) -> Vec<String> {
    let reader = LogReader::open_damaged(path).unwrap();
    let state = reader.examine_wal().unwrap();
    let findings = check(&reader).map_or_else(|error| vec![error.to_string()], |(_, findings)| findings);
    if let WalState::Damaged(finding) = state {
        assert!(findings.contains(&finding.to_string()), "{findings:?}");
    }
    findings
}

#[test]
fn every_flipped_bit_of_the_wal_that_hides_an_append_is_detected() {
    for reused in [false, true] {
        let (_directory, path) = killed(reused);
        let wal = with_suffix(&path, "-wal");
        let bytes = fs::read(&wal).unwrap();
        let wanted = list_all(&LogReader::open(&path).unwrap(), Order::OldestFirst).unwrap();
        assert_eq!(wal_findings(&path), [""; 0]);
        let mut random = fastrand::Rng::with_seed(3);
        // All bits of the header and of the first frame's header, and some of the rest.
        let frame = 24 + PAGE_BYTES as usize;
        let bits = (0..(32 + 24) * 8).chain((0..200).map(|_| random.usize(..bytes.len() * 8)));
        let frames = (0..(bytes.len() - 32) / frame)
            .flat_map(|number| (0..24).map(move |at| (32 + number * frame + at) * 8));
        let (mut noticed, mut unnoticed) = (0, 0);
        for bit in bits.chain(frames) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&wal, &flipped).unwrap();
            let _ = fs::remove_file(with_suffix(&path, "-shm"));
            let listed = LogReader::open_damaged(&path)
                .and_then(|reader| Ok((list_all(&reader, Order::OldestFirst)?, reader.examine_wal()?)));
            let Ok((listed, state)) = listed else { continue };
            if listed == wanted {
                unnoticed += u64::from(state == WalState::Sound);
                continue;
            }
            noticed += 1;
            let is_reported = listed.iter().any(Result::is_err) || matches!(state, WalState::Damaged(_));
            // If it overwrote an older frame, the last frame looks like one that a crash left incomplete.
            let is_last = reused && wanted.len() - listed.len() == 4;
            assert!(
                is_reported || is_last,
                "bit {bit}: {} of {} events, {state:?}",
                listed.len(),
                wanted.len()
            );
        }
        println!("{noticed} flips hid events, {unnoticed} hid nothing");
        assert!(noticed > 100 && (unnoticed > 0) == reused);
    }
}

#[test]
fn an_incomplete_end_of_the_wal_is_no_finding() {
    for reused in [false, true] {
        let (_directory, path) = killed(reused);
        let wal = with_suffix(&path, "-wal");
        let bytes = fs::read(&wal).unwrap();
        // Cut anywhere: in the header, between frames and in them.
        let cuts = (0..bytes.len()).step_by(997).chain([0, 31, 32, 33, bytes.len() - 1, bytes.len()]);
        for length in cuts {
            fs::write(&wal, &bytes[..length]).unwrap();
            let _ = fs::remove_file(with_suffix(&path, "-shm"));
            let reader = LogReader::open_damaged(&path).unwrap();
            assert_eq!(reader.examine_wal().unwrap(), WalState::Sound, "{length} bytes");
        }
    }
}

#[test]
fn the_wal_of_a_log_in_use_is_not_checked() {
    let (_directory, options, mut log) = new_log();
    log.append(plain(0..1), &[]).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    assert_eq!(reader.examine_wal().unwrap(), WalState::InUse);
    assert!(!check(&reader).unwrap().0.is_wal_checked);
    drop(log);
    assert_eq!(reader.examine_wal().unwrap(), WalState::Sound);
    assert!(check(&reader).unwrap().0.is_wal_checked);
}

#[test]
fn a_checkpoint_that_is_due_empties_the_wal() {
    let (_directory, _options, mut log) = new_log();
    // Pages in the -wal file, and those of them that the database has.
    let pages = |log: &EventLog| -> (i64, i64) {
        log.connection
            .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok((row.get(1)?, row.get(2)?)))
            .unwrap()
    };
    log.append(plain(0..100), &[]).unwrap();
    log.checkpoint_if_due();
    assert_eq!(pages(&log).1, 0);
    log.append(plain(100..70_000), &[]).unwrap();
    let (all, done) = pages(&log);
    assert!(all > 1024 && done == 0, "{all} pages, {done} of them in the database");
    log.checkpoint_if_due();
    assert_eq!(pages(&log), (all, all));
    log.append(plain(70_000..70_100), &[]).unwrap();
    assert!(pages(&log).0 < 100);
}
