//! Strings of the contract's own fields.

use std::borrow::Cow;

use crate::{
    code::Code,
    json::{self, Kind},
    problem::{Findings, Pointer},
    wording::{DidYouMean, Found, OneOf, Quoted},
};

/// What a string may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// An id, type, verb or domain: not empty, not too long, no control characters.
    Id,
    /// Like an id, but possibly empty.
    Name,
    /// Any text.
    Free,
}

/// Reads a string, or reports what is wrong with it.
pub(crate) fn read<'a>(
    raw: &'a str,
    rule: Rule,
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Option<Cow<'a, str>> {
    if Kind::of(raw) != Kind::String {
        findings.expected(at, Code::WrongType, "a string", Found(raw));
        return None;
    }
    let Ok(text) = json::string(raw) else {
        let found = format_args!("half of a surrogate pair in {}", Found(raw));
        findings.expected(at, Code::UnpairedSurrogate, "text", found);
        return None;
    };
    (rule == Rule::Free || check(&text, rule, at, findings)).then_some(text)
}

fn check(text: &str, rule: Rule, at: &Pointer<'_>, findings: &mut Findings<'_>) -> bool {
    if text.is_empty() && rule == Rule::Id {
        findings.expected(at, Code::Empty, "at least one character", "\"\"");
        return false;
    }
    let allowed = findings.limits().text_characters;
    // Counting characters is only needed for texts with more bytes than that.
    let too_long = text.len() > allowed && text.chars().count() > allowed;
    if too_long {
        let wanted = format_args!("at most {allowed} characters");
        findings.expected(at, Code::TooLong, wanted, text.chars().count());
    }
    // In UTF-8, control characters from U+0080 begin with 0xC2, as some other characters do.
    let possible = json::contains_byte(text, |byte| (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2));
    let control = possible.then(|| text.chars().find(|c| c.is_control())).flatten();
    if let Some(control) = control {
        let found = format_args!("U+{:04X} in {}", u32::from(control), Quoted(text));
        findings.expected(at, Code::ControlCharacter, "no control characters", found);
    }
    !too_long && control.is_none()
}

/// Reads a string that must be one of a few.
pub(crate) fn read_word(
    raw: &str,
    known: &[&'static str],
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Option<&'static str> {
    let text = read(raw, Rule::Free, at, findings)?;
    let word = known.iter().copied().find(|word| *word == text);
    if word.is_none() {
        let hint = DidYouMean { given: &text, known };
        findings.expected(at, Code::UnknownValue, OneOf(known), format_args!("{}{hint}", Found(raw)));
    }
    word
}

pub(crate) fn read_boolean(raw: &str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<bool> {
    let value = raw.parse().ok();
    if value.is_none() {
        findings.expected(at, Code::WrongType, "true or false", Found(raw));
    }
    value
}
