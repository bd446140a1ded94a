//! How a value is read and checked, and how it is written.
//!
//! A reader takes a value as its source gives it and returns the parsed value, or a sentence that says what was expected.
//! It checks all that concerns one key alone, so nothing checks that again.

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use contract::ReplyTopics;
use jiff::{Span, SpanRelativeTo};
use toml::de::DeValue;

/// A value before it is read: the text of a variable or a flag, or a value of a TOML file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    Text(&'a str),
    Toml(&'a DeValue<'a>),
}

impl Raw<'_> {
    /// A string in TOML, or any text of a variable or a flag.
    fn text(&self, expected: impl Display) -> Result<&str, String> {
        match self {
            Raw::Text(text) => Ok(text),
            Raw::Toml(DeValue::String(text)) => Ok(text),
            Raw::Toml(_) => Err(self.expected(expected)),
        }
    }

    /// The sentence that rejects the value.
    pub(super) fn expected(&self, expected: impl Display) -> String {
        let found = match self {
            Raw::Text(text) => quoted(text),
            Raw::Toml(DeValue::String(text)) => quoted(text),
            Raw::Toml(DeValue::Integer(number)) => number.to_string(),
            Raw::Toml(DeValue::Float(number)) => number.to_string(),
            Raw::Toml(DeValue::Boolean(value)) => value.to_string(),
            Raw::Toml(DeValue::Datetime(value)) => value.to_string(),
            Raw::Toml(DeValue::Array(_)) => "an array".to_owned(),
            Raw::Toml(DeValue::Table(_)) => "a table".to_owned(),
        };
        format!("expected {expected}; found {found}")
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Raw::Text(text) => text.trim().replace('_', "").parse().ok(),
            Raw::Toml(DeValue::Integer(number)) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            Raw::Toml(_) => None,
        }
    }
}

/// Text that fulfils a condition.
fn text_that(
    raw: &Raw<'_>,
    expected: &str,
    is_fulfilled: impl FnOnce(&str) -> bool,
) -> Result<String, String> {
    let text = raw.text(expected)?;
    if is_fulfilled(text) { Ok(text.to_owned()) } else { Err(raw.expected(expected)) }
}

pub(super) fn text(raw: &Raw<'_>) -> Result<String, String> {
    text_that(raw, "text that is not blank and holds no control characters", |text| {
        !text.trim().is_empty() && !text.contains(char::is_control)
    })
}

/// A name that Kafka accepts for a topic (`org.apache.kafka.common.internals.Topic.validate`).
pub(super) fn topic(raw: &Raw<'_>) -> Result<String, String> {
    let expected = "a topic name: 1 to 249 of the characters a-z A-Z 0-9 . _ - and neither \".\" nor \"..\"";
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text_that(raw, expected, |name| {
        (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".."
    })
}

/// Names of topics: an array, or in a variable or a flag separated by commas. There may be none.
pub(super) fn topics(raw: &Raw<'_>) -> Result<ReplyTopics, String> {
    match raw {
        Raw::Toml(DeValue::Array(names)) => {
            names.iter().map(|name| topic(&Raw::Toml(name.get_ref()))).collect()
        }
        Raw::Text(text) => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(|name| topic(&Raw::Text(name))).collect()
        }
        Raw::Toml(_) => Err(raw.expected("an array of topic names")),
    }
}

