//! The program's own log lines, on standard error.
//!
//! librdkafka's lines have the target `librdkafka` and are in the same stream, so that one filter
//! (`info,librdkafka=debug`) rules them all. A client hands them over when it is polled.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

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

/// How they are written in this process, once that is known.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Reads filter directives.
///
/// # Errors
///
/// A directive that `tracing-subscriber` does not understand.
pub fn parse_filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(directives)
}

/// Starts writing log lines to standard error. `RUST_LOG` wins over `filter`, as people expect of it.
///
/// # Errors
///
/// A filter that cannot be read, or log lines that are already being written.
pub fn init(format: LogFormat, filter: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|directives| !directives.is_empty());
    // The binding's own lines repeat what it returns as errors, or speak of its inside.
    let filter = parse_filter(directives.as_deref().unwrap_or(filter))?.add_directive("rdkafka=off".parse()?);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(colours()).finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).finish().try_init()?,
    }
    let _ = FORMAT.set(format);
    Ok(())
}

/// Reports the error that ends the program: a line of its own, in the format of the log lines before it. A configuration
/// that cannot be read says nothing of a format; its problems are a list for people.
pub fn report_failure(sentence: &str) {
    let format = FORMAT.get();
    if format == Some(&LogFormat::Json) && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{sentence}");
        return;
    }
    let sentence = if format.is_some() { sentence.replace('\n', " ") } else { sentence.to_owned() };
    // Where nobody hears it, the exit code still says it.
    let _ = writeln!(io::stderr(), "activity-stream: {sentence}");
}

/// Colours are for a terminal whose owner has not declined them (<https://no-color.org>).
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

    /// What the other tests here start, in a process of its own: log lines are set up once for a whole process.
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
