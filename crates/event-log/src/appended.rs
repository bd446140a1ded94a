//! The objects of the latest appends, so that the read model need not read them from the log.

use std::collections::VecDeque;
use std::sync::Mutex;

use contract::Event;

/// At most this much is kept, and one append. A follower that lags more reads the log.
const KEPT_BYTES: usize = 8 << 20;

/// What the read model needs of the events of one append.
#[derive(Debug)]
pub(crate) struct AppendedObjects {
    first_position: i64,
    /// Each event's record timestamp, and where its object ends in `objects`.
    events: Vec<(i64, usize)>,
    /// `type/id` of each event, one after another.
    objects: String,
}

impl AppendedObjects {
    pub(crate) fn new(first_position: i64) -> Self {
        Self { first_position, events: Vec::new(), objects: String::new() }
    }

    pub(crate) fn push(&mut self, event: &Event) {
        for part in [event.object_type(), "/", event.object_id()] {
            self.objects.push_str(part);
        }
        self.events.push((event.coordinates().timestamp, self.objects.len()));
    }

    /// The position after the last event.
    pub(crate) fn next_position(&self) -> i64 {
        self.first_position + self.events.len() as i64
    }

    /// Position, record timestamp and object of each event.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i64, &str)> {
        let mut start = 0;
        (self.first_position..).zip(&self.events).map(move |(position, &(timestamp, end))| {
            let object = &self.objects[start..end];
            start = end;
            (position, timestamp, object)
        })
    }

    fn bytes(&self) -> usize {
        self.events.capacity() * size_of::<(i64, usize)>() + self.objects.capacity()
    }
}

/// Passes the objects of committed appends from the writer to the read model's follower.
#[derive(Debug, Default)]
pub(crate) struct Appended(Mutex<Queue>);

/// In order of position. There is a hole if an append was dropped.
#[derive(Debug, Default)]
struct Queue {
    appends: VecDeque<AppendedObjects>,
    bytes: usize,
}

impl Queue {
    fn pop(&mut self) -> Option<AppendedObjects> {
        let oldest = self.appends.pop_front()?;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }
}

impl Appended {
    /// Call it after the commit: the read model must not be ahead of the log.
    pub(crate) fn push(&self, mut objects: AppendedObjects) {
        if objects.events.is_empty() {
            return;
        }
        objects.events.shrink_to_fit();
        objects.objects.shrink_to_fit();
        let mut queue = self.0.lock().expect("no holder panics");
        queue.bytes += objects.bytes();
        queue.appends.push_back(objects);
        while queue.bytes > KEPT_BYTES && queue.appends.len() > 1 {
            queue.pop();
        }
    }

    /// The append that begins at `position`. If it is not here, the error is the position where a later one begins. Drops
    /// the appends before it.
    pub(crate) fn take(&self, position: i64) -> Result<AppendedObjects, Option<i64>> {
        let mut queue = self.0.lock().expect("no holder panics");
        while let Some(oldest) = queue.appends.front() {
            if oldest.first_position > position {
                return Err(Some(oldest.first_position));
            }
            let is_wanted = oldest.first_position == position;
            if let Some(oldest) = queue.pop().filter(|_| is_wanted) {
                return Ok(oldest);
            }
        }
        Err(None)
    }
}

#[cfg(test)]
mod tests {
    use contract::{Coordinates, Decider, Limits, Reading, Record};

    use super::*;

    /// An append of `count` events with objects of about `bytes`.
    fn append(first_position: i64, count: i64, bytes: usize) -> AppendedObjects {
        let decider = Decider::new("c", Limits::default());
        let mut objects = AppendedObjects::new(first_position);
        for offset in first_position..first_position + count {
            let id = format!("{offset:0bytes$}");
            let value = format!(r#"{{"@type":"share","objectType":"case","objectId":"{id}"}}"#);
            let coordinates = Coordinates { partition: 0, offset, timestamp: 1000 + offset };
            let record = Record { coordinates, key: None, value: Some(value.into()), headers: Vec::new() };
            let Reading::Valid { event, .. } = decider.read(&record).reading else { panic!() };
            objects.push(&event);
        }
        objects
    }

    #[test]
    fn an_append_is_found_by_its_first_position() {
        let appended = Appended::default();
        assert_eq!(appended.take(1).map(drop), Err(None));
        appended.push(append(1, 0, 1));
        for first_position in [1, 4, 8] {
            appended.push(append(first_position, 3, 1));
        }
        let found = appended.take(1).unwrap();
        let listed: Vec<_> = found.iter().collect();
        assert_eq!(listed, [(1, 1001, "case/1"), (2, 1002, "case/2"), (3, 1003, "case/3")]);
        assert_eq!(found.next_position(), 4);
        // Within the next append, or before the hole: from the log.
        assert_eq!(appended.take(5).map(drop), Err(Some(8)));
        assert_eq!(appended.take(7).map(drop), Err(Some(8)));
        assert_eq!(appended.take(8).unwrap().next_position(), 11);
        assert_eq!(appended.0.lock().unwrap().bytes, 0);
    }

    #[test]
    fn the_oldest_appends_are_dropped_when_there_are_too_many() {
        let appended = Appended::default();
        for first_position in (1..).step_by(1000).take(200) {
            appended.push(append(first_position, 1000, 60));
            assert!(appended.0.lock().unwrap().bytes <= KEPT_BYTES);
        }
        let first = appended.take(1).unwrap_err().unwrap();
        assert!((50_000..190_000).contains(&first), "{first}");
        assert_eq!(appended.take(first).unwrap().next_position(), first + 1000);
    }
}
