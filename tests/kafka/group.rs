//! Who of a group holds which partitions, as the broker says. The binding asks for groups of the classic protocol only.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    ptr, slice,
};

use rdkafka::{
    ClientConfig,
    bindings::{self as sys, rd_kafka_consumer_group_state_t as State},
    consumer::{BaseConsumer, Consumer as _},
};

use super::process::Setup;

const ASK_MS: i32 = 10_000;

/// Whether the group has no members.
pub fn is_empty(setup: &Setup) -> bool {
    use State::{RD_KAFKA_CONSUMER_GROUP_STATE_DEAD as DEAD, RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY as EMPTY};
    describe(setup).is_some_and(|(state, _)| matches!(state, EMPTY | DEAD))
}

/// Of each member, by its `client.id`, the partitions of the commands topic.
type Assignments = BTreeMap<String, Vec<i32>>;

/// Those that the members were assigned. None while the group is at a rebalance.
pub fn assignments(setup: &Setup) -> Assignments {
    let stable = State::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
    describe(setup).filter(|(state, _)| *state == stable).map(|(_, members)| members).unwrap_or_default()
}

/// The same while a static member is away: in the new protocol the group is not stable then, and keeps them all the same.
pub fn kept(setup: &Setup) -> Assignments {
    describe(setup).map(|(_, members)| members).unwrap_or_default()
}

/// [`assignments`], asked until the group is stable.
#[track_caller]
pub fn assignments_now(setup: &Setup) -> Assignments {
    super::wait_for("the group's members", || Some(assignments(setup)).filter(|told| !told.is_empty()))
}

/// [`kept`], asked until the brokers answer.
#[track_caller]
pub fn kept_now(setup: &Setup) -> Assignments {
    super::wait_for("the group's members", || Some(kept(setup)).filter(|told| !told.is_empty()))
}

fn describe(setup: &Setup) -> Option<(State, Assignments)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &setup.servers).set("log_level", "0");
    let client: BaseConsumer = config.create().expect("a client");
    let group = CString::new(setup.names.group.as_str()).expect("a name");
    let mut names = [group.as_ptr()];
    // SAFETY: the client outlives the call, and librdkafka copies the name. What it makes is destroyed here, and what it
    // answers is read before that.
    unsafe {
        let client = client.client().native_ptr();
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_DescribeConsumerGroups(client, names.as_mut_ptr(), names.len(), ptr::null(), queue);
        let event = sys::rd_kafka_queue_poll(queue, ASK_MS);
        let described = if event.is_null() { None } else { read(event, &setup.names.commands) };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        described
    }
}

/// # Safety
///
/// `event` answers a description of groups, and is not destroyed yet.
unsafe fn read(event: *mut sys::rd_kafka_event_t, topic: &str) -> Option<(State, Assignments)> {
    let mut count = 0;
    // SAFETY: all that is read is a part of the event. An array has as many elements as is said, and texts end with a NUL.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
        if result.is_null() {
            return None;
        }
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if count == 0 {
            return None;
        }
        let group = *groups;
        let member = |index| {
            let member = sys::rd_kafka_ConsumerGroupDescription_member(group, index);
            let id = CStr::from_ptr(sys::rd_kafka_MemberDescription_client_id(member));
            let assignment = sys::rd_kafka_MemberDescription_assignment(member);
            let list = sys::rd_kafka_MemberAssignment_partitions(assignment);
            let assigned = match usize::try_from((*list).cnt).unwrap_or(0) {
                0 => &[][..],
                count => slice::from_raw_parts((*list).elems, count),
            };
            let of_topic =
                assigned.iter().filter(|found| CStr::from_ptr(found.topic).to_bytes() == topic.as_bytes());
            let mut partitions: Vec<i32> = of_topic.map(|found| found.partition).collect();
            partitions.sort_unstable();
            (id.to_string_lossy().into_owned(), partitions)
        };
        let state = sys::rd_kafka_ConsumerGroupDescription_state(group);
        let members = 0..sys::rd_kafka_ConsumerGroupDescription_member_count(group);
        Some((state, members.map(member).collect()))
    }
}
