//! Files, links and videos.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is attached to an activity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    #[serde(rename = "@type")]
    pub kind: AttachmentKind,
    pub id: String,
    /// Yours: a name, a size, a media type.
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

    /// Sets a property of yours; a second one of that name takes the place of the first.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    fn of(kind: AttachmentKind, id: String) -> Self {
        Self { kind, id, properties: Map::new() }
    }
}
