//! The ids of the last notifications, to recognise redelivered ones.

use std::collections::{HashMap, VecDeque};

use super::{acks::Ticket, notification::NotificationId};

/// The last ids, up to the capacity.
#[derive(Debug)]
pub(super) struct Seen {
    capacity: usize,
    order: VecDeque<NotificationId>,
    states: HashMap<NotificationId, State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Handed out, and not acknowledged.
    Open(Ticket),
    Acknowledged,
}

impl Seen {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, order: VecDeque::new(), states: HashMap::new() }
    }

    /// Whether to hand out this notification.
    ///
    /// Not if it was acknowledged, and not while the reader has its first copy, because the commit waits for that copy. But
    /// once the partition of the first copy is lost, no commit waits for it, and dropping the second copy could lose the
    /// notification.
    pub fn is_new(&mut self, id: NotificationId, ticket: Ticket, is_held: impl Fn(Ticket) -> bool) -> bool {
        if self.capacity == 0 {
            return true;
        }
        let new = match self.states.get(&id) {
            Some(State::Acknowledged) => false,
            Some(State::Open(first)) => !is_held(*first),
            None => {
                if self.order.len() == self.capacity
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.states.remove(&oldest);
                }
                self.order.push_back(id);
                true
            }
        };
        if new {
            self.states.insert(id, State::Open(ticket));
        }
        new
    }

    pub fn acknowledged(&mut self, id: NotificationId) {
        if let Some(state) = self.states.get_mut(&id) {
            *state = State::Acknowledged;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acks::Acks;

    fn id(place: u32) -> NotificationId {
        format!("01a20ada-2c7b-89d1-8003-000000003039/{place}").parse().unwrap()
    }

    fn new(seen: &mut Seen, acks: &mut Acks, offset: i64, place: u32) -> bool {
        let ticket = acks.hand_out(0, offset);
        seen.is_new(id(place), ticket, |ticket| acks.is_held(ticket))
    }

    #[test]
    fn a_second_copy_is_dropped_whether_the_first_was_acknowledged_or_not() {
        let (mut seen, mut acks) = (Seen::new(10), Acks::default());
        assert!(new(&mut seen, &mut acks, 0, 0));
        assert!(!new(&mut seen, &mut acks, 1, 0));
        seen.acknowledged(id(0));
        assert!(!new(&mut seen, &mut acks, 2, 0));
        assert!(new(&mut seen, &mut acks, 3, 1));
    }

    #[test]
    fn one_that_was_not_acknowledged_comes_again_after_its_partition_was_lost() {
        let (mut seen, mut acks) = (Seen::new(10), Acks::default());
        assert!(new(&mut seen, &mut acks, 0, 0));
        assert!(new(&mut seen, &mut acks, 1, 1));
        seen.acknowledged(id(1));
        acks.lose([0]);
        assert!(new(&mut seen, &mut acks, 0, 0));
        assert!(!new(&mut seen, &mut acks, 1, 1));
        assert!(!new(&mut seen, &mut acks, 2, 0));
    }

    #[test]
    fn no_more_ids_are_kept_than_the_window_has_room_for() {
        let (mut seen, mut acks) = (Seen::new(2), Acks::default());
        for place in 0..3 {
            assert!(new(&mut seen, &mut acks, place.into(), place));
        }
        assert_eq!((seen.order.len(), seen.states.len()), (2, 2));
        assert!(!new(&mut seen, &mut acks, 3, 1));
        assert!(new(&mut seen, &mut acks, 4, 0));
        let mut none = Seen::new(0);
        assert!(new(&mut none, &mut acks, 5, 0));
        assert!(new(&mut none, &mut acks, 6, 0));
        assert!(none.states.is_empty());
    }
}
