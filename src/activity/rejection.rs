//! Rejections: the command itself, with headers that say what is wrong with it.

use super::{Header, OutputRecord, Problems, Record};

/// The record for the rejections topic: the command's own key, value and headers, byte for byte, then the
/// headers that Kafka Connect's sink connectors give their dead letters, so that tools for those work.
///
/// `topic` is the commands topic.
#[must_use]
pub fn rejection_record(record: &Record, topic: &str, problems: &Problems) -> OutputRecord {
    let own = [
        ("__connect.errors.topic", topic.to_owned()),
        ("__connect.errors.partition", record.coordinates.partition.to_string()),
        ("__connect.errors.offset", record.coordinates.offset.to_string()),
        ("__connect.errors.stage", "decide".to_owned()),
        ("__connect.errors.exception.class.name", problems.first_code().to_owned()),
        ("__connect.errors.exception.message", problems.to_json()),
    ];
    let mut headers = Vec::with_capacity(record.headers.len() + own.len());
    headers.extend_from_slice(&record.headers);
    headers.extend(own.map(|(name, value)| Header::new(name, value)));
    OutputRecord { key: record.key.clone(), value: record.value.clone(), headers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::{Code, Coordinates};

    #[test]
    fn the_command_comes_first_byte_for_byte() {
        let record = Record {
            coordinates: Coordinates { partition: 3, offset: 12_345, timestamp: -1 },
            key: Some(b"\xff".to_vec()),
            value: None,
            headers: vec![Header { name: b"a\xff".to_vec(), value: None }, Header::new("a", "b")],
        };
        let rejection =
            rejection_record(&record, "commands", &Problems::one(Code::Tombstone, "no \"value\""));
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

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }
}
