//! The program's log lines, on standard error.
//!
//! librdkafka's lines have the target `librdkafka` and are in the same stream, so one filter (`info,librdkafka=debug`) selects
//! from all. A client passes them on when it is polled.

mod lines;

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use indicatif::ProgressBar;
use jiff::Timestamp;
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::SubscriberInitExt;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether lines that do not come from `tracing` are JSON too.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Reads filter directives.
///
/// # Errors
///
/// A directive that `tracing-subscriber` does not understand.
pub fn parse_filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(directives)
}

/// Starts writing log lines, including panics, to standard error. `RUST_LOG` wins over `filter`, as people expect of it.
/// A line never blocks the thread that writes it: see the module `lines`.
///
/// # Errors
///
/// A filter that cannot be read, a thread that cannot be started, or log lines that are already being written.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    set_format(format);
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|directives| !directives.is_empty());
    // The binding's own lines repeat the errors that it returns, or are about its internals.
    let filter = parse_filter(directives.as_deref().unwrap_or(filter))?.add_directive("rdkafka=off".parse()?);
    lines::start(dropped_notice)?;
    // The subscriber writes its own errors with `eprintln!`, which panics if that fails.
    let events = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(|| lines::Line);
    match format {
        LogFormat::Text => events.with_ansi(colours()).finish().try_init()?,
        LogFormat::Json => events.json().flatten_event(true).with_ansi(false).finish().try_init()?,
    }
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// For lines written before [`init`].
pub fn set_format(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// Reports the error that ends the program: a line in the format of the log lines, whatever the filter.
pub fn report_failure(reason: &str) {
    let line = if IS_JSON.load(Ordering::Relaxed) {
        json_line("ERROR", reason)
    } else {
        format!("activity-stream: {reason}\n")
    };
    lines::write(line.as_bytes());
}

/// Writes a line beside a command's output that is not a log line.
pub fn remark(text: &str) {
    lines::write(text.as_bytes());
}

/// Lines no longer interrupt this bar, which is on standard error too.
pub fn keep_above(bar: &ProgressBar) {
    lines::keep_above(bar);
}

/// Draws a bar on the thread that writes the lines: a terminal may be stopped (Ctrl-S), and drawing waits for it.
pub fn draw(bar: ProgressBar) {
    lines::draw(bar);
}

/// Moves the bar given to [`draw`] to a position and length, or removes it for good. Returns false, and does nothing, if that
/// thread is too far behind.
pub fn progress(progress: Option<(u64, u64)>) -> bool {
    lines::progress(progress)
}

/// Waits until the lines are written, but no longer than `patience`: nobody may be reading them.
pub fn flush(patience: Duration) {
    lines::flush(patience);
}

/// Lines dropped so far because they could not be written, or not in time.
#[must_use]
pub fn dropped_lines() -> u64 {
    lines::dropped()
}

fn dropped_notice(count: u64) -> String {
    let text = format!("{count} log lines were dropped: standard error was full, or could not be written to");
    if IS_JSON.load(Ordering::Relaxed) {
        json_line("WARN", &text)
    } else {
        format!("{}  WARN activity_stream: {text}\n", now())
    }
}

/// A line in the JSON format of `tracing-subscriber`.
fn json_line(level: &str, message: &str) -> String {
    let line = json!({ "timestamp": now(), "level": level, "message": message, "target": "activity_stream" });
    format!("{line}\n")
}

fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

/// The standard library's own hook writes to standard error directly, and blocks.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = thread.name(),
        location,
        backtrace,
        "panicked, which is a fault of the program: report it: {}",
        payload_text(panic.payload())
    );
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// <https://no-color.org>
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::producer::BaseProducer;
    use serde_json::Value;

    use super::{LogFormat, init, parse_filter};

    #[test]
    fn reads_directives_by_target() {
        assert!(parse_filter("info,librdkafka=debug").is_ok());
        assert!(parse_filter("activity_stream=verbose").is_err());
    }

    const CHILD: &str = "TELEMETRY_TEST_CHILD";

    /// The process that the other tests here start: log lines are set up once for a whole process.
    #[test]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        init(LogFormat::Json, "warn,librdkafka=debug").expect("log lines");
        tracing::info!("below the filter");
        tracing::warn!(kafka.partition = 3, "above the filter");
        let client: Result<BaseProducer, _> = ClientConfig::new().set("debug", "conf").create();
        // librdkafka's lines wait in the client's queue until somebody polls.
        client.expect("a client that connects to nobody").poll(Duration::from_millis(100));
        super::flush(Duration::from_secs(60));
    }

    fn lines(rust_log: Option<&str>) -> Vec<Value> {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child
            .args(["--exact", "telemetry::tests::child", "--nocapture"])
            .env(CHILD, "1")
            .env_remove("RUST_LOG");
        child.envs(rust_log.map(|directives| ("RUST_LOG", directives)));
        let output = child.output().expect("child");
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(output.status.success(), "{text}");
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }

    #[test]
    fn one_filter_rules_our_lines_and_those_of_librdkafka() {
        let lines = lines(None);
        let with = |key: &str, value: &str| lines.iter().any(|line| line[key] == value);
        assert!(
            lines.iter().any(|line| line["target"] == "librdkafka" && line["level"] == "DEBUG"),
            "{lines:#?}"
        );
        assert!(with("message", "above the filter") && !with("message", "below the filter"), "{lines:#?}");
        assert!(lines.iter().any(|line| line["kafka.partition"] == 3), "{lines:#?}");
    }

    #[test]
    fn the_variable_that_everyone_knows_wins() {
        let lines = lines(Some("info"));
        assert!(lines.iter().any(|line| line["message"] == "below the filter"), "{lines:#?}");
        assert!(lines.iter().all(|line| line["level"] != "DEBUG"), "{lines:#?}");
    }
}
