//! With an embedded broker.

use super::*;
use crate::{
    Topics,
    embedded::EmbeddedBroker,
    mark::{Mark, RulesHash},
};

/// After this a test has failed, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A member of the group that was assigned partitions.
pub(crate) fn joined(settings: &Settings) -> (GroupConsumer, Membership) {
    let mut source = GroupConsumer::join(settings).expect("a consumer");
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no member in time");
        source.poll(Duration::from_millis(50)).expect("polled");
        if let Some(membership) = source.membership() {
            return (source, membership);
        }
    }
}

/// Otherwise each log line costs the events after it one poll, and polls are rare while the pipeline is busy.
#[test]
fn a_poll_takes_all_lines_of_the_log_that_wait() {
    const LINES: usize = 5;
    let broker = EmbeddedBroker::start(&Topics::for_test("c")).expect("a broker");
    let settings = Settings::for_test(&broker.bootstrap_servers(), &[]);
    let mut source = GroupConsumer::join(&settings).expect("a consumer");
    let deadline = Instant::now() + PATIENCE;
    while native::waiting(source.consumer.client()) < LINES {
        assert!(Instant::now() < deadline, "fewer than {LINES} lines");
        std::thread::sleep(Duration::from_millis(20));
    }
    // More may arrive in the meantime.
    let taken = (1..LINES).any(|_| {
        source.poll(Duration::ZERO).expect("polled");
        native::waiting(source.consumer.client()) == 0
    });
    assert!(taken, "fewer polls than lines do not reach the end");
}

/// A rebalance tells the members its generation first, and what they get once the group's leader has said it.
#[test]
fn a_member_has_joined_once_it_was_assigned_partitions_be_it_none() {
    let broker = EmbeddedBroker::start(&Topics::for_test("c")).expect("a broker");
    broker.cluster().broker_round_trip_time(1, Duration::from_millis(300)).expect("a slow broker");
    let settings = Settings::for_test(&broker.bootstrap_servers(), &[]);
    // The second one gets nothing: the topic has one partition.
    let mut members = [(); 2].map(|()| (GroupConsumer::join(&settings).expect("a consumer"), false));
    let deadline = Instant::now() + PATIENCE;
    let mut joined = [false; 2];
    while joined != [true; 2] {
        assert!(Instant::now() < deadline, "no members in time");
        for ((source, is_assigned), joined) in members.iter_mut().zip(&mut joined) {
            *is_assigned |=
                matches!(source.poll(Duration::from_millis(10)).expect("polled"), Polled::Assigned(_));
            *joined = source.membership().is_some();
            assert!(*is_assigned || !*joined, "it has joined before it was assigned anything");
        }
    }
}

/// librdkafka tells a static member nothing of it (`rd_kafka_cgrp_handle_JoinGroup`): its session ended while it joined again.
/// Others may have owned the partitions in between.
#[test]
fn the_partitions_of_a_member_that_comes_back_under_another_id_were_lost() {
    use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
    let broker = EmbeddedBroker::start(&Topics::for_test("c")).expect("a broker");
    let properties = [("group.instance.id", "one"), ("heartbeat.interval.ms", "100")];
    let settings = Settings::for_test(&broker.bootstrap_servers(), &properties);
    let (mut source, before) = joined(&settings);
    broker.cluster().request_errors(Api::JoinGroup, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    broker.cluster().request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
    let deadline = Instant::now() + PATIENCE;
    let mut polled = Vec::new();
    while !matches!(polled.last(), Some(Polled::Assigned(_))) {
        assert!(Instant::now() < deadline, "not back in time: {polled:?}");
        let one = source.poll(Duration::from_millis(10)).expect("polled");
        polled.extend(Some(one).filter(|one| !matches!(one, Polled::Nothing)));
    }
    assert_ne!(source.membership().expect("a member").member_id, before.member_id);
    assert!(
        matches!(&polled[..], [Polled::Lost(lost), Polled::Assigned(back)] if lost == &[0] && back == &[0]),
        "{polled:?}"
    );
}

/// librdkafka may end the process then: see `native::allowed`.
#[test]
fn a_coordinator_that_comes_too_late_ends_nothing() {
    use rdkafka::mocking::MockCoordinator;
    let broker = EmbeddedBroker::with_nodes(2, &Topics::for_test("c")).expect("brokers");
    let cluster = broker.cluster();
    cluster.coordinator(MockCoordinator::Group("g".into()), 2).expect("a coordinator");
    cluster.broker_down(2).expect("down");
    let settings = Settings::for_test(&broker.bootstrap_servers(), &[]);
    let source = GroupConsumer::outside(&settings).expect("a consumer");
    let ask = |patience| native::allowed(source.consumer.client(), native::Described::Group, "g", patience);
    assert_eq!(ask(Duration::from_millis(500)), Err(RDKafkaErrorCode::OperationTimedOut));
    cluster.broker_up(2).expect("up");
    // It is asked, and does not know the question.
    assert_eq!(ask(PATIENCE), Err(RDKafkaErrorCode::UnsupportedFeature));
}

#[test]
fn first_offsets_that_the_brokers_refuse_for_good_are_no_matter_of_time() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
    let broker = EmbeddedBroker::start(&Topics::for_test("c")).expect("a broker");
    let settings = Settings::for_test(&broker.bootstrap_servers(), &[("fetch.wait.max.ms", "10")]);
    let (mut source, _) = joined(&settings);
    let mark = Mark { instance: Uuid::nil(), clock: 0, rules: RulesHash(0) };
    let mut commit = |code| {
        broker.cluster().request_errors(RDKafkaApiKey::OffsetCommit, &[code]);
        let ended = source.commit_first(&[NextOffset { partition: 0, offset: 0, mark }]);
        broker.cluster().clear_request_errors(RDKafkaApiKey::OffsetCommit);
        ended
    };
    let refused = commit(Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE).unwrap_err();
    let said = refused.to_string();
    assert!(matches!(refused, SourceError::Fatal(_)), "{said}");
    assert!(said.starts_with("the group's first offsets: "), "{said}");
    assert!(said.contains("up to 132 bytes: raise offset.metadata.max.bytes"), "{said}");
    let passing = commit(Code::RD_KAFKA_RESP_ERR_UNKNOWN).unwrap_err();
    assert!(matches!(passing, SourceError::Retriable(_)), "{passing}");
    commit(Code::RD_KAFKA_RESP_ERR_NO_ERROR).expect("committed");
}
