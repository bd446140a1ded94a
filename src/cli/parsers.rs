//! Parsers of arguments that several subcommands have.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A name and a value, as `NAME=VALUE`.
pub(super) fn assignment(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("expected a name, = and a value"),
    }
}

/// One of a few words, as the value that it stands for.
pub(super) fn one_of<T: Clone + Send + Sync + 'static>(
    words: impl IntoIterator<Item = (impl Into<PossibleValue>, T)>,
) -> impl TypedValueParser<Value = T> {
    let words: Vec<(PossibleValue, T)> =
        words.into_iter().map(|(word, value)| (word.into(), value)).collect();
    PossibleValuesParser::new(words.iter().map(|(word, _)| word.clone())).map(move |given| {
        let found = words.iter().find(|(word, _)| word.get_name() == given);
        found.expect("it is one of the words").1.clone()
    })
}
