//! Times in JSON: RFC 3339, which `--since` and `--until` accept.

use contract::utc;
use serde::{Serialize, Serializer};

/// Milliseconds since 1970, as a date-time in UTC in JSON. Null if Kafka has no timestamp, which is then negative, and after
/// the year 9999, where RFC 3339 ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JsonTime(pub i64);

impl Serialize for JsonTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        utc(self.0).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_times_are_rfc_3339_to_the_end_of_the_year_9999() {
        let json = |millis| serde_json::to_string(&JsonTime(millis)).unwrap();
        assert_eq!(json(0), r#""1970-01-01T00:00:00.000Z""#);
        assert_eq!(json(1_795_478_400_120), r#""2026-11-24T00:00:00.120Z""#);
        assert_eq!(json(253_402_300_799_999), r#""9999-12-31T23:59:59.999Z""#);
        for none in [253_402_300_800_000, i64::MAX, -1, i64::MIN] {
            assert_eq!(json(none), "null");
        }
    }
}
