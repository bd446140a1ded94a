//! One fault at a time: each must be reported with its kind and place, and nothing else may be reported.

mod in_log;
mod on_topics;

use super::*;

type Fault<'a> = (&'a str, &'a dyn Fn(&mut World), &'a [(Kind, What)]);

/// Plants each fault, and checks the report.
#[track_caller]
fn plant(faults: &[Fault<'_>]) -> Vec<Deviation> {
    let mut all = Vec::new();
    for (name, change, wanted) in faults {
        let mut world = World::new(COMMANDS);
        change(&mut world);
        let reported = world.verify();
        let mut found: Vec<_> =
            reported.deviations.iter().map(|deviation| (deviation.kind, deviation.what)).collect();
        found.sort_unstable();
        assert_eq!(&found, wanted, "{name}: {:#?}", reported.deviations);
        assert_eq!(reported.unchecked, [], "{name}");
        all.extend(reported.deviations);
    }
    all
}

use Kind::{Altered, Doubled, Foreign, Lost, Miscounted, Misplaced};
use What::{Duplicate, Event, Notification, Rejection};
