//! Who may see an activity, and who is notified.

use serde::{Deserialize, Serialize};

/// A user, an organisation unit, a position or a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// For people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<IdentityKind>,
}

/// What an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IdentityKind {
    User,
    OrganizationUnit,
    Position,
    Group,
}

impl Identity {
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), domain: None, name: None, kind: None }
    }

    /// Where the id is looked up. With and without a domain, an id is two different audiences.
    #[must_use]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        Self { domain: Some(domain.into()), ..self }
    }

    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    #[must_use]
    pub fn kind(self, kind: IdentityKind) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

/// An id alone, as the contract allows.
impl From<&str> for Identity {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl From<String> for Identity {
    fn from(id: String) -> Self {
        Self::new(id)
    }
}

/// Who may see an activity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "@type", content = "targetId")]
pub enum Audience {
    /// That user or group.
    Identity(Identity),
    /// All signed-in users.
    Everyone,
    /// All members of that channel; `None`: of the object's own channel.
    Members(Option<String>),
    /// Everyone, signed in or not.
    Public,
}

/// An audience, and whether it is notified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    #[serde(flatten)]
    audience: Audience,
    notify: bool,
}

impl Target {
    /// That user or group.
    #[must_use]
    pub fn identity(identity: impl Into<Identity>) -> Self {
        Audience::Identity(identity.into()).into()
    }

    /// All signed-in users.
    #[must_use]
    pub fn everyone() -> Self {
        Audience::Everyone.into()
    }

    /// All members of the object's own channel.
    #[must_use]
    pub fn members() -> Self {
        Audience::Members(None).into()
    }

    /// All members of that channel.
    #[must_use]
    pub fn members_of(channel: impl Into<String>) -> Self {
        Audience::Members(Some(channel.into())).into()
    }

    /// Everyone, signed in or not.
    #[must_use]
    pub fn public() -> Self {
        Audience::Public.into()
    }

    /// Notifies this audience. Otherwise it may see the activity, and gets no notification.
    #[must_use]
    pub fn notify(self) -> Self {
        Self { notify: true, ..self }
    }
}

/// Not notified.
impl From<Audience> for Target {
    fn from(audience: Audience) -> Self {
        Self { audience, notify: false }
    }
}

/// Not notified.
impl From<Identity> for Target {
    fn from(identity: Identity) -> Self {
        Self::identity(identity)
    }
}
