//! What an instance says of its partitions and of joining the group.

/// When the group gave it some.
pub const ASSIGNED: &str = "partitions assigned";
pub const REVOKED: &str = "partitions revoked";
pub const LOST: &str = "partitions lost";
/// When its log has nearly all that the group has published.
pub const JOINS: &str = "joining it";

/// The partitions in one of the first three lines.
pub fn partitions(line: &str) -> Vec<i32> {
    let listed = line.split_once("partitions=[").and_then(|(_, rest)| rest.split_once(']'));
    let (listed, _) = listed.unwrap_or_else(|| panic!("no partitions: {line}"));
    let number = |number: &str| number.parse().unwrap_or_else(|_| panic!("no partition: {line}"));
    listed.split(", ").filter(|listed| !listed.is_empty()).map(number).collect()
}
