//! Identities: users, organisation units, positions and groups.

use crate::{
    code::Code,
    field::{Field, fields},
    json::{self, Kind, RawMember},
    member,
    problem::{Findings, Pointer},
    text::{self, Rule, Text},
    wording::{DidYouMean, Found, Quoted},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity<'a> {
    pub id: Text<'a>,
    pub domain: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    /// One of [`TYPES`].
    pub kind: Option<&'static str>,
}

pub(crate) const TYPES: [&str; 4] = ["User", "OrganizationUnit", "Position", "Group"];

fields! {
    /// The capitalized names are the platform's own spelling.
    IdentityField {
        Id => "id" | "Id",
        Domain => "domain" | "Domain",
        Name => "name" | "Name",
        Type => "type" | "Type",
    }
}

impl<'a> Identity<'a> {
    /// Reads an identity. A string is its id.
    pub fn read(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        match Kind::of(raw) {
            Kind::String => {
                let id = text::read(raw, Rule::Id, at, findings)?;
                Some(Self { id, domain: None, name: None, kind: None })
            }
            // Part of valid JSON, so it can be split.
            Kind::Object => Self::read_members(json::members(raw).unwrap_or_default(), at, findings),
            _ => {
                findings.expected(at, Code::WrongType, "an identity, a string or an object", Found(raw));
                None
            }
        }
    }

    pub fn read_members(
        members: Vec<RawMember<'a>>,
        at: &Pointer<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let members = member::read_all(members, at, findings);
        let (mut id, mut domain, mut name, mut kind) = (None, None, None, None);
        for member in &members {
            let at = at.name(&member.name);
            let raw = member.raw.value;
            match member.field {
                Some(_) if member.is_null() => {}
                Some(IdentityField::Id) => id = text::read(raw, Rule::Id, &at, findings),
                Some(IdentityField::Domain) => domain = text::read(raw, Rule::Id, &at, findings),
                Some(IdentityField::Name) => name = text::read(raw, Rule::Name, &at, findings),
                Some(IdentityField::Type) => kind = text::read_word(raw, &TYPES, &at, findings),
                None => {
                    let unknown = &member.name;
                    let hint = DidYouMean { given: unknown, known: IdentityField::NAMES };
                    let message = format_args!("an identity has no property {}{hint}", Quoted(unknown));
                    findings.add(&at, Code::UnknownProperty, message);
                }
            }
        }
        member::require(IdentityField::Id, "the identity's id, a string", &members, at, findings);
        Some(Self { id: id?, domain, name, kind })
    }

    pub fn write(&self, out: &mut String) {
        out.push_str("{\"id\":");
        out.push_str(self.id.json());
        if let Some(domain) = &self.domain {
            out.push_str(",\"domain\":");
            out.push_str(domain.json());
        }
        if let Some(name) = &self.name {
            out.push_str(",\"name\":");
            out.push_str(name.json());
        }
        if let Some(kind) = self.kind {
            out.push_str(",\"type\":\"");
            out.push_str(kind);
            out.push('"');
        }
        out.push('}');
    }
}
