//! The entry: what one call posts about one object.

use std::fmt;

use bytes::Bytes;
use contract::{Coordinates, Header, Record, object_key};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::{
    attachment::Attachment,
    target::{Identity, Target},
};

/// An activity as it is posted: the contract's `ActivityEntry`, and how it is sent.
///
/// The five calls of the contract:
///
/// ```
/// use activity_stream_client::{Attachment, Entry, Identity, IdentityKind, Target};
///
/// let administrators =
///     || Identity::new("administrators").domain("nordlys").name("Administrators").kind(IdentityKind::Group);
/// let accounting =
///     Identity::new("accounting").domain("nordlys").name("Accounting").kind(IdentityKind::OrganizationUnit);
///
/// // For everyone.
/// Entry::new("customer", "42").content("Customer Nordlys AS is updated.");
/// // For administrators only.
/// Entry::new("customer", "42").content("Customer is updated.").target(administrators());
/// // For administrators and accounting, with accounting notified.
/// Entry::new("customer", "42")
///     .content("Customer is updated.")
///     .target(administrators())
///     .target(Target::identity(accounting).notify());
/// // With a file attached.
/// Entry::new("customer", "42")
///     .content("Customer is updated.")
///     .target(Target::identity("administrators"))
///     .attachment(Attachment::file("bill-2026-0117.pdf"));
/// // On a case.
/// Entry::new("case", "c-7f3a").content("Customer is updated.");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    object_type: String,
    object_id: String,
    verb: Option<String>,
    actor: Option<Identity>,
    published_at: Option<String>,
    targets: Vec<Target>,
    attachments: Vec<Attachment>,
    content: Option<String>,
    properties: Vec<(String, Value)>,
    record_key: Option<Bytes>,
    headers: Vec<Header>,
}

const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Entry {
    /// An entry about that object, for everyone until it has a target.
    #[must_use]
    pub fn new(object_type: impl Into<String>, object_id: impl Into<String>) -> Self {
        Self {
            object_type: object_type.into(),
            object_id: object_id.into(),
            verb: None,
            actor: None,
            published_at: None,
            targets: Vec::new(),
            attachments: Vec::new(),
            content: None,
            properties: Vec::new(),
            record_key: None,
            headers: Vec::new(),
        }
    }

    /// What was done (`@type`): `share` (the default), `update`, `assign`, `complete` or any other.
    #[must_use]
    pub fn verb(self, verb: impl Into<String>) -> Self {
        Self { verb: Some(verb.into()), ..self }
    }

    /// Who did it. Default: the system itself.
    #[must_use]
    pub fn actor(self, actor: impl Into<Identity>) -> Self {
        Self { actor: Some(actor.into()), ..self }
    }

    /// When it happened: a date-time of RFC 3339 with an offset, which is stored unchanged. Default: the record's timestamp.
    #[must_use]
    pub fn published_at(self, at: impl fmt::Display) -> Self {
        Self { published_at: Some(at.to_string()), ..self }
    }

    /// Adds an audience. Everyone may see an entry without targets, and nobody is notified.
    #[must_use]
    pub fn target(mut self, target: impl Into<Target>) -> Self {
        self.targets.push(target.into());
        self
    }

    /// Adds an attachment.
    #[must_use]
    pub fn attachment(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// The text that people read.
    #[must_use]
    pub fn content(self, content: impl Into<String>) -> Self {
        Self { content: Some(content.into()), ..self }
    }

    /// Adds a property of your own (`task`, `href`, …), which is stored and forwarded. Posting fails if its name belongs to
    /// the contract or names an audience in another vocabulary (`cc`, `to`, …), or was used already.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Identifies the entry, so that another copy is a duplicate: 1 to 255 bytes.
    #[must_use]
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.header(IDEMPOTENCY_KEY, key.into())
    }

    /// The record's key, which selects its partition. Default: `objectType/objectId`, so that the activities of one object
    /// stay in order.
    #[must_use]
    pub fn record_key(self, key: impl Into<Bytes>) -> Self {
        Self { record_key: Some(key.into()), ..self }
    }

    /// Adds a header to the record. `traceparent` and `tracestate` are copied to notifications and replies.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name.into(), value));
        self
    }

    /// The value of the command's record.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and JSON values can't fail to serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The record that is sent at that time (milliseconds since 1970).
    pub(super) fn to_record(&self, timestamp: i64) -> Record {
        let value = Bytes::from(self.to_json());
        let key = self.record_key.clone().or_else(|| object_key(&value).map(Bytes::from));
        // Its partition and offset do not affect its problems.
        Record {
            coordinates: Coordinates { partition: 0, offset: 0, timestamp },
            key,
            value: Some(value),
            headers: self.headers.clone(),
        }
    }
}

