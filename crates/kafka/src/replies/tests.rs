//! Which destinations are known to accept replies, against an embedded broker.

use contract::{OutputRecord, ReplyTopics};

use super::*;
use crate::{Topics, embedded::EmbeddedBroker};

fn settings(replies: &[&str]) -> Settings {
    let replies = replies.iter().map(|name| (*name).to_owned()).collect::<ReplyTopics>();
    let topics = Topics { replies, partitions: 3, ..Topics::for_test("c") };
    Settings { topics, ..Settings::for_test("", &[]) }
}

fn reply(topic: &str, partition: Option<i32>, bytes: usize) -> ReplyRecord {
    let record = OutputRecord { key: None, value: Some(vec![b'x'; bytes].into()), headers: Vec::new() };
    ReplyRecord { topic: topic.into(), partition, record }
}

/// A broker with the topic `there`, and the state of this topic and of `missing`.
fn routes() -> (EmbeddedBroker, Routes) {
    let broker = EmbeddedBroker::start(&settings(&["there"]).topics).unwrap();
    let mut settings = settings(&["there", "missing"]);
    settings.bootstrap_servers = broker.bootstrap_servers();
    let mut routes = Routes::new(&settings);
    // As the first transactions of a session, until the brokers have answered.
    while routes.find(&reply("there", Some(0), 1)) == Err(Undeliverable::Unavailable) {
        routes.begin();
    }
    (broker, routes)
}

#[test]
fn knows_undeliverable_replies_before_sending_them() {
    let (broker, mut routes) = routes();
    assert_eq!(routes.find(&reply("there", Some(2), 1)), Ok(2));
    assert_eq!(routes.find(&reply("there", Some(3), 1)), Err(Undeliverable::PartitionMissing));
    let anywhere: Vec<_> = (0..6).map(|_| routes.find(&reply("there", None, 1)).unwrap()).collect();
    assert_eq!(anywhere[..3].iter().sum::<i32>(), 3, "{anywhere:?}");
    let cluster = broker.cluster();
    cluster.partition_leader("there", 1, None).unwrap();
    // The brokers may answer too late.
    let both = || vec![("there".into(), 0), ("there".into(), 1)];
    let lost = [("there".to_owned(), 1)];
    assert!(
        (0..100).any(|_| routes.look_again(both()) == lost),
        "the partition without a leader is not found"
    );
    assert_eq!(routes.find(&reply("there", Some(1), 1)), Err(Undeliverable::Unavailable));
    assert!((0..6).all(|_| routes.find(&reply("there", None, 1)).unwrap() != 1));
}

#[test]
fn without_allowed_topics_no_broker_is_asked() {
    let mut routes = Routes::new(&settings(&[]));
    assert!(routes.directory.is_none());
    assert_eq!(routes.find(&reply("there", None, 1)), Err(Undeliverable::Unavailable));
}

#[test]
fn a_refused_topic_is_not_retried_for_a_while() {
    let (_broker, mut routes) = routes();
    let refused = |partition: i32, code, bytes| Refused { to: ("there".into(), partition), code, bytes };
    routes.refuse(&[refused(0, RDKafkaErrorCode::TopicAuthorizationFailed, 9)]);
    assert_eq!(routes.find(&reply("there", Some(0), 1)), Err(Undeliverable::Forbidden));
    assert_eq!(routes.find(&reply("there", Some(1), 1)), Ok(1));
    assert!((0..6).all(|_| routes.find(&reply("there", None, 1)).unwrap() != 0));
    let refusal = routes.refusals.get_mut(&("there".to_owned(), 0)).unwrap();
    refusal.until = Instant::now();
    assert_eq!(routes.find(&reply("there", Some(0), 1)), Ok(0));
}

#[test]
fn the_largest_is_to_blame_where_one_did_not_fit() {
    let (_broker, mut routes) = routes();
    let refused =
        |bytes| Refused { to: ("there".into(), 0), code: RDKafkaErrorCode::MessageSizeTooLarge, bytes };
    routes.refuse(&[refused(10), refused(500), refused(20)]);
    assert_eq!(routes.find(&reply("there", Some(0), 499)), Ok(0));
    assert_eq!(routes.find(&reply("there", Some(0), 500)), Err(Undeliverable::TooLarge));
    routes.refuse(&[refused(10), refused(20)]);
    assert_eq!(routes.find(&reply("there", Some(0), 1)), Err(Undeliverable::TooLarge));
}
