//! A record as one JSON object.
//!
//! Kafka's keys, values and headers are bytes. Invalid UTF-8 is shown with replacement characters, and the field `base16` has
//! the bytes, under the same names. A repeated header is an array.

use std::{borrow::Cow, collections::HashMap, hash::Hash};

use contract::{Header, Record};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use crate::cli::time::JsonTime;

/// A record's line of `--json`.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct RecordLine<'a> {
    partition: i32,
    offset: i64,
    timestamp: JsonTime,
    key: Option<Cow<'a, str>>,
    headers: Headers<'a>,
    value: Value<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base16: Option<Bytes<'a>>,
}

/// JSON unchanged, other text as a string, null without a value.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
    Tombstone,
}

/// The parts that are not UTF-8.
#[derive(Debug, Serialize)]
struct Bytes<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "pairs")]
    headers: Vec<(Cow<'a, str>, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[derive(Debug)]
struct Headers<'a>(&'a [Header]);

impl<'a> RecordLine<'a> {
    pub(in crate::cli) fn new(record: &'a Record) -> Self {
        let at = record.coordinates;
        Self {
            partition: at.partition,
            offset: at.offset,
            timestamp: JsonTime(at.timestamp),
            key: record.key.as_deref().map(String::from_utf8_lossy),
            headers: Headers(&record.headers),
            value: match record.value.as_deref() {
                None => Value::Tombstone,
                Some(bytes) => serde_json::from_slice(bytes)
                    .map_or_else(|_| Value::Text(String::from_utf8_lossy(bytes)), Value::Json),
            },
            base16: Bytes::of(record),
        }
    }
}

impl<'a> Bytes<'a> {
    fn of(record: &'a Record) -> Option<Self> {
        let headers = record
            .headers
            .iter()
            .filter_map(|Header { name, value }| {
                let value = value.as_deref().unwrap_or_default();
                let bytes = base16(value).or_else(|| base16(name).map(|_| hex(value)))?;
                Some((String::from_utf8_lossy(name), bytes))
            })
            .collect();
        let of = |bytes: Option<&[u8]>| bytes.and_then(base16);
        let bytes = Self { key: of(record.key.as_deref()), headers, value: of(record.value.as_deref()) };
        let any = bytes.key.is_some() || bytes.value.is_some() || !bytes.headers.is_empty();
        any.then_some(bytes)
    }
}

fn base16(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pairs<S: Serializer>(pairs: &[(Cow<'_, str>, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text =
            |header: &Header| header.value.as_deref().map(|it| String::from_utf8_lossy(it).into_owned());
        let mut map = serializer.serialize_map(None)?;
        for (name, values) in grouped(self.0.iter().map(|header| (&header.name, text(header)))) {
            map.serialize_key(&String::from_utf8_lossy(name))?;
            match &values[..] {
                [one] => map.serialize_value(one)?,
                several => map.serialize_value(several)?,
            }
        }
        map.end()
    }
}

/// The values of each name, in the order of first appearance.
fn grouped<N: Copy + Eq + Hash, V>(pairs: impl Iterator<Item = (N, V)>) -> Vec<(N, Vec<V>)> {
    let mut groups: Vec<(N, Vec<V>)> = Vec::new();
    let mut places = HashMap::new();
    for (name, value) in pairs {
        let place = *places.entry(name).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, values)) => values.push(value),
            None => groups.push((name, vec![value])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use contract::Coordinates;

    use super::*;

    fn line(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&[u8], Option<&[u8]>)]) -> String {
        let header = |(name, value): &(&[u8], Option<&[u8]>)| Header {
            name: name.to_vec().into(),
            value: value.map(|value| value.to_vec().into()),
        };
        let record = Record {
            coordinates: Coordinates { partition: 1, offset: 2, timestamp: 3 },
            key: key.map(|key| key.to_vec().into()),
            value: value.map(|value| value.to_vec().into()),
            headers: headers.iter().map(header).collect(),
        };
        crate::cli::json::json_line(&RecordLine::new(&record)).trim_end().to_owned()
    }

    #[test]
    fn json_stays_as_it_came_and_other_text_is_a_string() {
        insta::assert_snapshot!(
            line(Some(b"k"), Some(b"{\"b\":\n 1.0, \"a\":1e400}"), &[(b"h", Some(b"v"))]),
            @r#"{"partition":1,"offset":2,"timestamp":"1970-01-01T00:00:00.003Z","key":"k","headers":{"h":"v"},"value":{"b":1.0,"a":1e400}}"#
        );
        insta::assert_snapshot!(
            line(None, Some(b"{\"b\":"), &[]),
            @r#"{"partition":1,"offset":2,"timestamp":"1970-01-01T00:00:00.003Z","key":null,"headers":{},"value":"{\"b\":"}"#
        );
        insta::assert_snapshot!(
            line(None, None, &[(b"h", None), (b"i", Some(b"1")), (b"h", Some(b""))]),
            @r#"{"partition":1,"offset":2,"timestamp":"1970-01-01T00:00:00.003Z","key":null,"headers":{"h":[null,""],"i":"1"},"value":null}"#
        );
    }

    thread_local! {
        static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// A name that counts how often it is compared.
    #[derive(Clone, Copy, Eq)]
    struct Counted(usize);

    impl Hash for Counted {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.0 == other.0
        }
    }

    #[test]
    fn many_headers_are_not_compared_each_with_each() {
        const HEADERS: usize = 100_000;
        let groups = grouped((0..HEADERS).map(|number| (Counted(number / 2), number)));
        assert_eq!(groups.len(), HEADERS / 2);
        assert!(groups.iter().all(|(name, values)| *values == [2 * name.0, 2 * name.0 + 1]));
        assert!(COMPARED.get() < 10 * HEADERS, "{}", COMPARED.get());
    }

    #[test]
    fn bytes_that_are_not_text_are_given_in_base16_too() {
        insta::assert_snapshot!(
            line(Some(b"\xff"), Some(b"a\xfe"), &[(b"h", Some(b"\xfd")), (b"\xfc", Some(b"x")), (b"t", Some(b"x"))]),
            @r#"{"partition":1,"offset":2,"timestamp":"1970-01-01T00:00:00.003Z","key":"�","headers":{"h":"�","�":"x","t":"x"},"value":"a�","base16":{"key":"ff","headers":{"h":"fd","�":"78"},"value":"61fe"}}"#
        );
    }
}
