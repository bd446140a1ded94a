//! The quick reader: one walk over the text of an ordinary entry.
//!
//! It finds no problems. For anything unusual (a problem, a name that is repeated or has an escape) it returns
//! `None`, and [`Entry::read`] decides. If it returns an entry, `Entry::read` would return the same one; the tests
//! compare the two.

mod walk;

use std::borrow::Cow;

use crate::{
    attachment::{self, Attachment, AttachmentField},
    date_time,
    entry::{DEFAULT_VERB, Entry, EntryField, is_audience},
    field::Field,
    identity::{self, Identity, IdentityField},
    json::{self, RawMember},
    limits::Limits,
    repeated::repeated,
    target::{self, Audience, Target, TargetField},
    text::{Rule, fits},
};
use walk::unquoted;

/// Levels of nesting of the contract's own objects: entry, `targets`, target, `targetId`.
const OWN_LEVELS: usize = 4;

/// Reads the entry that `text` is, if it is an ordinary one within the limits.
pub(crate) fn read<'a>(text: &'a str, limits: &Limits) -> Option<Entry<'a>> {
    if limits.nesting < OWN_LEVELS {
        return None;
    }
    let mut reader = Reader { text, at: 0, limits };
    let entry = reader.entry()?;
    match reader.peek() {
        None => Some(entry),
        Some(_) => None,
    }
}

struct Reader<'a, 'l> {
    text: &'a str,
    /// Up to here the text is read.
    at: usize,
    limits: &'l Limits,
}

/// The fields that one object has had so far.
#[derive(Default)]
struct Seen(u16);

impl Seen {
    /// `None` where the field was there before.
    fn once(&mut self, field: u8) -> Option<()> {
        let bit = 1 << field;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new.then_some(())
    }
}

