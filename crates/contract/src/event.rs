//! Events: accepted commands in normal form.

use std::{borrow::Cow, ops::Range};

use thiserror::Error;

use crate::{
    id::ActivityId,
    json::{self, RawMember},
    limits::Limits,
    normal_form::{NormalForm, Notified},
    problem::{Findings, Pointer},
    record::Coordinates,
    target::{NOTIFIED, Target},
};

/// An accepted command: the entry in normal form, with its id and the coordinates of the command.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    id: ActivityId,
    coordinates: Coordinates,
    json: String,
    object_type: String,
    object_id: String,
    /// `,"targets":[…]` in `json`.
    audience: Range<usize>,
    notified: Vec<Notified>,
}

/// A target of an event, to show to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTarget {
    /// The audience as in notification keys: `Identity:nordlys/accounting`, `Everyone`, …
    pub audience: String,
    /// The display name of an identity, if the command has one.
    pub name: Option<String>,
    pub notify: bool,
}

/// Text from a log is not a normal form: another program changed the log.
#[derive(Debug, Error)]
#[error("not an entry in normal form: {0}")]
pub struct NotNormalForm(pub String);

impl Event {
    pub(crate) fn new(
        id: ActivityId,
        coordinates: Coordinates,
        (object_type, object_id): (Cow<'_, str>, Cow<'_, str>),
        normal_form: NormalForm,
    ) -> Self {
        let NormalForm { json, audience, notified, .. } = normal_form;
        let (object_type, object_id) = (object_type.into_owned(), object_id.into_owned());
        Self { id, coordinates, json, object_type, object_id, audience, notified }
    }

    /// Reads an event from the log. No limits apply: what was accepted stays accepted.
    ///
    /// # Errors
    ///
    /// [`NotNormalForm`] if the text lacks a part that every normal form has.
    pub fn from_log(topic_bits: u16, coordinates: Coordinates, json: String) -> Result<Self, NotNormalForm> {
        let members = members(&json)?;
        let object_type = required_text(&members, "objectType")?.into_owned();
        let object_id = required_text(&members, "objectId")?.into_owned();
        let targets =
            find(&members, "targets").ok_or_else(|| NotNormalForm("it has no targets".to_owned()))?;
        let start = position(&json, targets.name).checked_sub(1);
        let Some(start) = start.filter(|start| json.as_bytes()[*start] == b',') else {
            return Err(NotNormalForm("there is no comma before its targets".to_owned()));
        };
        let audience = start..position(&json, targets.value) + targets.value.len();
        let mut notified = Vec::new();
        for (index, (raw, target)) in read_targets(targets.value)?.into_iter().enumerate() {
            if !target.notify {
                continue;
            }
            let visible = raw
                .strip_suffix(NOTIFIED)
                .ok_or_else(|| NotNormalForm(format!("its target {index} does not end in {NOTIFIED}")))?;
            let start = position(&json, visible);
            let key = target.audience.key(&object_type, &object_id);
            notified.push(Notified { index, target: start..start + visible.len(), key });
        }
        let id = ActivityId::new(topic_bits, coordinates);
        Ok(Self { id, coordinates, object_type, object_id, audience, notified, json })
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

    /// What was done: `@type`. Parses the JSON again, as do the methods below: they are for output to people.
    #[must_use]
    pub fn verb(&self) -> Cow<'_, str> {
        self.text("@type").unwrap_or_default()
    }

    /// When it happened, as the producer wrote it.
    #[must_use]
    pub fn published_at(&self) -> Cow<'_, str> {
        self.text("publishedAt").unwrap_or_default()
    }

    /// The text for people.
    #[must_use]
    pub fn content(&self) -> Option<Cow<'_, str>> {
        self.text("content")
    }

    /// The targets, in the order of the normal form.
    #[must_use]
    pub fn targets(&self) -> Vec<EventTarget> {
        let raw = self.json[self.audience.clone()].strip_prefix(",\"targets\":").unwrap_or("[]");
        let targets = read_targets(raw).unwrap_or_default().into_iter();
        targets
            .map(|(_, target)| EventTarget {
                audience: target.audience.key(&self.object_type, &self.object_id),
                name: target.audience.name().map(str::to_owned),
                notify: target.notify,
            })
            .collect()
    }

    /// The number of [`notifications`](Self::notifications).
    #[must_use]
    pub fn notification_count(&self) -> usize {
        self.notified.len()
    }

    pub(crate) fn notified(&self) -> &[Notified] {
        &self.notified
    }

    /// The normal form before and after `targets`: an audience must not learn who the others are.
    pub(crate) fn json_without_targets(&self) -> [&str; 2] {
        [&self.json[..self.audience.start], &self.json[self.audience.end..]]
    }

    /// The target's JSON without `notify` and the closing brace.
    pub(crate) fn target_json(&self, notified: &Notified) -> &str {
        &self.json[notified.target.clone()]
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let members = json::members(&self.json).ok()?;
        find(&members, name).and_then(|member| json::string(member.value).ok())
    }
}

fn members(json: &str) -> Result<Vec<RawMember<'_>>, NotNormalForm> {
    json::members(json).map_err(|error| NotNormalForm(error.to_string()))
}

/// Compares raw names: in the normal form, the contract's names have no escapes.
fn find<'a>(members: &[RawMember<'a>], name: &str) -> Option<RawMember<'a>> {
    let is_named = |raw: &str| {
        raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).is_some_and(|raw| raw == name)
    };
    members.iter().copied().find(|member| is_named(member.name))
}

fn required_text<'a>(members: &[RawMember<'a>], name: &str) -> Result<Cow<'a, str>, NotNormalForm> {
    find(members, name)
        .filter(|member| json::Kind::of(member.value) == json::Kind::String)
        .and_then(|member| json::string(member.value).ok())
        .ok_or_else(|| NotNormalForm(format!("its {name} is missing or not text")))
}

fn read_targets(raw: &str) -> Result<Vec<(&str, Target<'_>)>, NotNormalForm> {
    let limits = Limits::unlimited();
    let mut findings = Findings::new(&limits);
    let elements = json::elements(raw).map_err(|error| NotNormalForm(format!("targets: {error}")))?;
    let targets: Vec<_> = elements
        .into_iter()
        .filter_map(|raw| Target::read(raw, &Pointer::Root, &mut findings).map(|target| (raw, target)))
        .collect();
    match findings.into_problems() {
        Some(problems) => Err(NotNormalForm(format!("targets: {problems}"))),
        None => Ok(targets),
    }
}

/// The start of `part`, a slice of `whole`.
fn position(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}
