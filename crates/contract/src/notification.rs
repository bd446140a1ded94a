//! Notifications: what each audience that asked for it is told of an event.

use std::borrow::Cow;

use uuid::Uuid;

use super::{
    date_time,
    event::Event,
    normal_form::Notified,
    record::{Header, OutputRecord},
};

/// A notification, as a record for the notifications topic. The default is empty, to be written over:
/// [`Notifications::next_into`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notification {
    /// The activity's id and the place of the target: unique, and the same on every replay.
    pub id: String,
    pub record: OutputRecord,
}

/// The notifications of one event, made one by one; see [`Event::notifications`].
#[derive(Debug, Clone)]
pub struct Notifications<'a> {
    event: &'a Event,
    source: &'a str,
    /// Headers that pass from the command to each notification.
    passed_on: Vec<&'a Header>,
    /// The event's id, as text.
    activity_id: String,
    time: String,
    subject: String,
    notified: std::slice::Iter<'a, Notified>,
}

/// Headers of a trace (W3C Trace Context) that lead from a command to its notifications.
pub const PASSED_ON: [&str; 2] = ["traceparent", "tracestate"];
/// Bytes of such a header's value beyond which it stays behind. Trace Context asks for 512 to be passed on. A
/// record can hold half a megabyte of them beside a value of the largest size: with those the notification would
/// be larger than what brokers take, and a record that is refused would hold up its partition for ever.
const LONGEST_PASSED_ON: usize = 4096;
/// The headers of every notification, and what each says: CloudEvents 1.0, Kafka protocol binding, binary mode.
pub(super) const HEADERS: [(&str, &str); 7] = [
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
    /// One notification for each target with `notify`, in their order. `source` is the configured
    /// `ce_source`, `command_headers` are those of the command's record.
    #[must_use]
    pub fn notifications<'a>(&'a self, source: &'a str, command_headers: &'a [Header]) -> Notifications<'a> {
        let notified = self.notified();
        let (mut passed_on, mut activity_id, mut time, mut subject) =
            <(Vec<_>, String, String, String)>::default();
        if !notified.is_empty() {
            passed_on.extend(self::passed_on(command_headers));
            let id = self.id().as_uuid().hyphenated();
            activity_id.push_str(id.encode_lower(&mut Uuid::encode_buffer()));
            date_time::push_timestamp(&mut time, self.coordinates().timestamp);
            subject = [self.object_type(), "/", self.object_id()].concat();
        }
        Notifications {
            event: self,
            source,
            passed_on,
            activity_id,
            time,
            subject,
            notified: notified.iter(),
        }
    }

    /// Whether the notifications have more bytes than `allowed`: keys, values, and headers less the value of
    /// `ce_source`, which is configured and must not decide what becomes of a command.
    pub(super) fn output_exceeds(&self, allowed: usize, command_headers: &[Header]) -> bool {
        if self.notified().is_empty() {
            return false;
        }
        // No key, value, subject or header set is larger than this, so nearly always nothing need be made.
        let passed_on: usize = passed_on(command_headers).map(Header::bytes).sum();
        let at_most = 8 * self.json().len() + passed_on + 1024;
        if self.notified().len().saturating_mul(at_most) <= allowed {
            return false;
        }
        let mut bytes: usize = 0;
        self.notifications("", command_headers).any(|notification| {
            bytes = bytes.saturating_add(notification.record.bytes());
            bytes > allowed
        })
    }
}

/// The headers of a command that lead its trace on: where they have a value, since one without leads nowhere.
pub(super) fn passed_on(command_headers: &[Header]) -> impl Iterator<Item = &Header> {
    let last = PASSED_ON.iter().filter_map(|name| Header::last(command_headers, name.as_bytes()));
    last.filter(|header| (1..=LONGEST_PASSED_ON).contains(&bytes_of_value(header)))
}

impl Notifications<'_> {
    /// Writes the next one over another, whose memory is used again. `false` where there is none left, and the other is
    /// as it was.
    #[must_use]
    pub fn next_into(&mut self, notification: &mut Notification) -> bool {
        let Some(notified) = self.notified.next() else { return false };
        let Notification { id, record } = notification;
        id.clear();
        id.extend([self.activity_id.as_str(), "/", itoa::Buffer::new().format(notified.place)]);
        refill(&mut record.key, &[&notified.key]);
        let [before, after] = self.event.json_less_targets();
        // Spliced from the normal form, not written anew.
        let value = [
            "{\"id\":\"",
            id,
            "\",\"activityId\":\"",
            &self.activity_id,
            "\",\"target\":",
            self.event.target_json(notified),
            "},\"activity\":",
            before,
            after,
            "}",
        ];
        refill(&mut record.value, &value);
        let values = ["1.0", id, self.source, CE_TYPE, &self.time, &self.subject, "application/json"];
        let headers = &mut record.headers;
        headers.resize_with(HEADERS.len() + self.passed_on.len(), Header::default);
        let (own, passed_on) = headers.split_at_mut(HEADERS.len());
        for ((header, (name, _)), value) in own.iter_mut().zip(HEADERS).zip(values) {
            header.name = Cow::Borrowed(name.as_bytes());
            refill(&mut header.value, &[value]);
        }
        for (header, Header { name, value }) in passed_on.iter_mut().zip(&self.passed_on) {
            header.name.clone_from(name);
            header.value.clone_from(value);
        }
        true
    }
}

/// Text in place of what was there.
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

impl OutputRecord {
    /// Bytes of key, value and headers, without what Kafka's format adds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        length(&self.key) + length(&self.value) + self.headers.iter().map(Header::bytes).sum::<usize>()
    }
}

fn bytes_of_value(header: &Header) -> usize {
    header.value.as_ref().map_or(0, Vec::len)
}
