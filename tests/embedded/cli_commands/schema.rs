use std::{fs, path::Path};

use serde_json::Value;

use super::assert_output;
use crate::support::{program, run};

const DOCUMENTS: [(&str, &str); 6] = [
    ("command", "schema/command.json"),
    ("event", "schema/event.json"),
    ("notification", "schema/notification.json"),
    ("rejection", "schema/rejection.json"),
    ("reply", "schema/reply.json"),
    ("asyncapi", "asyncapi.json"),
];

#[test]
fn prints_what_config_keeps() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for (name, file) in DOCUMENTS {
        let printed = run(program(&["schema", name]), b"").success();
        assert!(printed == fs::read_to_string(kept.join(file)).expect(file), "{name}");
    }
}

#[test]
fn says_which_documents_there_are() {
    assert_output!("schema-unknown", run(program(&["schema", "replies"]), b"").transcript());
    assert_output!("schema-nothing-wanted", run(program(&["schema"]), b"").transcript());
}

#[test]
fn the_configuration_counts_and_has_to_be_right() {
    let schema = |set: &str| run(program(&["schema", "command", "--set", set]), b"");
    let printed: Value = serde_json::from_str(&schema("limits.targets=3").success()).expect("JSON");
    assert_eq!(printed["properties"]["targets"]["maxItems"], 3);
    assert_output!("schema-bad-configuration", schema("limits.targets=three").transcript());
}
