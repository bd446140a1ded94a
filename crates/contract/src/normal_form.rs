//! The normal form of an entry, as JSON: all defaults, no aliases, fields in a fixed order.

use std::ops::Range;

use crate::{
    canonical, date_time,
    entry::Entry,
    json::{self, RawMember},
    target::NOTIFIED,
};

/// The normal form, with the positions of the parts that are needed later.
#[derive(Debug)]
pub(crate) struct NormalForm {
    pub json: String,
    /// `,"publishedAt":"…"`, if the entry had none.
    pub default_published_at: Option<Range<usize>>,
    /// `,"targets":[…]`.
    pub audience: Range<usize>,
    pub notified: Vec<Notified>,
}

/// A target that is notified.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notified {
    /// Among all targets of the normal form, from 0.
    pub index: usize,
    /// In the normal form, without `notify` and the closing brace.
    pub target: Range<usize>,
    /// The notification's record key.
    pub key: String,
}

impl NormalForm {
    /// `timestamp` is the record's, in milliseconds since 1970; `length` estimates that of the JSON.
    pub fn write(entry: &Entry<'_>, timestamp: i64, length: usize) -> Self {
        Self::write_with(entry, timestamp, length, json::push_members)
    }

    /// [`write`](Self::write) with free properties in canonical form, which is equal for equal content.
    pub fn write_canonical(entry: &Entry<'_>, timestamp: i64, length: usize) -> Self {
        Self::write_with(entry, timestamp, length, canonical::push_members)
    }

    fn write_with(
        entry: &Entry<'_>,
        timestamp: i64,
        length: usize,
        push_free: impl Fn(&mut String, &[RawMember<'_>]),
    ) -> Self {
        let mut json = String::with_capacity(length);
        json.push_str("{\"@type\":");
        json::push_string(&mut json, &entry.verb);
        if let Some(actor) = &entry.actor {
            json.push_str(",\"actor\":");
            actor.write(&mut json);
        }
        json.push_str(",\"objectType\":");
        json::push_string(&mut json, &entry.object_type);
        json.push_str(",\"objectId\":");
        json::push_string(&mut json, &entry.object_id);
        let default_published_at = write_published_at(entry, timestamp, &mut json);
        let (audience, notified) = write_targets(entry, &mut json);
        if !entry.attachments.is_empty() {
            json.push_str(",\"attachments\":");
            write_array(&mut json, &entry.attachments, |attachment, json| {
                attachment.write(json, &push_free);
            });
        }
        if let Some(content) = &entry.content {
            json.push_str(",\"content\":");
            json::push_string(&mut json, content);
        }
        push_free(&mut json, &entry.free);
        json.push('}');
        Self { json, default_published_at, audience, notified }
    }
}

fn write_published_at(entry: &Entry<'_>, timestamp: i64, json: &mut String) -> Option<Range<usize>> {
    let start = json.len();
    json.push_str(",\"publishedAt\":");
    if let Some(published_at) = &entry.published_at {
        json::push_string(json, published_at);
        return None;
    }
    json.push('"');
    date_time::push_timestamp(json, timestamp);
    json.push('"');
    Some(start..json.len())
}

fn write_targets(entry: &Entry<'_>, json: &mut String) -> (Range<usize>, Vec<Notified>) {
    let start = json.len();
    let mut notified = Vec::new();
    let mut index = 0;
    json.push_str(",\"targets\":");
    write_array(json, &entry.targets, |target, json| {
        let start = json.len();
        target.write(json);
        if target.notify {
            notified.push(Notified {
                index,
                target: start..json.len() - NOTIFIED.len(),
                key: target.audience.key(&entry.object_type, &entry.object_id),
            });
        }
        index += 1;
    });
    (start..json.len(), notified)
}

fn write_array<T>(json: &mut String, elements: &[T], mut write: impl FnMut(&T, &mut String)) {
    json.push('[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write(element, json);
    }
    json.push(']');
}
