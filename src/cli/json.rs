//! Prints JSON: one value a line for programs, indented for people. Numbers, escapes and the order of members stay as the
//! producer wrote them, so the text is never parsed into values.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::output::{Output, is_unsafe, push_escaped};

/// One JSON value on its own line, for programs: without filters or escapes.
pub fn write_json(value: &impl Serialize, out: &mut Output) -> io::Result<()> {
    write_line(value, out.raw())
}

fn write_line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, OneLine))?;
    out.write_all(b"\n")
}

/// The line that [`write_json`] writes.
#[cfg(test)]
pub(super) fn json_line(value: &impl Serialize) -> String {
    let mut line = Vec::new();
    write_line(value, &mut line).expect("memory");
    String::from_utf8(line).expect("UTF-8")
}

/// Removes the line breaks of values that are passed on as they are.
struct OneLine;

impl Formatter for OneLine {
    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        writer.write_all(on_one_line(fragment).as_bytes())
    }
}

/// Valid JSON has line breaks between its tokens only.
fn on_one_line(json: &str) -> Cow<'_, str> {
    if !json.contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    let mut in_string = InString::default();
    Cow::Owned(json.chars().filter(|&c| in_string.next(c) || !c.is_ascii_whitespace()).collect())
}

/// Levels that are indented. No command has more, but other text may be nested so deeply that the spaces would fill memory.
const DEEPEST: usize = 64;

/// Valid JSON with a line for each member and element, indented by two spaces.
#[must_use]
pub fn pretty(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth: usize = 0;
    let mut in_string = InString::default();
    let mut previous = ' ';
    for c in json.chars() {
        if in_string.next(c) {
            push(&mut text, c);
        } else {
            match c {
                _ if c.is_ascii_whitespace() => continue,
                '}' | ']' => {
                    depth = depth.saturating_sub(1);
                    if !matches!(previous, '{' | '[') {
                        break_line(&mut text, depth);
                    }
                }
                _ if matches!(previous, '{' | '[' | ',') => break_line(&mut text, depth),
                _ => {}
            }
            text.push(c);
            match c {
                '{' | '[' => depth += 1,
                ':' => text.push(' '),
                _ => {}
            }
        }
        previous = if in_string.0 == Place::Outside { c } else { '"' };
    }
    text
}

/// JSON allows some unescaped characters that a terminal would not show.
fn push(text: &mut String, c: char) {
    if is_unsafe(c) {
        push_escaped(text, c);
    } else {
        text.push(c);
    }
}

fn break_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth.min(DEEPEST)));
}

/// Tracks whether a character is inside a string.
#[derive(Default)]
struct InString(Place);

#[derive(Default, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    Inside,
    Escaped,
}

impl InString {
    /// Whether this character is inside a string, its closing quotation mark included.
    fn next(&mut self, c: char) -> bool {
        let (next, inside) = match (&self.0, c) {
            (Place::Outside, '"') => (Place::Inside, false),
            (Place::Outside, _) => (Place::Outside, false),
            (Place::Inside, '"') => (Place::Outside, true),
            (Place::Inside, '\\') => (Place::Escaped, true),
            (Place::Inside | Place::Escaped, _) => (Place::Inside, true),
        };
        self.0 = next;
        inside
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, value::RawValue};

    use super::*;

    #[test]
    fn indents_and_keeps_everything_else() {
        let json = r#"{"a":[1.10,{},[],[ ]],"b\"}":"x, \\","c":{ "d" : 1e400},"e":""}"#;
        let wanted = "{\n  \"a\": [\n    1.10,\n    {},\n    [],\n    []\n  ],\n  \"b\\\"}\": \"x, \\\\\",\n  \
                      \"c\": {\n    \"d\": 1e400\n  },\n  \"e\": \"\"\n}";
        assert_eq!(pretty(json), wanted);
        assert_eq!(pretty("\"\u{9b}31m\u{7f}\""), r#""\u009b31m\u007f""#);
        assert_eq!(pretty("{\"\u{202e}\":\"\u{200d}\"}"), "{\n  \"\\u202e\": \"\\u200d\"\n}");
    }

    #[test]
    fn text_that_is_no_json_ends_and_stays_small() {
        for text in ["}", "]}", "{}}", "\"", "{\"a", ":,", "[]]]{"] {
            assert!(pretty(text).len() < 100, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(pretty(&deep).len() < 200 * deep.len());
    }

    #[test]
    fn a_value_with_line_breaks_is_printed_on_one_line() {
        let raw: &RawValue = serde_json::from_str("{\n  \"a b\":\r\n [1.0, \"\\\" \"]\n}").unwrap();
        assert_eq!(json_line(&raw), "{\"a b\":[1.0,\"\\\" \"]}\n");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Where there is nothing to escape, what serde_json itself would print.
        #[test]
        fn means_the_same(value in any_json()) {
            let indented = serde_json::to_string_pretty(&value).unwrap();
            let ours = pretty(&value.to_string());
            prop_assert_eq!(&serde_json::from_str::<Value>(&ours).unwrap(), &value);
            if !indented.chars().any(|c| is_unsafe(c) && c != '\n') {
                prop_assert_eq!(&ours, &indented);
            }
            prop_assert_eq!(on_one_line(&indented.replace('\n', "\r\n")).into_owned(), value.to_string());
        }
    }
}
