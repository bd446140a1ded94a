//! The Rust client while brokers are unreachable, and after its Kafka clients have become useless.

use std::{sync::mpsc, thread, time::Duration};

use super::relay::Relay;
use super::support::{self, PATIENCE, folder, topics};
use super::world::{self, PARTITIONS, broker, client, commands, next, number, processor, publish, stream};
use activity_stream_client::{
    ActivityClient, Entry, NotificationStream, PostError, Posted, Received, Reply, StreamError, WaitError,
};
use futures::{StreamExt as _, future::join_all};
use kafka::embedded::EmbeddedBroker;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use tokio::time::timeout;

async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits for it to come true.
async fn holds(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Commits what is acknowledged, again where a rebalance comes between.
async fn commit(stream: &NotificationStream) {
    let committed = async {
        while stream.commit().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    in_time("the commit", committed).await;
}

fn entry() -> Entry {
    Entry::new("case", "7")
}

/// Has the broker send clients of that kind of request away, until one that is misled asks for other brokers.
async fn lose(broker: &EmbeddedBroker, relay: &Relay, client: &str, request: Api) {
    relay.mislead(client);
    let asked = holds(|| {
        broker.cluster().request_errors(request, &[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3]);
        relay.has_misled()
    });
    in_time("the client to ask", asked).await;
    relay.mislead_nobody();
    broker.cluster().clear_request_errors(request);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_closed_and_dropped_though_no_broker_answers() {
    let broker = broker();
    publish(&broker, 0..1, &[]);
    let open = |group: &str| NotificationStream::builder(broker.bootstrap_servers(), group).open().unwrap();
    let (mut closed, mut dropped) = (open("closed"), open("dropped"));
    for stream in [&mut closed, &mut dropped] {
        next(stream).await.unwrap().acknowledge();
    }
    // It accepts requests, and does not answer. If it were gone, librdkafka itself would stop waiting.
    broker.cluster().broker_round_trip_time(1, Duration::from_secs(3600)).unwrap();
    // Neither the runtime nor this thread waits for them where they do not end.
    in_time("the close", closed.close()).await;
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        drop(dropped);
        done.send(()).unwrap();
    });
    ended.recv_timeout(PATIENCE).expect("waited in vain for the drop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_losing_all_brokers() {
    let broker = broker();
    let relay = Relay::start(&broker.bootstrap_servers(), PARTITIONS);
    publish(&broker, 0..2, &[]);
    let builder = NotificationStream::builder(relay.bootstrap_servers(), "readers");
    let builder = builder.property("session.timeout.ms", "1500").property("heartbeat.interval.ms", "200");
    let mut stream = builder.property("fetch.wait.max.ms", "10").open().unwrap();
    next(&mut stream).await.unwrap().acknowledge();
    let mut held = vec![next(&mut stream).await.unwrap()];
    assert_eq!(number(&held[0]), 1);
    commit(&stream).await;
    let again = async {
        loop {
            // A member that was slow, and so was taken out of its group, gets it once more.
            let received = stream.next().await.expect("a stream without an end").unwrap();
            assert_eq!(number(&received), 1);
            held.push(received);
        }
    };
    tokio::select! {
        () = lose(&broker, &relay, "activity-stream-consumer", Api::Fetch) => {}
        () = again => {}
    }
    publish(&broker, 2..4, &[]);
    let mut received = Vec::new();
    while received.last() != Some(&3) {
        let again = next(&mut stream).await.unwrap();
        received.push(number(&again));
        again.acknowledge();
    }
    // As a rule the client is lost, and what it handed out comes again; it can also find back by itself.
    assert!([&[1, 2, 3][..], &[2, 3]].contains(&&received[..]), "{received:?}");
    held.into_iter().for_each(Received::acknowledge);
    commit(&stream).await;
    stream.close().await;
    publish(&broker, 4..5, &[]);
    assert_eq!(number(&next(&mut world::stream(&broker).open().unwrap()).await.unwrap()), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reports_a_fatal_consumer_error_and_continues_with_a_new_consumer() {
    let broker = broker();
    publish(&broker, 0..2, &[]);
    // A consumer of that name can be fenced.
    let builder = stream(&broker).property("group.instance.id", "one");
    let mut stream = builder.property("heartbeat.interval.ms", "200").open().unwrap();
    next(&mut stream).await.unwrap().acknowledge();
    stream.commit().await.unwrap();
    let held = next(&mut stream).await.unwrap();
    assert_eq!(number(&held), 1);
    broker.cluster().request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
    let failed = next(&mut stream).await;
    assert!(matches!(failed, Err(StreamError::Kafka(_))), "{failed:?}");
    // What was not acknowledged comes again, and what the first one handed out is not committed by the second.
    let received = next(&mut stream).await.unwrap();
    assert_eq!(number(&received), 1);
    held.acknowledge();
    stream.close().await;
    assert_eq!(number(&next(&mut world::stream(&broker).open().unwrap()).await.unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_failed_for_good_is_replaced_and_only_what_it_sent_is_unknown() {
    let broker = broker();
    let builder = ActivityClient::builder(broker.bootstrap_servers());
    // One request at a time, with one command each.
    let builder = builder.property("max.in.flight.requests.per.connection", "1");
    let client = builder.property("batch.num.messages", "1").build().unwrap();
    let entry = entry();
    for round in 0..3 {
        let error = Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        broker.cluster().request_errors(Api::Produce, &[error]);
        let mut posts = in_time("answers", join_all((0..4).map(|_| client.post(&entry)))).await;
        let first = posts.remove(0);
        assert!(matches!(first, Err(PostError::Unconfirmed(_))), "{first:?}");
        let offsets: Vec<_> =
            posts.iter().map(|posted| posted.as_ref().unwrap().id().unwrap().offset()).collect();
        assert_eq!(offsets, [round * 4, round * 4 + 1, round * 4 + 2]);
        assert_eq!(
            in_time("an answer", client.post(&entry)).await.unwrap().id().unwrap().offset(),
            round * 4 + 3
        );
    }
    assert_eq!(commands(&broker), 12);
    in_time("nothing", client.flush(PATIENCE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_missing_write_permission_and_posts_once_it_is_granted() {
    let broker = broker();
    let refused = Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    broker.cluster().request_errors(Api::InitProducerId, &[refused; 50]);
    let client = ActivityClient::builder(broker.bootstrap_servers()).build().unwrap();
    for _ in 0..2 {
        let posted = in_time("an answer", client.post(&entry())).await;
        let Err(PostError::NotPosted(reason)) = posted else { panic!("{posted:?}") };
        assert!(reason.contains("lacks Write on the topic 'activity.commands'"), "{reason}");
    }
    in_time("nothing", client.flush(PATIENCE)).await.unwrap();
    assert_eq!(commands(&broker), 0);
    broker.cluster().clear_request_errors(Api::InitProducerId);
    let granted = async {
        // A producer that was refused may still be there.
        while let Err(error) = client.post(&entry()).await {
            assert!(matches!(error, PostError::NotPosted(_)), "{error:?}");
        }
    };
    in_time("the entry to be posted", granted).await;
    assert_eq!(commands(&broker), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_an_unsent_command_as_not_posted() {
    let client = ActivityClient::builder(support::deaf_address()).property("delivery.timeout.ms", "1000");
    let posted = in_time("an answer", client.build().unwrap().post(&entry())).await;
    let Err(PostError::NotPosted(reason)) = posted else { panic!("{posted:?}") };
    assert_eq!(reason, "it could not be sent to a broker in time (delivery.timeout.ms)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_keeps_the_order_and_drops_abandoned_posts() {
    let broker = broker();
    let builder = ActivityClient::builder(broker.bootstrap_servers()).reply_topic("answers");
    let client = builder.property("queue.buffering.max.messages", "2").build().unwrap();
    let entry = entry();
    let posted = in_time("answers", join_all((0..30).map(|_| client.post(&entry)))).await;
    let offsets: Vec<_> =
        posted.iter().map(|posted| posted.as_ref().unwrap().id().unwrap().offset()).collect();
    assert_eq!(offsets, (0..30).collect::<Vec<_>>());

    // So that replies are read before the broker becomes slow.
    let mut sent = 30;
    let mut after = Duration::from_millis(500);
    loop {
        match client.post_and_wait(&entry, after).await {
            Err(WaitError::NotReady { .. }) => after *= 2,
            Err(WaitError::TimedOut { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    sent += 1;
    client.flush(PATIENCE).await.unwrap();
    broker.cluster().broker_round_trip_time(1, Duration::from_secs(3600)).unwrap();
    let mut fills = Box::pin(join_all((0..2).map(|_| client.post(&entry))));
    assert!(timeout(Duration::ZERO, &mut fills).await.is_err());
    sent += 2;
    let waited = client.post_and_wait(&entry, Duration::from_millis(200)).await;
    assert!(matches!(waited, Err(WaitError::QueueFull { .. })), "{waited:?}");
    assert!(timeout(Duration::from_millis(200), client.post(&entry)).await.is_err());
    broker.cluster().broker_round_trip_time(1, Duration::ZERO).unwrap();
    let filled = in_time("answers", fills).await;
    assert!(filled.iter().all(Result::is_ok), "{filled:?}");
    assert_eq!(commands(&broker), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_read_on_where_their_reader_lost_all_brokers() {
    let (broker, folder) = (broker(), folder());
    let relay = Relay::start(&broker.bootstrap_servers(), PARTITIONS);
    let _running = processor(&broker, &folder.path().join("activity.db"));
    let builder = ActivityClient::builder(relay.bootstrap_servers()).reply_topic("answers");
    let client = builder.property("fetch.wait.max.ms", "10").build().unwrap();
    let reply = client.post_and_wait(&entry(), PATIENCE).await;
    assert!(matches!(reply, Ok(Reply::Accepted { .. })), "{reply:?}");
    lose(&broker, &relay, "activity-stream-reader", Api::Fetch).await;
    for _ in 0..3 {
        let reply = client.post_and_wait(&entry(), PATIENCE).await;
        assert!(matches!(reply, Ok(Reply::Accepted { .. })), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_wait_reads_replies_again_after_a_failure() {
    let broker = broker();
    let client = client(&broker);
    let entry = entry();
    let refuse = |error| broker.cluster().topic_error("answers", error).unwrap();
    let waiting = client.post_and_wait(&entry, PATIENCE);
    let refused = async {
        in_time("the command", holds(|| commands(&broker) == 1)).await;
        in_time("its delivery report", client.flush(PATIENCE)).await.unwrap();
        // The reader hears of it where it asks who leads the partition.
        refuse(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
        broker.cluster().request_errors(Api::Fetch, &[Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3]);
    };
    let (waited, ()) = tokio::join!(waiting, refused);
    let Err(WaitError::RepliesLost { posted, reason }) = waited else { panic!("{waited:?}") };
    assert!(matches!(posted, Some(Posted::As(_))), "{posted:?}");
    assert!(reason.contains("lacks Read on the topic 'answers'"), "{reason}");

    refuse(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
    let folder = folder();
    let _running = processor(&broker, &folder.path().join("activity.db"));
    let reply = client.post_and_wait(&entry, PATIENCE).await;
    assert!(matches!(reply, Ok(Reply::Accepted { .. })), "{reply:?}");
}

/// librdkafka's issue 5430: a producer with nothing to send hears of no leader, and must find the next one all the same.
/// Nothing is posted while nobody leads: the embedded broker of librdkafka 2.12.1 crashes at that.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_comes_back_for_a_producer_with_nothing_to_send() {
    let broker = broker();
    let builder = ActivityClient::builder(broker.bootstrap_servers());
    let client = builder.property("topic.metadata.refresh.interval.ms", "500").build().unwrap();
    in_time("an answer", client.post(&entry())).await.unwrap();
    let lead = |leader| {
        for partition in 0..PARTITIONS {
            broker.cluster().partition_leader(&topics(PARTITIONS).commands, partition, leader).unwrap();
        }
    };
    for pause in [0, 2, 10] {
        lead(None);
        // It looks at the metadata meanwhile, or does not.
        tokio::time::sleep(Duration::from_secs(pause)).await;
        lead(Some(1));
        tokio::time::sleep(Duration::from_secs(pause)).await;
        in_time("an answer", client.post(&entry())).await.unwrap();
    }
}
