//! `tail --until-end` if there is nothing to show at the end: transaction markers, aborted records, an open transaction.

use std::process::Stdio;

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use super::{
    broker,
    instances::Ends,
    languages,
    process::{PATIENCE, Setup},
    say,
};

fn transactional(setup: &Setup, id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &setup.servers)
        .set("transactional.id", format!("{}-{id}", setup.names.group))
        .set("transaction.timeout.ms", "600000")
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("an answer");
    producer
}

/// Begins a transaction with one notification in each of these partitions.
fn send(setup: &Setup, producer: &BaseProducer, partitions: &[i32]) {
    producer.begin_transaction().expect("none is open");
    for &partition in partitions {
        let record = BaseRecord::<[u8], str>::to(&setup.names.notifications).partition(partition);
        producer.send(record.payload("{}")).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(PATIENCE).expect("posted");
}

#[test]
#[ignore = "needs a real Kafka: see docs/testing.md"]
fn tail_ends_where_nothing_more_is_committed() {
    // Partition 4 stays empty.
    let setup = Setup::new("until-end", &broker::shared(), 5);
    let (producer, ends) = (transactional(&setup, "ended"), Ends::of(&setup));
    let tail = || {
        let program = setup.program(&["tail", "notifications", "--until-end", "--limit", "10", "--json"]);
        // The test ends it if it does not end on its own.
        let mut command = languages::bounded(program.get_program());
        command.args(program.get_args()).stdin(Stdio::null());
        let output = command.output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {errors}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8").lines().count()
    };
    assert_eq!(tail(), 0);
    // What is committed ends with a mark, and what is undone has nothing else to show.
    send(&setup, &producer, &[0, 1, 3]);
    producer.commit_transaction(PATIENCE).expect("committed");
    send(&setup, &producer, &[1, 2]);
    producer.abort_transaction(PATIENCE).expect("undone");
    ends.await_marks(&[0, 1, 2, 3]);
    assert_eq!(tail(), 3);
    // An open transaction hides everything after it.
    let open = transactional(&setup, "open");
    send(&setup, &open, &[0, 2]);
    send(&setup, &producer, &[0, 1]);
    producer.commit_transaction(PATIENCE).expect("committed");
    ends.await_marks(&[1]);
    assert_eq!(tail(), 4);
    open.abort_transaction(PATIENCE).expect("undone");
    ends.await_marks(&[0, 2]);
    assert_eq!(tail(), 5);
    say!("until_end: ended at marks, at what was undone, and before an open transaction");
}
