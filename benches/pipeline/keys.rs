//! What idempotency keys cost where many are alive.

use super::{
    Profile, cpu,
    filled::Filled,
    report::{Report, Table},
    say,
};

/// Appended with each share of keys.
const MEASURED: u64 = 100_000;

pub fn measure(profile: &Profile, report: &mut Report) {
    let mut filled = Filled::new();
    let before = cpu::resident_memory(std::process::id());
    say!("keys: filling a log with {} of them", profile.keys);
    filled.append(profile.keys, 10);
    let memory = cpu::resident_memory(std::process::id()) - before;
    let mut table = Table::new(
        "Idempotency keys",
        &["commands with a key", "append, µs of CPU a command", "µs that passed"],
    );
    table.note(format!(
        "{MEASURED} new commands in batches of 10,000 with FULL, without Kafka, in one partition that has {} keys alive; \
         to remember them took about {memory:.0} MiB of memory.",
        profile.keys
    ));
    for (share, keyed) in [("none", 0), ("10 %", 1), ("all", 10)] {
        let cost = filled.append(MEASURED, keyed);
        say!("{share} with a key: {:.2} µs of CPU a command", cost.cpu_us);
        table.row([share.to_owned(), format!("{:.2}", cost.cpu_us), format!("{:.2}", cost.wall_us)]);
    }
    report.table(table);
}
