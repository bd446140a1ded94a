//! JSON taken apart one level at a time, as slices of the command's own text.
//!
//! Free properties are passed on byte for byte, so nothing is turned into a value that would have to be
//! written again. `serde_json` skips over what lies deeper without recursion, so no depth of nesting can
//! overflow the stack.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A name and its value, both as they stand in the text; the name with its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawMember<'a> {
    pub name: &'a str,
    pub value: &'a str,
}

/// What a value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// A `\ud800` to `\udfff` without its other half: allowed by the JSON grammar, but no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnpairedSurrogate;

impl Kind {
    /// `raw` is one JSON value without whitespace around it.
    pub fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }
}

/// Checks that `text` is one JSON value, and gives it without the whitespace around it.
pub(super) fn value(text: &str) -> Result<&str, serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

/// The members of the object that `text` is.
pub(super) fn members(text: &str) -> Result<Vec<RawMember<'_>>, serde_json::Error> {
    serde_json::from_str::<Members>(text).map(|members| members.0)
}

/// The elements of the array that `text` is.
pub(super) fn elements(text: &str) -> Result<Vec<&str>, serde_json::Error> {
    serde_json::from_str::<Elements>(text).map(|elements| elements.0)
}

/// The text of a JSON string given with its quotes.
pub(super) fn string(raw: &str) -> Result<Cow<'_, str>, UnpairedSurrogate> {
    if has(raw, |byte| byte == b'\\') {
        return serde_json::from_str(raw).map(Cow::Owned).map_err(|_| UnpairedSurrogate);
    }
    Ok(Cow::Borrowed(raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw)))
}

/// Whether such a byte is among those of a short text. Looks at all of them, which a processor does many at a time.
pub(super) fn has(text: &str, wanted: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |any, byte| any | wanted(byte))
}

/// Appends `text` as a JSON string, escaped as `serde_json` does it.
pub(super) fn push_string(out: &mut String, text: &str) {
    if !has(text, |byte| (byte < 0x20) | (byte == b'"') | (byte == b'\\')) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// Appends members to an object that has one already, byte for byte but for whitespace between them.
pub(super) fn push_members(out: &mut String, members: &[RawMember<'_>]) {
    for member in members {
        out.push(',');
        out.push_str(member.name);
        out.push(':');
        out.push_str(member.value);
    }
}

/// Levels of nesting of valid JSON; a scalar has none. Exact where there are
/// `more_than` so many, otherwise an upper bound.
pub(super) fn depth(json: &str, more_than: usize) -> usize {
    // Almost no command has as many brackets as levels are allowed: counting them is quick, and enough.
    // Blocks in which a byte can count, so that a processor counts many at a time.
    let of_block =
        |block: &[u8]| block.iter().fold(0, |count, &byte| count + u8::from(byte == b'[' || byte == b'{'));
    let opening: usize =
        json.as_bytes().chunks(usize::from(u8::MAX)).map(|block| usize::from(of_block(block))).sum();
    if opening <= more_than {
        return opening;
    }
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

struct Members<'a>(Vec<RawMember<'a>>);
struct Elements<'a>(Vec<&'a str>);
struct Parts<T>(PhantomData<T>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Parts::<Self>(PhantomData))
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Parts<Members<'a>> {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        // As a `RawValue` a name keeps its escapes and borrows from the text.
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push(RawMember { name: name.get(), value: value.get() });
        }
        Ok(Members(members))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Parts::<Self>(PhantomData))
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Parts<Elements<'a>> {
    type Value = Elements<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::with_capacity(4);
        while let Some(element) = seq.next_element::<&RawValue>()? {
            elements.push(element.get());
        }
        Ok(Elements(elements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_the_text_as_it_came() {
        let text = " { \"a\\u0062\" : 1.50e+9 ,\n\"x\":[ 1, {\"y\" : \"\\ud800\"} ] , \"é\":\"\" } ";
        let members = members(text).unwrap();
        let pairs: Vec<_> = members.iter().map(|member| (member.name, member.value)).collect();
        assert_eq!(
            pairs,
            [("\"a\\u0062\"", "1.50e+9"), ("\"x\"", "[ 1, {\"y\" : \"\\ud800\"} ]"), ("\"é\"", "\"\"")]
        );
        assert_eq!(string(members[0].name), Ok("ab".into()));
    }

    #[test]
    fn elements_are_the_text_as_it_came() {
        assert_eq!(elements(" [ 1 , \"a\" ,{ } ]").unwrap(), ["1", "\"a\"", "{ }"]);
        assert_eq!(elements("[]").unwrap(), [""; 0]);
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        assert_eq!(string(r#""\ud83d\ude00""#), Ok("😀".into()));
        assert_eq!(string(r#""\ud83d""#), Err(UnpairedSurrogate));
        assert_eq!(string(r#""\ude00\ud83d""#), Err(UnpairedSurrogate));
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth("1", 0), 0);
        assert_eq!(depth(r#"{"a":[[],[]],"b":"[[[[\"[["}"#, 0), 3);
        assert_eq!(depth(r#"{"a":[[],[]]}"#, 1), 3);
        // The quick count may come out higher than the depth, but never above what was asked about.
        assert_eq!(depth(r#"{"a":[[],[]]}"#, 4), 4);
    }

    #[test]
    fn no_depth_overflows_the_stack() {
        let levels = 2_000_000;
        let deep = "[".repeat(levels) + &"]".repeat(levels);
        assert!(value(&deep).is_ok());
        assert_eq!(depth(&deep, 64), levels);
        assert_eq!(elements(&deep).unwrap().len(), 1);
        assert!(value(&deep[..levels]).is_err());
    }

    #[test]
    fn strings_are_escaped_as_serde_json_escapes_them() {
        for text in ["", "plain", "é😀\u{7f}\u{85}", "a\"b\\c/\n\u{1}\u{1f}\u{2028}"] {
            let mut out = String::new();
            push_string(&mut out, text);
            assert_eq!(out, serde_json::to_string(text).unwrap());
            assert_eq!(string(&out).unwrap(), text);
        }
    }
}
