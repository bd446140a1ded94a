//! Batches that are many times larger uncompressed than on the wire, against an embedded broker.

use std::time::Duration;

use super::support::{PATIENCE, Running, broker, folder, program, topics, wait_until};
use event_log::LogReader;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

/// More than a buffer of librdkafka's default of 100 MB holds.
const UNPACKED: usize = 150_000_000;
const COMMAND: &str = r#"{"objectType":"case","objectId":"1"}"#;

fn posting(servers: &str, compression: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("message.max.bytes", "1000000000")
        .set("queue.buffering.max.kbytes", "2097151")
        .set("compression.type", compression)
        .create()
        .expect("a producer")
}

#[test]
fn a_record_that_unpacks_to_much_is_rejected_and_stops_nothing() {
    let broker = broker(1);
    let servers = broker.bootstrap_servers();
    let topic = topics(1).commands;
    let large = " ".repeat(UNPACKED);
    for (producer, value) in [("none", COMMAND), ("zstd", &large), ("none", COMMAND)]
        .map(|(compression, value)| (posting(&servers, compression), value))
    {
        producer
            .send(BaseRecord::<(), _>::to(&topic).partition(0).payload(value))
            .map_err(|(error, _)| error)
            .expect("room");
        producer.flush(PATIENCE).expect("delivered");
    }
    drop(large);

    let folder = folder();
    let log = folder.path().join("activity.db");
    let mut command = program(&["run", "--guarantee", "at-least-once", "-b", &servers, "--log-file"]);
    command.arg(&log).args(["-X", "fetch.wait.max.ms=10"]);
    let mut running = Running::start(command);
    wait_until("three commands to be decided", || {
        assert!(running.is_running(), "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(200));
        let counts = LogReader::open(&log).and_then(|log| log.stats()).map(|stats| stats.counts);
        counts.is_ok_and(|counts| (counts.events, counts.rejections) == (2, 1))
    });
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait(PATIENCE).success();
}
