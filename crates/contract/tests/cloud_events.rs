//! Commands as CloudEvents, in binary and in structured mode of the Kafka protocol binding.

use activity_stream_contract::Record;
use testing::contract::{CALLS, codes, entry, event, read, record, record_with};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=UTF-8");
const BINARY: [(&str, &str); 5] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "a-1"),
    ("ce_source", "/shop"),
    ("ce_type", "com.example.activity"),
    ("content-type", "application/json"),
];

/// An event in structured mode around an entry, with further attributes.
fn envelope(more: &str, data: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"a-1","source":"/shop","type":"t"{more},"data":{data}}}"#)
}

#[track_caller]
fn structured_problems(value: &str) -> Vec<String> {
    codes(&read(&record_with(value, &[STRUCTURED])).expect_err("accepted"))
}

#[track_caller]
fn message_of(record: &Record) -> String {
    read(record).expect_err("accepted").to_string()
}

#[test]
fn decides_an_event_as_its_entry_in_both_modes() {
    for (name, call) in CALLS {
        let plain = event(call);
        let binary = read(&record_with(call, &BINARY)).unwrap();
        let wrapped = envelope(
            r#","datacontenttype":"application/json","time":"2026-01-01T00:00:00Z","myext":1"#,
            call,
        );
        let structured = read(&record_with(&wrapped, &[STRUCTURED])).unwrap();
        assert_eq!(plain.json(), binary.0.json(), "{name}");
        assert_eq!(plain, structured.0, "{name}");
        // The same event has the same key and the same content in both modes.
        assert!(binary.1.is_some());
        assert_eq!(binary.1, structured.1, "{name}");
    }
}

