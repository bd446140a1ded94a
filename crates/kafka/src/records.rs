//! Copies librdkafka's messages, which end with the next poll, into records.

use bytes::{Bytes, BytesMut};
use contract::{Coordinates, Record};
use rdkafka::{Message, message::BorrowedMessage};

use super::native;

/// The size of a buffer for records, in bytes.
const BUFFER: usize = 64 * 1024;
/// A longer part of a record gets a buffer of its own: it would leave much of a shared one empty, and `BytesMut` grows for it
/// while nothing else is in it.
const LONG_PART: usize = BUFFER / 4;

/// One allocation for many records. It lives as long as any of them.
#[derive(Debug)]
pub(crate) struct RecordBuffer(BytesMut);

impl Default for RecordBuffer {
    fn default() -> Self {
        Self(BytesMut::with_capacity(BUFFER))
    }
}

impl RecordBuffer {
    /// Copies a message.
    pub fn record(&mut self, message: &BorrowedMessage<'_>) -> Record {
        copied(message, |part| self.copy(part))
    }

    fn copy(&mut self, part: &[u8]) -> Bytes {
        if part.len() > LONG_PART {
            return Bytes::copy_from_slice(part);
        }
        if self.0.capacity() < part.len() {
            *self = Self::default();
        }
        self.0.extend_from_slice(part);
        self.0.split().freeze()
    }
}

/// Copies one message by itself.
#[must_use]
pub fn record_of(message: &BorrowedMessage<'_>) -> Record {
    copied(message, Bytes::copy_from_slice)
}

fn copied(message: &BorrowedMessage<'_>, mut copy: impl FnMut(&[u8]) -> Bytes) -> Record {
    Record {
        coordinates: Coordinates {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
        },
        key: message.key().map(&mut copy),
        value: message.payload().map(&mut copy),
        headers: native::headers_of(message, copy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether other parts are alive or not.
    #[test]
    fn a_long_part_takes_no_room_in_the_shared_buffer() {
        let mut buffer = RecordBuffer::default();
        let mut kept = Vec::new();
        for (index, length) in
            [0, 1, 40, 8 << 20, LONG_PART, LONG_PART + 1, 700].into_iter().cycle().take(700).enumerate()
        {
            let part = vec![index as u8; length];
            let copy = buffer.copy(&part);
            assert_eq!(copy, part);
            assert!(buffer.0.capacity() <= BUFFER, "{} bytes", buffer.0.capacity());
            if index % 3 == 0 && length <= LONG_PART {
                kept.push((copy, part));
            }
        }
        assert!(kept.iter().all(|(copy, part)| copy == part));
    }
}
