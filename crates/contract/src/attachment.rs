//! Attachments: files, links and videos.

use smallvec::SmallVec;

use crate::{
    code::Code,
    field::fields,
    json::{self, Kind, RawMember},
    member,
    problem::{Findings, Pointer},
    text::{self, Rule, Text},
    wording::Found,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment<'a> {
    /// One of [`TYPES`].
    pub kind: &'static str,
    pub id: Text<'a>,
    /// Further properties, byte for byte.
    pub free: Vec<RawMember<'a>>,
}

/// Most entries have one at most.
pub(crate) type Attachments<'a> = SmallVec<[Attachment<'a>; 1]>;

pub(crate) const FILE: &str = "file";
pub(crate) const TYPES: [&str; 3] = [FILE, "link", "video"];

fields! {
    /// All other properties are free. Fields have no aliases here: `type` belongs to the file, for example as its media
    /// type.
    AttachmentField { Type => "@type", Id => "id", }
}

impl<'a> Attachment<'a> {
    /// Reads the property `attachments`, which is not null.
    pub fn read_all(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Attachments<'a> {
        if Kind::of(raw) != Kind::Array {
            findings.expected(at, Code::WrongType, "an array of attachments", Found(raw));
            return Attachments::new();
        }
        // Part of valid JSON, so it can be split.
        let elements = json::elements(raw).unwrap_or_default();
        let allowed = findings.limits().attachments;
        if elements.len() > allowed {
            let wanted = format_args!("at most {allowed} attachments");
            findings.expected(at, Code::TooManyAttachments, wanted, elements.len());
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
                findings.expected(at, Code::WrongType, "a file's id or an attachment", Found(raw));
                None
            }
        }
    }

    fn read_object(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        let members = member::read_all(json::members(raw).unwrap_or_default(), at, findings);
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
        out.push_str(self.id.json());
        push_free(out, &self.free);
        out.push('}');
    }
}
