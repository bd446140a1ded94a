//! Audiences are neither widened nor lost, and do not learn of each other.

use std::collections::{BTreeMap, BTreeSet};

use activity_stream_contract::Event;
use proptest::{collection::vec, prelude::*};
use serde_json::value::RawValue;
use testing::contract::*;

use crate::strategies::*;

#[track_caller]
fn audiences(event: &Event) -> Vec<String> {
    event.targets().into_iter().map(|target| target.audience).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// What may name an audience and is none of the contract's is never left for everyone to see.
    #[test]
    fn never_widens_an_audience(
        command in command(),
        name in prop_oneof![misspelt_targets(), foreign_audience()],
        audience in vec(identity(), 0..3),
    ) {
        let more = format!("{{{}:[{}],{}", quote(&name), audience.join(","), &command.trim()[1..]);
        prop_assert!(read(&record(more.as_str())).is_err(), "{}", more);
    }

    #[test]
    fn never_accepts_an_id_in_a_target_of_everyone(public: bool, id in prop_oneof![identity(), free_value()]) {
        let kind = if public { "Public" } else { "Everyone" };
        let read = read(&record(entry(&format!("\"targets\":[{{\"@type\":\"{kind}\",\"targetId\":{id}}}]"))));
        prop_assert_eq!(read.is_ok(), id == "null");
    }

    #[test]
    fn notifications_contain_one_audience_and_not_the_others(command in command()) {
        let event = event(command);
        let notifications: Vec<_> = event.notifications("s", &[]).collect();
        let notified: Vec<_> = event.targets().into_iter().enumerate().filter(|(_, target)| target.notify).collect();
        prop_assert_eq!(event.notification_count(), notifications.len());
        prop_assert_eq!(notified.len(), notifications.len());
        for ((place, target), notification) in notified.iter().zip(&notifications) {
            prop_assert_eq!(&notification.id, &format!("{}/{place}", event.id()));
            prop_assert_eq!(text(notification.record.key.as_deref().unwrap()), &target.audience);
            let value = text(notification.record.value.as_deref().unwrap());
            let parsed: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(value).unwrap();
            prop_assert_eq!(parsed.keys().map(String::as_str).collect::<Vec<_>>(), ["activity", "activityId", "id", "target"]);
            prop_assert!(!parsed["target"].get().contains("\"notify\":"));
            let activity: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(parsed["activity"].get()).unwrap();
            prop_assert!(!activity.contains_key("targets"));
            prop_assert!(activity.contains_key("objectId"));
        }
    }

    #[test]
    fn merges_audiences_without_losing_any(targets in vec(target(), 1..30)) {
        let alone: BTreeSet<_> = targets.iter().flat_map(|target| audiences(&event(entry(&format!("\"targets\":[{target}]"))))).collect();
        let notified = |event: &Event| -> BTreeSet<String> {
            event.targets().into_iter().filter(|target| target.notify).map(|target| target.audience).collect()
        };
        let notified_alone: BTreeSet<_> = targets.iter().flat_map(|target| notified(&event(entry(&format!("\"targets\":[{target}]"))))).collect();
        let together = event(entry(&format!("\"targets\":[{}]", targets.join(","))));
        prop_assert_eq!(audiences(&together).len(), alone.len());
        prop_assert_eq!(audiences(&together).into_iter().collect::<BTreeSet<_>>(), alone);
        prop_assert_eq!(notified(&together), notified_alone);
    }
}
