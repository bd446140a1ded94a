//! CPU time of processes and threads, as Linux counts it.

use std::{collections::BTreeMap, fs, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// Linux counts in `stat` a hundred ticks a second, on every architecture (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far.
#[derive(Debug, Clone, Default)]
pub struct Used {
    pub total: Duration,
    /// Of the threads that are there, by what they do.
    pub stages: BTreeMap<&'static str, Duration>,
}

/// Threads that are gone or have no stage of their own.
pub const OTHERS: &str = "others";
pub const STAGES: [&str; 7] = ["intake", "decide", "append", "publish", "librdkafka", "read model", OTHERS];

fn stage(thread: &str) -> &'static str {
    match thread {
        "processor" | "copy" => "intake",
        "decide" => "decide",
        "append" => "append",
        "publish" => "publish",
        "read-model" => "read model",
        _ if thread.starts_with("rdk:") => "librdkafka",
        _ => OTHERS,
    }
}

impl Used {
    /// Of the process with this id.
    pub fn of(process: u32) -> Self {
        let mut used = Self { total: total(process), ..Self::default() };
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            // The first number is nanoseconds on a CPU.
            let nanoseconds =
                read("schedstat").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
            *used.stages.entry(stage(read("comm").trim())).or_default() += Duration::from_nanos(nanoseconds);
        }
        let known: Duration =
            used.stages.iter().filter(|(name, _)| **name != OTHERS).map(|(_, time)| *time).sum();
        used.stages.insert(OTHERS, used.total.saturating_sub(known));
        used
    }
}

/// Of all threads of a process, also those that have ended.
pub fn total(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which is in parentheses and may hold anything, fields 14 and 15 are user and system time.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|text| text.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// A process and all that it started.
pub fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        let children: Vec<u32> = tasks
            .flat_map(|task| {
                let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()
            })
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

/// Of the thread that asks.
pub fn of_this_thread() -> Duration {
    // `schedstat` lags behind for a thread that runs, by up to a tick.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of each thread").into()
}

/// The most memory that a process has had, in MB of a million bytes.
pub fn peak_memory(process: u32) -> f64 {
    memory(process, "VmHWM:")
}

/// The memory that a process has now, in MB of a million bytes.
pub fn resident_memory(process: u32) -> f64 {
    memory(process, "VmRSS:")
}

fn memory(process: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|text| text.trim().parse().ok());
    kib.unwrap_or(0.0_f64) * 1024.0 / 1e6
}
