//! Targets: who may see an activity, and who is notified.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    code::Code,
    field::{Field, fields},
    found::{DidYouMean, Found, Quoted},
    identity::{Identity, IdentityField},
    json::{self, Kind, RawMember},
    member::{self, Member},
    problem::{Findings, Pointer},
    text::{self, Rule},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub audience: Audience<'a>,
    pub notify: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience<'a> {
    Identity(Identity<'a>),
    Everyone,
    /// A channel's members; without a channel, those of the object's own.
    Members(Option<Cow<'a, str>>),
    Public,
}

pub(super) const IDENTITY: &str = "Identity";
pub(super) const EVERYONE: &str = "Everyone";
pub(super) const MEMBERS: &str = "Members";
pub(super) const PUBLIC: &str = "Public";
const TYPES: [&str; 4] = [IDENTITY, EVERYONE, MEMBERS, PUBLIC];

fields! {
    /// What a target has.
    TargetField {
        Type => "@type" | "type",
        TargetId => "targetId",
        Notify => "notify",
        // The identity's, where `targetId` is its id alone.
        Name => "name",
    }
}

/// How a target ends in the normal form if it is notified.
pub(super) const NOTIFIED: &str = ",\"notify\":true}";
const NOT_NOTIFIED: &str = ",\"notify\":false}";

impl<'a> Target<'a> {
    /// The audience of an entry that does not say.
    pub const EVERYONE: Self = Self { audience: Audience::Everyone, notify: false };

    /// The elements of the property `targets`.
    pub fn read_all(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Vec<Self> {
        let nobody = |found: &str, findings: &mut Findings<'_>| {
            let message = format_args!(
                "expected at least one target, found {found}; leave targets out where everyone is meant"
            );
            findings.add(at, Code::NoTargets, message);
            Vec::new()
        };
        match Kind::of(raw) {
            Kind::Null => return nobody("null", findings),
            Kind::Array => {}
            _ => {
                let message = format_args!("expected an array of targets, found {}", Found(raw));
                findings.add(at, Code::WrongType, message);
                return Vec::new();
            }
        }
        // A part of valid JSON is valid.
        let elements = json::elements(raw).unwrap_or_default();
        if elements.is_empty() {
            return nobody("none", findings);
        }
        let allowed = findings.limits().targets;
        if elements.len() > allowed {
            let message = format_args!("expected at most {allowed} targets, found {}", elements.len());
            findings.add(at, Code::TooManyTargets, message);
        }
        let read = elements.iter().take(allowed).enumerate();
        once_each(read.filter_map(|(index, raw)| Self::read(raw, &at.index(index), findings)).collect())
    }

    pub fn read(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        let identity = match Kind::of(raw) {
            Kind::String => Identity::read(raw, at, findings),
            Kind::Object => {
                // A part of valid JSON is valid.
                let members = json::members(raw).unwrap_or_default();
                if !is_identity(&members) {
                    return Self::read_members(members, at, findings);
                }
                Identity::read_members(members, at, findings)
            }
            _ => {
                let message = format_args!("expected an identity or a target, found {}", Found(raw));
                findings.add(at, Code::WrongType, message);
                None
            }
        };
        Some(Self { audience: Audience::Identity(identity?), notify: false })
    }

    fn read_members(
        members: Vec<RawMember<'a>>,
        at: &Pointer<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let members = member::of_raw(members, at, findings);
        let (mut kind, mut target_id, mut notify, mut name) = (None, None, Some(false), None);
        for member in &members {
            let at = at.name(&member.name);
            match member.field {
                Some(_) if member.is_null() => {}
                Some(TargetField::Type) => {
                    kind = Some(text::read_word(member.raw.value, &TYPES, &at, findings));
                }
                Some(TargetField::TargetId) => target_id = Some(member.raw.value),
                Some(TargetField::Notify) => {
                    notify = text::read_boolean(member.raw.value, &at, findings);
                }
                Some(TargetField::Name) => name = Some(member.raw.value),
                None => report_unknown(&member.name, &at, findings),
            }
        }
        if kind.is_none() && target_id.is_none() {
            let message = format_args!("expected \"@type\" or \"targetId\", found neither");
            findings.add(at, Code::Missing, message);
            return None;
        }
        let kind = kind.unwrap_or(Some(IDENTITY))?;
        let mut audience = Audience::read(kind, target_id, &members, at, findings);
        if let Some(raw) = name {
            let at = at.name(TargetField::Name.name());
            let takes_name = kind == IDENTITY && target_id.is_none_or(|id| Kind::of(id) == Kind::String);
            match &mut audience {
                Some(Audience::Identity(identity)) if takes_name => {
                    identity.name = text::read(raw, Rule::Name, &at, findings);
                }
                Some(Audience::Identity(Identity { name: Some(_), .. })) => {
                    let message = format_args!("\"name\" and \"targetId\" both name the identity");
                    findings.add(&at, Code::DuplicateProperty, message);
                }
                _ if takes_name => {
                    text::read(raw, Rule::Name, &at, findings);
                }
                _ => {
                    let message =
                        format_args!("only an Identity target whose \"targetId\" is a string has a \"name\"");
                    findings.add(&at, Code::UnknownProperty, message);
                }
            }
        }
        Some(Self { audience: audience?, notify: notify? })
    }

    pub fn write(&self, out: &mut String) {
        self.audience.write(out);
        out.push_str(if self.notify { NOTIFIED } else { NOT_NOTIFIED });
    }
}

impl<'a> Audience<'a> {
    fn read(
        kind: &str,
        target_id: Option<&'a str>,
        members: &[Member<'a, TargetField>],
        at: &Pointer<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let id_at = at.name(TargetField::TargetId.name());
        match (kind, target_id) {
            (IDENTITY, Some(raw)) => Identity::read(raw, &id_at, findings).map(Self::Identity),
            (IDENTITY, None) => {
                let expected = "the id of a user or group, or an identity";
                member::require(TargetField::TargetId, expected, members, at, findings);
                None
            }
            (MEMBERS, Some(raw)) => {
                text::read(raw, Rule::Id, &id_at, findings).map(|channel| Self::Members(Some(channel)))
            }
            (MEMBERS, None) => Some(Self::Members(None)),
            (all, Some(raw)) => {
                let message = format_args!(
                    "expected no \"targetId\" in a target of type {all}, found {}; to reach only that one, leave \"@type\" out",
                    Found(raw)
                );
                findings.add(&id_at, Code::UnexpectedTargetId, message);
                None
            }
            (EVERYONE, None) => Some(Self::Everyone),
            _ => Some(Self::Public),
        }
    }

    /// A target of the normal form as far as `notify`: what a notification shows, but for the closing brace.
    fn write(&self, out: &mut String) {
        out.push_str("{\"@type\":\"");
        out.push_str(match self {
            Self::Identity(_) => IDENTITY,
            Self::Everyone => EVERYONE,
            Self::Members(_) => MEMBERS,
            Self::Public => PUBLIC,
        });
        out.push('"');
        match self {
            Self::Identity(identity) => {
                out.push_str(",\"targetId\":");
                identity.write(out);
            }
            Self::Members(Some(channel)) => {
                out.push_str(",\"targetId\":");
                json::push_string(out, channel);
            }
            Self::Everyone | Self::Members(None) | Self::Public => {}
        }
    }

    /// The key of the audience's notifications: contract, section 3.
    pub fn key(&self, object_type: &str, object_id: &str) -> String {
        match self {
            Self::Identity(Identity { id, domain: None, .. }) => ["Identity:", &*key_part(id)].concat(),
            Self::Identity(Identity { id, domain: Some(domain), .. }) => {
                ["Identity:", &*key_part(domain), "/", &*key_part(id)].concat()
            }
            Self::Everyone => EVERYONE.to_owned(),
            Self::Members(Some(channel)) => ["Members:channel:", &*key_part(channel)].concat(),
            Self::Members(None) => {
                ["Members:object:", &*key_part(object_type), "/", &*key_part(object_id)].concat()
            }
            Self::Public => PUBLIC.to_owned(),
        }
    }

    /// The name that people know an identity by.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Identity(identity) => identity.name.as_deref(),
            _ => None,
        }
    }

    /// What makes two audiences the same: `@type`, id and domain.
    fn same(&self) -> (&'static str, Option<&str>, Option<&str>) {
        match self {
            Self::Identity(identity) => (IDENTITY, Some(&identity.id), identity.domain.as_deref()),
            Self::Everyone => (EVERYONE, None, None),
            Self::Members(channel) => (MEMBERS, channel.as_deref(), None),
            Self::Public => (PUBLIC, None, None),
        }
    }
}

