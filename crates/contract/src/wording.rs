//! Parts of the messages of problems: values as quoted in a sentence, and suggestions.

use std::fmt;

use crate::json::{self, Kind};

/// A raw JSON value in a sentence: scalars themselves, shortened; arrays and objects as their type.
pub(crate) struct Found<'a>(pub &'a str);

/// A name or other text in quotes, escaped as JSON and shortened.
pub(crate) struct Quoted<'a>(pub &'a str);

/// `; did you mean "x"?` if a known name is similar to the given one, otherwise nothing.
pub(crate) struct DidYouMean<'a> {
    pub given: &'a str,
    pub known: &'a [&'a str],
}

/// `"a", "b" or "c"`.
pub(crate) struct OneOf<'a>(pub &'a [&'a str]);

const MAX_QUOTED_CHARACTERS: usize = 60;

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Kind::of(self.0) {
            Kind::Object => f.write_str("an object"),
            Kind::Array => f.write_str("an array"),
            _ => write_shortened(f, self.0),
        }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.get(..4 * (MAX_QUOTED_CHARACTERS + 1)).unwrap_or(self.0);
        let mut quoted = String::with_capacity(start.len() + 2);
        json::push_string(&mut quoted, start);
        write_shortened(f, &quoted)
    }
}

fn write_shortened(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    match text.char_indices().nth(MAX_QUOTED_CHARACTERS) {
        None => f.write_str(text),
        Some((end, _)) => write!(f, "{}…", &text[..end]),
    }
}

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nearest(self.given, self.known) {
            Some(name) => write!(f, "; did you mean {}?", Quoted(name)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for OneOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let separator = match index {
                0 => "",
                _ if index + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}\"{name}\"")?;
        }
        Ok(())
    }
}

/// The known name that is most similar to the given one, if any is similar.
pub(crate) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |name: &str| {
        let may_differ = (name.len() / 3).max(1);
        // Names of a very different length are never similar. A hostile one must not cost a quadratic comparison.
        if given.len() > 4 * (name.len() + may_differ) + 4 {
            return None;
        }
        let distance = strsim::osa_distance(&folded(given), &folded(name));
        (distance <= may_differ).then_some(distance)
    };
    known
        .iter()
        .filter_map(|name| distance(name).map(|distance| (distance, *name)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Whether a name differs from the wanted one only in case or by one letter (omitted, added, changed, or two swapped).
pub(crate) fn is_misspelt(given: &str, wanted: &str) -> bool {
    // The length rules out most names cheaply. Lowercasing can shrink a character from 4 bytes to 1, except in ASCII.
    let near = if given.is_ascii() { wanted.len() + 1 } else { 4 * (wanted.len() + 1) };
    if given == wanted || given.len() > near || given.len() + 1 < wanted.len() {
        return false;
    }
    (!given.is_ascii() || shares_ends(given, wanted))
        && strsim::osa_distance(&given.to_lowercase(), wanted) <= 1
}

/// Whether all but two letters of the wanted name are at the beginning or the end of the given one: without this, names are
/// further apart than one letter or two that are swapped.
fn shares_ends(given: &str, wanted: &str) -> bool {
    let same = |(one, other): &(u8, u8)| one.eq_ignore_ascii_case(other);
    let start = given.bytes().zip(wanted.bytes()).take_while(same).count();
    let end = given.bytes().rev().zip(wanted.bytes().rev()).take_while(same).count();
    start + end + 2 >= wanted.len()
}

/// [`is_misspelt`] as a regular expression (ECMA-262 with the flag `u`), which also matches `wanted` itself. `wanted`
/// consists of lower-case ASCII letters.
pub(crate) fn misspelling_pattern(wanted: &str) -> String {
    // Any character except the one that becomes two in lower case, and is therefore two letters away.
    const ANY: &str = "[^\\u0130]";
    let letters: Vec<String> = wanted.chars().map(|c| format!("[{}{c}]", c.to_ascii_uppercase())).collect();
    let mut choices = Vec::new();
    for place in 0..=letters.len() {
        let (before, after) = (letters[..place].concat(), &letters[place..]);
        choices.push(format!("{before}{ANY}{}", after.concat()));
        if let [_, rest @ ..] = after {
            choices.push(format!("{before}{ANY}?{}", rest.concat()));
        }
        if let [one, other, rest @ ..] = after {
            choices.push(format!("{before}{other}{one}{}", rest.concat()));
        }
    }
    format!("^({})$", choices.join("|"))
}

/// In lower case and without word separators.
fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ' | '@')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shortens_quoted_values() {
        assert_eq!(Found("\"yes\"").to_string(), "\"yes\"");
        assert_eq!(Found("[1,2]").to_string(), "an array");
        assert_eq!(Found("{}").to_string(), "an object");
        assert_eq!(Found("null").to_string(), "null");
        let long = format!("\"{}\"", "é".repeat(100));
        assert_eq!(Found(&long).to_string(), format!("\"{}…", "é".repeat(59)));
        assert_eq!(Quoted("a\"\n").to_string(), r#""a\"\n""#);
        assert_eq!(Quoted(&"é".repeat(100_000)).to_string(), format!("\"{}…", "é".repeat(59)));
    }

    #[test]
    fn finds_similar_names() {
        let known = ["@type", "targetId", "notify"];
        assert_eq!(nearest("notfy", &known), Some("notify"));
        assert_eq!(nearest("NOTIFY", &known), Some("notify"));
        assert_eq!(nearest("target_id", &known), Some("targetId"));
        assert_eq!(nearest("typ", &known), Some("@type"));
        assert_eq!(nearest("content", &known), None);
        assert_eq!(nearest(&"notify".repeat(100_000), &known), None);
        assert_eq!(nearest("", &known), None);
    }

    #[test]
    fn a_misspelt_name_differs_in_case_or_one_letter() {
        for name in ["Targets", "TARGETS", "target", "tragets", "targetss", "argets", "tarGet", "targeds"] {
            assert!(is_misspelt(name, "targets"), "{name}");
        }
        for name in ["targets", "trgts", "audience", "targetId", "", "targets2go"] {
            assert!(!is_misspelt(name, "targets"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_that_share_no_ends_are_not_misspelt(given in "[TtArgex]{0,3}[Aarget]{0,4}[tTs]{0,3}") {
            let distance = strsim::osa_distance(&given.to_lowercase(), "targets");
            prop_assert_eq!(is_misspelt(&given, "targets"), given != "targets" && distance <= 1, "{}", given);
        }
    }

    #[test]
    fn lists_choices_as_in_a_sentence() {
        assert_eq!(OneOf(&["a", "b", "c"]).to_string(), r#""a", "b" or "c""#);
        assert_eq!(OneOf(&["a"]).to_string(), r#""a""#);
    }
}
