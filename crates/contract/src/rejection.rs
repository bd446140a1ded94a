//! Rejections: records with the command itself and headers that say what is wrong with it.

use crate::{
    problem::Problems,
    record::{Header, OutputRecord, Record},
};

/// The prefix of Kafka Connect's dead letter headers (KIP-298).
pub(crate) const HEADER_PREFIX: &str = "__connect.errors.";
/// The headers that every rejection adds to its command's own, with their meanings.
pub(crate) const HEADERS: [(&str, &str); 6] = [
    ("__connect.errors.topic", "The commands topic."),
    ("__connect.errors.partition", "The command's partition, in decimal digits."),
    ("__connect.errors.offset", "The command's offset, in decimal digits."),
    ("__connect.errors.stage", "decide"),
    ("__connect.errors.exception.class.name", "The code of the first problem."),
    ("__connect.errors.exception.message", "All problems, as JSON: the schema `rejection`."),
];
/// The header that lists the parts of the command that its rejection omits.
pub(crate) const OMITTED: &str = "activity-stream.omitted";

/// The record for the rejections topic: the command's own key, value and headers, byte for byte, then the headers of
/// Kafka Connect's dead letters, so that tools for those work.
///
/// `topic` is the commands topic, `limit` the record size limit of the rejections topic in bytes. A compressed command
/// can exceed that limit. The rejection then omits its value, if necessary also its headers, and finally its key, and
/// lists the omitted parts in the header `activity-stream.omitted`. Unreadable headers are always omitted. The other
/// headers say where the command itself is.
#[must_use]
pub fn rejection_record(record: &Record, topic: &str, problems: &Problems, limit: usize) -> OutputRecord {
    let unreadable = Header::are_unreadable(&record.headers);
    let mut rejection = OutputRecord {
        key: record.key.clone(),
        value: record.value.clone(),
        headers: if unreadable { Vec::new() } else { record.headers.clone() },
    };
    rejection.headers.extend(own_headers(record, topic, problems));
    let mut omitted = Vec::new();
    if !fits(&rejection, limit) {
        omitted.push("value");
        rejection.value = None;
    }
    if unreadable || !fits(&rejection, limit) {
        omitted.push("headers");
        rejection.headers = own_headers(record, topic, problems).into();
    }
    if !fits(&rejection, limit) {
        omitted.push("key");
        rejection.key = None;
    }
    if !omitted.is_empty() {
        rejection.headers.push(Header::named(OMITTED, omitted.join(",")));
    }
    rejection
}

/// All results that [`rejection_record`] can have for the command, whatever the limit: first the complete one, then those
/// with more and more parts omitted.
#[must_use]
pub fn rejection_forms(record: &Record, topic: &str, problems: &Problems) -> Vec<OutputRecord> {
    let mut forms = vec![rejection_record(record, topic, problems, usize::MAX)];
    while let Some(last) = forms.last() {
        // One byte less than this form needs, not counting the header that lists the omitted parts.
        let omitted = last.headers.last().filter(|header| header.name == OMITTED.as_bytes());
        let needed = size(last) - omitted.map_or(0, size_of_header);
        let smaller = rejection_record(record, topic, problems, needed - 1);
        if smaller == *last {
            break;
        }
        forms.push(smaller);
    }
    forms
}

fn own_headers(record: &Record, topic: &str, problems: &Problems) -> [Header; 6] {
    let mut names = HEADERS.iter().map(|(name, _)| *name);
    [
        topic.to_owned(),
        record.coordinates.partition.to_string(),
        record.coordinates.offset.to_string(),
        "decide".to_owned(),
        problems.first_code().to_owned(),
        problems.to_json(),
    ]
    .map(|value| Header::named(names.next().unwrap_or_default(), value))
}

fn fits(record: &OutputRecord, limit: usize) -> bool {
    size(record) <= limit
}

/// An upper bound that includes what Kafka's record format (KIP-98) adds, and the header that lists the omitted parts.
fn size(record: &OutputRecord) -> usize {
    record.bytes() + 512 + 16 * record.headers.len()
}

