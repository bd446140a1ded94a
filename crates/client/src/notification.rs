//! Notifications, as received.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use contract::{ActivityId, Coordinates, Header, Record};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use thiserror::Error;

use super::{
    attachment::Attachment,
    target::{Audience, Identity},
};

/// An activity's id and the index of the target among its targets: `ID/INDEX`. The same on every replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId {
    pub activity: ActivityId,
    /// Counted from 0.
    pub place: u32,
}

/// A notification of one audience about one activity.
#[derive(Debug, Clone)]
pub struct Notification {
    pub id: NotificationId,
    pub activity_id: ActivityId,
    /// The notified audience.
    pub target: Audience,
    pub activity: Activity,
    /// The record's key: the audience, as the contract writes it.
    pub key: String,
    /// CloudEvents' `ce_…`, and the command's trace.
    pub headers: Vec<Header>,
    /// Partition, offset and timestamp of the record.
    pub at: Coordinates,
}

/// The activity in normal form, without its targets.
#[derive(Debug, Clone)]
pub struct Activity {
    json: Box<RawValue>,
    known: Known,
}

/// A record on the notifications topic that is not a notification.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "partition {}, offset {} of the topic '{topic}' is no notification: {reason}",
    .record.coordinates.partition, .record.coordinates.offset
)]
pub struct NotANotification {
    pub topic: String,
    pub record: Record,
    pub reason: String,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    #[serde(rename = "activityId")]
    activity_id: ActivityId,
    target: Audience,
    activity: Box<RawValue>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    #[serde(rename = "@type")]
    verb: String,
    #[serde(default)]
    actor: Option<Identity>,
    object_type: String,
    object_id: String,
    published_at: String,
    #[serde(default)]
    attachments: Vec<Attachment>,
    #[serde(default)]
    content: Option<String>,
}

impl Notification {
    /// Reads a record, or returns why it is not a notification.
    pub(super) fn read(record: &Record) -> Result<Self, String> {
        let value = record.value.as_deref().ok_or("it has no value")?;
        let read: Wire = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let id: NotificationId = read.id.parse().map_err(|error: BadId| error.to_string())?;
        if id.activity != read.activity_id {
            return Err(format!("its id {id} is not that of the activity {}", read.activity_id));
        }
        let known =
            serde_json::from_str(read.activity.get()).map_err(|error| format!("activity: {error}"))?;
        let key = record.key.clone().ok_or("it has no key")?;
        Ok(Self {
            id,
            activity_id: read.activity_id,
            target: read.target,
            activity: Activity { json: read.activity, known },
            key: String::from_utf8(key.into()).map_err(|_| "its key is not UTF-8")?,
            headers: record.headers.clone(),
            at: record.coordinates,
        })
    }

    /// The last header with that name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let last = self.headers.iter().rev().find(|header| header.name == name.as_bytes())?;
        std::str::from_utf8(last.value.as_deref()?).ok()
    }
}

impl Activity {
    /// The whole activity, byte for byte as it was published.
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// What was done (`@type`).
    #[must_use]
    pub fn verb(&self) -> &str {
        &self.known.verb
    }

    /// Who did it; `None`: the system itself.
    #[must_use]
    pub fn actor(&self) -> Option<&Identity> {
        self.known.actor.as_ref()
    }

    #[must_use]
    pub fn object_type(&self) -> &str {
        &self.known.object_type
    }

    #[must_use]
    pub fn object_id(&self) -> &str {
        &self.known.object_id
    }

    /// When it happened, RFC 3339 with an offset, as it was written.
    #[must_use]
    pub fn published_at(&self) -> &str {
        &self.known.published_at
    }

    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.known.attachments
    }

    /// The text that people read.
    #[must_use]
    pub fn content(&self) -> Option<&str> {
        self.known.content.as_deref()
    }

    /// Any property by its name, including those of the object type. Also `None` if the property does not fit into a
    /// [`Value`], such as a number beyond 64-bit floats, or text with half of a surrogate pair: see
    /// [`property_json`](Self::property_json).
    #[must_use]
    pub fn property(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.property_json(name)?.get()).ok()
    }

    /// Any property by its name, byte for byte as it was published.
    #[must_use]
    pub fn property_json(&self, name: &str) -> Option<&RawValue> {
        // Other properties are not read, since they may contain JSON that few readers accept.
        let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(self.json.get()).ok()?;
        members.remove(name)
    }
}

/// Text that is not the id of a notification.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a notification's id: expected an activity's id, a slash and a number")]
pub struct BadId(String);

impl FromStr for NotificationId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let read = |text: &str| {
            let (activity, place) = text.split_once('/')?;
            let id = Self { activity: activity.parse().ok()?, place: place.parse().ok()? };
            // Only the published form, otherwise one id could have two forms.
            (id.place.to_string() == place).then_some(id)
        };
        read(text).ok_or_else(|| BadId(text.chars().take(80).collect()))
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.activity, self.place)
    }
}

#[cfg(test)]
mod tests {
    use contract::{Decider, Event, Limits, OutputRecord, Reading};

    use super::*;
    use crate::{entry::Entry, target::Target};