/// A target's id as far as it can be read before its type is known.
enum TargetId<'a> {
    Text(Cow<'a, str>),
    Identity(Identity<'a>),
}

impl<'a> Reader<'a, '_> {
    fn entry(&mut self) -> Option<Entry<'a>> {
        let (mut verb, mut actor, mut object_type, mut object_id) = (None, None, None, None);
        let (mut published_at, mut targets, mut attachments, mut content) = (None, None, None, None);
        let mut free = Vec::new();
        let mut seen = Seen::default();
        self.object(|reader, raw_name| {
            let name = unquoted(raw_name);
            let Some(field) = EntryField::of(name) else {
                let value = reader.value(1)?;
                free.push(RawMember { name: raw_name, value });
                return (!is_audience(name, value)).then_some(());
            };
            seen.once(field as u8)?;
            match field {
                EntryField::Targets => targets = Some(reader.targets()?),
                _ if reader.null() => {}
                EntryField::Verb => verb = Some(reader.string(Rule::Id)?),
                EntryField::Actor => actor = Some(reader.identity()?),
                EntryField::ObjectType => object_type = Some(reader.string(Rule::Id)?),
                EntryField::ObjectId => object_id = Some(reader.string(Rule::Id)?),
                EntryField::PublishedAt => {
                    published_at =
                        Some(reader.string(Rule::Free).filter(|text| date_time::is_rfc_3339(text))?);
                }
                EntryField::Attachments => attachments = Some(reader.attachments()?),
                EntryField::Content => content = Some(reader.string(Rule::Free)?),
            }
            Some(())
        })?;
        Some(Entry {
            verb: verb.unwrap_or(Cow::Borrowed(DEFAULT_VERB)),
            actor,
            object_type: object_type?,
            object_id: object_id?,
            published_at,
            targets: targets.unwrap_or_else(|| vec![Target::EVERYONE]),
            attachments: attachments.unwrap_or_default(),
            content,
            free: each_once(free)?,
        })
    }

    fn targets(&mut self) -> Option<Vec<Target<'a>>> {
        let targets = self.array(self.limits.targets, Self::target)?;
        (!targets.is_empty()).then(|| target::merge_same_audience(targets))
    }

    /// An object with an `id` is the identity itself; nothing that has an `id` is read as a target.
    fn target(&mut self) -> Option<Target<'a>> {
        let start = self.at;
        if self.peek() == Some(b'{')
            && let Some(target) = self.target_object()
        {
            return Some(target);
        }
        self.at = start;
        Some(Target { audience: Audience::Identity(self.identity()?), notify: false })
    }

    fn target_object(&mut self) -> Option<Target<'a>> {
        let (mut kind, mut id, mut name, mut notify) = (None, None, None, false);
        let mut seen = Seen::default();
        self.object(|reader, raw_name| {
            let field = TargetField::of(unquoted(raw_name))?;
            seen.once(field as u8)?;
            match field {
                _ if reader.null() => {}
                TargetField::Type => kind = Some(reader.word(&target::TYPES)?),
                TargetField::TargetId if reader.peek() == Some(b'{') => {
                    id = Some(TargetId::Identity(reader.identity()?));
                }
                TargetField::TargetId => id = Some(TargetId::Text(reader.string(Rule::Id)?)),
                TargetField::Notify => notify = reader.boolean()?,
                TargetField::Name => name = Some(reader.string(Rule::Name)?),
            }
            Some(())
        })?;
        let audience = match (kind, id) {
            (None | Some(target::IDENTITY), Some(TargetId::Text(id))) => {
                Audience::Identity(Identity { id, domain: None, name, kind: None })
            }
            _ if name.is_some() => return None,
            (None | Some(target::IDENTITY), Some(TargetId::Identity(identity))) => {
                Audience::Identity(identity)
            }
            (Some(target::MEMBERS), Some(TargetId::Text(channel))) => Audience::Members(Some(channel)),
            (Some(target::MEMBERS), None) => Audience::Members(None),
            (Some(target::EVERYONE), None) => Audience::Everyone,
            (Some(target::PUBLIC), None) => Audience::Public,
            _ => return None,
        };
        Some(Target { audience, notify })
    }

    fn identity(&mut self) -> Option<Identity<'a>> {
        let (mut id, mut domain, mut name, mut kind) = (None, None, None, None);
        if self.peek() != Some(b'{') {
            return Some(Identity { id: self.string(Rule::Id)?, domain, name, kind });
        }
        let mut seen = Seen::default();
        self.object(|reader, raw_name| {
            let field = IdentityField::of(unquoted(raw_name))?;
            seen.once(field as u8)?;
            match field {
                _ if reader.null() => {}
                IdentityField::Id => id = Some(reader.string(Rule::Id)?),
                IdentityField::Domain => domain = Some(reader.string(Rule::Id)?),
                IdentityField::Name => name = Some(reader.string(Rule::Name)?),
                IdentityField::Type => kind = Some(reader.word(&identity::TYPES)?),
            }
            Some(())
        })?;
        Some(Identity { id: id?, domain, name, kind })
    }

    fn attachments(&mut self) -> Option<Vec<Attachment<'a>>> {
        self.array(self.limits.attachments, Self::attachment)
    }

    fn attachment(&mut self) -> Option<Attachment<'a>> {
        let (mut kind, mut id, mut free) = (attachment::FILE, None, Vec::new());
        if self.peek() != Some(b'{') {
            return Some(Attachment { kind, id: self.string(Rule::Id)?, free });
        }
        let mut seen = Seen::default();
        self.object(|reader, raw_name| {
            let Some(field) = AttachmentField::of(unquoted(raw_name)) else {
                // In the entry, its attachments and this one.
                free.push(RawMember { name: raw_name, value: reader.value(3)? });
                return Some(());
            };
            seen.once(field as u8)?;
            match field {
                _ if reader.null() => {}
                AttachmentField::Type => kind = reader.word(&attachment::TYPES)?,
                AttachmentField::Id => id = Some(reader.string(Rule::Id)?),
            }
            Some(())
        })?;
        Some(Attachment { kind, id: id?, free: each_once(free)? })
    }

    /// A string as text.
    fn string(&mut self, rule: Rule) -> Option<Cow<'a, str>> {
        let (raw, has_escapes) = self.raw_string()?;
        let text = if has_escapes { json::string(raw).ok()? } else { Cow::Borrowed(unquoted(raw)) };
        fits(&text, rule, self.limits).then_some(text)
    }

    fn word(&mut self, known: &[&'static str]) -> Option<&'static str> {
        let (raw, _) = self.raw_string()?;
        known.iter().copied().find(|word| *word == unquoted(raw))
    }
}

/// The free properties, if none is repeated. Names without escapes are equal if their texts are.
fn each_once(free: Vec<RawMember<'_>>) -> Option<Vec<RawMember<'_>>> {
    repeated(free.iter().map(|member| member.name)).is_empty().then_some(free)
}

#[cfg(test)]
mod tests;
