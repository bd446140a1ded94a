//! Merges lines about several partitions that differ only in numbers.

use std::{collections::BTreeSet, fmt::Write as _};

use event_log::{Gap, Intervention};

/// Interventions within this time belong to one start.
const ONE_START_MS: i64 = 60_000;
/// Numbers that are listed one by one.
const LISTED: usize = 8;

/// Interventions by one flag at one start, whose details differ in numbers only.
pub(super) struct Interventions<'a> {
    pub(super) flag: &'a str,
    /// Of the first of them.
    pub(super) at: i64,
    /// `partition 3`, `partitions 0, 1, 2`.
    pub(super) partitions: String,
    /// Numbers that differ are side by side, in the order of the partitions.
    pub(super) details: String,
}

pub(super) fn interventions(all: &[(i32, Intervention)]) -> Vec<Interventions<'_>> {
    let mut groups: Vec<Vec<&(i32, Intervention)>> = Vec::new();
    for one in all {
        let (_, Intervention { at, flag, details }) = one;
        let is_alike = |group: &&mut Vec<&(i32, Intervention)>| {
            let (_, first) = group[0];
            first.flag == *flag
                && first.at.abs_diff(*at) < ONE_START_MS.unsigned_abs()
                && shape(&first.details) == shape(details)
        };
        match groups.iter_mut().find(is_alike) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let merged = groups.into_iter().map(|group| {
        let (_, Intervention { at, flag, .. }) = group[0];
        let partitions: Vec<_> = group.iter().map(|(partition, _)| partition.to_string()).collect();
        let details: Vec<_> = group
            .iter()
            .map(|(partition, one)| {
                let prefix = format!("partition {partition}: ");
                one.details.strip_prefix(&prefix).unwrap_or(&one.details)
            })
            .collect();
        Interventions {
            flag,
            at: *at,
            partitions: format!(
                "partition{} {}",
                if group.len() == 1 { "" } else { "s" },
                partitions.join(", ")
            ),
            details: merge(&details),
        }
    });
    merged.collect()
}

/// A line for all gaps of one reason.
pub(super) fn gaps(all: &[(i32, Gap)]) -> Vec<String> {
    let reasons: BTreeSet<&str> = all.iter().map(|(_, gap)| gap.reason.as_str()).collect();
    let line = |reason| {
        let mut line = String::new();
        for (partition, Gap { first_offset, next_offset, .. }) in
            all.iter().filter(|(_, gap)| gap.reason == reason)
        {
            let comma = if line.is_empty() { "" } else { ", " };
            let _ = write!(
                line,
                "{comma}offsets {first_offset} to {} of partition {partition}",
                next_offset.saturating_sub(1)
            );
        }
        line + " were never seen: " + reason
    };
    reasons.into_iter().map(line).collect()
}

/// The text without its numbers.
fn shape(text: &str) -> Vec<&str> {
    text.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect()
}

/// Merges texts of one shape, with the numbers that differ side by side.
fn merge(texts: &[&str]) -> String {
    let numbers: Vec<Vec<&str>> = texts.iter().map(|text| numbers(text)).collect();
    let mut merged = String::new();
    let mut rest = texts[0];
    for (index, first) in numbers[0].iter().enumerate() {
        let all: Vec<&str> = numbers.iter().filter_map(|numbers| numbers.get(index).copied()).collect();
        let (before, after) = rest.split_once(first).unwrap_or((rest, ""));
        merged.push_str(before);
        if all.iter().all(|number| number == first) {
            merged.push_str(first);
        } else if all.len() <= LISTED {
            merged.push_str(&all.join("/"));
        } else {
            let value = |number: &&&str| number.parse::<u128>().unwrap_or(u128::MAX);
            let (low, high) = (all.iter().min_by_key(value), all.iter().max_by_key(value));
            let _ = write!(merged, "{}…{}", low.unwrap_or(first), high.unwrap_or(first));
        }
        rest = after;
    }
    merged + rest
}

fn numbers(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, at: i64, details: &str) -> (i32, Intervention) {
        (partition, Intervention { at, flag: "republish".into(), details: details.into() })
    }

    #[test]
    fn one_paragraph_is_printed_once() {
        let all: Vec<_> = (0..3)
            .map(|n| at(n, i64::from(n), &format!("partition {n}: seen {} of 20, lost", n * 5 + 1)))
            .chain([at(3, 3, "partition 3: absent"), at(0, ONE_START_MS, "partition 0: seen 6 of 20, lost")])
            .collect();
        let lines: Vec<_> = interventions(&all)
            .into_iter()
            .map(|Interventions { at, partitions, details, .. }| format!("{at} {partitions}: {details}"))
            .collect();
        assert_eq!(
            lines,
            [
                "0 partitions 0, 1, 2: seen 1/6/11 of 20, lost",
                "3 partition 3: absent",
                "60000 partition 0: seen 6 of 20, lost"
            ]
        );
    }

    #[test]
    fn many_numbers_are_a_range_and_a_text_may_begin_and_end_with_one() {
        let texts: Vec<String> = (1..=12).map(|n| format!("{n} of 12 and 9{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(merge(&texts), "1…12 of 12 and 91…912");
        assert_eq!(merge(&texts[..2]), "1/2 of 12 and 91/92");
        assert_eq!(merge(&["none"]), "none");
    }

    #[test]
    fn gaps_of_one_reason_are_one_line() {
        let gap = |partition, first_offset, reason: &str| {
            (partition, Gap { first_offset, next_offset: first_offset + 5, reason: reason.into() })
        };
        assert_eq!(
            gaps(&[gap(0, 0, "deleted"), gap(1, 2, "deleted"), gap(1, 9, "other")]),
            [
                "offsets 0 to 4 of partition 0, offsets 2 to 6 of partition 1 were never seen: deleted",
                "offsets 9 to 13 of partition 1 were never seen: other"
            ]
        );
    }
}