#[test]
fn keeps_data_byte_for_byte() {
    let data = entry(r#""amount":1.10,"big":123456789012345678901234567890,"e":1E+2"#);
    let found = read(&record_with(&envelope("", &data), &[STRUCTURED])).unwrap().0;
    assert!(found.json().ends_with(r#","amount":1.10,"big":123456789012345678901234567890,"e":1E+2}"#));
}

#[test]
fn prefers_the_header_to_the_events_own_id() {
    let call = envelope("", &entry(""));
    let key = |headers: &[(&str, &str)]| read(&record_with(&call, headers)).unwrap().1.unwrap().hash;
    let own = key(&[STRUCTURED]);
    assert_ne!(key(&[STRUCTURED, ("idempotency-key", "k")]), own);
    // In structured mode, headers with attributes are only copies.
    assert_eq!(key(&[STRUCTURED, ("ce_id", "other"), ("ce_source", "other")]), own);
    let escaped = call.replace("/shop", "\\u002fshop");
    assert_eq!(read(&record_with(&escaped, &[STRUCTURED])).unwrap().1.unwrap().hash, own);
}

#[test]
fn points_to_problems_inside_the_data() {
    let data = r#"{"objectType":"case","targets":[{"targetId":"a","notfy":true}]}"#;
    assert_eq!(
        structured_problems(&envelope("", data)),
        ["/data/targets/0/notfy unknown_property", "/data/objectId missing"]
    );
}

#[test]
fn requires_valid_attributes_in_structured_mode() {
    let bad = "bad_cloud_event";
    let data = entry("");
    assert_eq!(
        structured_problems(&format!(r#"{{"data":{data}}}"#)),
        [
            format!("/specversion {bad}"),
            format!("/id {bad}"),
            format!("/source {bad}"),
            format!("/type {bad}")
        ]
    );
    for (again, name) in [
        (r#","id":"a-1""#, "id"),
        (r#","s\u006furce":"other""#, "source"),
        (r#","time":null,"time":null"#, "time"),
        (r#","myext":1,"myext":2"#, "myext"),
        (&*format!(r#","data":{data}"#), "data"),
    ] {
        assert_eq!(structured_problems(&envelope(again, &data)), [format!("/{name} {bad}")]);
    }
    for (attribute, wrong) in [
        ("\"id\":\"a-1\"", "\"id\":7"),
        ("\"source\":\"/shop\"", "\"source\":\"\""),
        ("\"type\":\"t\"", "\"type\":null"),
    ] {
        let name = attribute.split('"').nth(1).unwrap();
        let value = envelope("", &data).replace(attribute, wrong);
        assert_eq!(structured_problems(&value), [format!("/{name} {bad}")]);
    }
    assert_eq!(structured_problems(&envelope("", &data).replace("1.0", "0.3")), [format!(" {bad}")]);
    assert_eq!(
        structured_problems(&envelope(r#","datacontenttype":"text/xml""#, &data)),
        [format!("/datacontenttype {bad}")]
    );
    assert!(
        read(&record_with(&envelope(r#","datacontenttype":"application/vnd.a+json""#, &data), &[STRUCTURED]))
            .is_ok()
    );
    assert!(read(&record_with(&envelope("", &data).replace("1.0", "1.1"), &[STRUCTURED])).is_ok());
}

#[test]
fn rejects_data_that_is_not_an_entry() {
    assert_eq!(structured_problems(&envelope("", "[1]")), ["/data not_an_object"]);
    assert_eq!(structured_problems(&envelope("", "\"{}\"")), ["/data not_an_object"]);
    assert_eq!(structured_problems(&envelope("", "null")), ["/data not_an_object"]);
    let without = envelope("", "1").replace(",\"data\":1", "");
    assert_eq!(structured_problems(&without), ["/data missing"]);
    let base64 = record_with(&without.replace('}', r#","data_base64":"e30="}"#), &[STRUCTURED]);
    assert_eq!(
        message_of(&base64),
        "/data: expected the entry as the event's data, found data_base64, which is for data that is not JSON (missing)"
    );
    assert_eq!(structured_problems("[]"), [" not_an_object"]);
    assert_eq!(structured_problems("{"), [" not_json"]);
}

#[test]
fn requires_valid_attributes_in_binary_mode() {
    let call = entry("");
    for (name, _) in BINARY.iter().take(4) {
        if *name == "ce_specversion" {
            continue;
        }
        for headers in [
            BINARY.into_iter().filter(|(other, _)| other != name).collect::<Vec<_>>(),
            BINARY.into_iter().map(|(other, it)| (other, if other == *name { "" } else { it })).collect(),
        ] {
            let message = message_of(&record_with(&call, &headers));
            assert!(
                message.contains(&format!("expected the header {name}"))
                    && message.contains("bad_cloud_event"),
                "{message}"
            );
        }
    }
    let with = |name: &'static str, value: &'static str| {
        let headers = BINARY.map(|(other, it)| (other, if other == name { value } else { it }));
        record_with(&call, &headers)
    };
    assert!(message_of(&with("ce_specversion", "0.3")).contains("found version \"0.3\""));
    assert!(
        message_of(&with("content-type", "text/plain")).contains("found the content-type \"text/plain\"")
    );
    assert!(read(&with("content-type", "Application/JSON")).is_ok());
    assert!(read(&with("ce_specversion", "1.0")).is_ok());
    let not_utf8 = Record {
        headers: record_with("", &BINARY)
            .headers
            .into_iter()
            .map(|mut header| {
                if *header.name == *b"ce_type" {
                    header.value = Some(vec![0xff].into());
                }
                header
            })
            .collect(),
        ..record(call.clone())
    };
    assert!(message_of(&not_utf8).contains("expected the header ce_type"));
}

/// Readers differ in which of two values they use, so a repeated attribute could mean two keys.
#[test]
fn rejects_a_repeated_attribute_in_headers() {
    let call = entry("");
    let binary_with = |more: &[(&'static str, &'static str)]| {
        let headers: Vec<_> = BINARY.iter().chain(more).copied().collect();
        record_with(&call, &headers)
    };
    for (name, value) in BINARY.into_iter().chain([("ce_time", "t"), ("ce_myext", "")]) {
        let message = message_of(&binary_with(&[(name, value), ("ce_time", "t"), ("ce_myext", "")]));
        let expected = format!(
            "expected the header \"{name}\", a CloudEvents attribute, only once, found 2 (bad_cloud_event)"
        );
        if BINARY.iter().any(|(other, _)| *other == name) {
            assert_eq!(message, expected);
        } else {
            assert!(message.contains(&expected), "{message}");
        }
    }
    // Source and id alone are a key.
    for name in ["ce_id", "ce_source"] {
        let headers = [("ce_id", "1"), ("ce_source", "s"), (name, "1")];
        assert!(message_of(&record_with(&call, &headers)).contains("only once, found 2"));
    }
    // Neither other names nor other headers are attributes.
    let event = read(&binary_with(&[("CE_ID", "x"), ("ce", "x"), ("x", "1"), ("x", "1")])).unwrap();
    assert_eq!(event, read(&binary_with(&[])).unwrap());
    let plain = [("content-type", "text/plain"), ("content-type", "application/json")];
    assert!(read(&record_with(&call, &plain)).is_ok());
    // In structured mode, headers with attributes are only copies.
    let copies = [STRUCTURED, ("ce_id", "1"), ("ce_id", "2")];
    assert!(read(&record_with(&envelope("", &call), &copies)).is_ok());
    let many: Vec<_> = (0..100).flat_map(|_| [("ce_a", "1"), ("ce_b", "1")]).collect();
    let message = message_of(&binary_with(&many));
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[test]
fn rejects_other_formats_of_events() {
    for kind in
        ["application/cloudevents-batch+json", "application/cloudevents+avro", "application/cloudevents"]
    {
        let message = message_of(&record_with(&envelope("", &entry("")), &[("content-type", kind)]));
        assert_eq!(
            message,
            format!(
                "expected the content-type application/cloudevents+json of one event, found \"{kind}\" (bad_cloud_event)"
            )
        );
    }
}

#[test]
fn a_command_without_a_version_is_plain_whatever_its_content_type() {
    for headers in [&[("content-type", "text/plain")][..], &[("ce_id", "1")], &[("content-type", "")]] {
        let (event, key) = read(&record_with(&entry(""), headers)).unwrap();
        assert!(key.is_none() && event.json().contains("\"case\""), "{headers:?}");
    }
}
