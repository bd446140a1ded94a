//! Joins commands with their decisions, in the order of the input.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use contract::Coordinates;

use crate::cli::{input::Place, outcome::Decided};

/// Commands that were posted and not yet shown.
#[derive(Debug)]
pub(super) struct InOrder {
    /// The first of them is number `first`.
    waiting: VecDeque<Waiting>,
    first: usize,
    indexes: HashMap<(i32, i64), usize>,
    /// Decided before the broker confirmed the command.
    early: HashMap<(i32, i64), Decided>,
    undecided: usize,
    undecided_bytes: usize,
    last_progress: Instant,
}

#[derive(Debug)]
struct Waiting {
    place: Place,
    bytes: usize,
    decided: Option<Decided>,
}

impl Default for InOrder {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            first: 0,
            indexes: HashMap::new(),
            early: HashMap::new(),
            undecided: 0,
            undecided_bytes: 0,
            last_progress: Instant::now(),
        }
    }
}

fn coordinates(at: Coordinates) -> (i32, i64) {
    (at.partition, at.offset)
}

impl InOrder {
    pub(super) fn posted(&mut self, place: Place, bytes: usize) -> usize {
        if self.waiting.is_empty() {
            self.last_progress = Instant::now();
        }
        self.waiting.push_back(Waiting { place, bytes, decided: None });
        self.undecided += 1;
        self.undecided_bytes += bytes;
        self.first + self.waiting.len() - 1
    }

    pub(super) fn delivered(&mut self, index: usize, at: Coordinates) {
        match self.early.remove(&coordinates(at)) {
            Some(decided) => self.settle(index, decided),
            None => {
                self.indexes.insert(coordinates(at), index);
            }
        }
    }

    pub(super) fn decided(&mut self, decided: Decided) {
        match self.indexes.remove(&coordinates(decided.coordinates)) {
            Some(index) => self.settle(index, decided),
            None => {
                self.early.insert(coordinates(decided.coordinates), decided);
            }
        }
    }

    fn settle(&mut self, index: usize, decided: Decided) {
        let waiting = &mut self.waiting[index - self.first];
        waiting.decided = Some(decided);
        self.undecided -= 1;
        self.undecided_bytes -= waiting.bytes;
        self.last_progress = Instant::now();
    }

    /// The next command in order, once it is decided, with its bytes.
    pub(super) fn next(&mut self) -> Option<(Place, usize, Decided)> {
        let decided = self.waiting.front_mut()?.decided.take()?;
        let Waiting { place, bytes, .. } = self.waiting.pop_front()?;
        self.first += 1;
        Some((place, bytes, decided))
    }

    pub(super) fn place(&self, index: usize) -> &Place {
        &self.waiting[index - self.first].place
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of commands that are not shown yet, and the bytes of the undecided ones.
    pub(super) fn under_way(&self) -> (usize, usize) {
        (self.waiting.len().max(self.undecided), self.undecided_bytes)
    }

    pub(super) fn silence(&self) -> Duration {
        self.last_progress.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use contract::{ActivityId, Decision};

    use super::*;

    fn at(offset: i64) -> Coordinates {
        Coordinates { partition: 0, offset, timestamp: 1 }
    }

    fn decided(offset: i64) -> Decided {
        let decision = Decision::Duplicate { of: ActivityId::new(0, at(offset)) };
        Decided { coordinates: at(offset), decision, notifications: Vec::new() }
    }

    fn place(line: u64) -> Place {
        Place { file: "f".into(), line: Some(line) }
    }

    #[test]
    fn outcomes_decided_out_of_order_are_shown_in_order() {
        let mut order = InOrder::default();
        for line in 1..=3 {
            order.posted(place(line), 10);
        }
        order.delivered(2, at(7));
        order.decided(decided(7));
        order.decided(decided(9));
        assert_eq!(order.under_way(), (3, 20));
        assert!(order.next().is_none());
        order.delivered(0, at(9));
        let (shown, bytes, what) = order.next().unwrap();
        assert_eq!((shown, bytes, what.coordinates), (place(1), 10, at(9)));
        assert!(order.next().is_none());
        order.delivered(1, at(8));
        order.decided(decided(8));
        assert_eq!(order.next().unwrap().0, place(2));
        assert_eq!(order.next().unwrap().2.coordinates, at(7));
        assert!(order.is_empty());
        assert_eq!(order.under_way(), (0, 0));
    }
}
