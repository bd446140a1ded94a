//! Targets: who may see an activity, and who is notified.

use smallvec::SmallVec;

use crate::{
    code::Code,
    field::{Field, fields},
    identity::{Identity, IdentityField},
    json::{self, Kind, RawMember},
    member::{self, Member},
    problem::{Findings, Pointer},
    repeated::{keep_first, repeated},
    text::{self, Rule, Text},
    wording::{DidYouMean, Found, Quoted},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub audience: Audience<'a>,
    pub notify: bool,
}

/// Most entries have few.
pub(crate) type Targets<'a> = SmallVec<[Target<'a>; 2]>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Audience<'a> {
    Identity(Identity<'a>),
    Everyone,
    /// The members of a channel; without one, of the object's own channel.
    Members(Option<Text<'a>>),
    Public,
}

pub(crate) const IDENTITY: &str = "Identity";
pub(crate) const EVERYONE: &str = "Everyone";
pub(crate) const MEMBERS: &str = "Members";
pub(crate) const PUBLIC: &str = "Public";
pub(crate) const TYPES: [&str; 4] = [IDENTITY, EVERYONE, MEMBERS, PUBLIC];

fields! {
    TargetField {
        Type => "@type" | "type",
        TargetId => "targetId",
        Notify => "notify",
        // The name of an identity whose `targetId` is a string.
        Name => "name",
    }
}

/// The end of a notified target in the normal form.
pub(crate) const NOTIFIED: &str = ",\"notify\":true}";
const NOT_NOTIFIED: &str = ",\"notify\":false}";

impl<'a> Target<'a> {
    /// The audience of an entry without `targets`.
    pub const EVERYONE: Self = Self { audience: Audience::Everyone, notify: false };

    /// Reads the property `targets`. The result is only empty after a problem.
    pub fn read_all(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Targets<'a> {
        let nobody = |found: &str, findings: &mut Findings<'_>| {
            let found = format_args!("{found}; omit \"targets\" to publish to everyone");
            findings.expected(at, Code::NoTargets, "at least one target", found);
            Targets::new()
        };
        match Kind::of(raw) {
            Kind::Null => return nobody("null", findings),
            Kind::Array => {}
            _ => {
                findings.expected(at, Code::WrongType, "an array of targets", Found(raw));
                return Targets::new();
            }
        }
        // Part of valid JSON, so it can be split.
        let elements = json::elements(raw).unwrap_or_default();
        if elements.is_empty() {
            return nobody("none", findings);
        }
        let allowed = findings.limits().targets;
        if elements.len() > allowed {
            let wanted = format_args!("at most {allowed} targets");
            findings.expected(at, Code::TooManyTargets, wanted, elements.len());
        }
        let read = elements.iter().take(allowed).enumerate();
        let mut targets =
            read.filter_map(|(index, raw)| Self::read(raw, &at.index(index), findings)).collect();
        merge_same_audience(&mut targets);
        targets
    }

    pub fn read(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        let identity = match Kind::of(raw) {
            Kind::String => Identity::read(raw, at, findings),
            Kind::Object => {
                // Part of valid JSON, so it can be split.
                let members = json::members(raw).unwrap_or_default();
                if !is_identity(&members) {
                    return Self::read_members(members, at, findings);
                }
                Identity::read_members(members, at, findings)
            }
            _ => {
                findings.expected(at, Code::WrongType, "an identity or a target", Found(raw));
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
        let members = member::read_all(members, at, findings);
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
            findings.expected(at, Code::Missing, "\"@type\" or \"targetId\"", "neither");
            return None;
        }
        let kind = kind.unwrap_or(Some(IDENTITY))?;
        let mut audience = Audience::read(kind, target_id, &members, at, findings);
        if let Some(raw) = name {
            let at = at.name(TargetField::Name.name());
            if kind == IDENTITY && target_id.is_none_or(|id| Kind::of(id) == Kind::String) {
                let name = text::read(raw, Rule::Name, &at, findings);
                if let Some(Audience::Identity(identity)) = &mut audience {
                    identity.name = name;
                }
            } else if let Some(Audience::Identity(Identity { name: Some(_), .. })) = audience {
                let message = format_args!("\"name\" and \"targetId\" both name the identity");
                findings.add(&at, Code::DuplicateProperty, message);
            } else {
                let message =
                    format_args!("only an Identity target whose \"targetId\" is a string has a \"name\"");
                findings.add(&at, Code::UnknownProperty, message);
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
                let wanted = format_args!("no \"targetId\" in a target of type {all}");
                let found = format_args!("{}; omit \"@type\" to reach only that identity", Found(raw));
                findings.expected(&id_at, Code::UnexpectedTargetId, wanted, found);
                None
            }
            (EVERYONE, None) => Some(Self::Everyone),
            _ => Some(Self::Public),
        }
    }

    /// Writes a target of the normal form up to `notify`: what a notification contains, without the closing brace.
    fn write(&self, out: &mut String) {
        match self {
            Self::Identity(identity) => {
                out.push_str("{\"@type\":\"Identity\",\"targetId\":");
                identity.write(out);
            }
            Self::Everyone => out.push_str("{\"@type\":\"Everyone\""),
            Self::Members(None) => out.push_str("{\"@type\":\"Members\""),
            Self::Members(Some(channel)) => {
                out.push_str("{\"@type\":\"Members\",\"targetId\":");
                out.push_str(channel.json());
            }
            Self::Public => out.push_str("{\"@type\":\"Public\""),
        }
    }

    /// Appends the record key of this audience's notifications.
    pub fn push_key(&self, object_type: &Text<'_>, object_id: &Text<'_>, out: &mut String) {
        match self {
            Self::Identity(Identity { id, domain, .. }) => {
                out.push_str("Identity:");
                if let Some(domain) = domain {
                    push_key_part(domain, out);
                    out.push('/');
                }
                push_key_part(id, out);
            }
            Self::Everyone => out.push_str(EVERYONE),
            Self::Members(Some(channel)) => {
                out.push_str("Members:channel:");
                push_key_part(channel, out);
            }
            Self::Members(None) => {
                out.push_str("Members:object:");
                push_key_part(object_type, out);
                out.push('/');
                push_key_part(object_id, out);
            }
            Self::Public => out.push_str(PUBLIC),
        }
    }

    /// The display name, of identities only.
    pub fn name(&self) -> Option<&Text<'a>> {
        match self {
            Self::Identity(identity) => identity.name.as_ref(),
            _ => None,
        }
    }

    /// Two audiences are the same if id, domain and `@type` are equal.
    fn identifying_parts(&self) -> (Option<&Text<'a>>, Option<&Text<'a>>, &'static str) {
        match self {
            Self::Identity(identity) => (Some(&identity.id), identity.domain.as_ref(), IDENTITY),
            Self::Everyone => (None, None, EVERYONE),
            Self::Members(channel) => (channel.as_ref(), None, MEMBERS),
            Self::Public => (None, None, PUBLIC),
        }
    }
}

/// Appends a part of a notification's key, with the separators of parts percent-encoded.
fn push_key_part(text: &Text<'_>, out: &mut String) {
    let text = text.unescaped();
    if text.bytes().any(|byte| matches!(byte, b'%' | b'/' | b':')) {
        out.push_str(&text.replace('%', "%25").replace('/', "%2F").replace(':', "%3A"));
    } else {
        out.push_str(&text);
    }
}

/// Whether an object in `targets` is the identity itself: it has an id, and no property that only a target has.
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
            "a target has no property {}; put an identity's properties in \"targetId\"",
            Quoted(name)
        );
        findings.add(at, Code::UnknownProperty, message);
    } else {
        let hint = DidYouMean { given: name, known: TargetField::NAMES };
        let message = format_args!("a target has no property {}{hint}", Quoted(name));
        findings.add(at, Code::UnknownProperty, message);
    }
}

/// One target per audience: the first determines the position and the name, and it notifies if any of them does.
pub(crate) fn merge_same_audience(targets: &mut Targets<'_>) {
    let repeated = repeated(targets.iter().map(|target| target.audience.identifying_parts()));
    for (index, first) in &repeated {
        targets[*first].notify |= targets[*index].notify;
    }
    targets.retain(keep_first(&repeated));
}
