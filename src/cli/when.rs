//! Points in time, as people type them.

use std::str::FromStr;

use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// A point in time: absolute, or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Since 1970 in UTC. Not a `Timestamp`, because that ends a day before the year 9999 does.
    At(SignedDuration),
    Ago(SignedDuration),
}

/// The text is not a point in time; the message shows valid ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a date-time (2026-01-31T08:00:00Z), a date (2026-01-31, its start in UTC) or a time ago (2h, 7d)"
)]
pub struct NotATime;

impl When {
    /// The point in time, relative to `now`. Earlier times than jiff supports become its earliest.
    pub fn resolve(self, now: Timestamp) -> SignedDuration {
        match self {
            When::At(since_1970) => since_1970,
            When::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::MIN).as_duration(),
        }
    }
}

impl FromStr for When {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Ok(When::At(timestamp.as_duration()));
        }
        if let Ok(pieces) = Pieces::parse(text) {
            // Refused, because the meaning of a time zone's name depends on this machine's data.
            if text.contains('[') {
                return Err(NotATime);
            }
            let civil = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
            // Not the machine's time zone: the same command finds the same events everywhere.
            let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
            let since_1970 = civil.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
            return Ok(When::At(since_1970 - SignedDuration::from_secs(offset.seconds().into())));
        }
        let span: Span = text.strip_suffix("ago").unwrap_or(text).trim().parse().map_err(|_| NotATime)?;
        let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| NotATime)?;
        if duration.is_negative() { Err(NotATime) } else { Ok(When::Ago(duration)) }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil;

    use super::*;

    const NOW: &str = "2026-11-23T22:00:00Z";

    fn resolved(text: &str) -> Result<String, NotATime> {
        let now = NOW.parse().expect("timestamp");
        text.parse::<When>().map(|when| {
            let civil = civil::date(1970, 1, 1).at(0, 0, 0, 0) + when.resolve(now);
            format!("{civil}Z")
        })
    }

    #[test]
    fn reads_what_people_type() {
        let cases = [
            ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
            ("2026-01-31T08:00:00.123+02:00", "2026-01-31T06:00:00.123Z"),
            ("2026-01-31 08:00:00+01:00", "2026-01-31T07:00:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T08:30", "2026-01-31T08:30:00Z"),
            ("9999-12-30T22:00:00.999Z", "9999-12-30T22:00:00.999Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59+01:00", "9999-12-31T22:59:59Z"),
            ("9999-12-31", "9999-12-31T00:00:00Z"),
            ("2h", "2026-11-23T20:00:00Z"),
            ("2 hours ago", "2026-11-23T20:00:00Z"),
            ("7d", "2026-11-16T22:00:00Z"),
            ("1d 12h", "2026-11-22T10:00:00Z"),
            ("0s", NOW),
        ];
        for (text, expected) in cases {
            assert_eq!(resolved(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "soon",
            "7",
            "-2h",
            "2026-13-01",
            "2026-02-30",
            "1 month",
            "24:00",
            "2026-01-31T08:00[Europe/Oslo]",
        ] {
            assert_eq!(resolved(text), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn before_all_time_is_its_beginning() {
        assert_eq!(resolved("170000000h"), Ok(Timestamp::MIN.to_string()));
    }
}
