//! Files, links and videos.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

/// What is attached to an activity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Cow<'_, str>, Box<RawValue>>")]
pub struct Attachment {
    #[serde(rename = "@type")]
    pub kind: AttachmentKind,
    pub id: String,
    /// Your own properties: a name, a size, a media type. In a received attachment, only those that fit into a [`Value`]:
    /// not numbers beyond 64-bit floats, nor text with half of a surrogate pair.
    #[serde(flatten)]
    pub properties: Map<String, Value>,
}

/// What an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachmentKind {
    File,
    Link,
    Video,
}

impl TryFrom<BTreeMap<Cow<'_, str>, Box<RawValue>>> for Attachment {
    type Error = serde_json::Error;

    fn try_from(mut members: BTreeMap<Cow<'_, str>, Box<RawValue>>) -> Result<Self, Self::Error> {
        let mut required = |name: &'static str| {
            let value = members.remove(name);
            value.ok_or_else(|| <Self::Error as serde::de::Error>::missing_field(name))
        };
        let kind = serde_json::from_str(required("@type")?.get())?;
        let id = serde_json::from_str(required("id")?.get())?;
        let readable = |(name, value): (Cow<'_, str>, Box<RawValue>)| {
            Some((name.into_owned(), serde_json::from_str(value.get()).ok()?))
        };
        Ok(Self { kind, id, properties: members.into_iter().filter_map(readable).collect() })
    }
}

impl Attachment {
    #[must_use]
    pub fn file(id: impl Into<String>) -> Self {
        Self::of(AttachmentKind::File, id.into())
    }

    #[must_use]
    pub fn link(id: impl Into<String>) -> Self {
        Self::of(AttachmentKind::Link, id.into())
    }

    #[must_use]
    pub fn video(id: impl Into<String>) -> Self {
        Self::of(AttachmentKind::Video, id.into())
    }

    /// Sets a property of your own. A second one with the same name replaces the first.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    fn of(kind: AttachmentKind, id: String) -> Self {
        Self { kind, id, properties: Map::new() }
    }
}
