//! What the sentences of problems are made of: what was found, and what may have been meant.

use std::fmt;

use super::json::{self, Kind};

/// A raw JSON value as it is named in a sentence: strings, numbers and booleans themselves, cut where they
/// are long; of anything else the type.
pub(super) struct Found<'a>(pub &'a str);

/// A name or other text in quotes, escaped as JSON, cut where it is long.
pub(super) struct Quoted<'a>(pub &'a str);

/// `; did you mean "x"?` where one of the known names is near the given one, otherwise nothing.
pub(super) struct DidYouMean<'a> {
    pub given: &'a str,
    pub known: &'a [&'a str],
}

/// `"a", "b" or "c"`.
pub(super) struct OneOf<'a>(pub &'a [&'a str]);

const LONGEST_QUOTE: usize = 60;

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Kind::of(self.0) {
            Kind::Object => f.write_str("an object"),
            Kind::Array => f.write_str("an array"),
            _ => write_cut(f, self.0),
        }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.0.get(..4 * (LONGEST_QUOTE + 1)).unwrap_or(self.0);
        let mut quoted = String::with_capacity(start.len() + 2);
        json::push_string(&mut quoted, start);
        write_cut(f, &quoted)
    }
}

fn write_cut(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    match text.char_indices().nth(LONGEST_QUOTE) {
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

/// The known name that the given one is most like, if it is like one at all.
pub(super) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |name: &str| {
        let may_differ = (name.len() / 3).max(1);
        // Far longer or shorter names are never near, and must cost nothing.
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

/// Whether a name is the wanted one but for case or one letter (left out, added, changed, or two swapped).
pub(super) fn is_misspelt(given: &str, wanted: &str) -> bool {
    // Nearly all that are not like it at all are known by their length. A character of 1 byte in lower case may have up
    // to 4 bytes before, but none of ASCII.
    let near = if given.is_ascii() { wanted.len() + 1 } else { 4 * (wanted.len() + 1) };
    if given == wanted || given.len() > near || given.len() + 1 < wanted.len() {
        return false;
    }
    strsim::osa_distance(&given.to_lowercase(), wanted) <= 1
}

/// [`is_misspelt`] as a regular expression (ECMA-262 with the flag `u`); it matches what is wanted too. `wanted` is in
/// lower case, of ASCII letters.
pub(super) fn misspelling_pattern(wanted: &str) -> String {
    // The one character that is two in lower case, and so two letters away.
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

/// Lower case, without what people put between words.
fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ' | '@')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_stays_short() {
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
    fn near_names_are_found() {
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
    fn misspelt_is_one_letter_or_case_away() {
        for name in ["Targets", "TARGETS", "target", "tragets", "targetss", "argets", "tarGet", "targeds"] {
            assert!(is_misspelt(name, "targets"), "{name}");
        }
        for name in ["targets", "trgts", "audience", "targetId", "", "targets2go"] {
            assert!(!is_misspelt(name, "targets"), "{name}");
        }
    }

    #[test]
    fn choices_read_as_a_sentence() {
        assert_eq!(OneOf(&["a", "b", "c"]).to_string(), r#""a", "b" or "c""#);
        assert_eq!(OneOf(&["a"]).to_string(), r#""a""#);
    }
}