/// A part of a notification's key, percent-encoded where it holds what separates the parts.
fn key_part(text: &str) -> Cow<'_, str> {
    if !json::has(text, |byte| (byte == b'%') | (byte == b'/') | (byte == b':')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('%', "%25").replace('/', "%2F").replace(':', "%3A"))
}

/// Whether an object in `targets` is the identity itself: it has an id, and nothing that only a target has.
fn is_identity(members: &[RawMember<'_>]) -> bool {
    let has = |wanted: &[&str]| {
        members.iter().any(|member| json::string(member.name).is_ok_and(|name| wanted.contains(&&*name)))
    };
    has(IdentityField::Id.names())
        && ![TargetField::Type, TargetField::TargetId, TargetField::Notify]
            .iter()
            .any(|field| has(&[field.name()]))
}

fn report_unknown(name: &str, at: &Pointer<'_>, findings: &mut Findings<'_>) {
    let of_identity = ["id", "domain", "name"].iter().any(|field| name.eq_ignore_ascii_case(field));
    if of_identity {
        let message = format_args!(
            "a target has no property {}; an identity's properties go into \"targetId\"",
            Quoted(name)
        );
        findings.add(at, Code::UnknownProperty, message);
    } else {
        let hint = DidYouMean { given: name, known: TargetField::NAMES };
        let message = format_args!("a target has no property {}{hint}", Quoted(name));
        findings.add(at, Code::UnknownProperty, message);
    }
}

/// Up to here, comparing each with each is quicker than any order.
const FEW: usize = 8;

fn all_differ(targets: &[Target<'_>]) -> bool {
    let same = |(index, target): (usize, &Target<'_>)| {
        targets[..index].iter().any(|before| before.audience.same() == target.audience.same())
    };
    !targets.iter().enumerate().any(same)
}

/// One target for each audience: the first gives place and name, and it notifies if any does.
fn once_each(mut targets: Vec<Target<'_>>) -> Vec<Target<'_>> {
    if targets.len() < 2 {
        return targets;
    }
    if targets.len() <= FEW && all_differ(&targets) {
        return targets;
    }
    let mut first_of = BTreeMap::new();
    let firsts: Vec<usize> = targets
        .iter()
        .enumerate()
        .map(|(index, target)| *first_of.entry(target.audience.same()).or_insert(index))
        .collect();
    for (index, first) in firsts.iter().enumerate() {
        targets[*first].notify |= targets[index].notify;
    }
    let mut firsts = firsts.iter().enumerate();
    targets.retain(|_| firsts.next().is_some_and(|(index, first)| index == *first));
    targets
}
