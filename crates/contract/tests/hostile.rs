//! Large and hostile commands cost memory in proportion to their size, so none can block a partition. The comparisons of
//! repeated names are counted in the unit tests of `repeated`.

#![allow(clippy::disallowed_macros, reason = "each thread counts its own allocations")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use activity_stream_contract::{Header, Reading, Record};
use testing::contract::*;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all calls are passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads a record, and returns its first code and how many bytes were allocated meanwhile, those freed again included.
fn allocated(record: &Record) -> (Option<String>, usize) {
    let decider = decider();
    let before = ALLOCATED.get();
    let reading = decider.read(record).reading;
    let bytes = ALLOCATED.get() - before;
    match reading {
        Reading::Valid { .. } => (None, bytes),
        Reading::Rejected(problems) => (Some(problems.first_code().to_owned()), bytes),
    }
}

/// The maximum number of headers, nearly all with different names, or each twice although it may occur only once.
#[test]
fn decides_a_command_with_100_000_different_headers() {
    let names =
        |prefix: &'static str, of: usize| (0..100_000).map(move |number| format!("{prefix}{}", number % of));
    for (names, expected) in [
        (names("header-", 100_000), None),
        (names("ce_", 100_000), None),
        (names("ce_", 50_000), Some("bad_cloud_event")),
    ] {
        let headers: Vec<_> = names.map(|name| Header::new(name, "x")).collect();
        let record = Record { headers, ..record(entry("\"content\":\"x\"")) };
        let (code, bytes) = allocated(&record);
        assert_eq!(code.as_deref(), expected);
        assert!(bytes < 20 * record.bytes(), "{bytes} bytes for {}", record.bytes());
    }
}

#[test]
fn decides_large_and_hostile_values() {
    let members: Vec<_> = (0..40_000).map(|index| format!("\"k{index}\":0")).collect();
    let members = members.join(",");
    let names = "\"x\":1,".repeat(70_000);
    let targets: Vec<_> = (0..1000).map(|id| format!("\"{id}\"")).collect();
    for (name, value, expected) in [
        ("many properties", entry(&members), None),
        ("a name 70,000 times", entry(&format!("{names}\"x\":1")), Some("duplicate_property")),
        ("an actor's properties", entry(&format!("\"actor\":{{{members}}}")), Some("unknown_property")),
        (
            "a target's properties",
            entry(&format!("\"targets\":[{{\"targetId\":\"x\",{members}}}]")),
            Some("unknown_property"),
        ),
        ("neither id nor type", format!("{{{members}}}"), Some("missing")),
        (
            "100,000 targets",
            entry(&format!("\"targets\":[{}]", vec!["{}"; 100_000].join(","))),
            Some("too_many_targets"),
        ),
        ("1,000 different targets", entry(&format!("\"targets\":[{}]", targets.join(","))), None),
        ("a long name", entry(&format!("\"{}\":1", "targets".repeat(60_000))), None),
        ("many escapes", entry(&format!("\"content\":\"{}\"", "\\u0001".repeat(80_000))), None),
        ("deep nesting", "[".repeat(500_000), Some("not_json")),
    ] {
        let record = record(value);
        let (code, bytes) = allocated(&record);
        assert_eq!(code.as_deref(), expected, "{name}");
        assert!(bytes < 200 * record.bytes(), "{name}: {bytes} bytes for {}", record.bytes());
    }
}
