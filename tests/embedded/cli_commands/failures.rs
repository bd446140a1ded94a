//! The last line of a program that fails, for whoever collects its log lines.

use crate::support::{folder, program, run};

#[test]
fn with_json_log_lines_the_fatal_error_is_json_too() {
    let folder = folder();
    let missing = folder.path().join("none.db");
    let mut command = program(&["log", "list", "--set", "telemetry.format=json", "--log-file"]);
    command.arg(&missing);
    let finished = run(command, b"");
    assert_eq!(finished.status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_str(finished.stderr.trim_end()).expect("one JSON object");
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().contains(missing.to_str().unwrap()), "{line}");
}
