//! Entries: fields, defaults and limits.

use activity_stream_contract::{Coordinates, Record};
use testing::contract::*;

use crate::{part, targets};

const EVERYONE: &str = r#"[{"@type":"Everyone","notify":false}]"#;

#[test]
fn decides_the_five_calls_as_the_contract_says() {
    let administrators = r#"{"@type":"Identity","targetId":{"id":"administrators","domain":"nordlys","name":"Administrators","type":"Group"},"notify":false}"#;
    let accounting = r#"{"@type":"Identity","targetId":{"id":"accounting","domain":"nordlys","name":"Accounting","type":"OrganizationUnit"},"notify":true}"#;
    let expected = [
        (EVERYONE.to_owned(), 0),
        (format!("[{administrators}]"), 0),
        (format!("[{administrators},{accounting}]"), 1),
        (r#"[{"@type":"Identity","targetId":{"id":"administrators"},"notify":false}]"#.to_owned(), 0),
        (EVERYONE.to_owned(), 0),
    ];
    for ((name, command), (targets, notifications)) in CALLS.iter().zip(expected) {
        let event = event(*command);
        assert_eq!(part(&event, "targets"), targets, "{name}");
        assert_eq!(event.notification_count(), notifications, "{name}");
    }

    let third = event(CALLS[2].1);
    let notification = third.notifications("activity-stream", &[]).next().expect("a notification");
    assert_eq!(text(notification.record.key.as_deref().unwrap()), "Identity:nordlys/accounting");
    assert_eq!(notification.id, "01a20ada-2c7b-89d1-8003-000000003039/1");
    assert_eq!(part(&event(CALLS[3].1), "attachments"), r#"[{"@type":"file","id":"bill-2026-0117.pdf"}]"#);
    assert_eq!(event(CALLS[4].1).object_type(), "case");
}

#[test]
fn fills_in_defaults_and_orders_fields() {
    let event = event(
        r#"{"zulu": 1.50, "content":"c","attachment":["a"],"targets":["t"],"objectId":"1","objectType":"case",
            "actor":"me","type":"update","alpha":{ "b" : [ ] }}"#,
    );
    assert_eq!(
        event.json(),
        r#"{"@type":"update","actor":{"id":"me"},"objectType":"case","objectId":"1","publishedAt":"2026-11-24T00:00:00.123Z","targets":[{"@type":"Identity","targetId":{"id":"t"},"notify":false}],"attachments":[{"@type":"file","id":"a"}],"content":"c","zulu":1.50,"alpha":{ "b" : [ ] }}"#
    );
    assert_eq!(
        (event.verb(), event.published_at(), event.content()),
        ("update".into(), "2026-11-24T00:00:00.123Z".into(), Some("c".into()))
    );
    assert_eq!(event.id().to_string(), "01a20ada-2c7b-89d1-8003-000000003039");
    assert_eq!((event.id().partition(), event.id().offset()), (3, 12_345));
}

#[test]
fn treats_null_in_an_optional_field_as_absent() {
    let null = entry(
        r#""@type":null,"actor":null,"publishedAt":null,"attachments":null,"content":null,"task":null"#,
    );
    let absent = entry(r#""task":null"#);
    assert_eq!(event(null).json(), event(absent).json());
    assert!(event(entry("")).json().starts_with(r#"{"@type":"share","objectType":"case""#));
    assert_eq!(targets(r#"[{"@type":null,"targetId":"x","notify":null}]"#), targets(r#"["x"]"#));
    let identity = r#"[{"id":"x","domain":null,"name":null,"type":null}]"#;
    assert_eq!(targets(identity), targets(r#"["x"]"#));
    assert_eq!(part(&event(entry(r#""attachments":[]"#)), "attachments"), "");
}

#[test]
fn keeps_published_at_as_written() {
    let written = r#""2026-11-24T01:20:00.1234567+01:00""#;
    assert_eq!(part(&event(entry(&format!(r#""publishedAt":{written}"#))), "publishedAt"), written);
    assert_eq!(problems(entry(r#""publishedAt":"2026-11-24T01:20:00""#)), ["/publishedAt bad_date_time"]);
    assert_eq!(problems(entry(r#""publishedAt":1795478400"#)), ["/publishedAt wrong_type"]);
    // Activity Streams 2.0 calls it `published`.
    assert_eq!(part(&event(entry(&format!(r#""published":{written}"#))), "publishedAt"), written);
    assert_eq!(event(entry(r#""published":null"#)).json(), event(entry("")).json());
    assert_eq!(problems(entry(r#""published":"yesterday""#)), ["/published bad_date_time"]);
    let both = format!(r#""publishedAt":{written},"published":{written}"#);
    assert_eq!(problems(entry(&both)), ["/published duplicate_property"]);
}

#[test]
fn targets_and_identities_are_closed_entries_and_attachments_open() {
    for (json, expected) in [
        (r#""targets":[{"targetId":"x","notfy":true}]"#, "/targets/0/notfy unknown_property"),
        (r#""targets":[{"id":"x","notify":true}]"#, "/targets/0/id unknown_property"),
        (r#""targets":[{"targetId":{"id":"x","mail":"y"}}]"#, "/targets/0/targetId/mail unknown_property"),
        (r#""actor":{"id":"x","ID":"y"}"#, "/actor/ID unknown_property"),
    ] {
        assert_eq!(problems(entry(json))[0], expected);
    }
    let open = entry(r#""attachments":[{"type":"application/pdf","size": 1e3,"id":"f","Id":0}],"Actor":0"#);
    assert_eq!(
        part(&event(open), "attachments"),
        r#"[{"@type":"file","id":"f","type":"application/pdf","size":1e3,"Id":0}]"#
    );
}

#[test]
fn rejects_repeated_fields() {
    for (json, expected) in [
        (r#""content":"a","content":"a""#, "/content duplicate_property"),
        (r#""@type":"a","type":"b""#, "/type duplicate_property"),
        (r#""attachment":[],"attachments":[]"#, "/attachments duplicate_property"),
        (r#""free":1,"fr\u0065e":2"#, "/free duplicate_property"),
        (r#""objectType":"case""#, "/objectType duplicate_property"),
        (r#""actor":{"id":"x","Id":"x"}"#, "/actor/Id duplicate_property"),
        (r#""targets":[{"type":"Public","@type":"Public"}]"#, "/targets/0/@type duplicate_property"),
        (r#""attachments":[{"id":"x","a":1,"a":1}]"#, "/attachments/0/a duplicate_property"),
        (r#""targets":["x"],"targets":null"#, "/targets duplicate_property"),
    ] {
        assert_eq!(problems(entry(json)), [expected]);
    }
    // Deeper down it is the object type's business.
    event(entry(r#""free":{"a":1,"a":2}"#));
}

#[test]
fn limits_texts() {
    let long = "é".repeat(512);
    let too_long = "é".repeat(513);
    for field in ["@type", "actor"] {
        event(entry(&format!(r#""{field}":"{long}""#)));
        assert_eq!(problems(entry(&format!(r#""{field}":"{too_long}""#))), [format!("/{field} too_long")]);
        assert_eq!(problems(entry(&format!(r#""{field}":"""#))), [format!("/{field} empty")]);
        for control in ["\\u0000", "\\n", "\u{7f}", "\u{85}"] {
            let found = problems(entry(&format!(r#""{field}":"a{control}""#)));
            assert_eq!(found, [format!("/{field} control_character")]);
        }
        assert_eq!(
            problems(entry(&format!(r#""{field}":"\ud800""#))),
            [format!("/{field} unpaired_surrogate")]
        );
    }
    let content = format!(r#""content":"{}""#, "\\u0001\\n\u{7f}x".repeat(1000));
    event(entry(&content));
    event(entry(r#""content":"""#));
    event(entry(r#""actor":{"id":"x","name":""}"#));
    assert_eq!(problems(entry(r#""content":"\udc00""#)), ["/content unpaired_surrogate"]);
    // What belongs to the object type passes as it came, whatever it is.
    assert!(event(entry(r#""free":"\ud800""#)).json().ends_with(r#","free":"\ud800"}"#));
}

#[test]
fn limits_counts_nesting_and_size() {
    let array = |element: &str, count: usize| format!("[{}]", vec![element; count].join(","));
    event(entry(&format!(r#""targets":{}"#, array("\"x\"", 1000))));
    let found = problems(entry(&format!(r#""targets":{}"#, array("\"x\"", 1001))));
    assert_eq!(found, ["/targets too_many_targets"]);
    event(entry(&format!(r#""attachments":{}"#, array("\"x\"", 100))));
    let found = problems(entry(&format!(r#""attachments":{}"#, array("\"x\"", 101))));
    assert_eq!(found, ["/attachments too_many_attachments"]);
    let nested = |levels: usize| entry(&format!(r#""x":{}{}"#, "[".repeat(levels), "]".repeat(levels)));
    event(nested(63));
    assert_eq!(problems(nested(64)), [" too_deep"]);
    assert_eq!(problems(nested(200_000)), [" too_deep"]);
    assert_eq!(problems("[".repeat(200_000)), [" not_json"]);
    let padded = |bytes: usize| format!("{}{}", entry(""), " ".repeat(bytes - entry("").len()));
    event(padded(512 * 1024));
    assert_eq!(problems(padded(512 * 1024 + 1)), [" too_large"]);
}

#[test]
fn rejects_what_is_not_an_entry() {
    assert_eq!(codes(&read(&Record { value: None, ..record("") }).unwrap_err()), [" tombstone"]);
    assert_eq!(problems(b"{\"a\":\"\xff\"}".to_vec()), [" not_utf8"]);
    for text in ["", "{", "{}x", "{\"a\":01}", "{'a':1}", "\u{feff}{}", "{\"a\":\"\n\"}", "{1:2}", "NaN"] {
        assert_eq!(problems(text), [" not_json"], "{text}");
    }
    for text in ["null", "[]", "\"x\"", "1", " true "] {
        assert_eq!(problems(text), [" not_an_object"], "{text}");
    }
    for timestamp in [-1, 253_402_300_800_000, i64::MIN, i64::MAX] {
        let at = Coordinates { timestamp, ..AT };
        let found = read(&Record { coordinates: at, ..record(entry("")) }).unwrap_err();
        assert_eq!(codes(&found), [" bad_timestamp"]);
    }
}

#[test]
fn reports_every_problem() {
    let value = r#"{"objectType":null,"publishedAt":"yesterday","targets":["",{"notify":"yes"},7,{"targetId":"x","notify":"yes"}],"attachments":"a"}"#;
    let record = Record {
        key: None,
        coordinates: Coordinates { timestamp: -1, ..AT },
        ..record_with(value, &[("idempotency-key", "")])
    };
    assert_eq!(
        codes(&read(&record).unwrap_err()),
        [
            " bad_timestamp",
            " idempotency_key_without_record_key",
            " bad_idempotency_key",
            "/publishedAt bad_date_time",
            "/targets/0 empty",
            "/targets/1/notify wrong_type",
            "/targets/1 missing",
            "/targets/2 wrong_type",
            "/targets/3/notify wrong_type",
            "/attachments wrong_type",
            "/objectType missing",
            "/objectId missing",
        ]
    );
}
