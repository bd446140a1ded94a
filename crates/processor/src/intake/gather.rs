//! Batching, which is pure: gathers the records of running partitions, and cuts them into chunks.

use std::collections::BTreeMap;

use contract::Record;

use crate::{
    batch::{Batch, Chunk},
    ownership::Epoch,
};

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub records: usize,
    /// Bytes of keys, values and headers.
    pub bytes: usize,
}

/// A quarter of this is worth a batch even where batches may be larger. Full ones save work while commands are waiting, the
/// broker's above all; when they are not, waiting for more would only delay them.
const USUAL: Caps = Caps { records: 4_000, bytes: 8 << 20 };

impl Caps {
    /// Whether this is a full batch.
    #[must_use]
    pub fn are_reached(&self, records: usize, bytes: usize) -> bool {
        records >= self.records || bytes >= self.bytes
    }

    /// Whether this is worth a batch after those in flight. The more of them there are, the larger it has to be: even a small
    /// batch takes time, and the batches after it wait.
    #[must_use]
    pub fn is_worth_a_batch(&self, records: usize, bytes: usize, in_flight: usize) -> bool {
        let enough = |gathered: usize, cap: usize, usual: usize| 4 * gathered >= in_flight * cap.min(usual);
        let (enough_records, enough_bytes) =
            (enough(records, self.records, USUAL.records), enough(bytes, self.bytes, USUAL.bytes));
        records > 0 && (enough_records || enough_bytes)
    }
}

/// Records that were polled and are not in a batch yet.
#[derive(Debug)]
pub(super) struct Gathered {
    pub caps: Caps,
    by_partition: BTreeMap<i32, Vec<Record>>,
    records: usize,
    bytes: usize,
}

