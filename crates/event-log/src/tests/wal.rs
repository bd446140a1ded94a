//! What a disk changes in the -wal file hides appends from SQLite, and is noticed.

use super::rot::{check, list};
use super::*;

const BATCHES: i64 = 20;

/// The files of a log as a kill leaves them, with all appends in the -wal file. `reused`: over the frames before a
/// checkpoint, which were more.
fn killed(reused: bool) -> (TempDir, PathBuf) {
    let (directory, options, mut log) = new_log();
    let append = |log: &mut EventLog, offsets: std::ops::Range<i64>| {
        log.append(vec![chunk(offsets.map(|offset| valid(at(0, offset, 1000), None)).collect())], &[])
            .unwrap();
    };
    let mut from = 0;
    if reused {
        (0..2 * BATCHES).for_each(|batch| append(&mut log, 4 * batch..4 * batch + 4));
        from = 8 * BATCHES;
        let moved = Connection::open(&options.path).unwrap();
        moved.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    }
    (0..BATCHES).for_each(|batch| append(&mut log, from + 4 * batch..from + 4 * batch + 4));
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
fn no_flipped_bit_of_the_wal_hides_an_append_unnoticed() {
    for reused in [false, true] {
        let (_directory, path) = killed(reused);
        let wal = with_suffix(&path, "-wal");
        let bytes = fs::read(&wal).unwrap();
        let wanted = list(&LogReader::open(&path).unwrap(), Order::OldestFirst).unwrap();
        assert_eq!(wal_findings(&path), [""; 0]);
        let mut random = fastrand::Rng::with_seed(3);
        // All of the header and of a frame's own header, and some of the rest.
        let frame = 24 + 4096;
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
                .and_then(|reader| Ok((list(&reader, Order::OldestFirst)?, reader.examine_wal()?)));
            let Ok((listed, state)) = listed else { continue };
            if listed == wanted {
                unnoticed += u64::from(state == WalState::Sound);
                continue;
            }
            noticed += 1;
            let is_told = listed.iter().any(Result::is_err) || matches!(state, WalState::Damaged(_));
            // Over older frames, the very last one looks as a crash in the middle of its writing leaves it.
            let is_last = reused && wanted.len() - listed.len() == 4;
            assert!(is_told || is_last, "bit {bit}: {} of {} events, {state:?}", listed.len(), wanted.len());
        }
        println!("{noticed} flips hid events, {unnoticed} hid nothing");
        assert!(noticed > 100 && (unnoticed > 0) == reused);
    }
}

#[test]
fn what_a_crash_leaves_at_the_end_of_the_wal_is_no_finding() {
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
fn the_wal_of_a_log_in_use_is_left_alone() {
    let (_directory, options, mut log) = new_log();
    log.append(vec![chunk(vec![valid(at(0, 0, 1000), None)])], &[]).unwrap();
    let reader = LogReader::open(&options.path).unwrap();
    assert_eq!(reader.examine_wal().unwrap(), WalState::InUse);
    assert!(!check(&reader).unwrap().0.is_wal_checked);
    drop(log);
    assert_eq!(reader.examine_wal().unwrap(), WalState::Sound);
    assert!(check(&reader).unwrap().0.is_wal_checked);
}
