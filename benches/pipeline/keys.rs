//! The cost of idempotency keys while many are alive.

use std::process::{Command, Stdio};

use super::{
    Profile, cpu,
    filled::{Filled, Keyed, SAMPLE},
    results::{Cost, Keys, KeysShare},
    say,
};

/// Fills a log with this number of keys, and prints their cost and that of the appends after them. Runs in its own process:
/// memory that another part had allocated and freed would be reused, and so not be measured here.
pub fn run(mut words: impl Iterator<Item = String>) {
    let alive: u64 = words.next().and_then(|word| word.parse().ok()).expect("a number of keys");
    let mut filled = Filled::new();
    // What an append needs for itself.
    filled.append(SAMPLE, &Keyed::None);
    let before = cpu::resident_memory(std::process::id());
    let first = filled.len();
    filled.append(alive, &Keyed::OneOf(1));
    let memory = cpu::resident_memory(std::process::id()) - before;
    let shares = [
        ("none", Keyed::None),
        ("10 %", Keyed::OneOf(10)),
        ("all", Keyed::OneOf(1)),
        ("all, each one of an earlier command", Keyed::Repeats(first..first + alive)),
    ];
    let shares = shares.map(|(share, keyed)| {
        let cost: Cost = filled.cost(&keyed);
        say!("{share} with a key: {:.2} µs of CPU a command", cost.cpu.median);
        KeysShare { share: share.to_owned(), cost }
    });
    let keys = Keys { alive, memory, shares: shares.into() };
    println!("{}", serde_json::to_string(&keys).expect("JSON"));
}

pub fn measure(profile: &Profile) -> Keys {
    say!("keys: filling a log with {} of them", profile.keys);
    let mut filling = Command::new(std::env::current_exe().expect("this program"));
    filling.arg("keys").arg(profile.keys.to_string()).stderr(Stdio::inherit());
    let output = filling.output().expect("it starts");
    assert!(output.status.success(), "filling a log with keys: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("its figures")
}
