//! Who of a group holds which partitions, as the broker says.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    groups::{GroupInfo, GroupMemberInfo},
};

use super::process::Setup;

/// Asks for the group, and reads what is said of it.
fn ask<T>(setup: &Setup, read: impl FnOnce(&GroupInfo) -> T) -> Option<T> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &setup.servers).set("log_level", "0");
    let client: BaseConsumer = config.create().expect("a client");
    let list = client.client().fetch_group_list(Some(&setup.names.group), Duration::from_secs(5)).ok()?;
    list.groups().iter().find(|group| group.name() == setup.names.group).map(read)
}

/// Whether the group has no members.
pub fn is_empty(setup: &Setup) -> bool {
    ask(setup, |group| matches!(group.state(), "Empty" | "Dead")).unwrap_or(false)
}

/// Of each member, by its `client.id`, the partitions of the commands topic that it was assigned. Empty while the
/// group is at a rebalance.
pub fn assignments(setup: &Setup) -> BTreeMap<String, Vec<i32>> {
    let of = |member: &GroupMemberInfo| {
        let bytes = member.assignment().unwrap_or_default();
        (member.client_id().to_owned(), partitions_of(bytes, &setup.names.commands).unwrap_or_default())
    };
    let stable =
        ask(setup, |group| (group.state() == "Stable").then(|| group.members().iter().map(of).collect()));
    stable.flatten().unwrap_or_default()
}

/// An assignment of Kafka's consumer protocol: a version, then topics with their partitions.
fn partitions_of(mut bytes: &[u8], topic: &str) -> Option<Vec<i32>> {
    let mut take = |count: usize| -> Option<&[u8]> {
        let (head, rest) = bytes.split_at_checked(count)?;
        bytes = rest;
        Some(head)
    };
    take(2)?;
    let topics = i32::from_be_bytes(take(4)?.try_into().ok()?);
    for _ in 0..topics {
        let length = usize::from(u16::from_be_bytes(take(2)?.try_into().ok()?));
        let name = take(length)?.to_vec();
        let count = i32::from_be_bytes(take(4)?.try_into().ok()?);
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(i32::from_be_bytes(take(4)?.try_into().ok()?));
        }
        if name == topic.as_bytes() {
            return Some(partitions);
        }
    }
    None
}
