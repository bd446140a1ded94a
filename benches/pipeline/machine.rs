//! The machine and the versions of a run.

use std::{fs, process::Command, thread};

/// Lines of Markdown.
pub fn describe(kafka: &str) -> Vec<String> {
    let mut lines = vec![
        format!("{}, {} cores, {}", model(), cores(), memory()),
        format!(
            "Linux {}, temporary files on {}, transparent huge pages: {}",
            kernel(),
            file_system(),
            huge_pages()
        ),
    ];
    if !kafka.is_empty() {
        lines.push(kafka.to_owned());
    }
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    lines.push(format!("activity-stream {}, {}", env!("CARGO_PKG_VERSION"), rustc()));
    lines.push(format!("librdkafka {librdkafka}, SQLite {}", sqlite()));
    lines
}

fn model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

fn cores() -> usize {
    thread::available_parallelism().map_or(0, usize::from)
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = total.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    format!("{} GiB", kib.div_ceil(1 << 20))
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Of the folder in which the logs are, and the broker's.
fn file_system() -> String {
    let output =
        Command::new("stat").args(["--file-system", "--format=%T"]).arg(std::env::temp_dir()).output();
    let name = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "an unknown file system".into())
}

/// Memory is counted by the page.
fn huge_pages() -> String {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    chosen.map_or("none", |(mode, _)| mode).to_owned()
}

fn rustc() -> String {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("--version").output();
    let said =
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    // Without the commit and the date.
    said.split(" (").next().unwrap_or_default().to_owned()
}

fn sqlite() -> String {
    rusqlite::version().to_owned()
}
