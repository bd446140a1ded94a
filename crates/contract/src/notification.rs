//! Notifications: the records that tell audiences about an event.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{
    event::{Event, Notified, Parts},
    record::{Header, OutputRecord},
};

/// A record for the notifications topic. The default is empty, to be filled by [`Notifications::next_into`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notification {
    /// The activity's id and the index of the target: unique, and the same on every replay.
    pub id: String,
    pub record: OutputRecord,
}

/// The notifications of one event, created one at a time; see [`Event::notifications`].
#[derive(Debug, Clone)]
pub struct Notifications<'a> {
    event: &'a Event,
    source: &'a str,
    /// Trace headers of the command.
    trace: Vec<&'a Header>,
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
    pub fn notifications<'a>(&'a self, source: &'a str, command_headers: &'a [Header]) -> Notifications<'a> {
        let notified = self.notified();
        let mut trace = Vec::new();
        if !notified.is_empty() {
            trace.extend(trace_headers(command_headers));
        }
        Notifications { event: self, source, trace, notified: notified.iter() }
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
        let bytes = header.value.as_ref().map_or(0, Vec::len);
        (1..=MAX_TRACE_HEADER_BYTES).contains(&bytes)
    })
}

impl Notifications<'_> {
    /// Overwrites `notification` with the next one and reuses its memory. `false` if none is left; `notification` is then
    /// unchanged.
    #[must_use]
    pub fn next_into(&mut self, notification: &mut Notification) -> bool {
        let Some(notified) = self.notified.next() else { return false };
        let Notification { id, record } = notification;
        let event = self.event;
        let mut activity_id = Uuid::encode_buffer();
        let activity_id = event.id().as_uuid().hyphenated().encode_lower(&mut activity_id);
        id.clear();
        id.extend([activity_id, "/", itoa::Buffer::new().format(notified.target.index)]);
        refill(&mut record.key, &[event.key(notified)]);
        let [before, after] = event.json_without_targets();
        // Copies slices of the normal form instead of serializing again.
        let value = [
            "{\"id\":\"",
            id,
            "\",\"activityId\":\"",
            activity_id,
            "\",\"target\":",
            event.target_json(notified),
            "},\"activity\":",
            before,
            after,
            "}",
        ];
        refill(&mut record.value, &value);
        let values = ["1.0", id, self.source, CE_TYPE, event.time(), event.subject(), "application/json"];
        let headers = &mut record.headers;
        headers.resize_with(HEADERS.len() + self.trace.len(), Header::default);
        let (own, trace) = headers.split_at_mut(HEADERS.len());
        for ((header, (name, _)), value) in own.iter_mut().zip(HEADERS).zip(values) {
            header.name = Cow::Borrowed(name.as_bytes());
            refill(&mut header.value, &[value]);
        }
        for (header, Header { name, value }) in trace.iter_mut().zip(&self.trace) {
            header.name.clone_from(name);
            header.value.clone_from(value);
        }
        true
    }
}

/// Replaces the content, and reuses the memory.
fn refill(bytes: &mut Option<Vec<u8>>, parts: &[&str]) {
    let bytes = bytes.get_or_insert_default();
    bytes.clear();
    bytes.reserve(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
    }
}

impl Iterator for Notifications<'_> {
    type Item = Notification;

    fn next(&mut self) -> Option<Self::Item> {
        let mut notification = Notification::default();
        self.next_into(&mut notification).then_some(notification)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.notified.size_hint()
    }
}

impl ExactSizeIterator for Notifications<'_> {}
