//! Date-times: strict validation of RFC 3339, and formatting of record timestamps.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, civil};

/// Record timestamps that a command may have: 1970-01-01 to the last millisecond of the year 9999.
pub(crate) const TIMESTAMPS: RangeInclusive<i64> = 0..=253_402_300_799_999;

const MILLISECONDS_OF_DAY: i64 = 24 * 60 * 60 * 1_000;

/// Whether `text` is a date-time as in RFC 3339, section 5.6, with at most 9 fraction digits. Second 60 is only valid as a
/// leap second, at 23:59:60 UTC.
pub(crate) fn is_rfc_3339(text: &str) -> bool {
    parse(text.as_bytes()).is_some()
}

/// [`is_rfc_3339`] as a regular expression, except for the days of each month and the time of leap seconds.
pub(crate) const PATTERN: &str = concat!(
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)",
    "([.][0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
);

fn parse(text: &[u8]) -> Option<()> {
    let (date_time, rest) = text.split_at_checked("2026-11-24T01:20:00".len())?;
    let separated = date_time[4] == b'-'
        && date_time[7] == b'-'
        && matches!(date_time[10], b'T' | b't')
        && date_time[13] == b':'
        && date_time[16] == b':';
    if !separated {
        return None;
    }
    let number = |from: usize, to: usize| digits(&date_time[from..to]);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    civil::Date::new(number(0, 4)?, number(5, 7)? as i8, number(8, 10)? as i8).ok()?;

    let offset = offset_minutes(after_fraction(rest)?)?;
    let minute_of_utc_day = (hour * 60 + minute - offset).rem_euclid(24 * 60);
    let is_leap_second = second == 60 && minute_of_utc_day == 24 * 60 - 1;
    (hour <= 23 && minute <= 59 && (second <= 59 || is_leap_second)).then_some(())
}

fn digits(text: &[u8]) -> Option<i16> {
    text.iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i16::from(byte - b'0')))
}

fn after_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = rest.strip_prefix(b".") else { return Some(rest) };
    let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=9).contains(&length).then(|| &fraction[length..])
}

fn offset_minutes(offset: &[u8]) -> Option<i16> {
    let (sign, hours, minutes) = match offset {
        b"Z" | b"z" => return Some(0),
        [sign, hours @ .., b':', tens, ones] => (sign, hours, [*tens, *ones]),
        _ => return None,
    };
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(hours).filter(|_| hours.len() == 2)?, digits(&minutes)?);
    (hours <= 23 && minutes <= 59).then(|| sign * (hours * 60 + minutes))
}

/// A record's timestamp, in milliseconds since 1970, as a date-time in UTC. `None` if commands may not have it.
#[must_use]
pub fn utc(timestamp: i64) -> Option<String> {
    let mut text = String::new();
    TIMESTAMPS.contains(&timestamp).then(|| push_timestamp(&mut text, timestamp))?;
    Some(text)
}

/// Appends a record's timestamp, in milliseconds since 1970, as `2026-11-24T01:20:00.123Z`.
///
/// Timestamps that commands may not have are replaced by the nearest valid one.
pub(crate) fn push_timestamp(out: &mut String, timestamp: i64) {
    let timestamp = timestamp.clamp(*TIMESTAMPS.start(), *TIMESTAMPS.end());
    let (days, of_day) = (timestamp / MILLISECONDS_OF_DAY, (timestamp % MILLISECONDS_OF_DAY) as i32);
    // Not `jiff::Timestamp`, whose range ends a day before the year 9999 does.
    let date = civil::date(1970, 1, 1) + SignedDuration::from_hours(24 * days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut write = |at: usize, number: i32| {
        text[at] += (number / 10) as u8;
        text[at + 1] += (number % 10) as u8;
    };
    write(0, i32::from(date.year()) / 100);
    write(2, i32::from(date.year()) % 100);
    write(5, i32::from(date.month()));
    write(8, i32::from(date.day()));
    write(11, of_day / 3_600_000);
    write(14, of_day / 60_000 % 60);
    write(17, of_day / 1_000 % 60);
    write(20, of_day % 1_000 / 10);
    text[22] += (of_day % 10) as u8;
    out.push_str(std::str::from_utf8(&text).expect("ASCII"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_date_times_with_offset() {
        for text in [
            "2026-11-24T01:20:00Z",
            "2026-11-24t01:20:00z",
            "2026-11-24T01:20:00.1234567+01:00",
            "2026-11-24T01:20:00.123456789-00:00",
            "2024-02-29T23:59:59+23:59",
            "0000-01-01T00:00:00Z",
            "2016-12-31T23:59:60Z",
            "2017-01-01T00:59:60.5+01:00",
            "2016-12-31T15:59:60-08:00",
        ] {
            assert!(is_rfc_3339(text), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T01:20:00",
            "2026-11-24 01:20:00Z",
            "2026-11-24T01:20Z",
            "2026-11-24T01:20:00.Z",
            "2026-11-24T01:20:00.1234567890Z",
            "2026-11-24T01:20:00,5Z",
            "2026-02-29T01:20:00Z",
            "2026-13-01T01:20:00Z",
            "2026-00-01T01:20:00Z",
            "2026-04-31T01:20:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T23:60:00Z",
            "2026-11-24T23:59:61Z",
            "2026-11-24T22:59:60Z",
            "2026-11-24T23:59:60+01:00",
            "2026-11-24T01:20:00+24:00",
            "2026-11-24T01:20:00+01:60",
            "2026-11-24T01:20:00+0100",
            "2026-11-24T01:20:00+1:00",
            "2026-11-24T01:20:00+001:00",
            "2026-11-24T01:20:00+01",
            "2026-11-24T01:20:00 01:00",
            "2026-11-24T01:20:00ZZ",
            "2026-11-24T01:20:00:00",
            "+2026-11-24T01:20:0Z",
            "2026-11-24T01:20:-1Z",
            "２026-11-24T01:20:00Z",
            "2026-11-24T01:20:00\u{2212}01:00",
        ] {
            assert!(!is_rfc_3339(text), "{text}");
        }
    }

    #[test]
    fn formats_timestamps_with_milliseconds() {
        let written = |timestamp| {
            let mut out = String::new();
            push_timestamp(&mut out, timestamp);
            out
        };
        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(1_795_478_400_123), "2026-11-24T00:00:00.123Z");
        assert_eq!(written(*TIMESTAMPS.end()), "9999-12-31T23:59:59.999Z");
        assert_eq!(written(i64::MIN), written(0));
        assert_eq!(written(i64::MAX), written(*TIMESTAMPS.end()));
    }

    proptest! {
        #[test]
        fn formats_timestamps_as_jiff_does(timestamp in 0..=253_402_207_200_000_i64) {
            let mut out = String::new();
            push_timestamp(&mut out, timestamp);
            prop_assert!(is_rfc_3339(&out));
            prop_assert_eq!(out.parse::<jiff::Timestamp>().unwrap().as_millisecond(), timestamp);
        }

        #[test]
        fn accepts_nothing_that_jiff_refuses(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,9})?([Zz]|[+-][0-2][0-9]:[0-6][0-9])"
        ) {
            if is_rfc_3339(&text) {
                prop_assert!(text.parse::<jiff::Timestamp>().is_ok());
            }
        }

        #[test]
        fn never_panics(text in "[0-9TtZz:+. é-]{0,40}") {
            is_rfc_3339(&text);
        }
    }
}
