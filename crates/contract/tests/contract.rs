//! The contract, rule by rule, as plain assertions.

use activity_stream_contract::{
    ActivityId, Claim, Coordinates, Decider, Decision, Event, Header, Limits, Reading, Record, settle,
};
use testing::contract::*;

const EVERYONE: &str = r#"[{"@type":"Everyone","notify":false}]"#;

/// A property of the normal form, as it stands there.
#[track_caller]
fn part(event: &Event, name: &str) -> String {
    let parsed: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(event.json()).expect("JSON");
    parsed.get(name).map_or_else(String::new, |raw| raw.get().to_owned())
}

#[track_caller]
fn targets(json: &str) -> String {
    part(&event(entry(&format!("\"targets\":{json}"))), "targets")
}

#[test]
fn the_five_calls_come_out_as_the_contract_says() {
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
fn defaults_are_filled_in_and_fields_put_in_order() {
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
fn null_means_absent_where_a_field_is_optional() {
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
fn an_audience_of_nobody_and_a_misspelt_audience_are_errors() {
    assert_eq!(problems(entry(r#""targets":null"#)), ["/targets no_targets"]);
    assert_eq!(problems(entry(r#""targets":[]"#)), ["/targets no_targets"]);
    for name in ["Targets", "target", "tragets", "TARGETSS", "\\u0054argets"] {
        let found = problems(entry(&format!(r#""{name}":["x"]"#)));
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with(" misspelt_targets"), "{found:?}");
    }
    // An escape in the name is no spelling of its own.
    assert_eq!(targets(r#"["x"]"#), part(&event(entry(r#""t\u0061rgets":["x"]"#)), "targets"));
}

#[test]
fn an_audience_under_a_name_of_another_vocabulary_is_an_error() {
    for name in [
        "cc",
        "CC",
        "bto",
        "bcc",
        "Bcc",
        "audience",
        "audiences",
        "recipient",
        "RECIPIENTS",
        "notify",
        "Notify",
    ] {
        for value in ["null", "true", "\"x\"", "[]", "[\"x\"]", "{}"] {
            let found = problems(entry(&format!(r#""{name}":{value}"#)));
            assert_eq!(found, [format!("/{name} foreign_audience")], "{value}");
        }
    }
    for name in ["to", "To", "TO", "\\u0074o"] {
        for (value, is_audience) in [
            ("[]", true),
            (r#"["x"]"#, true),
            (r#"{"id":"x"}"#, true),
            (r#""closed""#, false),
            ("null", false),
            ("7", false),
            ("true", false),
        ] {
            let read = read(&record(entry(&format!(r#""from":"open","{name}":{value}"#))));
            assert_eq!(read.is_err(), is_audience, "{name} {value}");
        }
    }
    let said = read(&record(entry(r#""cc":["boss"]"#))).unwrap_err().to_string();
    assert!(said.contains("\"targets\""), "{said}");
    // Beside targets it is an error as well, and it is only one by its whole name.
    assert_eq!(problems(entry(r#""targets":["x"],"bcc":["y"]"#)), ["/bcc foreign_audience"]);
    event(entry(r#""ccs":["x"],"carbonCopy":["x"],"from":["x"],"free":{"cc":["x"],"to":["x"]}"#));
    event(entry(r#""attachments":[{"id":"f","to":["x"],"notify":true}]"#));
}

#[test]
fn a_target_of_everyone_has_no_id() {
    for kind in ["Everyone", "Public"] {
        for id in [r#""x""#, r#""""#, "[1]", r#"{"id":"x"}"#, "false"] {
            let given = format!(r#""targets":[{{"@type":"{kind}","targetId":{id},"notify":true}}]"#);
            assert_eq!(problems(entry(&given)), ["/targets/0/targetId unexpected_target_id"]);
        }
        event(entry(&format!(r#""targets":[{{"targetId":null,"type":"{kind}"}}]"#)));
    }
}

#[test]
fn a_targets_name_is_its_identitys() {
    for (target, expected) in [
        (r#"{"targetId":{"id":"x","name":"X"},"name":"X"}"#, "/targets/0/name duplicate_property"),
        (r#"{"targetId":{"Id":"x","Name":"X"},"name":"Y"}"#, "/targets/0/name duplicate_property"),
        (r#"{"targetId":{"id":"x"},"name":"X"}"#, "/targets/0/name unknown_property"),
        (r#"{"@type":"Everyone","name":"X"}"#, "/targets/0/name unknown_property"),
        (r#"{"@type":"Public","name":"X"}"#, "/targets/0/name unknown_property"),
        (r#"{"@type":"Members","targetId":"c","name":"X"}"#, "/targets/0/name unknown_property"),
        (r#"{"targetId":"x","Name":"X"}"#, "/targets/0/Name unknown_property"),
        (r#"{"targetId":"x","name":7}"#, "/targets/0/name wrong_type"),
        (r#"{"targetId":"x","name":"a\n"}"#, "/targets/0/name control_character"),
        (r#"{"targetId":"x","name":"a","name":"a"}"#, "/targets/0/name duplicate_property"),
        (r#"{"name":"X"}"#, "/targets/0 missing"),
    ] {
        let found = problems(entry(&format!(r#""targets":[{target}]"#)));
        assert_eq!(found, [expected], "{target}");
    }
    // The first gives the name of one audience, also where it is given beside the id.
    let first = targets(r#"[{"targetId":"x","name":"first"},{"targetId":"x","name":"second"}]"#);
    assert_eq!(first, targets(r#"[{"id":"x","name":"first"}]"#));
}

#[test]
fn targets_are_resolved() {
    for (given, expected) in [
        (r#""x""#, r#"{"@type":"Identity","targetId":{"id":"x"},"notify":false}"#),
        (
            r#"{"id":"x","type":"User"}"#,
            r#"{"@type":"Identity","targetId":{"id":"x","type":"User"},"notify":false}"#,
        ),
        (
            r#"{"Type":"Group","Name":"","Domain":"d","Id":"x"}"#,
            r#"{"@type":"Identity","targetId":{"id":"x","domain":"d","name":"","type":"Group"},"notify":false}"#,
        ),
        (r#"{"notify":true,"targetId":"x"}"#, r#"{"@type":"Identity","targetId":{"id":"x"},"notify":true}"#),
        (r#"{"type":"Everyone","targetId":null}"#, r#"{"@type":"Everyone","notify":false}"#),
        (r#"{"@type":"Public","notify":true}"#, r#"{"@type":"Public","notify":true}"#),
        (
            r#"{"name":"X","targetId":"x"}"#,
            r#"{"@type":"Identity","targetId":{"id":"x","name":"X"},"notify":false}"#,
        ),
        (
            r#"{"@type":"Identity","targetId":"x","notify":true,"name":""}"#,
            r#"{"@type":"Identity","targetId":{"id":"x","name":""},"notify":true}"#,
        ),
        (
            r#"{"targetId":{"id":"x","name":"X"},"name":null}"#,
            r#"{"@type":"Identity","targetId":{"id":"x","name":"X"},"notify":false}"#,
        ),
        (r#"{"@type":"Members"}"#, r#"{"@type":"Members","notify":false}"#),
        (r#"{"@type":"Members","targetId":null}"#, r#"{"@type":"Members","notify":false}"#),
        (r#"{"@type":"Members","targetId":"c"}"#, r#"{"@type":"Members","targetId":"c","notify":false}"#),
    ] {
        assert_eq!(targets(&format!("[{given}]")), format!("[{expected}]"));
    }
}

#[test]
fn one_audience_is_one_target() {
    let given = r#"["a", {"targetId":{"id":"b","name":"first"}}, {"@type":"Members"}, {"@type":"Everyone"},
        {"targetId":{"id":"b","name":"second","type":"User"},"notify":true}, {"targetId":{"id":"b","domain":"d"}},
        {"@type":"Members","targetId":"c"}, "a", {"@type":"Members","notify":true}, {"@type":"Everyone"}]"#;
    assert_eq!(
        targets(given),
        concat!(
            r#"[{"@type":"Identity","targetId":{"id":"a"},"notify":false},"#,
            r#"{"@type":"Identity","targetId":{"id":"b","name":"first"},"notify":true},"#,
            r#"{"@type":"Members","notify":true},"#,
            r#"{"@type":"Everyone","notify":false},"#,
            r#"{"@type":"Identity","targetId":{"id":"b","domain":"d"},"notify":false},"#,
            r#"{"@type":"Members","targetId":"c","notify":false}]"#,
        )
    );
}

#[test]
fn targets_and_identities_are_closed_but_entries_and_attachments_open() {
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
fn no_field_is_given_twice() {
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
fn texts_have_their_limits() {
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
fn counts_have_their_limits() {
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
fn what_is_no_entry_is_rejected() {
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
fn every_problem_is_reported() {
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

#[test]
fn published_at_is_kept_as_written() {
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
fn notifications_are_keyed_by_their_audience() {
    let keys = |targets: &str| -> Vec<String> {
        let event = event(format!(r#"{{"objectType":"a/b","objectId":"1:2%é","targets":{targets}}}"#));
        let notifications = event.notifications("s", &[]);
        notifications.map(|each| text(each.record.key.as_deref().unwrap()).to_owned()).collect()
    };
    let targets = r#"[{"targetId":"a/b:c%d","notify":true},{"targetId":{"id":"a","domain":"d/e"},"notify":true},
        {"@type":"Members","notify":true},{"@type":"Members","targetId":"x/y","notify":true},"unnotified",
        {"@type":"Everyone","notify":true},{"@type":"Public","notify":true}]"#;
    assert_eq!(
        keys(targets),
        [
            "Identity:a%2Fb%3Ac%25d",
            "Identity:d%2Fe/a",
            "Members:object:a%2Fb/1%3A2%25é",
            "Members:channel:x%2Fy",
            "Everyone",
            "Public"
        ]
    );
}

#[test]
fn trace_headers_pass_on_the_last_of_each() {
    let event = event(CALLS[2].1);
    let headers = [
        Header::new("tracestate", b"\xff".to_vec()),
        Header::new("traceparent", "first"),
        Header::new("traceparent", "last"),
        Header::new("Traceparent", "other"),
        Header::new("x", "y"),
    ];
    let notification = event.notifications("s", &headers).next().unwrap();
    assert_eq!(notification.record.headers[7..], [headers[2].clone(), headers[0].clone()]);
}

#[test]
fn trace_headers_without_a_value_stay_behind() {
    let event = event(CALLS[2].1);
    for value in [None, Some(Vec::new())] {
        let without = |name: &[u8]| Header { name: name.to_vec().into(), value: value.clone() };
        let headers = [
            Header::new("traceparent", "earlier"),
            without(b"traceparent"),
            Header::new("tracestate", "s"),
            Header::new("kafka_replyTopic", "answers"),
        ];
        let notification = event.notifications("s", &headers).next().unwrap().record;
        assert_eq!(notification.headers[7..], [headers[2].clone()]);
        let command = Record { headers: headers.to_vec(), ..record("") };
        let reply = answering().reply_topics().reply(&command, &Decision::Accepted(event.clone())).unwrap();
        assert_eq!(reply.record.headers[1..], [headers[2].clone()]);
        let bare =
            event.notifications("s", &[without(b"traceparent"), without(b"tracestate")]).next().unwrap();
        assert_eq!(bare.record.headers.len(), 7);
    }
}

#[test]
fn trace_headers_never_make_a_notification_that_a_broker_refuses() {
    // As large as a command may be, in a record as large as brokers take by default.
    let about = entry(r#""targets":[{"targetId":"u","notify":true}],"content":"""#);
    let content = "x".repeat(Limits::default().value_bytes - about.len());
    let value = about.replace(r#""content":"""#, &format!(r#""content":"{content}""#));
    assert_eq!(value.len(), Limits::default().value_bytes);
    let record = |bytes: usize| record_with(&value, &[("tracestate", "t".repeat(bytes).as_str())]);
    let of = |record: &Record| {
        let (event, _) = read(record).unwrap();
        event.notifications("s", &record.headers).next().unwrap().record
    };
    assert!(of(&record(1_048_588 - value.len() - 100)).bytes() < 1_000_000);
    assert_eq!(of(&record(4096)).headers.len(), of(&record(4097)).headers.len() + 1);
}

#[test]
fn output_is_bounded_whatever_the_source_is_called() {
    let targets: Vec<_> = (0..50).map(|id| format!(r#"{{"targetId":"{id}","notify":true}}"#)).collect();
    let value = entry(&format!(r#""content":"{}","targets":[{}]"#, "x".repeat(5000), targets.join(",")));
    let headers = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let record = record_with(&value, &headers);
    let (event, _) = read(&record).unwrap();
    let bytes: usize = event.notifications("", &record.headers).map(|each| each.record.bytes()).sum();
    let with = |output_bytes| {
        Decider::new(TOPIC, Limits { output_bytes, ..Limits::default() }).read(&record).reading
    };
    assert!(matches!(with(bytes), Reading::Valid { .. }));
    let Reading::Rejected(problems) = with(bytes - 1) else { panic!("accepted") };
    assert_eq!(codes(&problems), [" output_too_large"]);

    // At the contract's own limits: 1,000 audiences of an entry of 100 KiB.
    let targets: Vec<_> = (0..1000).map(|id| format!(r#"{{"targetId":"{id}","notify":true}}"#)).collect();
    let large = entry(&format!(r#""content":"{}","targets":[{}]"#, "x".repeat(100_000), targets.join(",")));
    assert_eq!(testing::contract::problems(large), [" output_too_large"]);
}

#[test]
fn keys_are_told_apart_and_content_is_known_again() {
    let key = |value: &str, headers: &[(&str, &str)]| read(&record_with(value, headers)).unwrap().1;
    let plain = entry("");
    assert_eq!(key(&plain, &[]), None);
    assert_eq!(key(&plain, &[("ce_id", "1")]), None);
    assert_eq!(key(&plain, &[("ce_id", "1"), ("ce_source", "")]), None);

    let hash = |headers: &[(&str, &str)]| key(&plain, headers).unwrap().hash;
    let hashes = [
        hash(&[("idempotency-key", "ab")]),
        hash(&[("idempotency-key", "abc")]),
        hash(&[("ce_source", "a"), ("ce_id", "bc")]),
        hash(&[("ce_source", "ab"), ("ce_id", "c")]),
    ];
    for (index, one) in hashes.iter().enumerate() {
        assert!(!hashes[index + 1..].contains(one));
    }
    let both = [("ce_id", "1"), ("idempotency-key", "ab"), ("ce_source", "s")];
    assert_eq!(hash(&both), hashes[0]);

    let headers = [("idempotency-key", "k")];
    let fingerprint = |value: &str| key(value, &headers).unwrap().fingerprint;
    let spelt_out = r#"{ "type": "share", "objectId": "1", "objectType": "c\u0061se", "targets": [{"@type": "Everyone"}] }"#;
    assert_eq!(fingerprint(&plain), fingerprint(spelt_out));
    assert_ne!(fingerprint(&plain), fingerprint(&entry(r#""content":"x""#)));
    // Sent again a record has another timestamp, and that is no other content; a date that was given is.
    let again = Record {
        coordinates: Coordinates { timestamp: 0, offset: 7, ..AT },
        ..record_with(&plain, &headers)
    };
    assert_eq!(read(&again).unwrap().1, key(&plain, &headers));
    let dated = entry(r#""publishedAt":"2026-11-24T00:00:00.123Z""#);
    assert_eq!(event(dated.as_str()).json(), event(plain.as_str()).json());
    assert_ne!(fingerprint(&dated), fingerprint(&plain));
}

#[test]
fn content_is_the_same_however_it_is_written() {
    let key = |value: &str| read(&record_with(value, &[("idempotency-key", "k")])).unwrap().1.unwrap();
    let same = |one: &str, other: &str| {
        let (one, other) = (key(&entry(one)), key(&entry(other)));
        assert_eq!(one.hash, other.hash);
        one.fingerprint == other.fingerprint
    };
    for (one, other) in [
        (r#""a":1,"b":2"#, r#""b":2,"a":1"#),
        (r#""a":{"x":1,"y":[{"p":null,"q":"é"}]}"#, r#""a":{ "y" : [ {"q":"\u00E9","p":null} ],"x":1}"#),
        (r#""a\u0062":"\/\u000a""#, "\"ab\" :\t\"/\\n\""),
        (r#""a":"\ud83d\ude00\u2028""#, "\"a\":\"😀\u{2028}\""),
        (r#""x":{"a":"\ud800x","\uDC00":1}"#, r#""x":{"\udc00":1,"a":"\uD800\u0078"}"#),
        (
            r#""attachments":[{"id":"f","size":1,"k":{"a":[],"b":{}}}]"#,
            r#""attachment":[{"k":{"b":{ },"a":[ ]},"size":1,"@type":"file","id":"f"}]"#,
        ),
        (r#""published":"2026-11-24T01:20:00Z""#, r#""publishedAt":"2026-11-24T01:20:00\u005a""#),
        (r#""targets":[{"targetId":"x","name":"X"}],"z":{}"#, r#""z":{},"targets":[{"id":"x","name":"X"}]"#),
    ] {
        assert!(same(one, other), "{one} {other}");
    }
    for (one, other) in [
        // Numbers are compared as they are written.
        (r#""a":1.0"#, r#""a":1"#),
        (r#""a":[1e2]"#, r#""a":[100]"#),
        (r#""a":{"x":-0}"#, r#""a":{"x":0}"#),
        // The order of elements is content, and so is that of members with one name.
        (r#""a":[1,2]"#, r#""a":[2,1]"#),
        (r#""a":{"x":1,"x":2}"#, r#""a":{"x":2,"x":1}"#),
        (r#""a":null"#, r#""b":null"#),
        (r#""a":null"#, ""),
        (r#""a":"1""#, r#""a":1"#),
        (r#""a":" ""#, r#""a":"""#),
        (r#""a":"\\u0061""#, r#""a":"a""#),
        (r#""a":"\ud800""#, r#""a":"\\ud800""#),
        (r#""a":"\udc00\ud800""#, r#""a":"\ud800\udc00""#),
        (r#""a":["b","c"]"#, r#""a":["b\",\"c"]"#),
        (r#""a":{"b":{},"c":1}"#, r#""a":{"b":{"c":1}}"#),
        (r#""a":[[],1]"#, r#""a":[[1]]"#),
    ] {
        assert!(!same(one, other), "{one} {other}");
        assert!(same(one, one));
    }
}

/// Version 0.1.0 took the fingerprint of free properties as they were written.
#[test]
fn a_claim_of_an_earlier_version_is_known_again() {
    let read = |value: &str| read(&record_with(value, &[("idempotency-key", "k")])).unwrap();
    for (more, earlier) in [
        (r#""publishedAt":"2026-11-24T01:20:00Z""#, 0x1b0c6269f5421f43c7eb31b76b790503_u128),
        (
            r#""b" : { "y":1, "x":"\u00e9" },"publishedAt":"2026-11-24T01:20:00Z","a":1"#,
            0xfd045b75f013f3efcec0bf355e4c7db7,
        ),
        (r#""b" : { "y":1, "x":"\u00e9" },"a":1"#, 0x0281902aecb2135b0c2ed4aa04963b92),
    ] {
        let (event, key) = read(&entry(more));
        let claim = Claim { first: event.id(), fingerprint: earlier.to_be_bytes(), last_seen: 0 };
        let decision = settle(event.clone(), key, Some(&claim), 0, 1);
        assert_eq!(decision, Decision::Duplicate { of: event.id() }, "{more}");
        let (other, key) = read(&entry(&format!("{more},\"c\":1")));
        assert!(matches!(settle(other, key, Some(&claim), 0, 1), Decision::Rejected(_)), "{more}");
    }
}

#[test]
fn keys_have_their_rules() {
    let found = |key: Option<&str>, headers: Vec<Header>| {
        let key = key.map(|key| key.as_bytes().to_vec());
        codes(&read(&Record { key, headers, ..record(entry("")) }).expect_err("accepted"))
    };
    let good = || Header::new("idempotency-key", "k");
    for bad in [
        vec![Header { name: b"idempotency-key".into(), value: None }],
        vec![Header::new("idempotency-key", "")],
        vec![Header::new("idempotency-key", "x".repeat(256))],
        vec![Header::new("idempotency-key", b"\xff".to_vec())],
        vec![good(), good()],
    ] {
        assert_eq!(found(Some("key"), bad), [" bad_idempotency_key"]);
    }
    for key in [None, Some("")] {
        assert_eq!(found(key, vec![good()]), [" idempotency_key_without_record_key"]);
    }
    let longest =
        Record { headers: vec![Header::new("idempotency-key", "x".repeat(255))], ..record(entry("")) };
    assert!(read(&longest).unwrap().1.is_some());
    let keyless = Record { key: None, ..record_with(&entry(""), &[("ce_source", "s"), ("ce_id", "1")]) };
    assert!(read(&keyless).unwrap().1.is_some());
}

#[test]
fn a_key_is_settled_by_the_claim_that_is_alive() {
    let (event, key) = read(&record_with(&entry(""), &[("idempotency-key", "k")])).unwrap();
    let fingerprint = key.unwrap().fingerprint;
    let first = ActivityId::new(1, Coordinates { offset: 1, ..AT });
    let same = Claim { first, fingerprint, last_seen: 1000 };
    let other = Claim { fingerprint: [0; 16], ..same };
    let window = 500;
    let accepted = Decision::Accepted(event.clone());
    for (key, claim, clock, expected) in [
        (key, None, 1000, Some(&accepted)),
        (None, Some(&same), 1000, Some(&accepted)),
        (key, Some(&same), 1000, Some(&Decision::Duplicate { of: first })),
        (key, Some(&same), 1499, Some(&Decision::Duplicate { of: first })),
        (key, Some(&same), 1500, Some(&accepted)),
        (key, Some(&same), i64::MIN, Some(&Decision::Duplicate { of: first })),
        (key, Some(&same), i64::MAX, Some(&accepted)),
        (key, Some(&other), 1499, None),
        (key, Some(&other), 1500, Some(&accepted)),
    ] {
        let decision = settle(event.clone(), key, claim, clock, window);
        match (expected, &decision) {
            (Some(expected), decision) => assert_eq!(decision, expected, "{clock}"),
            (None, Decision::Rejected(problems)) => {
                assert_eq!(codes(problems), [" idempotency_key_reused"]);
                assert!(problems.0[0].message.contains(&first.to_string()));
            }
            (None, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_event_comes_back_from_the_log() {
    let targets =
        r#""content":"x","targets":["a",{"@type":"Members","notify":true},{"targetId":"b/c","notify":true}]"#;
    for command in CALLS.map(|(_, command)| command.to_owned()).into_iter().chain([entry(targets)]) {
        let event = event(command);
        let again = Event::from_log(decider().topic_bits(), AT, event.json().to_owned()).unwrap();
        assert_eq!(again, event);
    }
    let bits = decider().topic_bits();
    for text in [
        "",
        "[]",
        "{}",
        r#"{"objectType":"a","objectId":"b"}"#,
        r#"{"targets":[{"@type":"Everyone","notify":false}],"objectType":"a","objectId":"b"}"#,
        r#"{"objectType":"a","objectId":"b" ,"targets":[{"@type":"Everyone", "notify":true}]}"#,
        r#"{"objectType":"a","objectId":"b","targets":[{"@type":"Somebody","notify":false}]}"#,
        r#"{"objectType":"a","objectId":1,"targets":[{"@type":"Everyone","notify":false}]}"#,
    ] {
        assert!(Event::from_log(bits, AT, text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn targets_are_shown_to_people() {
    let event = event(CALLS[2].1);
    let shown: Vec<_> =
        event.targets().into_iter().map(|each| (each.audience, each.name, each.notify)).collect();
    assert_eq!(
        shown,
        [
            ("Identity:nordlys/administrators".to_owned(), Some("Administrators".to_owned()), false),
            ("Identity:nordlys/accounting".to_owned(), Some("Accounting".to_owned()), true),
        ]
    );
}

#[test]
fn a_verdict_knows_its_record_again() {
    let verdict = decider().read(&record(entry("")));
    assert_eq!((verdict.coordinates, verdict.checksum), (AT, record(entry("")).checksum()));
}
