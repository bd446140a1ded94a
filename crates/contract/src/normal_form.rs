//! The normal form of an entry, as JSON: all defaults, no aliases, fields in a fixed order.

use std::ops::Range;

use smallvec::SmallVec;

use crate::{
    canonical, date_time,
    entry::Entry,
    json::{self, RawMember},
    target::NOTIFIED,
};

/// Where in a buffer a normal form is, and the parts of it that are needed later.
#[derive(Debug)]
pub(crate) struct NormalForm {
    pub json: Range<usize>,
    /// `,"publishedAt":"…"`, if the entry had none.
    pub default_published_at: Option<Range<usize>>,
    /// `,"targets":[…]`.
    pub audience: Range<usize>,
    pub notified: SmallVec<[NotifiedTarget; 1]>,
}

/// A target that is notified. Most events have one at most.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NotifiedTarget {
    /// Among all targets of the normal form, from 0.
    pub index: usize,
    /// Without `notify` and the closing brace.
    pub json: Range<usize>,
}

impl NormalForm {
    /// Appends the entry. `timestamp` is the record's, in milliseconds since 1970.
    pub fn write(entry: &Entry<'_>, timestamp: i64, out: &mut String) -> Self {
        Self::write_with(entry, timestamp, out, json::push_members)
    }

    /// [`write`](Self::write) with free properties in canonical form, which is equal for equal content.
    pub fn write_canonical(entry: &Entry<'_>, timestamp: i64, out: &mut String) -> Self {
        Self::write_with(entry, timestamp, out, canonical::push_members)
    }

    fn write_with(
        entry: &Entry<'_>,
        timestamp: i64,
        out: &mut String,
        push_free: impl Fn(&mut String, &[RawMember<'_>]),
    ) -> Self {
        let start = out.len();
        out.push_str("{\"@type\":");
        out.push_str(entry.verb.json());
        if let Some(actor) = &entry.actor {
            out.push_str(",\"actor\":");
            actor.write(out);
        }
        out.push_str(",\"objectType\":");
        out.push_str(entry.object_type.json());
        out.push_str(",\"objectId\":");
        out.push_str(entry.object_id.json());
        let default_published_at = write_published_at(entry, timestamp, out);
        let (audience, notified) = write_targets(entry, out);
        if !entry.attachments.is_empty() {
            out.push_str(",\"attachments\":");
            write_array(out, &entry.attachments, |attachment, out| attachment.write(out, &push_free));
        }
        if let Some(content) = &entry.content {
            out.push_str(",\"content\":");
            out.push_str(content.json());
        }
        push_free(out, &entry.free);
        out.push('}');
        Self { json: start..out.len(), default_published_at, audience, notified }
    }

    /// The record's timestamp, if it is the default of `publishedAt`.
    pub fn default_time(&self) -> Option<Range<usize>> {
        self.default_published_at.as_ref().map(|whole| whole.start + BEFORE_TIME.len()..whole.end - 1)
    }
}

const BEFORE_TIME: &str = ",\"publishedAt\":\"";

fn write_published_at(entry: &Entry<'_>, timestamp: i64, out: &mut String) -> Option<Range<usize>> {
    let start = out.len();
    if let Some(published_at) = &entry.published_at {
        out.push_str(",\"publishedAt\":");
        out.push_str(published_at.json());
        return None;
    }
    out.push_str(BEFORE_TIME);
    date_time::push_timestamp(out, timestamp);
    out.push('"');
    Some(start..out.len())
}

fn write_targets(entry: &Entry<'_>, out: &mut String) -> (Range<usize>, SmallVec<[NotifiedTarget; 1]>) {
    let start = out.len();
    let mut notified = SmallVec::new();
    let mut index = 0;
    out.push_str(",\"targets\":");
    write_array(out, &entry.targets, |target, out| {
        let start = out.len();
        target.write(out);
        if target.notify {
            notified.push(NotifiedTarget { index, json: start..out.len() - NOTIFIED.len() });
        }
        index += 1;
    });
    (start..out.len(), notified)
}

fn write_array<T>(out: &mut String, elements: &[T], mut write: impl FnMut(&T, &mut String)) {
    out.push('[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(element, out);
    }
    out.push(']');
}
