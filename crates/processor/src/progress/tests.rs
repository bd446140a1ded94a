//! Tests with a simulated clock.

use testing::said_by;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(30);

/// Seconds since the start of the test.
struct Clock(Instant);

impl Clock {
    fn at(&self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }
}

fn begun() -> (Clock, Progress) {
    (Clock(Instant::now()), Progress::default())
}

fn reason(progress: &Progress, now: Instant) -> Option<String> {
    progress.reason(now, TIMEOUT, |_| true, None)
}

#[test]
fn reports_a_stalled_partition_with_offset_end_and_the_last_error() {
    let (clock, mut progress) = begun();
    progress.moved(clock.at(0), 1, 7, 7);
    progress.end(clock.at(0), 1, EndOffsets::all_stable(12));
    progress.moved(clock.at(0), 2, 5, 5);
    progress.end(clock.at(0), 2, EndOffsets::all_stable(5));
    assert_eq!(reason(&progress, clock.at(59)), None);
    progress.hear(clock.at(40), "no leader".into());
    progress.moved(clock.at(60), 1, 7, 7);
    progress.moved(clock.at(60), 2, 5, 5);
    progress.end(clock.at(60), 2, EndOffsets::all_stable(5));
    assert_eq!(
        reason(&progress, clock.at(75)).unwrap(),
        "partition 1 is stalled at offset 7 for 75 s, and the topic ends at 12; last error: no leader"
    );
    let other = progress.reason(clock.at(75), TIMEOUT, |_| true, Some("no producer yet".into()));
    assert!(other.unwrap().ends_with("; last error: no producer yet"));
    // No longer this instance's.
    assert_eq!(progress.reason(clock.at(75), TIMEOUT, |partition| partition == 2, None), None);
    // It moves, and stalls again from then on. Earlier errors are not the reason for that.
    progress.moved(clock.at(80), 1, 8, 8);
    progress.end(clock.at(130), 1, EndOffsets::all_stable(12));
    progress.end(clock.at(130), 2, EndOffsets::all_stable(5));
    assert_eq!(reason(&progress, clock.at(139)), None);
    assert_eq!(
        reason(&progress, clock.at(140)).unwrap(),
        "partition 1 is stalled at offset 8 for 60 s, and the topic ends at 12"
    );
    progress.moved(clock.at(141), 1, 12, 12);
    progress.end(clock.at(999), 1, EndOffsets::all_stable(12));
    progress.end(clock.at(999), 2, EndOffsets::all_stable(5));
    assert_eq!(reason(&progress, clock.at(999)), None);
}

#[test]
fn the_time_counts_from_when_there_is_something_to_publish() {
    let (clock, mut progress) = begun();
    progress.moved(clock.at(0), 0, 7, 7);
    progress.end(clock.at(0), 0, EndOffsets::all_stable(7));
    progress.moved(clock.at(900), 0, 7, 7);
    progress.end(clock.at(1000), 0, EndOffsets::all_stable(8));
    assert_eq!(reason(&progress, clock.at(1059)), None);
    assert!(reason(&progress, clock.at(1060)).is_some());
    // More records are no progress.
    progress.end(clock.at(1061), 0, EndOffsets::all_stable(9));
    assert!(reason(&progress, clock.at(1062)).is_some());
}

#[test]
fn a_log_that_fills_up_from_history_moves() {
    let (clock, mut progress) = begun();
    progress.end(clock.at(0), 0, EndOffsets::all_stable(1000));
    progress.moved(clock.at(0), 0, 1000, 0);
    progress.moved(clock.at(50), 0, 1000, 10);
    progress.end(clock.at(50), 0, EndOffsets::all_stable(1000));
    assert_eq!(reason(&progress, clock.at(100)), None);
    let said = reason(&progress, clock.at(110)).unwrap();
    assert!(said.starts_with("partition 0 is stalled at offset 10 for 60 s"), "{said}");
}

#[test]
fn an_interruption_lasts_until_something_is_published_or_nothing_is_left() {
    let (clock, mut progress) = begun();
    for (partition, end) in [(0, 9), (1, 5), (2, 9)] {
        progress.moved(clock.at(0), partition, 5, 5);
        progress.end(clock.at(0), partition, EndOffsets::all_stable(end));
    }
    progress.hear(clock.at(1), "refused".into());
    progress.interrupted();
    let interrupted = Some("nothing was published since an error: refused".to_owned());
    let of = |progress: &Progress, wanted: i32| {
        progress.reason(clock.at(2), TIMEOUT, |partition| partition == wanted, None)
    };
    assert_eq!(reason(&progress, clock.at(2)), interrupted);
    // Started again, as after every interruption.
    for (partition, end) in [(0, 9), (1, 5), (2, 9)] {
        progress.end(clock.at(2), partition, EndOffsets::all_stable(end));
        progress.moved(clock.at(2), partition, 5, 5);
    }
    assert_eq!(
        [0, 1, 2].map(|wanted| of(&progress, wanted)),
        [interrupted.clone(), None, interrupted.clone()]
    );
    progress.moved(clock.at(2), 0, 6, 6);
    assert_eq!([0, 2].map(|wanted| of(&progress, wanted)), [None, interrupted]);
    progress.forget(2);
    assert_eq!(reason(&progress, clock.at(2)), None);
}

