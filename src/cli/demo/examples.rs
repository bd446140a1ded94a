//! The contract's five calls, and some that are duplicates or rejected.

use contract::Header;

use super::Posted;
use crate::cli::input::{Input, Place};

/// File name and value.
type Example = (&'static str, &'static [u8]);

const CALLS: [Example; 5] = [
    ("1-everyone.json", include_bytes!("../../../tests/examples/1-everyone.json")),
    ("2-administrators-only.json", include_bytes!("../../../tests/examples/2-administrators-only.json")),
    ("3-notify-accounting.json", include_bytes!("../../../tests/examples/3-notify-accounting.json")),
    ("4-file-attachment.json", include_bytes!("../../../tests/examples/4-file-attachment.json")),
    ("5-on-a-case.json", include_bytes!("../../../tests/examples/5-on-a-case.json")),
];

const BAD: [Example; 4] = [
    (
        "wrong-type.json",
        br#"{"objectType":"case","objectId":"7","targets":["anna",{"targetId":"bo","notify":"yes"}]}"#,
    ),
    (
        "misspelt.json",
        br#"{"objectType":"case","objectId":"7","targets":[{"targetId":"anna","notfy":true}]}"#,
    ),
    ("nobody.json", br#"{"objectType":"","objectId":"7","targets":[]}"#),
    ("not-json.json", br#"{"objectType":"case","#),
];

/// Posted twice with one idempotency key, as by a producer that is not sure of its first attempt.
const REPEATED: Example = (
    "repeated.json",
    br#"{"@type":"complete","objectType":"workitem","objectId":"w-9","content":"Approved.","targets":[{"targetId":"carl","notify":true}]}"#,
);

pub(super) fn all() -> Vec<Posted> {
    let plain = |&(file, value): &Example| posted(file, value, Vec::new());
    let key = Header::new("idempotency-key", "approve-w-9");
    let repeated = || posted(REPEATED.0, REPEATED.1, vec![key.clone()]);
    let mut all: Vec<_> = CALLS.iter().map(plain).collect();
    all.extend([repeated(), repeated()]);
    all.extend(BAD.iter().map(plain));
    all
}

fn posted(file: &str, value: &[u8], headers: Vec<Header>) -> Posted {
    let place = Place { file: file.to_owned(), line: None };
    Posted { input: Input { place, value: value.to_vec() }, headers }
}
