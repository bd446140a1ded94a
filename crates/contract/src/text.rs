//! Strings of the contract's own fields.

use std::borrow::Cow;

use super::{
    code::Code,
    found::{DidYouMean, Found, OneOf, Quoted},
    json::{self, Kind},
    problem::{Findings, Pointer},
};

/// What a string may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// An id, type, verb or domain: not empty, not too long, no control characters.
    Id,
    /// As an id, but it may be empty.
    Name,
    /// Any text.
    Free,
}

/// Reads a string, or reports what is wrong with it.
pub(super) fn read<'a>(
    raw: &'a str,
    rule: Rule,
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Option<Cow<'a, str>> {
    if Kind::of(raw) != Kind::String {
        findings.add(at, Code::WrongType, format_args!("expected a string, found {}", Found(raw)));
        return None;
    }
    let Ok(text) = json::string(raw) else {
        let message = format_args!("expected text, found half of a surrogate pair in {}", Found(raw));
        findings.add(at, Code::UnpairedSurrogate, message);
        return None;
    };
    if rule == Rule::Free {
        return Some(text);
    }
    check(&text, rule, at, findings).then_some(text)
}

fn check(text: &str, rule: Rule, at: &Pointer<'_>, findings: &mut Findings<'_>) -> bool {
    if text.is_empty() && rule == Rule::Id {
        findings.add(at, Code::Empty, format_args!("expected at least one character, found \"\""));
        return false;
    }
    let allowed = findings.limits().text_characters;
    let too_long = text.len() > allowed && text.chars().count() > allowed;
    if too_long {
        let characters = text.chars().count();
        let message = format_args!("expected at most {allowed} characters, found {characters}");
        findings.add(at, Code::TooLong, message);
    }
    // In UTF-8 those from U+0080 on begin with 0xC2, as some others do.
    let perhaps = json::has(text, |byte| (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2));
    let control = perhaps.then(|| text.chars().find(|c| c.is_control())).flatten();
    if let Some(control) = control {
        let code_point = u32::from(control);
        let message =
            format_args!("expected no control characters, found U+{code_point:04X} in {}", Quoted(text));
        findings.add(at, Code::ControlCharacter, message);
    }
    !too_long && control.is_none()
}

/// Reads a string that is one of a few.
pub(super) fn read_word(
    raw: &str,
    known: &[&'static str],
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Option<&'static str> {
    let text = read(raw, Rule::Free, at, findings)?;
    let word = known.iter().copied().find(|word| *word == text);
    if word.is_none() {
        let hint = DidYouMean { given: &text, known };
        let message = format_args!("expected {}, found {}{hint}", OneOf(known), Found(raw));
        findings.add(at, Code::UnknownValue, message);
    }
    word
}

/// Reads a boolean.
pub(super) fn read_boolean(raw: &str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<bool> {
    match raw {
        "true" => Some(true),
        "false" => Some(false),
        _ => {
            findings.add(at, Code::WrongType, format_args!("expected true or false, found {}", Found(raw)));
            None
        }
    }
}
