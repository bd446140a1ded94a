//! What idempotency keys cost where many are alive.

use std::process::{Command, Stdio};

use super::{
    Profile, cpu,
    filled::Filled,
    report::{Report, Table},
    say,
};

/// Appended with each share of keys.
const MEASURED: u64 = 100_000;
/// How many commands in ten have one.
const SHARES: [(&str, u64); 3] = [("none", 0), ("10 %", 1), ("all", 10)];

/// Fills a log with so many keys, and prints what they and the appends after that took. In a process of its own: memory
/// that another part was given and gave back is not asked for again, so it would not be seen here.
pub fn run(mut words: impl Iterator<Item = String>) {
    let keys: u64 = words.next().and_then(|word| word.parse().ok()).expect("a number of keys");
    let mut filled = Filled::new();
    // What an append needs for itself.
    filled.append(MEASURED, 0);
    let before = cpu::resident_memory(std::process::id());
    filled.append(keys, 10);
    println!("{}", cpu::resident_memory(std::process::id()) - before);
    for (_, keyed) in SHARES {
        let cost = filled.append(MEASURED, keyed);
        println!("{} {}", cost.cpu_us, cost.wall_us);
    }
}

pub fn measure(profile: &Profile, report: &mut Report) {
    say!("keys: filling a log with {} of them", profile.keys);
    let mut filling = Command::new(std::env::current_exe().expect("this program"));
    filling.arg("keys").arg(profile.keys.to_string()).stderr(Stdio::inherit());
    let output = filling.output().expect("it starts");
    assert!(output.status.success(), "filling a log with keys: {}", output.status);
    let said = String::from_utf8(output.stdout).expect("numbers");
    let numbers = |line: &str| -> Vec<f64> {
        line.split(' ').map(|number| number.parse().expect("a number")).collect()
    };
    let mut lines = said.lines().map(numbers);
    let memory = lines.next().expect("the memory")[0];
    let mut table = Table::new(
        "Idempotency keys",
        &["commands with a key", "append, µs of CPU a command", "µs that passed"],
    );
    table.note(format!(
        "{MEASURED} new commands in batches of 10,000 with FULL, without Kafka, in one partition that has {} keys alive; \
         to remember them took about {memory:.0} MiB of memory.",
        profile.keys
    ));
    for ((share, _), cost) in SHARES.into_iter().zip(lines) {
        say!("{share} with a key: {:.2} µs of CPU a command", cost[0]);
        table.row([share.to_owned(), format!("{:.2}", cost[0]), format!("{:.2}", cost[1])]);
    }
    report.table(table);
}
