//! Idempotency keys: which commands are the same.

use activity_stream_contract::{ActivityId, Claim, Coordinates, Decision, Header, Record, settle};
use testing::contract::*;

#[test]
fn distinguishes_keys_and_recognizes_content() {
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
fn recognizes_content_however_it_is_written() {
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
fn recognizes_a_claim_of_version_0_1_0() {
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
fn validates_keys() {
    let found = |key: Option<&str>, headers: Vec<Header>| {
        let key = key.map(|key| key.to_owned().into());
        codes(&read(&Record { key, headers, ..record(entry("")) }).expect_err("accepted"))
    };
    let good = || Header::new("idempotency-key", "k");
    for bad in [
        vec![Header { name: "idempotency-key".into(), value: None }],
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
fn decides_by_a_claim_until_it_expires() {
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