impl Gathered {
    pub fn new(caps: Caps) -> Self {
        Self { caps, by_partition: BTreeMap::new(), records: 0, bytes: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub fn is_full(&self) -> bool {
        self.caps.are_reached(self.records, self.bytes)
    }

    /// Whether the records are worth a batch after those in flight.
    pub fn is_worth_a_batch(&self, in_flight: usize) -> bool {
        self.caps.is_worth_a_batch(self.records, self.bytes, in_flight)
    }

    pub fn add(&mut self, record: Record) {
        self.records += 1;
        self.bytes += record.bytes();
        self.by_partition.entry(record.coordinates.partition).or_default().push(record);
    }

    pub fn drop_partition(&mut self, partition: i32) {
        for record in self.by_partition.remove(&partition).unwrap_or_default() {
            self.records -= 1;
            self.bytes -= record.bytes();
        }
    }

    /// All of it, by partition.
    pub fn take(&mut self) -> BTreeMap<i32, Vec<Record>> {
        (self.records, self.bytes) = (0, 0);
        std::mem::take(&mut self.by_partition)
    }
}

/// How far reading is. `sent <= polled`.
#[derive(Debug)]
pub(super) struct Running {
    pub epoch: Epoch,
    /// The log's cursor when the partition started: below it, the log has the decisions.
    pub logged: i64,
    /// The next offset that was not handed to the next stage.
    pub sent: i64,
    /// The next offset that was not polled.
    pub polled: i64,
}

impl Running {
    /// Hands on the offsets from `sent` to `polled`, which contain these records and otherwise only control records: as one
    /// chunk, or as two if `logged` is inside.
    pub fn cut(&mut self, partition: i32, records: Vec<Record>, chunks: &mut Batch) {
        let Self { epoch, logged, sent, polled } = *self;
        let mut logged_records = records;
        let new = logged_records
            .split_off(logged_records.partition_point(|record| record.coordinates.offset < logged));
        let boundary = polled.min(logged).max(sent);
        let mut push = |(first_offset, next_offset), is_logged, records| {
            if first_offset < next_offset {
                let fates = Vec::new();
                chunks.push(Chunk { partition, epoch, first_offset, next_offset, is_logged, records, fates });
            }
        };
        push((sent, boundary), true, logged_records);
        push((boundary, polled), false, new);
        self.sent = polled;
    }
}

#[cfg(test)]
mod tests {
    use contract::Coordinates;

    use super::*;

    /// A chunk: whether it is logged already, its first and its next offset, and the records' offsets.
    type Cut = (bool, i64, i64, Vec<i64>);

    fn cut(logged: i64, sent: i64, polled: i64, offsets: &[i64]) -> Vec<Cut> {
        let mut running = Running { epoch: 7, logged, sent, polled };
        let record = |&offset: &i64| Record {
            coordinates: Coordinates { partition: 3, offset, timestamp: 0 },
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let mut chunks = Vec::new();
        running.cut(3, offsets.iter().map(record).collect(), &mut chunks);
        assert_eq!(running.sent, running.polled);
        assert!(chunks.iter().all(|chunk| (chunk.partition, chunk.epoch) == (3, 7)));
        chunks
            .iter()
            .map(|Chunk { first_offset, next_offset, is_logged, records, .. }| {
                let offsets = records.iter().map(|record| record.coordinates.offset);
                (*is_logged, *first_offset, *next_offset, offsets.collect())
            })
            .collect()
    }

    #[test]
    fn larger_batches_do_not_make_commands_wait_longer() {
        let large = Caps { records: 50_000, bytes: 1 << 30 };
        for caps in [USUAL, large] {
            let is_worth = |records, bytes, in_flight| caps.is_worth_a_batch(records, bytes, in_flight);
            assert!(!is_worth(0, 0, 0) && is_worth(1, 1, 0));
            assert!(!is_worth(999, 1, 1) && is_worth(1_000, 1, 1) && is_worth(1, 2 << 20, 1));
            assert!(!is_worth(1_999, 1, 2) && is_worth(2_000, 1, 2));
        }
        let small = Caps { records: 8, bytes: 1 << 30 };
        assert!(!small.is_worth_a_batch(1, 1, 1) && small.is_worth_a_batch(2, 1, 1));
    }

    #[test]
    fn offsets_at_or_above_logged_are_new() {
        assert_eq!(cut(4, 4, 7, &[4, 5, 6]), [(false, 4, 7, vec![4, 5, 6])]);
    }

    #[test]
    fn offsets_below_logged_are_known() {
        assert_eq!(cut(9, 4, 7, &[4, 5, 6]), [(true, 4, 7, vec![4, 5, 6])]);
        assert_eq!(cut(7, 4, 7, &[4, 5, 6]), [(true, 4, 7, vec![4, 5, 6])]);
    }

    #[test]
    fn a_stretch_is_cut_at_logged() {
        assert_eq!(cut(5, 4, 7, &[4, 5, 6]), [(true, 4, 5, vec![4]), (false, 5, 7, vec![5, 6])]);
    }

    #[test]
    fn control_records_belong_to_the_chunk_that_they_lie_in() {
        // Around `logged`, before it, after it, and alone.
        assert_eq!(cut(6, 2, 9, &[3, 8]), [(true, 2, 6, vec![3]), (false, 6, 9, vec![8])]);
        assert_eq!(cut(6, 2, 9, &[7]), [(true, 2, 6, vec![]), (false, 6, 9, vec![7])]);
        assert_eq!(cut(6, 2, 9, &[5]), [(true, 2, 6, vec![5]), (false, 6, 9, vec![])]);
        assert_eq!(cut(0, 2, 9, &[]), [(false, 2, 9, vec![])]);
        assert_eq!(cut(9, 2, 9, &[]), [(true, 2, 9, vec![])]);
    }

    #[test]
    fn an_empty_poll_cuts_no_chunk() {
        assert_eq!(cut(3, 4, 4, &[]), []);
        assert_eq!(cut(9, 4, 4, &[]), []);
    }
}
