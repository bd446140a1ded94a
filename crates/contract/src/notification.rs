//! Notifications: the records that tell audiences about an event.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::{
    event::{Event, Notified, Parts},
    record::{Header, OutputRecord},
};

/// A record for the notifications topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    id: Bytes,
    pub record: OutputRecord,
}

/// The notifications of one event, created one at a time; see [`Event::notifications`].
#[derive(Debug, Clone)]
pub struct Notifications<'a> {
    event: &'a Event,
    source: Bytes,
    /// Trace headers of the command.
    trace: Vec<Header>,
    notified: std::slice::Iter<'a, Notified>,
}

/// Headers of W3C Trace Context, which are copied from a command to its notifications.
pub const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];
/// Longer values are dropped. Trace Context requires at least 512 bytes to be passed on. A record with a value of the
/// maximum size can have half a megabyte of such headers: copied to a notification, they would make it too large for the
/// broker, which would block the partition forever.
const MAX_TRACE_HEADER_BYTES: usize = 4096;
/// The headers of every notification with their meanings: CloudEvents 1.0, Kafka protocol binding, binary mode.
pub(crate) const HEADERS: [(&str, &str); 7] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "The notification's id."),
    ("ce_source", "The processor's name: processor.source of its configuration."),
    ("ce_type", CE_TYPE),
    ("ce_time", "The command record's timestamp, in UTC."),
    ("ce_subject", "objectType/objectId."),
    ("content-type", "application/json"),
];
const CE_TYPE: &str = "activity-stream.notification";

impl Event {
    /// One notification per target with `notify`, in the order of the targets. `source` is the configured `ce_source`,
    /// `command_headers` are those of the command's record.
    #[must_use]
    pub fn notifications(&self, source: impl Into<Bytes>, command_headers: &[Header]) -> Notifications<'_> {
        let notified = self.notified();
        let mut trace = Vec::new();
        if !notified.is_empty() {
            trace.extend(trace_headers(command_headers).cloned());
        }
        Notifications { event: self, source: source.into(), trace, notified: notified.iter() }
    }

    /// Whether keys, values and headers of the notifications exceed `allowed` bytes. The value of `ce_source` does not
    /// count, because the outcome of a command must not depend on the configured name.
    pub(crate) fn output_exceeds(&self, allowed: usize, command_headers: &[Header]) -> bool {
        let mut bytes: usize = 0;
        self.notifications("", command_headers).any(|notification| {
            bytes = bytes.saturating_add(notification.record.bytes());
            bytes > allowed
        })
    }
}

impl Parts {
    /// Whether [`Event::output_exceeds`] could be true: no notification is larger than this, so its exact size is rarely
    /// needed.
    pub(crate) fn output_may_exceed(&self, allowed: usize, command_headers: &[Header]) -> bool {
        if self.notified.is_empty() {
            return false;
        }
        let trace: usize = trace_headers(command_headers).map(Header::bytes).sum();
        let at_most = 8 * self.json.len() + trace + 1024;
        self.notified.len().saturating_mul(at_most) > allowed
    }
}

/// The trace headers of a command that are passed on: the last of each, if it has a value.
pub(crate) fn trace_headers(command_headers: &[Header]) -> impl Iterator<Item = &Header> {
    let last = TRACE_HEADERS.iter().filter_map(|name| Header::last(command_headers, name.as_bytes()));
    last.filter(|header| {
        let bytes = header.value.as_ref().map_or(0, Bytes::len);
        (1..=MAX_TRACE_HEADER_BYTES).contains(&bytes)
    })
}

impl Notification {
    /// The activity's id and the index of the target: unique, and the same on every replay.
    #[must_use]
    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }
}

impl Notifications<'_> {
    /// The next one, in the memory of `text`, which can be used again once all its notifications are dropped.
    pub fn next_in(&mut self, text: &mut BytesMut) -> Option<Notification> {
        let notified = self.notified.next()?;
        let event = self.event;
        let mut activity_id = Uuid::encode_buffer();
        let activity_id = event.id().as_uuid().hyphenated().encode_lower(&mut activity_id);
        let mut index = itoa::Buffer::new();
        let index = index.format(notified.target.index);
        let [before, after] = event.json_without_targets();
        // Copies slices of the normal form instead of serializing again.
        let value = [
            "{\"id\":\"",
            activity_id,
            "/",
            index,
            "\",\"activityId\":\"",
            activity_id,
            "\",\"target\":",
            event.target_json(notified),
            "},\"activity\":",
            before,
            after,
            "}",
        ];
        let value = joined(text, &value);
        let id = joined(text, &[activity_id, "/", index]);
        let values = [
            Bytes::from_static(b"1.0"),
            id.clone(),
            self.source.clone(),
            Bytes::from_static(CE_TYPE.as_bytes()),
            joined(text, &[event.time()]),
            joined(text, &[event.subject()]),
            Bytes::from_static(b"application/json"),
        ];
        let mut headers = Vec::with_capacity(HEADERS.len() + self.trace.len());
        headers.extend(HEADERS.into_iter().zip(values).map(|((name, _), value)| Header::named(name, value)));
        headers.extend_from_slice(&self.trace);
        let key = joined(text, &[event.key(notified)]);
        Some(Notification { id, record: OutputRecord { key: Some(key), value: Some(value), headers } })
    }
}

/// Appends the parts to the text, and splits them off.
fn joined(text: &mut BytesMut, parts: &[&str]) -> Bytes {
    text.reserve(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        text.extend_from_slice(part.as_bytes());
    }
    text.split().freeze()
}

impl Iterator for Notifications<'_> {
    type Item = Notification;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_in(&mut BytesMut::new())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.notified.size_hint()
    }
}

impl ExactSizeIterator for Notifications<'_> {}
