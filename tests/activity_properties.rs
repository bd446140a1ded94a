//! What holds for every command, and for everything that is none.

mod activity_support;

use std::collections::BTreeSet;

use activity_stream::activity::{
    Coordinates, Decider, Event, Header, Limits, Reading, Record, rejection_record,
};
use activity_support::*;
use proptest::{collection::vec, option, prelude::*, sample::select};

// Strategies are boxed: composed of many parts, they would fill a test thread's stack.

/// Texts that a contract field takes, as JSON, some of them with escapes.
fn id() -> BoxedStrategy<String> {
    let text = prop_oneof![
        4 => "[a-cé/:%]{1,3}",
        1 => "[^\\p{Cc}]{1,20}",
    ];
    (text, any::<bool>())
        .prop_map(|(text, escaped)| if escaped { escape(&text) } else { quote(&text) })
        .boxed()
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn escape(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

/// Any JSON, with whitespace, escapes and odd numbers.
fn free_value() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "1.50e+9",
            "-0",
            "1e999",
            "\"\\ud800\"",
            "\" \\/ \\u00e9\"",
            "[ ]",
            "{ \t}"
        ])
        .prop_map(str::to_owned),
        ".{0,8}".prop_map(|text| quote(&text)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|values| format!("[{} ]", values.join(" , "))),
            vec(inner, 0..3).prop_map(|values| {
                let members: Vec<_> = values.iter().map(|value| format!("\"a\" : {value}")).collect();
                format!("{{\n{}}}", members.join(","))
            }),
        ]
    })
    .boxed()
}

