//! An accepted command in normal form.

use thiserror::Error;

use super::{ActivityId, Coordinates};

/// An accepted command: the entry in normal form, with its id and the coordinates it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    id: ActivityId,
    coordinates: Coordinates,
    json: String,
    object_type: String,
    object_id: String,
}

/// Text that should be a normal form and is not: the log was changed by another program.
#[derive(Debug, Error)]
#[error("not an entry in normal form: {0}")]
pub struct NotNormalForm(pub String);

impl Event {
    /// An event as the log holds it. Not validated against any limit: what was accepted stays accepted.
    pub fn from_log(topic_bits: u16, coordinates: Coordinates, json: String) -> Result<Self, NotNormalForm> {
        let value: serde_json::Value =
            serde_json::from_str(&json).map_err(|error| NotNormalForm(error.to_string()))?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            id: ActivityId::new(topic_bits, coordinates),
            coordinates,
            object_type: text("objectType"),
            object_id: text("objectId"),
            json,
        })
    }

    #[must_use]
    pub fn id(&self) -> ActivityId {
        self.id
    }

    #[must_use]
    pub fn coordinates(&self) -> Coordinates {
        self.coordinates
    }

    /// The normal form.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    #[must_use]
    pub fn object_type(&self) -> &str {
        &self.object_type
    }

    #[must_use]
    pub fn object_id(&self) -> &str {
        &self.object_id
    }
}
