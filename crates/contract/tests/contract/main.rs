//! The rules of the contract, as plain assertions.

mod entries;
mod events;
mod idempotency;
mod notifications;
mod targets;

use activity_stream_contract::Event;
use testing::contract::{entry, event};

/// A property of the normal form, byte for byte.
#[track_caller]
fn part(event: &Event, name: &str) -> String {
    let parsed: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(event.json()).expect("JSON");
    parsed.get(name).map_or_else(String::new, |raw| raw.get().to_owned())
}

/// The targets of the normal form.
#[track_caller]
fn targets(json: &str) -> String {
    part(&event(entry(&format!("\"targets\":{json}"))), "targets")
}
