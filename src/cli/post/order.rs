//! Gives the broker's answers out in the order of the input.

use std::collections::VecDeque;

use contract::Problems;
use kafka::posted::Delivered;

use crate::cli::input::Place;

/// The broker's answer, or why there is none.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Posted(Delivered),
    NotPosted(String),
    /// The processor would reject it, so it was not sent.
    Invalid(Problems),
}

/// Commands that were posted and not yet shown.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    /// The first of them is number `first`.
    waiting: VecDeque<Waiting>,
    first: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    place: Place,
    bytes: usize,
    answer: Option<Answer>,
}

/// A command with its answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) place: Place,
    pub(super) bytes: usize,
    pub(super) answer: Answer,
}

impl InOrder {
    /// The command's number.
    pub(super) fn posted(&mut self, place: Place, bytes: usize) -> usize {
        self.waiting.push_back(Waiting { place, bytes, answer: None });
        self.bytes += bytes;
        self.first + self.waiting.len() - 1
    }

    pub(super) fn answered(&mut self, index: usize, answer: Answer) {
        self.waiting[index - self.first].answer = Some(answer);
    }

    /// The next command in order, where it is answered.
    pub(super) fn next(&mut self) -> Option<Answered> {
        let answer = self.waiting.front_mut()?.answer.take()?;
        let Waiting { place, bytes, .. } = self.waiting.pop_front()?;
        self.first += 1;
        self.bytes -= bytes;
        Some(Answered { place, bytes, answer })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Commands and bytes that are not shown yet.
    pub(super) fn under_way(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_out_of_order_come_out_in_order() {
        let mut order = InOrder::default();
        let place = |line| Place { file: "f".into(), line: Some(line) };
        let [one, two, three] = [1, 2, 3].map(|line| order.posted(place(line), 10));
        order.answered(two, Answer::NotPosted("no".into()));
        assert!(order.next().is_none());
        assert_eq!(order.under_way(), (3, 30));
        order.answered(one, Answer::Posted(Delivered::SomewhereIn { partition: 0 }));
        assert_eq!(order.next().unwrap().place, place(1));
        assert_eq!(order.next().unwrap().answer, Answer::NotPosted("no".into()));
        assert!(order.next().is_none());
        order.answered(three, Answer::Posted(Delivered::SomewhereIn { partition: 1 }));
        assert_eq!(order.next().unwrap().place, place(3));
        assert!(order.is_empty());
        assert_eq!(order.under_way(), (0, 0));
    }
}