/// The share of one header in [`size`].
fn size_of_header(header: &Header) -> usize {
    header.bytes() + 16
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{code::Code, record::Coordinates};

    #[test]
    fn copies_the_command_byte_for_byte_before_its_own_headers() {
        let record = Record {
            coordinates: Coordinates { partition: 3, offset: 12_345, timestamp: -1 },
            key: Some(b"\xff"[..].into()),
            value: None,
            headers: vec![Header { name: b"a\xff"[..].into(), value: None }, Header::new("a", "b")],
        };
        let rejection =
            rejection_record(&record, "commands", &Problems::one(Code::Tombstone, "no \"value\""), 1 << 20);
        assert_eq!((&rejection.key, &rejection.value), (&record.key, &record.value));
        assert_eq!(rejection.headers[..2], record.headers);
        let own: Vec<_> = rejection.headers[2..]
            .iter()
            .map(|header| format!("{}: {}", text(&header.name), text(header.value.as_deref().unwrap())))
            .collect();
        assert_eq!(
            own,
            [
                "__connect.errors.topic: commands",
                "__connect.errors.partition: 3",
                "__connect.errors.offset: 12345",
                "__connect.errors.stage: decide",
                "__connect.errors.exception.class.name: tombstone",
                r#"__connect.errors.exception.message: [{"pointer":"","code":"tombstone","message":"no \"value\""}]"#,
            ]
        );
    }

    #[test]
    fn omits_and_lists_what_exceeds_the_record_size_limit() {
        let record = Record {
            coordinates: Coordinates { partition: 0, offset: 1, timestamp: 2 },
            key: Some(vec![b'k'; 10_000].into()),
            value: Some(vec![b'v'; 10_000].into()),
            headers: vec![Header::new("h", vec![b'h'; 10_000])],
        };
        let problems = Problems::one(Code::TooLarge, "large");
        let parts = |limit: usize| {
            let rejection = rejection_record(&record, "c", &problems, limit);
            assert!(limit < 2_000 || rejection.bytes() <= limit);
            let omitted = rejection.headers.iter().find(|header| header.name == OMITTED.as_bytes());
            let omitted = omitted.map(|header| text(header.value.as_deref().unwrap()).to_owned());
            (rejection.value.is_some(), *rejection.headers[0].name == *b"h", rejection.key.is_some(), omitted)
        };
        assert_eq!(parts(40_000), (true, true, true, None));
        assert_eq!(parts(25_000), (false, true, true, Some("value".into())));
        assert_eq!(parts(15_000), (false, false, true, Some("value,headers".into())));
        assert_eq!(parts(5_000), (false, false, false, Some("value,headers,key".into())));
    }

    #[test]
    fn omits_and_lists_unreadable_headers() {
        let record = Record {
            coordinates: Coordinates { partition: 0, offset: 1, timestamp: 2 },
            key: Some("k".into()),
            value: Some(vec![b'v'; 10_000].into()),
            headers: vec![Header::unreadable()],
        };
        let problems = Problems::one(Code::UnreadableHeaders, "many");
        let forms = rejection_forms(&record, "c", &problems);
        let omitted = |form: &OutputRecord| {
            assert!(!Header::are_unreadable(&form.headers));
            let last = form.headers.last().filter(|header| *header.name == *OMITTED.as_bytes()).unwrap();
            text(last.value.as_deref().unwrap()).to_owned()
        };
        let all: Vec<_> = forms.iter().map(omitted).collect();
        assert_eq!(all, ["headers", "value,headers", "value,headers,key"]);
        assert_eq!(forms[0].value, record.value);
    }

    /// Compared with every possible limit.
    #[test]
    fn forms_are_the_results_of_all_limits() {
        let problems = Problems::one(Code::TooLarge, "large");
        let part = |length: usize| (length > 0).then(|| Bytes::from(vec![b'x'; length]));
        for (key, value, header) in [(30, 50, 40), (30, 0, 40), (0, 50, 0), (0, 0, 0), (0, 0, 9), (7, 0, 0)] {
            let record = Record {
                coordinates: Coordinates { partition: 0, offset: 1, timestamp: 2 },
                key: part(key),
                value: part(value),
                headers: part(header).map(|value| Header::named("h", value)).into_iter().collect(),
            };
            let mut given: Vec<OutputRecord> = Vec::new();
            for limit in (0..2_000).rev() {
                let rejection = rejection_record(&record, "c", &problems, limit);
                if given.last() != Some(&rejection) {
                    given.push(rejection);
                }
            }
            assert_eq!(rejection_forms(&record, "c", &problems), given, "{key} {value} {header}");
        }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }
}
