//! Notifications: the records that tell audiences about an event.

use smallvec::SmallVec;
use uuid::Uuid;

use crate::{
    event::{Event, Notified, Parts},
    record::{Header, HeaderRef, OutputRecord, OutputRef},
};

/// A record for the notifications topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// The activity's id and the index of the target: unique, and the same on every replay.
    pub id: String,
    pub record: OutputRecord,
}

/// A notification whose bytes lie in its event and in memory that the next one uses again.
#[derive(Debug, Clone)]
pub struct NotificationRef<'a> {
    id: &'a str,
    key: &'a str,
    value: &'a str,
    headers: [HeaderRef<'a>; MOST_HEADERS],
    header_count: usize,
}

/// The notifications of one event, created one at a time; see [`Event::notifications`].
#[derive(Debug, Clone)]
pub struct Notifications<'a> {
    event: &'a Event,
    source: &'a str,
    /// Trace headers of the command.
    trace: SmallVec<[&'a Header; TRACE_HEADERS.len()]>,
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
/// With those of the trace.
const MOST_HEADERS: usize = HEADERS.len() + TRACE_HEADERS.len();
const CE_TYPE: &str = "activity-stream.notification";
/// How the value begins.
const BEFORE_ID: &str = "{\"id\":\"";

impl Event {
    /// One notification per target with `notify`, in the order of the targets. `source` is the configured `ce_source`,
    /// `command_headers` are those of the command's record.
    #[must_use]
    pub fn notifications<'a>(&'a self, source: &'a str, command_headers: &'a [Header]) -> Notifications<'a> {
        let notified = self.notified();
        let mut trace = SmallVec::new();
        if !notified.is_empty() {
            trace.extend(trace_headers(command_headers));
        }
        Notifications { event: self, source, trace, notified: notified.iter() }
    }

    /// Whether keys, values and headers of the notifications exceed `allowed` bytes. The value of `ce_source` does not
    /// count, because the outcome of a command must not depend on the configured name.
    pub(crate) fn output_exceeds(&self, allowed: usize, command_headers: &[Header]) -> bool {
        let (mut bytes, mut text) = (0_usize, String::new());
        let mut notifications = self.notifications("", command_headers);
        while let Some(notification) = notifications.next_in(&mut text) {
            bytes = bytes.saturating_add(notification.output().bytes());
            if bytes > allowed {
                return true;
            }
        }
        false
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
        let bytes = header.value.as_ref().map_or(0, |value| value.len());
        (1..=MAX_TRACE_HEADER_BYTES).contains(&bytes)
    })
}

impl NotificationRef<'_> {
    /// As text: see [`Notification::id`].
    #[must_use]
    pub fn id(&self) -> &str {
        self.id
    }

    #[must_use]
    pub fn output(&self) -> OutputRef<'_> {
        OutputRef {
            key: Some(self.key.as_bytes()),
            value: Some(self.value.as_bytes()),
            headers: &self.headers[..self.header_count],
        }
    }
}

impl<'a> Notifications<'a> {
    /// The next one. `text` is overwritten.
    pub fn next_in<'t>(&mut self, text: &'t mut String) -> Option<NotificationRef<'t>>
    where
        'a: 't,
    {
        let (notified, event) = (self.notified.next()?, self.event);
        let mut activity_id = Uuid::encode_buffer();
        let activity_id = &*event.id().as_uuid().hyphenated().encode_lower(&mut activity_id);
        let mut index = itoa::Buffer::new();
        let index = index.format(notified.target.index);
        let [before, after] = event.json_without_targets();
        // Copies slices of the normal form instead of serializing again.
        let value = [
            BEFORE_ID,
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
        text.clear();
        text.reserve(value.iter().map(|part| part.len()).sum());
        text.extend(value);
        let value = &**text;
        let id = &value[BEFORE_ID.len()..][..activity_id.len() + 1 + index.len()];
        let values = ["1.0", id, self.source, CE_TYPE, event.time(), event.subject(), "application/json"];
        // An array, because a vector would be built in one place and then moved here.
        let headers = std::array::from_fn(|index| match values.get(index) {
            Some(value) => (HEADERS[index].0.as_bytes(), Some(value.as_bytes())),
            None => self.trace.get(index - HEADERS.len()).map(|header| header.as_parts()).unwrap_or_default(),
        });
        let header_count = HEADERS.len() + self.trace.len();
        Some(NotificationRef { id, key: event.key(notified), value, headers, header_count })
    }
}

impl Iterator for Notifications<'_> {
    type Item = Notification;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        let notification = self.next_in(&mut text)?;
        Some(Notification { id: notification.id.to_owned(), record: notification.output().to_record() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.notified.size_hint()
    }
}

impl ExactSizeIterator for Notifications<'_> {}
