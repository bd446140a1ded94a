//! Sample commands, and logs and topics with their outcomes.

use std::path::{Path, PathBuf};

use contract::{
    Coordinates, Decider, Decision, Header, Limits, OutputRecord, Reading, Record, rejection_record,
};
use event_log::{Chunk, EventLog, Gap, Intervention, LogOptions, Synchronous};
use kafka::{embedded::EmbeddedBroker, native};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};

use crate::support::PATIENCE;

pub const TOPIC: &str = "activity.commands";
/// 2026-11-24T00:00:00Z
pub const MIDNIGHT: i64 = 1_795_478_400_000;

pub const UPDATE: &str = r#"{"@type":"update","objectType":"customer","objectId":"42","content":"New bill.\nPlease check.","amount":1.10,"targets":[{"targetId":{"id":"accounting","domain":"nordlys"},"notify":true}]}"#;
pub const SHARE: &str = r#"{"objectType":"case","objectId":"7"}"#;
pub const WRONG: &str =
    r#"{"objectType":"case","objectId":"7","targets":["anna",{"targetId":"bo","notify":"yes"}],"Targets":1}"#;

pub fn record(partition: i32, offset: i64, value: Option<&[u8]>, key: Option<&str>) -> Record {
    Record {
        coordinates: Coordinates { partition, offset, timestamp: MIDNIGHT + offset * 60_000 },
        key: Some("key".into()),
        value: value.map(|value| value.to_vec().into()),
        headers: key.map(|key| Header::new("idempotency-key", key)).into_iter().collect(),
    }
}

pub fn decider() -> Decider {
    Decider::new(TOPIC, Limits::default())
}

pub fn open_log(path: PathBuf) -> EventLog {
    EventLog::open(&LogOptions {
        path,
        topic: TOPIC.into(),
        synchronous: Synchronous::Normal,
        cache_bytes: 1 << 20,
        window_ms: 1_000_000_000,
        max_pages: None,
    })
    .expect("a log")
}

/// A log with three events, a duplicate, two rejections, a gap and an intervention, closed.
pub fn fill_log(folder: &Path) -> PathBuf {
    let path = folder.join("activity.db");
    let mut log = open_log(path.clone());
    let records = |records: Vec<Record>| records.iter().map(|record| decider().read(record)).collect();
    let first = vec![
        record(0, 0, Some(UPDATE.as_bytes()), None),
        record(0, 1, Some(SHARE.as_bytes()), Some("once")),
        record(0, 2, Some(SHARE.as_bytes()), Some("once")),
        record(0, 3, Some(WRONG.as_bytes()), None),
    ];
    let mut timeless = record(0, 4, None, None);
    timeless.coordinates.timestamp = -1;
    let first = first.into_iter().chain([timeless]).collect();
    log.append(vec![Chunk { partition: 0, next_offset: 6, verdicts: records(first) }], &[])
        .expect("appended");
    let gap = Gap { first_offset: 0, next_offset: 5, reason: "deleted by retention".into() };
    let intervention = Intervention {
        at: MIDNIGHT,
        flag: "--accept lost-commands".into(),
        details: "offsets 0 to 4 were lost".into(),
    };
    log.record_intervention(3, &intervention, 5).unwrap();
    log.start_partition(3, Some(gap), Some(5)).expect("started");
    let second = vec![record(3, 5, Some(UPDATE.as_bytes()), None)];
    log.append(vec![Chunk { partition: 3, next_offset: 6, verdicts: records(second) }], &[(3, 5)])
        .expect("appended");
    log.record_clean_stop(&[(0, 6)]).expect("recorded");
    path
}

/// What the processor would publish of these commands: notifications, then rejections.
pub fn publish(broker: &EmbeddedBroker, commands: &[Record]) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .expect("a producer");
    let send = |topic: &str, record: OutputRecord| {
        let mut native: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).headers(native::to_native(record.headers.iter().map(Header::as_parts)));
        native.key = record.key.as_deref();
        native.payload = record.value.as_deref();
        producer.send(native).map_err(|(error, _)| error).expect("sent");
    };
    for command in commands {
        let decision = match decider().read(command).reading {
            Reading::Valid { event, .. } => Decision::Accepted(event),
            Reading::Rejected(problems) => Decision::Rejected(problems),
        };
        match decision {
            Decision::Accepted(event) => {
                for notification in event.notifications("activity-stream", &command.headers) {
                    send("activity.notifications", notification.record);
                }
            }
            Decision::Rejected(problems) => {
                send("activity.rejections", rejection_record(command, TOPIC, &problems, 1 << 20));
            }
            Decision::Duplicate { .. } => {}
        }
    }
    producer.flush(PATIENCE).expect("all delivered");
}
