//! Targets: who may see an activity.

use testing::contract::*;

use crate::{part, targets};

#[test]
fn resolves_targets_to_the_normal_form() {
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
fn merges_targets_with_the_same_audience() {
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
fn accepts_a_name_only_beside_the_id_of_an_identity() {
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
fn rejects_an_id_in_a_target_of_everyone() {
    for kind in ["Everyone", "Public"] {
        for id in [r#""x""#, r#""""#, "[1]", r#"{"id":"x"}"#, "false"] {
            let given = format!(r#""targets":[{{"@type":"{kind}","targetId":{id},"notify":true}}]"#);
            assert_eq!(problems(entry(&given)), ["/targets/0/targetId unexpected_target_id"]);
        }
        event(entry(&format!(r#""targets":[{{"targetId":null,"type":"{kind}"}}]"#)));
    }
}

#[test]
fn rejects_an_empty_or_misspelt_audience() {
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
fn rejects_an_audience_of_another_vocabulary() {
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
