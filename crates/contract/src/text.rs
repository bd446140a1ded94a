//! Strings of the contract's own fields.

use std::borrow::Cow;

use crate::{
    code::Code,
    json::{self, Kind, UnpairedSurrogate},
    limits::Limits,
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

/// A string as the normal form has it: JSON, with its quotes and the escapes of `serde_json`. Writing it is copying it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    pub const EMPTY: Self = Self::normal("\"\"");

    /// `json` is spelled as in the normal form.
    pub const fn normal(json: &'a str) -> Self {
        Self(Cow::Borrowed(json))
    }

    /// `raw` is any JSON string.
    pub fn new(raw: &'a str) -> Result<Self, UnpairedSurrogate> {
        json::string(raw).map(|text| Self::spelled(raw, &text))
    }

    fn spelled(raw: &'a str, text: &str) -> Self {
        if raw.len() == text.len() + "\"\"".len() {
            // An escape is longer than what it stands for.
            return Self::normal(raw);
        }
        let mut json = String::with_capacity(raw.len());
        json::push_string(&mut json, text);
        Self(Cow::Owned(json))
    }

    pub fn json(&self) -> &str {
        &self.0
    }

    pub fn unescaped(&self) -> Cow<'_, str> {
        // Text that was read has no unpaired surrogates.
        json::string(&self.0).unwrap_or_default()
    }
}

impl Default for Text<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Reads a string, or reports what is wrong with it.
pub(crate) fn read<'a>(
    raw: &'a str,
    rule: Rule,
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Option<Text<'a>> {
    if Kind::of(raw) != Kind::String {
        findings.expected(at, Code::WrongType, "a string", Found(raw));
        return None;
    }
    let Ok(text) = json::string(raw) else {
        let found = format_args!("half of a surrogate pair in {}", Found(raw));
        findings.expected(at, Code::UnpairedSurrogate, "text", found);
        return None;
    };
    if fits(&text, rule, findings.limits()) {
        return Some(Text::spelled(raw, &text));
    }
    report(&text, at, findings);
    None
}

/// Whether the text follows the rule.
pub(crate) fn fits(text: &str, rule: Rule, limits: &Limits) -> bool {
    let (empty, allowed) = (text.is_empty(), limits.text_characters);
    rule == Rule::Free
        || (!(empty && rule == Rule::Id)
            // Counting characters is only needed for texts with more bytes than that.
            && (text.len() <= allowed || text.chars().count() <= allowed)
            && control_character(text).is_none())
}

fn control_character(text: &str) -> Option<char> {
    // In UTF-8, control characters from U+0080 begin with 0xC2, as some other characters do.
    let possible = json::contains_byte(text, |byte| (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2));
    possible.then(|| text.chars().find(|c| c.is_control())).flatten()
}

/// Reports the rules of ids and names that the text breaks.
fn report(text: &str, at: &Pointer<'_>, findings: &mut Findings<'_>) {
    if text.is_empty() {
        findings.expected(at, Code::Empty, "at least one character", "\"\"");
    }
    let (characters, allowed) = (text.chars().count(), findings.limits().text_characters);
    if characters > allowed {
        findings.expected(at, Code::TooLong, format_args!("at most {allowed} characters"), characters);
    }
    if let Some(control) = control_character(text) {
        let found = format_args!("U+{:04X} in {}", u32::from(control), Quoted(text));
        findings.expected(at, Code::ControlCharacter, "no control characters", found);
    }
}

/// Reads a string that must be one of a few.
pub(crate) fn read_word(
    raw: &str,
    known: &[&'static str],
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Option<&'static str> {
    let text = read(raw, Rule::Free, at, findings)?;
    let text = text.unescaped();
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