/// The contract's names, in the order of its table. Unset fields are omitted.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn some<M: SerializeMap, T: Serialize>(
            map: &mut M,
            name: &str,
            value: &Option<T>,
        ) -> Result<(), M::Error> {
            value.as_ref().map_or(Ok(()), |value| map.serialize_entry(name, value))
        }
        let mut map = serializer.serialize_map(None)?;
        some(&mut map, "@type", &self.verb)?;
        some(&mut map, "actor", &self.actor)?;
        map.serialize_entry("objectType", &self.object_type)?;
        map.serialize_entry("objectId", &self.object_id)?;
        some(&mut map, "publishedAt", &self.published_at)?;
        if !self.targets.is_empty() {
            map.serialize_entry("targets", &self.targets)?;
        }
        if !self.attachments.is_empty() {
            map.serialize_entry("attachments", &self.attachments)?;
        }
        some(&mut map, "content", &self.content)?;
        for (name, value) in &self.properties {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use contract::{Decider, Event, Limits, Problems, Reading};

    use super::*;
    use crate::target::IdentityKind;

    fn read(record: &Record) -> Result<Event, Problems> {
        match Decider::new("activity.commands", Limits::default()).read(record).reading {
            Reading::Valid { event, .. } => Ok(event),
            Reading::Rejected(problems) => Err(problems),
        }
    }

    fn normal_form(entry: &Entry) -> String {
        read(&entry.to_record(1)).unwrap().json().to_owned()
    }

    fn normal_form_of(json: &str) -> String {
        let value = Some(json.to_owned().into());
        let record = Record { value, ..Entry::new("", "").to_record(1) };
        read(&record).unwrap().json().to_owned()
    }

    fn problems(entry: &Entry) -> Vec<String> {
        let problems = read(&entry.to_record(1)).unwrap_err();
        problems.0.into_iter().map(|problem| format!("{} {}", problem.pointer, problem.code)).collect()
    }

    #[test]
    fn the_five_calls_have_the_normal_forms_of_their_json() {
        let administrators = Identity::new("administrators")
            .domain("nordlys")
            .name("Administrators")
            .kind(IdentityKind::Group);
        let accounting = Identity::new("accounting")
            .domain("nordlys")
            .name("Accounting")
            .kind(IdentityKind::OrganizationUnit);
        let customer = || Entry::new("customer", "42").content("Customer is updated.");
        let calls = [
            (
                Entry::new("customer", "42").content("Customer Nordlys AS is updated."),
                include_str!("../../../tests/examples/1-everyone.json"),
            ),
            (
                customer().target(administrators.clone()),
                include_str!("../../../tests/examples/2-administrators-only.json"),
            ),
            (
                customer().target(administrators).target(Target::identity(accounting).notify()),
                include_str!("../../../tests/examples/3-notify-accounting.json"),
            ),
            (
                customer()
                    .target(Target::identity("administrators"))
                    .attachment(Attachment::file("bill-2026-0117.pdf")),
                include_str!("../../../tests/examples/4-file-attachment.json"),
            ),
            (
                Entry::new("case", "c-7f3a").content("Customer is updated."),
                include_str!("../../../tests/examples/5-on-a-case.json"),
            ),
        ];
        for (entry, json) in calls {
            assert_eq!(normal_form(&entry), normal_form_of(json));
        }
    }

    #[test]
    fn every_field_is_written_as_the_contract_names_it() {
        let entry = Entry::new("workitem", "w-9")
            .verb("complete")
            .actor(Identity::new("anna").kind(IdentityKind::User))
            .published_at("2026-11-24T01:20:00+01:00")
            .target(Target::everyone())
            .target(Target::members().notify())
            .target(Target::members_of("c"))
            .target(Target::public())
            .attachment(Attachment::link("l").property("name", "L"))
            .attachment(Attachment::video("v"))
            .property("href", "/workitems/w-9")
            .property("task", serde_json::json!({"n": [1, null]}));
        let json = r#"{"@type":"complete","actor":{"id":"anna","type":"User"},"objectType":"workitem",
            "objectId":"w-9","publishedAt":"2026-11-24T01:20:00+01:00","targets":[{"@type":"Everyone"},
            {"@type":"Members","notify":true},{"@type":"Members","targetId":"c"},{"@type":"Public"}],
            "attachments":[{"@type":"link","id":"l","name":"L"},{"@type":"video","id":"v"}],
            "href":"/workitems/w-9","task":{"n":[1,null]}}"#;
        assert_eq!(normal_form(&entry), normal_form_of(json));
    }

    #[test]
    fn a_property_that_is_the_contracts_or_is_given_twice_is_a_problem() {
        let entry =
            Entry::new("case", "7").content("a").property("content", "b").property("x", 1).property("x", 2);
        assert_eq!(problems(&entry), ["/content duplicate_property", "/x duplicate_property"]);
        assert_eq!(
            problems(&Entry::new("case", "7").property("target", "anna")),
            ["/target misspelt_targets"]
        );
        let audiences = Entry::new("case", "7").property("cc", "anna").property("to", vec!["anna"]);
        assert_eq!(problems(&audiences), ["/cc foreign_audience", "/to foreign_audience"]);
        let dated = Entry::new("case", "7").published_at("2026-11-24T01:20:00Z").property("published", "x");
        assert_eq!(problems(&dated), ["/published duplicate_property"]);
    }

    #[test]
    fn the_object_is_the_key_unless_another_is_given() {
        let key = |entry: &Entry| String::from_utf8(entry.to_record(1).key.unwrap().into()).unwrap();
        let entry = Entry::new("case", "7").idempotency_key("k");
        assert_eq!(key(&entry), "case/7");
        assert!(read(&entry.to_record(1)).is_ok());
        assert_eq!(key(&entry.record_key("mine")), "mine");
        assert_eq!(problems(&Entry::new("case", "7").idempotency_key("")), [" bad_idempotency_key"]);
    }
}