fn object(members: Vec<Option<(&'static str, String)>>) -> String {
    let members: Vec<_> =
        members.into_iter().flatten().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
    format!("{{ {} }}", members.join(" ,\n"))
}

fn identity() -> BoxedStrategy<String> {
    let types = select(vec!["\"User\"", "\"OrganizationUnit\"", "\"Position\"", "\"Gr\\u006fup\"", "null"]);
    let fields = (id(), option::of(id()), option::of(id()), option::of(types), any::<bool>());
    let as_object = fields.prop_map(|(id, domain, name, kind, capital)| {
        let names = if capital { ["Id", "Domain", "Name", "Type"] } else { ["id", "domain", "name", "type"] };
        object(vec![
            kind.map(|kind| (names[3], kind.to_owned())),
            name.map(|name| (names[2], name)),
            Some((names[0], id)),
            domain.map(|domain| (names[1], domain)),
        ])
    });
    prop_oneof![id(), as_object].boxed()
}

fn target() -> BoxedStrategy<String> {
    let notify =
        || option::of(select(vec!["true", "false", "null"]).prop_map(|notify| ("notify", notify.to_owned())));
    let of_identity = (identity(), notify(), any::<bool>()).prop_map(|(identity, notify, typed)| {
        let kind = typed.then(|| ("type", "\"Identity\"".to_owned()));
        object(vec![notify, Some(("targetId", identity)), kind])
    });
    let kinds = select(vec!["\"Everyone\"", "\"Public\"", "\"Members\""]);
    let of_all =
        (kinds, option::of(id()), notify(), any::<bool>()).prop_map(|(kind, target_id, notify, alias)| {
            let name = if alias { "type" } else { "@type" };
            object(vec![target_id.map(|id| ("targetId", id)), Some((name, kind.to_owned())), notify])
        });
    prop_oneof![identity(), of_identity, of_all].boxed()
}

fn attachment() -> BoxedStrategy<String> {
    let kinds = option::of(select(vec!["\"file\"", "\"link\"", "\"video\"", "null"]));
    let as_object = (id(), kinds, option::of(free_value())).prop_map(|(id, kind, free)| {
        object(vec![
            free.map(|free| ("ty\\u0070e", free)),
            Some(("id", id)),
            kind.map(|kind| ("@type", kind.to_owned())),
        ])
    });
    prop_oneof![id(), as_object].boxed()
}

/// A valid command, its fields in any order and under any of their names.
fn command() -> BoxedStrategy<String> {
    let array = |elements: Vec<String>| format!("[ {} ]", elements.join(", "));
    let date_times =
        select(vec!["\"2026-11-24t01:20:00.1234567+01:00\"", "\"2026-11-24T01:20:00\\u005a\"", "null"]);
    let fields = (
        option::of((select(vec!["@type", "type", "\\u0040type"]), id())),
        option::of(identity().prop_map(|actor| ("actor", actor))),
        id().prop_map(|id| Some(("objectType", id))),
        id().prop_map(|id| Some(("\\u006fbjectId", id))),
        option::of(date_times.prop_map(|at| ("publishedAt", at.to_owned()))),
        option::of(vec(target(), 1..6).prop_map(move |all| ("targets", array(all)))),
        option::of((select(vec!["attachment", "attachments"]), vec(attachment(), 0..3).prop_map(array))),
        option::of(".{0,10}".prop_map(|content| ("content", quote(&content)))),
        option::of(free_value().prop_map(|value| ("fr\\u0065e \\/", value))),
        option::of(free_value().prop_map(|value| ("Content", value))),
    );
    fields
        .prop_map(|(a, b, c, d, e, f, g, h, i, j)| vec![a, b, c, d, e, f, g, h, i, j])
        .prop_shuffle()
        .prop_map(object)
        .boxed()
}

/// A valid command with some of its bytes changed, removed or repeated.
fn mutated() -> BoxedStrategy<Vec<u8>> {
    let pieces = select(vec![
        "\"", "{", "}", "[", "]", ",", ":", "\\", "null", "\"id\":", "\u{0}", "é", "\\ud800", "1",
    ]);
    let change = (any::<prop::sample::Index>(), 0..4_usize, pieces);
    (command(), vec(change, 1..6))
        .prop_map(|(command, changes)| {
            let mut bytes = command.into_bytes();
            for (index, removed, piece) in changes {
                let from = index.index(bytes.len().max(1)).min(bytes.len());
                let to = (from + removed).min(bytes.len());
                bytes.splice(from..to, piece.bytes());
            }
            bytes
        })
        .boxed()
}

fn headers() -> BoxedStrategy<Vec<Header>> {
    let names = select(vec![
        "idempotency-key",
        "ce_id",
        "ce_source",
        "ce_specversion",
        "content-type",
        "traceparent",
        "tracestate",
        "x",
    ]);
    let values = prop_oneof![
        vec(any::<u8>(), 0..8),
        select(vec!["1.0", "application/json", "application/cloudevents+json"]).prop_map(|text| text.into())
    ];
    let header = (names, option::of(values))
        .prop_map(|(name, value)| Header { name: name.as_bytes().to_vec().into(), value });
    vec(header, 0..5).boxed()
}

fn any_record() -> BoxedStrategy<Record> {
    let value = option::weighted(
        0.95,
        prop_oneof![
            4 => mutated(),
            2 => command().prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..60),
            1 => ("[\\[{\":,]{0,9}", 0..3000_usize).prop_map(|(piece, times)| piece.repeat(times).into_bytes()),
            1 => (0..300_usize).prop_map(|levels| {
                entry(&format!("\"a\":{}1{}", "[{\"b\":".repeat(levels), "}]".repeat(levels))).into_bytes()
            }),
        ],
    );
    let timestamp = prop_oneof![Just(AT.timestamp), any::<i64>()];
    (option::of(vec(any::<u8>(), 0..4)), value, headers(), any::<i32>(), any::<i64>(), timestamp)
        .prop_map(|(key, value, headers, partition, offset, timestamp)| Record {
            coordinates: Coordinates { partition, offset, timestamp },
            key,
            value,
            headers,
        })
        .boxed()
}

