//! JSON split one level at a time into slices of the command's own text.
//!
//! Free properties are passed on byte for byte, so nothing is parsed into a value that would have to be serialized
//! again. `serde_json` skips deeper levels without recursion, so no depth of nesting can overflow the stack.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A name, with its quotes, and its value: both exactly as in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawMember<'a> {
    pub name: &'a str,
    pub value: &'a str,
}

/// The type of a value, known from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// An escape `\ud800` to `\udfff` without its other half: the JSON grammar allows it, but it is not Unicode text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnpairedSurrogate;

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

/// Checks that `text` is one JSON value, and returns it without the whitespace around it.
pub(crate) fn value(text: &str) -> Result<&str, serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

/// Splits an object.
pub(crate) fn members(text: &str) -> Result<Vec<RawMember<'_>>, serde_json::Error> {
    serde_json::from_str::<Members>(text).map(|members| members.0)
}

/// Splits an array.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, serde_json::Error> {
    let elements: Vec<&RawValue> = serde_json::from_str(text)?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

/// The text of a JSON string, which comes with its quotes.
pub(crate) fn string(raw: &str) -> Result<Cow<'_, str>, UnpairedSurrogate> {
    if raw.as_bytes().contains(&b'\\') {
        return serde_json::from_str(raw).map(Cow::Owned).map_err(|_| UnpairedSurrogate);
    }
    Ok(Cow::Borrowed(raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw)))
}

/// Whether a short text contains such a byte. It looks at all bytes instead of stopping early, so that the compiler
/// can vectorize the loop.
pub(crate) fn contains_byte(text: &str, wanted: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |any, byte| any | wanted(byte))
}

/// Appends `text` as a JSON string, escaped as `serde_json` does it.
pub(crate) fn push_string(out: &mut String, text: &str) {
    if !contains_byte(text, |byte| (byte < 0x20) | (byte == b'"') | (byte == b'\\')) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// Appends members to an object that already has one, byte for byte except for whitespace between them.
pub(crate) fn push_members(out: &mut String, members: &[RawMember<'_>]) {
    for member in members {
        out.push(',');
        out.push_str(member.name);
        out.push(':');
        out.push_str(member.value);
    }
}

/// Levels of nesting of valid JSON; a scalar has none. Exact if the result exceeds `allowed`, otherwise an upper bound.
pub(crate) fn depth(json: &str, allowed: usize) -> usize {
    // Almost no command has more brackets than the allowed number of levels, so counting them is usually enough.
    // Blocks in which a `u8` can count, so that the compiler can vectorize the loop.
    let of_block =
        |block: &[u8]| block.iter().fold(0, |count, &byte| count + u8::from(byte == b'[' || byte == b'{'));
    let opening: usize =
        json.as_bytes().chunks(usize::from(u8::MAX)).map(|block| usize::from(of_block(block))).sum();
    if opening <= allowed {
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

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        // Read as a `RawValue`, a name keeps its escapes and borrows from the text.
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push(RawMember { name: name.get(), value: value.get() });
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_slices_of_the_text() {
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
    fn elements_are_slices_of_the_text() {
        assert_eq!(elements(" [ 1 , \"a\" ,{ } ]").unwrap(), ["1", "\"a\"", "{ }"]);
        assert_eq!(elements("[]").unwrap(), [""; 0]);
    }

    #[test]
    fn rejects_half_a_surrogate_pair() {
        assert_eq!(string(r#""\ud83d\ude00""#), Ok("😀".into()));
        assert_eq!(string(r#""\ud83d""#), Err(UnpairedSurrogate));
        assert_eq!(string(r#""\ude00\ud83d""#), Err(UnpairedSurrogate));
    }

    #[test]
    fn counts_levels_outside_of_strings() {
        assert_eq!(depth("1", 0), 0);
        assert_eq!(depth(r#"{"a":[[],[]],"b":"[[[[\"[["}"#, 0), 3);
        assert_eq!(depth(r#"{"a":[[],[]]}"#, 1), 3);
        // The quick count may exceed the depth, but not the allowed number.
        assert_eq!(depth(r#"{"a":[[],[]]}"#, 4), 4);
    }

    #[test]
    fn survives_any_depth() {
        let levels = 2_000_000;
        let deep = "[".repeat(levels) + &"]".repeat(levels);
        assert!(value(&deep).is_ok());
        assert_eq!(depth(&deep, 64), levels);
        assert_eq!(elements(&deep).unwrap().len(), 1);
        assert!(value(&deep[..levels]).is_err());
    }

    #[test]
    fn escapes_strings_as_serde_json_does() {
        for text in ["", "plain", "é😀\u{7f}\u{85}", "a\"b\\c/\n\u{1}\u{1f}\u{2028}"] {
            let mut out = String::new();
            push_string(&mut out, text);
            assert_eq!(out, serde_json::to_string(text).unwrap());
            assert_eq!(string(&out).unwrap(), text);
        }
    }
}
