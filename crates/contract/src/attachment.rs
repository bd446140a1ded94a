//! Attachments: files, links and videos.

use std::borrow::Cow;

use super::{
    code::Code,
    field::fields,
    found::Found,
    json::{self, Kind, RawMember},
    member,
    problem::{Findings, Pointer},
    text::{self, Rule},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachment<'a> {
    /// One of [`TYPES`].
    pub kind: &'static str,
    pub id: Cow<'a, str>,
    /// Further properties, as they came.
    pub free: Vec<RawMember<'a>>,
}

pub(super) const FILE: &str = "file";
pub(super) const TYPES: [&str; 3] = [FILE, "link", "video"];

fields! {
    /// What an attachment has; all else is free. No field has another name here: `type` is a property of the file,
    /// its media type for one.
    AttachmentField { Type => "@type", Id => "id", }
}

impl<'a> Attachment<'a> {
    /// The elements of the property `attachments`, which is not null.
    pub fn read_all(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Vec<Self> {
        if Kind::of(raw) != Kind::Array {
            let message = format_args!("expected an array of attachments, found {}", Found(raw));
            findings.add(at, Code::WrongType, message);
            return Vec::new();
        }
        // A part of valid JSON is valid.
        let elements = json::elements(raw).unwrap_or_default();
        let allowed = findings.limits().attachments;
        if elements.len() > allowed {
            let message = format_args!("expected at most {allowed} attachments, found {}", elements.len());
            findings.add(at, Code::TooManyAttachments, message);
        }
        let read = elements.iter().take(allowed).enumerate();
        read.filter_map(|(index, raw)| Self::read(raw, &at.index(index), findings)).collect()
    }

    fn read(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        match Kind::of(raw) {
            Kind::String => {
                let id = text::read(raw, Rule::Id, at, findings)?;
                Some(Self { kind: FILE, id, free: Vec::new() })
            }
            Kind::Object => Self::read_object(raw, at, findings),
            _ => {
                let message = format_args!("expected a file's id or an attachment, found {}", Found(raw));
                findings.add(at, Code::WrongType, message);
                None
            }
        }
    }

    fn read_object(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        let members = member::of_raw(json::members(raw).unwrap_or_default(), at, findings);
        let (mut kind, mut id, mut free) = (Some(FILE), None, Vec::new());
        for member in &members {
            let at = at.name(&member.name);
            let raw = member.raw.value;
            match member.field {
                Some(_) if member.is_null() => {}
                Some(AttachmentField::Type) => kind = text::read_word(raw, &TYPES, &at, findings),
                Some(AttachmentField::Id) => id = text::read(raw, Rule::Id, &at, findings),
                None => free.push(member.raw),
            }
        }
        member::require(AttachmentField::Id, "the attachment's id, a string", &members, at, findings);
        Some(Self { kind: kind?, id: id?, free })
    }

    pub fn write(&self, out: &mut String, push_free: impl Fn(&mut String, &[RawMember<'_>])) {
        out.push_str("{\"@type\":\"");
        out.push_str(self.kind);
        out.push_str("\",\"id\":");
        json::push_string(out, &self.id);
        push_free(out, &self.free);
        out.push('}');
    }
}
