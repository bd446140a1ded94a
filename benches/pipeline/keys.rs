//! What idempotency keys cost where many are alive.

use std::process::{Command, Stdio};

use super::{
    Profile, cpu,
    filled::{Cost, Filled, SAMPLE},
    report::{Report, Table},
    say,
};

/// How many commands in ten have one.
const SHARES: [(&str, u64); 3] = [("none", 0), ("10 %", 1), ("all", 10)];

/// Fills a log with so many keys, and prints what they and the appends after that took. In a process of its own: memory
/// that another part was given and gave back is not asked for again, so it would not be seen here.
pub fn run(mut words: impl Iterator<Item = String>) {
    let keys: u64 = words.next().and_then(|word| word.parse().ok()).expect("a number of keys");
    let mut filled = Filled::new();
    // What an append needs for itself.
    filled.append(SAMPLE, 0);
    let before = cpu::resident_memory(std::process::id());
    filled.append(keys, 10);
    println!("{}", cpu::resident_memory(std::process::id()) - before);
    for (_, keyed) in SHARES {
        let Cost { cpu_us, wall_us } = filled.cost(keyed);
        println!("{} {} {} {}", cpu_us.median, cpu_us.lowest, cpu_us.highest, wall_us.median);
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
        &["commands with a key", "append, µs of CPU a command", "lowest to highest", "µs that passed"],
    );
    table.note(format!(
        "New commands, measured as growth is, in one partition that has {} keys alive; to remember them took about {memory:.0} MB of memory.",
        profile.keys
    ));
    for ((share, _), cost) in SHARES.into_iter().zip(lines) {
        let [median, lowest, highest, passed] = cost[..] else { panic!("four numbers: {cost:?}") };
        say!("{share} with a key: {median:.2} µs of CPU a command");
        let spread = format!("{lowest:.2} to {highest:.2}");
        table.row([share.to_owned(), format!("{median:.2}"), spread, format!("{passed:.2}")]);
    }
    report.table(table);
}