#[track_caller]
fn audiences(event: &Event) -> Vec<String> {
    event.targets().into_iter().map(|target| target.audience).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_normal_form_is_a_fixed_point(command in command()) {
        let once = event(command);
        let twice = event(once.json());
        prop_assert_eq!(once.json(), twice.json());
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_structured_event_is_the_entry_that_it_carries(command in command()) {
        let value = format!(r#"{{"data":{command},"type":"t","source":"s","id":"i","specversion":"1.0"}}"#);
        let structured = record_with(&value, &[("content-type", "application/cloudevents+json")]);
        prop_assert_eq!(read(&structured).map(|(event, _)| event), Ok(event(command)));
    }

    #[test]
    fn free_properties_pass_byte_for_byte(value in free_value()) {
        let command = entry(&format!("\"fr\\u0065e\" : {value} "));
        let expected = format!(",\"fr\\u0065e\":{value}}}");
        prop_assert!(event(command).json().ends_with(&expected));
    }

    #[test]
    fn every_record_gets_the_same_verdict_every_time(record in any_record()) {
        let verdict = decider().read(&record);
        prop_assert_eq!(&verdict, &decider().read(&record.clone()));
        if let Reading::Rejected(problems) = verdict.reading {
            prop_assert!(!problems.0.is_empty());
            let rejection = rejection_record(&record, TOPIC, &problems, usize::MAX);
            prop_assert_eq!(&rejection.value, &record.value);
            prop_assert!(rejection.headers.starts_with(&record.headers));
        }
    }

    #[test]
    fn an_accepted_event_goes_through_the_log_unchanged(record in any_record(), command in command()) {
        let record = Record { value: Some(command.into_bytes()), ..record };
        if let Reading::Valid { event, .. } = decider().read(&record).reading {
            let bits = decider().topic_bits();
            let again = Event::from_log(bits, record.coordinates, event.json().to_owned()).unwrap();
            prop_assert_eq!(&again, &event);
            let from_log: Vec<_> = again.notifications("s", &record.headers).collect();
            let decided: Vec<_> = event.notifications("s", &record.headers).collect();
            prop_assert_eq!(from_log, decided);
        }
    }

    #[test]
    fn notifications_tell_one_audience_and_not_the_others(command in command()) {
        let event = event(command);
        let notifications: Vec<_> = event.notifications("s", &[]).collect();
        let notified: Vec<_> = event.targets().into_iter().enumerate().filter(|(_, target)| target.notify).collect();
        prop_assert_eq!(event.notification_count(), notifications.len());
        prop_assert_eq!(notified.len(), notifications.len());
        for ((place, target), notification) in notified.iter().zip(&notifications) {
            prop_assert_eq!(&notification.id, &format!("{}/{place}", event.id()));
            prop_assert_eq!(text(notification.record.key.as_deref().unwrap()), &target.audience);
            let value = text(notification.record.value.as_deref().unwrap());
            let parsed: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(value).unwrap();
            prop_assert_eq!(parsed.keys().map(String::as_str).collect::<Vec<_>>(), ["activity", "activityId", "id", "target"]);
            prop_assert!(!parsed["target"].get().contains("\"notify\":"));
            let activity: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(parsed["activity"].get()).unwrap();
            prop_assert!(!activity.contains_key("targets"));
            prop_assert!(activity.contains_key("objectId"));
        }
    }

    #[test]
    fn no_audience_is_there_twice_and_none_is_lost(targets in vec(target(), 1..30)) {
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

    #[test]
    fn problems_stay_within_their_bounds(
        bad in vec(select(vec!["\"\"", "7", "{\"x\":1}", "{\"notify\":\"\\u0000\"}", "\"\\u0001\"", "{\"\\u0002\":2}"]), 1..400),
        name in "[\\u0000-\\u007f]{0,300}",
        problems in 1..150_usize,
        problem_bytes in 4_000..70_000_usize,
    ) {
        let limits = Limits { problems, problem_bytes, ..Limits::default() };
        let value = format!("{{{name}:[],\"targets\":[{}]}}", bad.join(","), name = quote(&name));
        let Reading::Rejected(found) = Decider::new(TOPIC, limits).read(&record(value)).reading else {
            return Err(TestCaseError::fail("accepted"));
        };
        prop_assert!(found.0.len() <= problems + 1);
        prop_assert!(found.to_json().len() <= problem_bytes);
        let last = found.0.iter().position(|problem| problem.code == "too_many_problems");
        prop_assert!(last.is_none_or(|last| last + 1 == found.0.len()));
    }
}

/// Whatever the size, no command may hold a partition up.
#[test]
fn large_and_hostile_commands_are_decided_quickly() {
    let members: Vec<_> = (0..40_000).map(|index| format!("\"k{index}\":0")).collect();
    let members = members.join(",");
    let names = "\"x\":1,".repeat(70_000);
    let hostile = [
        entry(&members),
        entry(&format!("{names}\"x\":1")),
        entry(&format!("\"actor\":{{{members}}}")),
        entry(&format!("\"targets\":[{{\"targetId\":\"x\",{members}}}]")),
        format!("{{{members}}}"),
        entry(&format!("\"targets\":[{}]", vec!["{}"; 100_000].join(","))),
        entry(&format!(
            "\"targets\":[{}]",
            (0..1000).map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",")
        )),
        entry(&format!("\"{}\":1", "targets".repeat(60_000))),
        entry(&format!("\"content\":\"{}\"", "\\u0001".repeat(80_000))),
        "[".repeat(500_000),
    ];
    let start = std::time::Instant::now();
    for value in hostile {
        let _ = decider().read(&record(value));
    }
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}
