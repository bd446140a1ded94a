//! The program's own log lines, on standard error.
//!
//! librdkafka's lines come by way of the `log` crate, with the target `librdkafka`, and are bridged into the same
//! stream, so that one filter (`info,librdkafka=debug`) rules them all.

use std::io::{self, IsTerminal};

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
    let filter = parse_filter(directives.as_deref().unwrap_or(filter))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(colours()).finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).finish().try_init()?,
    }
    Ok(())
}

/// Colours are for a terminal whose owner has not declined them (<https://no-color.org>).
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::parse_filter;

    #[test]
    fn reads_directives_by_target() {
        assert!(parse_filter("info,librdkafka=debug").is_ok());
        assert!(parse_filter("activity_stream=verbose").is_err());
    }
}