#[test]
fn reports_a_missing_output_topic_until_it_exists_again() {
    let (clock, mut progress) = begun();
    progress.ended(clock.at(0), Ends { missing: Some(vec!["n".into()]), ..Ends::default() });
    let said = reason(&progress, clock.at(0)).unwrap();
    assert!(said.starts_with("the topic 'n' does not exist"), "{said}");
    // Without an answer, nothing new is known.
    progress.ended(clock.at(5), Ends::from("no answer".to_owned()));
    assert_eq!(reason(&progress, clock.at(5)), Some(said));
    progress.ended(clock.at(10), Ends { missing: Some(Vec::new()), ..Ends::default() });
    assert_eq!(reason(&progress, clock.at(10)), None);
}

#[test]
fn it_warns_once_and_then_again_and_again_and_says_when_it_is_over() {
    let (clock, mut progress) = begun();
    progress.moved(clock.at(0), 1, 7, 7);
    progress.end(clock.at(0), 1, EndOffsets::all_stable(12));
    let mut warned = |now: u64| {
        said_by(|| progress.warn(clock.at(now), TIMEOUT, AGAIN, |_| true)).0.matches("is stalled").count()
    };
    let times = [0, 59, 60, 61, 89, 90, 119, 120].map(|now| (now, warned(now)));
    assert_eq!(times, [(0, 0), (59, 0), (60, 1), (61, 0), (89, 0), (90, 1), (119, 0), (120, 1)]);
    let said = said_by(|| progress.moved(clock.at(121), 1, 8, 8)).0;
    assert!(said.contains("the partition moves again"), "{said}");
    assert_eq!(said_by(|| progress.moved(clock.at(122), 1, 9, 9)).0, "");
}

#[test]
fn reports_an_open_transaction_that_hides_commands() {
    let (clock, mut progress) = begun();
    progress.moved(clock.at(0), 1, 7, 7);
    progress.end(clock.at(0), 1, EndOffsets { stable: 9, high_watermark: 12 });
    progress.hear(clock.at(1), "no leader".into());
    assert!(
        reason(&progress, clock.at(60)).unwrap().ends_with("the topic ends at 12; last error: no leader")
    );
    progress.moved(clock.at(61), 1, 9, 9);
    progress.end(clock.at(61), 1, EndOffsets { stable: 9, high_watermark: 12 });
    assert_eq!(reason(&progress, clock.at(120)), None);
    let said = reason(&progress, clock.at(121)).unwrap();
    let wanted = "partition 1 is stalled at offset 9 for 60 s, and the topic ends at 12: all before it is done, and a \
                  producer's open transaction holds back the rest. ";
    assert!(said.starts_with(wanted), "{said}");
    let said = said_by(|| progress.warn(clock.at(121), TIMEOUT, AGAIN, |_| true)).0;
    assert!(said.contains("open transaction"), "{said}");
    // Aborted: the position moves over it.
    progress.end(clock.at(122), 1, EndOffsets::all_stable(13));
    progress.moved(clock.at(122), 1, 13, 13);
    assert_eq!(reason(&progress, clock.at(130)), None);
}

#[test]
fn an_end_that_is_not_known_is_no_sign_of_health() {
    let (clock, mut progress) = begun();
    for partition in [1, 2] {
        progress.moved(clock.at(0), partition, 7, 7);
        progress.end(clock.at(0), partition, EndOffsets::all_stable(7));
    }
    progress.end(clock.at(30), 2, EndOffsets::all_stable(7));
    progress.ended(clock.at(31), Ends { error: Some("partition 1 has no leader".into()), ..Ends::default() });
    assert_eq!(reason(&progress, clock.at(59)), None);
    assert_eq!(
        reason(&progress, clock.at(60)).unwrap(),
        "the end of partition 1 has been unknown for 60 s, so its lag is unknown too; last error: where the topic \
         ends: partition 1 has no leader"
    );
    let mut warned = |now: u64| {
        said_by(|| progress.warn(clock.at(now), TIMEOUT, AGAIN, |_| true)).0.matches("unknown for").count()
    };
    assert_eq!([59, 60, 61, 90].map(&mut warned), [0, 1, 0, 1]);
    assert_eq!(progress.reason(clock.at(60), TIMEOUT, |partition| partition == 2, None), None);
    for partition in [1, 2] {
        progress.end(clock.at(91), partition, EndOffsets::all_stable(7));
    }
    assert_eq!(reason(&progress, clock.at(92)), None);
    // Even with a short time-out, the time between two queries is not a failure.
    assert_eq!(progress.reason(clock.at(120), Duration::from_secs(1), |_| true, None), None);
}
