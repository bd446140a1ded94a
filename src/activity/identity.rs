//! Identities: a user, an organisation unit, a position or a group.

use std::borrow::Cow;

use super::{
    Code,
    found::{DidYouMean, Found, Quoted},
    json::{self, Kind, RawMember},
    member,
    problem::{Findings, Pointer},
    text::{self, Rule},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity<'a> {
    pub id: Cow<'a, str>,
    pub domain: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    /// One of [`TYPES`].
    pub kind: Option<&'static str>,
}

const TYPES: [&str; 4] = ["User", "OrganizationUnit", "Position", "Group"];
const FIELDS: [&str; 4] = ["id", "domain", "name", "type"];

fn field_of(name: &str) -> &str {
    match name {
        "Id" => "id",
        "Domain" => "domain",
        "Name" => "name",
        "Type" => "type",
        other => other,
    }
}

impl<'a> Identity<'a> {
    /// A string is an identity's id.
    pub fn read(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        match Kind::of(raw) {
            Kind::String => {
                let id = text::read(raw, Rule::Id, at, findings)?;
                Some(Self { id, domain: None, name: None, kind: None })
            }
            // A part of valid JSON is valid.
            Kind::Object => Self::read_members(json::members(raw).unwrap_or_default(), at, findings),
            _ => {
                let message =
                    format_args!("expected an identity, a string or an object, found {}", Found(raw));
                findings.add(at, Code::WrongType, message);
                None
            }
        }
    }

    pub fn read_members(
        members: Vec<RawMember<'a>>,
        at: &Pointer<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let members = member::of_raw(members, at, field_of, findings);
        let (mut id, mut domain, mut name, mut kind) = (None, None, None, None);
        for member in &members {
            let at = at.name(&member.name);
            let raw = member.raw.value;
            match field_of(&member.name) {
                "id" | "domain" | "name" | "type" if member.is_null() => {}
                "id" => id = text::read(raw, Rule::Id, &at, findings),
                "domain" => domain = text::read(raw, Rule::Id, &at, findings),
                "name" => name = text::read(raw, Rule::Name, &at, findings),
                "type" => kind = text::read_word(raw, &TYPES, &at, findings),
                unknown => {
                    let hint = DidYouMean { given: unknown, known: &FIELDS };
                    let message = format_args!("an identity has no property {}{hint}", Quoted(unknown));
                    findings.add(&at, Code::UnknownProperty, message);
                }
            }
        }
        member::require("id", "the identity's id, a string", (&members, field_of), at, findings);
        Some(Self { id: id?, domain, name, kind })
    }

    pub fn write(&self, out: &mut String) {
        out.push_str("{\"id\":");
        json::push_string(out, &self.id);
        let optional = [
            (",\"domain\":", self.domain.as_deref()),
            (",\"name\":", self.name.as_deref()),
            (",\"type\":", self.kind),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                out.push_str(name);
                json::push_string(out, text);
            }
        }
        out.push('}');
    }
}