    fn event(entry: &Entry) -> Event {
        let decider = Decider::new("activity.commands", Limits::default());
        match decider.read(&entry.to_record(1_795_478_400_123)).reading {
            Reading::Valid { event, .. } => event,
            Reading::Rejected(problems) => panic!("{problems}"),
        }
    }

    fn record(output: OutputRecord) -> Record {
        let at = Coordinates { partition: 1, offset: 2, timestamp: 3 };
        Record { coordinates: at, key: output.key, value: output.value, headers: output.headers }
    }

    #[test]
    fn reads_the_processors_notifications_for_every_audience() {
        let audiences = [
            Audience::Everyone,
            Audience::Identity(Identity::new("accounting").domain("nordlys").name("Accounting")),
            Audience::Members(None),
            Audience::Members(Some("c".into())),
            Audience::Public,
        ];
        let mut entry = Entry::new("workitem", "w-9")
            .verb("complete")
            .actor("anna")
            .content("Approved.")
            .attachment(Attachment::link("l").property("size", 5))
            .property("href", "/w-9");
        for audience in &audiences {
            entry = entry.target(Target::from(audience.clone()).notify());
        }
        let event = event(&entry);
        let written: Vec<_> = event.notifications("source", &[]).collect();
        assert_eq!(written.len(), audiences.len());
        for (written, audience) in written.into_iter().zip(audiences) {
            let key = written.record.key.clone().unwrap();
            let read = Notification::read(&record(written.record)).unwrap();
            assert_eq!(read.id.to_string(), written.id);
            assert_eq!((read.activity_id, read.target), (event.id(), audience));
            assert_eq!((read.key.as_bytes(), read.at.offset), (&key[..], 2));
            let activity = &read.activity;
            assert_eq!((activity.verb(), activity.content()), ("complete", Some("Approved.")));
            assert_eq!((activity.object_type(), activity.object_id()), ("workitem", "w-9"));
            assert_eq!(activity.actor(), Some(&Identity::new("anna")));
            assert_eq!(activity.attachments(), [Attachment::link("l").property("size", 5)]);
            assert_eq!(activity.published_at(), "2026-11-24T00:00:00.123Z");
            assert_eq!(activity.property("href"), Some("/w-9".into()));
            assert_eq!(activity.property("targets"), None);
        }
    }

    /// The contract accepts any JSON in the producer's own properties, unchanged.
    #[test]
    fn unusual_json_hides_nothing_else() {
        let value = r#"{"objectType":"case","objectId":"7","targets":[{"@type":"Everyone","notify":true}],
            "huge":1e400,"half":"\ud800","in":{"\ud800":[1e400,"\udc00"]},"good":[1,"\u00e6"],
            "attachments":[{"@type":"link","id":"l","size":5,"huge":1e400,"half":"\ud800"}]}"#;
        let at = Coordinates { partition: 0, offset: 0, timestamp: 1_795_478_400_123 };
        let command = Record {
            coordinates: at,
            key: None,
            value: Some(value.as_bytes().to_vec().into()),
            headers: Vec::new(),
        };
        let decider = Decider::new("activity.commands", Limits::default());
        let Reading::Valid { event, .. } = decider.read(&command).reading else { panic!("rejected") };
        let written = event.notifications("source", &[]).next().unwrap().record;
        let read = Notification::read(&record(written)).unwrap();
        let activity = &read.activity;
        assert_eq!(activity.property("good"), Some(serde_json::json!([1, "æ"])));
        assert_eq!(activity.property("objectId"), Some("7".into()));
        for (name, json) in
            [("huge", "1e400"), ("half", r#""\ud800""#), ("in", r#"{"\ud800":[1e400,"\udc00"]}"#)]
        {
            assert_eq!(activity.property(name), None);
            assert_eq!(activity.property_json(name).unwrap().get(), json);
        }
        assert_eq!(activity.property("attachments"), None);
        let [attachment] = activity.attachments() else { panic!("{:?}", activity.attachments()) };
        assert_eq!((attachment.id.as_str(), attachment.properties.get("size")), ("l", Some(&5.into())));
        assert_eq!(attachment.properties.len(), 1);
    }

    #[test]
    fn says_why_a_record_is_not_a_notification() {
        let written = event(&Entry::new("case", "7").target(Target::everyone().notify()));
        let good = record(written.notifications("source", &[]).next().unwrap().record);
        let why = |record: Record| Notification::read(&record).unwrap_err();
        let changed = |from: &str, to: &str| {
            let value = String::from_utf8(good.value.clone().unwrap().into()).unwrap().replacen(from, to, 1);
            why(Record { value: Some(value.into()), ..good.clone() })
        };
        assert_eq!(why(Record { value: None, ..good.clone() }), "it has no value");
        assert_eq!(why(Record { key: None, ..good.clone() }), "it has no key");
        assert_eq!(why(Record { key: Some(vec![0xff].into()), ..good.clone() }), "its key is not UTF-8");
        assert!(changed("{", "").contains("expected"));
        assert!(changed("/0\"", "/00\"").contains("is not a notification's id"));
        assert!(changed("\"id\":\"0", "\"id\":\"1").contains("is not that of the activity"));
        assert!(changed("objectType", "object").contains("objectType"));
        assert!(changed("Everyone", "Nobody").contains("Nobody"));
    }
}
