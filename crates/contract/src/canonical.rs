//! The canonical form of JSON: members sorted by name, no whitespace, one spelling of each string. Numbers stay as
//! written, because readers differ in how they interpret them.

use std::ops::Range;

use crate::json::{self, RawMember};

/// Appends members to an object that already has one.
pub(crate) fn push_members(out: &mut String, members: &[RawMember<'_>]) {
    if members.is_empty() {
        return;
    }
    out.push(',');
    let mut written = Members::starting(out);
    for member in members {
        written.push(out, |out| push_string(out, member.name), |out| push_value(out, member.value));
    }
    written.sort(out);
}

/// Appends a value. It is part of a valid command, so the recursion is shallow.
fn push_value(out: &mut String, raw: &str) {
    Reader { rest: raw }.value(out);
}

/// The members of one object that are written so far.
struct Members {
    start: usize,
    spans: Vec<Span>,
}

struct Span {
    name: Range<usize>,
    member: Range<usize>,
}

impl Members {
    fn starting(out: &str) -> Self {
        Self { start: out.len(), spans: Vec::new() }
    }

    fn push(&mut self, out: &mut String, name: impl FnOnce(&mut String), value: impl FnOnce(&mut String)) {
        if !self.spans.is_empty() {
            out.push(',');
        }
        let start = out.len();
        name(out);
        // Without the closing quote, so that a prefix sorts first.
        let name = start..out.len() - 1;
        out.push(':');
        value(out);
        self.spans.push(Span { name, member: start..out.len() });
    }

    /// Nested objects of a free property may repeat a name. Such members keep their order, which is part of the content.
    fn sort(mut self, out: &mut String) {
        if self.spans.is_sorted_by(|one, next| out[one.name.clone()] <= out[next.name.clone()]) {
            return;
        }
        self.spans.sort_by(|one, other| out[one.name.clone()].cmp(&out[other.name.clone()]));
        let mut sorted = String::with_capacity(out.len() - self.start);
        for span in &self.spans {
            if !sorted.is_empty() {
                sorted.push(',');
            }
            sorted.push_str(&out[span.member.clone()]);
        }
        out.replace_range(self.start.., &sorted);
    }
}

/// Reads valid JSON.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn value(&mut self, out: &mut String) {
        match self.next_byte() {
            Some(b'{') => self.object(out),
            Some(b'[') => self.array(out),
            Some(b'"') => push_string(out, self.string()),
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len());
                out.push_str(self.take(end));
            }
        }
    }

    fn object(&mut self, out: &mut String) {
        self.take(1);
        out.push('{');
        let mut members = Members::starting(out);
        while self.has_next(b'}') {
            let name = self.string();
            // The colon.
            self.next_byte();
            self.take(1);
            members.push(out, |out| push_string(out, name), |out| self.value(out));
        }
        members.sort(out);
        out.push('}');
    }

    fn array(&mut self, out: &mut String) {
        self.take(1);
        out.push('[');
        let mut first = true;
        while self.has_next(b']') {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            self.value(out);
        }
        out.push(']');
    }

    /// Moves to the next element or member, or past the end.
    fn has_next(&mut self, end: u8) -> bool {
        match self.next_byte() {
            Some(b',') => {
                self.take(1);
                self.next_byte();
                true
            }
            Some(byte) if byte == end => {
                self.take(1);
                false
            }
            next => next.is_some(),
        }
    }

    /// The next byte after whitespace.
    fn next_byte(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.bytes().next()
    }

    /// A string with its quotes.
    fn string(&mut self) -> &'a str {
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => byte == b'"',
        });
        self.take(end.map_or(self.rest.len(), |end| end + 2))
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Appends a string, which comes with its quotes.
fn push_string(out: &mut String, raw: &str) {
    match json::string(raw) {
        Ok(text) => json::push_string(out, &text),
        Err(json::UnpairedSurrogate) => push_unpaired(out, raw),
    }
}

/// [`push_string`] for strings that are not Unicode text: half of a surrogate pair stays an escape, in lower case.
fn push_unpaired(out: &mut String, raw: &str) {
    let mut units = Vec::with_capacity(raw.len());
    let mut rest = &raw[1..raw.len() - 1];
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        let (escape, after) = rest.split_at(if rest.starts_with('u') { 5 } else { 1 });
        rest = after;
        units.push(match escape {
            "b" => 0x08,
            "f" => 0x0c,
            "n" => 0x0a,
            "r" => 0x0d,
            "t" => 0x09,
            _ => escape.strip_prefix('u').map_or_else(
                || u16::from(escape.as_bytes()[0]),
                |digits| u16::from_str_radix(digits, 16).unwrap_or_default(),
            ),
        });
    }
    out.push('"');
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(c) => {
                let start = out.len();
                json::push_string(out, c.encode_utf8(&mut [0; 4]));
                // Remove the quotes around this character.
                out.pop();
                out.remove(start);
            }
            Err(half) => out.push_str(&format!("\\u{:04x}", half.unpaired_surrogate())),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> String {
        let mut out = String::new();
        push_value(&mut out, raw);
        out
    }

    #[test]
    fn canonical_form_is_unique_and_stable() {
        for (raw, form) in [
            (" [ 1.50e+9 ,\n-0, true,null , { } , [ ] ] ", "[1.50e+9,-0,true,null,{},[]]"),
            (
                r#"{"b":{"d":[{"f":1,"e":2}],"c":"}"}, "a" : "\u00e9" }"#,
                r#"{"a":"é","b":{"c":"}","d":[{"e":2,"f":1}]}}"#,
            ),
            (r#"{"b":1,"a":2,"b":0}"#, r#"{"a":2,"b":1,"b":0}"#),
            (r#"{"a":1,"\u0061":0}"#, r#"{"a":1,"a":0}"#),
            (r#""\"\\\/\b\f\n\r\t\u001F""#, r#""\"\\/\b\f\n\r\t\u001f""#),
            (r#""\"\\\/\b\f\n\r\t\u001Fé\uD83D\uDE00\uD83D""#, r#""\"\\/\b\f\n\r\t\u001fé😀\ud83d""#),
            (r#""\ud83d\"""#, r#""\ud83d\"""#),
            (r#""\"\uD83D\\""#, r#""\"\ud83d\\""#),
            (r#""\udc00\ud800\\ud83d""#, r#""\udc00\ud800\\ud83d""#),
        ] {
            assert_eq!(canonical(raw), form);
            assert_eq!(canonical(form), form);
        }
    }

    #[test]
    fn sorts_members_by_name() {
        let members = json::members(r#"{"b":[ ],"a\u0021":{},"a":1}"#).unwrap();
        let mut out = "{\"x\":0".to_owned();
        push_members(&mut out, &members);
        assert_eq!(out, r#"{"x":0,"a":1,"a!":{},"b":[]"#);
        push_members(&mut out, &[]);
        assert!(out.ends_with("[]"));
    }
}
