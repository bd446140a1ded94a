//! The quick reader: one walk over the text of an ordinary entry.
//!
//! It finds no problems. For anything unusual (a problem, a name that is repeated or has an escape) it returns
//! `None`, and [`Entry::read`] decides. If it returns an entry, `Entry::read` would return the same one; the tests
//! compare the two.

mod walk;

use crate::{
    attachment::{self, Attachment, AttachmentField, Attachments},
    date_time,
    entry::{Entry, EntryField, is_audience},
    identity::{self, Identity, IdentityField},
    json::RawMember,
    limits::Limits,
    repeated::repeated,
    target::{self, Audience, Target, TargetField, Targets},
    text::{Rule, Text, fits},
};
use walk::{Spelling, unquoted};

/// Levels of nesting of the contract's own objects: entry, `targets`, target, `targetId`.
const OWN_LEVELS: usize = 4;

/// Reads the entry that `text` is into a new one, if it is an ordinary one within the limits.
pub(crate) fn read<'a>(text: &'a str, limits: &Limits, entry: &mut Entry<'a>) -> Option<()> {
    if limits.nesting < OWN_LEVELS {
        return None;
    }
    let mut reader = Reader { text, at: 0, next: 0, limits };
    reader.advance(0);
    reader.entry(entry)?;
    reader.is_at_end().then_some(())
}

struct Reader<'a, 'l> {
    text: &'a str,
    /// Up to here the text is read.
    at: usize,
    /// The byte there, which is not whitespace; 0 at the end.
    next: u8,
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
    Text(Text<'a>),
    Identity(Identity<'a>),
}

impl<'a> Reader<'a, '_> {
    fn entry(&mut self, entry: &mut Entry<'a>) -> Option<()> {
        let mut seen = Seen::default();
        self.object(|reader, member| {
            let field: EntryField = match member {
                Ok(field) => field,
                Err(name) => {
                    let value = reader.value(1)?;
                    entry.free.push(RawMember { name, value });
                    return (!is_audience(unquoted(name), value)).then_some(());
                }
            };
            seen.once(field as u8)?;
            match field {
                EntryField::Targets => reader.targets(&mut entry.targets)?,
                _ if reader.null() => {}
                EntryField::Verb => entry.verb = reader.string(Rule::Id)?,
                EntryField::Actor => entry.actor = Some(reader.identity()?),
                EntryField::ObjectType => entry.object_type = reader.string(Rule::Id)?,
                EntryField::ObjectId => entry.object_id = reader.string(Rule::Id)?,
                EntryField::PublishedAt => {
                    let text = reader.string(Rule::Free)?;
                    if !date_time::is_rfc_3339(&text.unescaped()) {
                        return None;
                    }
                    entry.published_at = Some(text);
                }
                EntryField::Attachments => reader.attachments(&mut entry.attachments)?,
                EntryField::Content => entry.content = Some(reader.string(Rule::Free)?),
            }
            Some(())
        })?;
        let is_complete = entry.object_type != Text::EMPTY && entry.object_id != Text::EMPTY;
        if !is_complete || has_repeated(&entry.free) {
            return None;
        }
        if entry.targets.is_empty() {
            entry.targets.push(Target::EVERYONE);
        }
        Some(())
    }

    fn targets(&mut self, targets: &mut Targets<'a>) -> Option<()> {
        self.array(self.limits.targets, |reader| {
            targets.push(reader.target()?);
            Some(())
        })?;
        target::merge_same_audience(targets);
        (!targets.is_empty()).then_some(())
    }

    /// An object with an `id` is the identity itself; nothing that has an `id` is read as a target.
    fn target(&mut self) -> Option<Target<'a>> {
        let start = self.at;
        if self.next == b'{'
            && let Some(target) = self.target_object()
        {
            return Some(target);
        }
        self.at = start;
        self.advance(0);
        Some(Target { audience: Audience::Identity(self.identity()?), notify: false })
    }

    fn target_object(&mut self) -> Option<Target<'a>> {
        let (mut kind, mut id, mut name, mut notify) = (None, None, None, false);
        let mut seen = Seen::default();
        self.object(|reader, member| {
            let field: TargetField = member.ok()?;
            seen.once(field as u8)?;
            match field {
                _ if reader.null() => {}
                TargetField::Type => kind = Some(reader.word(&target::TYPES)?),
                TargetField::TargetId if reader.next == b'{' => {
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
        if self.next != b'{' {
            return Some(Identity { id: self.string(Rule::Id)?, domain, name, kind });
        }
        let mut seen = Seen::default();
        self.object(|reader, member| {
            let field: IdentityField = member.ok()?;
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

    fn attachments(&mut self, attachments: &mut Attachments<'a>) -> Option<()> {
        self.array(self.limits.attachments, |reader| {
            attachments.push(reader.attachment()?);
            Some(())
        })
    }

    fn attachment(&mut self) -> Option<Attachment<'a>> {
        let (mut kind, mut id, mut free) = (attachment::FILE, None, Vec::new());
        if self.next != b'{' {
            return Some(Attachment { kind, id: self.string(Rule::Id)?, free });
        }
        let mut seen = Seen::default();
        self.object(|reader, member| {
            let field: AttachmentField = match member {
                Ok(field) => field,
                Err(name) => {
                    // In the entry, its attachments and this one.
                    free.push(RawMember { name, value: reader.value(3)? });
                    return Some(());
                }
            };
            seen.once(field as u8)?;
            match field {
                _ if reader.null() => {}
                AttachmentField::Type => kind = reader.word(&attachment::TYPES)?,
                AttachmentField::Id => id = Some(reader.string(Rule::Id)?),
            }
            Some(())
        })?;
        (!has_repeated(&free)).then_some(Attachment { kind, id: id?, free })
    }

    fn string(&mut self, rule: Rule) -> Option<Text<'a>> {
        let (raw, spelling) = self.raw_string()?;
        let text = if spelling == Spelling::Other { Text::new(raw).ok()? } else { Text::normal(raw) };
        let fits = match (rule, raw.len() - "\"\"".len()) {
            (Rule::Free, _) => true,
            (Rule::Id, 0) => false,
            (_, length) if spelling == Spelling::Ascii => length <= self.limits.text_characters,
            _ => fits(&text.unescaped(), rule, self.limits),
        };
        fits.then_some(text)
    }

    fn word(&mut self, known: &[&'static str]) -> Option<&'static str> {
        let (raw, _) = self.raw_string()?;
        known.iter().copied().find(|word| *word == unquoted(raw))
    }
}

/// Names without escapes are equal if their texts are.
fn has_repeated(free: &[RawMember<'_>]) -> bool {
    !repeated(free.iter().map(|member| member.name)).is_empty()
}

#[cfg(test)]
mod tests;