/// `host:port`, several separated by commas; librdkafka accepts a protocol before it, and fills in a missing port.
pub(super) fn servers(raw: &Raw<'_>) -> Result<String, String> {
    let legal = |server: &str| {
        let address = server.split_once("://").map_or(server, |(_, address)| address);
        let port_follows = |(host, port): (&str, &str)| {
            !host.is_empty() && (host.ends_with(']') || port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        !address.is_empty()
            && !address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
            && address.rsplit_once(':').is_none_or(|parts| address.ends_with(']') || port_follows(parts))
    };
    text_that(raw, "host:port, several separated by commas", |servers| {
        servers.split(',').map(str::trim).all(legal)
    })
}

/// A CloudEvents `source`: a URI reference.
pub(super) fn source(raw: &Raw<'_>) -> Result<String, String> {
    text_that(raw, "a URI or a name, without blanks", |source| {
        !source.is_empty() && !source.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// Directives that `tracing-subscriber` understands.
pub(super) fn filter(raw: &Raw<'_>) -> Result<String, String> {
    let expected = "filter directives, such as \"info\" or \"info,librdkafka=debug\"";
    let text = text_that(raw, expected, |text| !text.trim().is_empty())?;
    match crate::telemetry::parse_filter(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{} ({error})", raw.expected(expected))),
    }
}

pub(super) fn boolean(raw: &Raw<'_>) -> Result<bool, String> {
    match raw {
        Raw::Toml(DeValue::Boolean(value)) => Ok(*value),
        Raw::Text(text) => text.trim().parse().map_err(|_| raw.expected("true or false")),
        Raw::Toml(_) => Err(raw.expected("true or false")),
    }
}

/// A whole number within bounds.
pub(super) fn integer<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&Raw<'_>) -> Result<T, String> {
    move |raw| {
        let expected = || raw.expected(format!("a whole number from {} to {}", range.start(), range.end()));
        let number = raw.integer().filter(|number| range.contains(number)).ok_or_else(expected)?;
        T::try_from(number).map_err(|_| expected())
    }
}

/// A number of bytes within bounds, or a size with a unit.
pub(super) fn size<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&Raw<'_>) -> Result<T, String> {
    move |raw| {
        let (from, to) = (bytes(*range.start()), bytes(*range.end()));
        let expected =
            || raw.expected(format!("a number of bytes, or a size with a unit, from {from} to {to}"));
        let number = match raw.integer() {
            Some(number) => u64::try_from(number).ok(),
            None => {
                raw.text("").ok().and_then(|text| ByteSize::from_str(text.trim()).ok()).map(|size| size.0)
            }
        };
        let number = number.filter(|number| range.contains(number)).ok_or_else(expected)?;
        T::try_from(number).map_err(|_| expected())
    }
}

/// A length of time above zero, in jiff's friendly format (`7d`, `1h 30m`) or ISO 8601's; a day has 24 hours.
pub(super) fn duration(raw: &Raw<'_>) -> Result<Duration, String> {
    let expected = "a length of time above zero, such as \"7d\", \"36h\" or \"1d 12h\"";
    parse_duration(raw.text(expected)?.trim()).ok_or_else(|| raw.expected(expected))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok().filter(|duration| !duration.is_zero())
}

pub(super) fn path(raw: &Raw<'_>) -> Result<PathBuf, String> {
    let is_path = |text: &str| !text.is_empty() && !text.contains('\0') && !text.ends_with('/');
    text_that(raw, "the path of a file", is_path).map(PathBuf::from)
}

/// An address to listen on; none if the text is empty.
pub(super) fn address(raw: &Raw<'_>) -> Result<Option<SocketAddr>, String> {
    let expected = "an IP address with a port, such as \"127.0.0.1:9464\", or \"\" for none";
    match raw.text(expected)?.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| raw.expected(expected)),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Raw<'_>) -> Result<T, String> {
    move |raw| {
        let names: Vec<String> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let expected = names.join(" or ");
        let text = raw.text(&expected)?.trim();
        let found = words.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| raw.expected(&expected))
    }
}

/// The inverse of [`word`].
pub(super) fn of_words<T: PartialEq>(words: &'static [(&'static str, T)]) -> impl Fn(&T) -> String {
    move |value| {
        words.iter().find(|(_, word)| word == value).map_or_else(String::new, |(name, _)| quoted(name))
    }
}

/// A TOML basic string.
pub(super) fn quoted(text: impl AsRef<str>) -> String {
    toml::Value::String(text.as_ref().to_owned()).to_string()
}

/// An array, as [`topics`] reads it.
pub(super) fn quoted_topics(topics: &ReplyTopics) -> String {
    let names: Vec<String> = topics.names().map(quoted).collect();
    format!("[{}]", names.join(", "))
}

pub(super) fn quoted_path(path: &Path) -> String {
    quoted(path.to_string_lossy())
}

pub(super) fn quoted_address(address: &Option<SocketAddr>) -> String {
    address.map_or_else(|| quoted(""), |address| quoted(address.to_string()))
}

/// A size in the largest binary unit that gives a whole number, as [`size`] reads it.
pub(super) fn quoted_size<T: Copy + TryInto<u64>>(size: &T) -> String {
    quoted(bytes((*size).try_into().unwrap_or(u64::MAX)))
}

fn bytes(size: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.into_iter().find(|(_, shift)| size > 0 && size.is_multiple_of(1 << shift));
    whole.map_or_else(|| format!("{size}B"), |(unit, shift)| format!("{}{unit}", size >> shift))
}

/// A length of time as [`duration`] reads it, days first.
pub(super) fn quoted_duration(duration: &Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_nanos()), "ns"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    quoted(parts.join(" "))
}
