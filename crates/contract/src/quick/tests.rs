//! The quick reader against the one that decides: same entry, or none.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{walk::plain_bytes, *};
use crate::{
    decider,
    problem::{Findings, Pointer},
};

/// The entry, if nothing is wrong with it.
fn decided<'a>(text: &'a str, limits: &Limits) -> Option<Entry<'a>> {
    let mut findings = Findings::new(limits);
    let members = decider::members(Some(text.as_bytes()), &mut findings)?;
    let entry = Entry::read(members, &Pointer::Root, &mut findings);
    entry.filter(|_| findings.is_empty())
}

/// Limits that short texts can exceed.
fn limits() -> Limits {
    Limits { text_characters: 5, targets: 3, attachments: 2, nesting: 5, ..Limits::default() }
}

fn assert_agree(text: &str, limits: &Limits) -> Result<(), TestCaseError> {
    if let Some(entry) = read(text, limits) {
        prop_assert_eq!(Some(entry), decided(text, limits), "{}", text);
    }
    Ok(())
}

/// Strings, valid and not, some of them too long or empty.
fn string() -> BoxedStrategy<String> {
    let written = select(vec![
        "\"a\"",
        "\"case\"",
        "\"é\"",
        "\"éééééé\"",
        "\"sixsix\"",
        "\"\"",
        "\"\\n\"",
        "\"\\u00e9\"",
        "\"\\u0085\"",
        "\"\u{85}\"",
        "\"\u{7f}\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"a\tb\"",
        "\"\\\\\"",
        "\"\\\"\"",
        "\"twelve bytes and more of text\"",
        "\"12345678\\\"\"",
        "\"unended",
    ]);
    prop_oneof![2 => select(vec!["\"a\"", "\"b\"", "\"c\""]), 1 => written].prop_map(str::to_owned).boxed()
}

/// JSON of any depth, valid and not.
fn any_value() -> BoxedStrategy<String> {
    let written = select(vec![
        "null",
        "true",
        "false",
        "nul",
        "nullx",
        "0",
        "-0",
        "01",
        "1.",
        ".5",
        "1.50e+9",
        "1E-2",
        "1e",
        "-",
        "+1",
        "NaN",
        "\"Identity\"",
        "\"Everyone\"",
        "\"Members\"",
        "\"Public\"",
        "\"User\"",
        "\"Group\"",
        "\"file\"",
        "\"link\"",
        "\"2026-11-24T01:20:00Z\"",
        "\"2026-11-24T01:20:00.1234567+01:00\"",
        "\"2026-02-30T01:20:00Z\"",
        "[]",
        "{ }",
        "[1,]",
        "{\"a\"}",
        "{\"a\":1,}",
        "",
    ]);
    let leaf = prop_oneof![written.prop_map(str::to_owned), string()];
    leaf.prop_recursive(5, 12, 3, |inner| {
        let names = select(vec!["\"a\"", "\"b\"", "\"\\u0061\"", "\"\""]);
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|values| format!("[{}]", values.join(" , "))),
            vec((names, inner), 0..3).prop_map(|members| object(&members)),
        ]
    })
    .boxed()
}

fn object(members: &[(&str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("{name} :{value}")).collect();
    format!("{{{}\n}}", members.join(","))
}

/// Mostly what the contract asks for, sometimes any value.
fn mostly(usual: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![12 => usual, 1 => Just("null".to_owned()), 1 => any_value()].boxed()
}

fn words(words: Vec<&'static str>) -> BoxedStrategy<String> {
    mostly(select(words).prop_map(|word| format!("\"{word}\"")))
}

fn identity() -> BoxedStrategy<String> {
    let member = prop_oneof![
        4 => (select(vec!["\"id\"", "\"Id\""]), mostly(string())),
        1 => (select(vec!["\"domain\"", "\"Domain\"", "\"name\"", "\"Name\"", "\"x\""]), mostly(string())),
        1 => (select(vec!["\"type\"", "\"Type\"", "\"@type\""]), words(vec!["User", "Group", "user"])),
    ];
    prop_oneof![string(), vec(member, 0..4).prop_map(|members| object(&members))].boxed()
}

fn target() -> BoxedStrategy<String> {
    let notify = || mostly(select(vec!["true", "false", "yes"]).prop_map(str::to_owned));
    let types = || words(vec!["Identity", "Everyone", "Members", "Public", "everyone"]);
    let member = prop_oneof![
        3 => (select(vec!["\"@type\"", "\"type\""]), types()),
        3 => (Just("\"targetId\""), mostly(identity())),
        2 => (Just("\"notify\""), notify()),
        1 => (select(vec!["\"name\"", "\"id\"", "\"Id\"", "\"Notify\""]), mostly(string())),
    ];
    prop_oneof![1 => identity(), 3 => vec(member, 0..4).prop_map(|members| object(&members))].boxed()
}

fn attachment() -> BoxedStrategy<String> {
    let member = prop_oneof![
        3 => (Just("\"id\""), mostly(string())),
        1 => (Just("\"@type\""), words(vec!["file", "link", "File"])),
        1 => (select(vec!["\"type\"", "\"name\"", "\"n\\u0061me\""]), any_value()),
    ];
    prop_oneof![string(), vec(member, 0..4).prop_map(|members| object(&members))].boxed()
}

fn array(element: BoxedStrategy<String>) -> BoxedStrategy<String> {
    mostly(vec(element, 0..5).prop_map(|elements| format!("[{}]", elements.join(","))))
}

fn entry() -> BoxedStrategy<String> {
    let date_times = words(vec!["2026-11-24T01:20:00Z", "2026-11-24T01:20:00.123+01:00", "2026-11-24"]);
    let foreign = vec!["\"target\"", "\"Targets\"", "\"to\"", "\"cc\"", "\"Audience\"", "\"recipient\""];
    let other = prop_oneof![
        2 => (select(vec!["\"@type\"", "\"type\""]), mostly(string())),
        2 => (Just("\"actor\""), mostly(identity())),
        2 => (select(vec!["\"publishedAt\"", "\"published\""]), date_times),
        4 => (Just("\"targets\""), array(target())),
        2 => (select(vec!["\"attachments\"", "\"attachment\""]), array(attachment())),
        1 => (Just("\"content\""), mostly(string())),
        1 => (select(foreign), any_value()),
        2 => (select(vec!["\"a\"", "\"b\"", "\"é\"", "\"object\\u0049d\"", "\"objectType\""]), any_value()),
    ];
    let required = |name| option::weighted(0.95, mostly(string()).prop_map(move |value| (name, value)));
    (required("\"objectType\""), required("\"objectId\""), vec(other, 0..6))
        .prop_map(|(one, two, others)| object(&one.into_iter().chain(others).chain(two).collect::<Vec<_>>()))
        .boxed()
}

/// Cuts text out and puts other text in, at any place.
fn changed(text: &str, changes: &[(prop::sample::Index, usize, &str)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (at, cut, other) in changes {
        let start = at.index(characters.len() + 1);
        let end = (start + cut).min(characters.len());
        characters.splice(start..end, other.chars());
    }
    characters.into_iter().collect()
}

fn cases(least: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(least), ..config }
}

proptest! {
    #![proptest_config(cases(8_000))]

    /// `PROPTEST_CASES` asks for more.
    #[test]
    fn reads_what_the_deciding_reader_reads(
        text in entry(),
        changes in vec((any::<prop::sample::Index>(), 0_usize..4, select(vec![
            "", "\"", "\\", ",", ":", "{", "}", "[", "]", "0", "e", "n", " ", "\u{0}", "\u{feff}", "\"a\":1,", "é",
        ])), 0..3),
    ) {
        assert_agree(&text, &limits())?;
        assert_agree(&text, &Limits::default())?;
        let text = changed(&text, &changes);
        assert_agree(&text, &limits())?;
        assert_agree(&text, &Limits::default())?;
    }

    #[test]
    fn finds_the_first_special_byte(bytes in vec(prop_oneof![0x1e_u8..0x24, 0x5b_u8..0x5e, any::<u8>()], 0..40)) {
        let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
        prop_assert_eq!(plain_bytes(&bytes), bytes.iter().position(special).unwrap_or(bytes.len()));
    }
}

/// Were everything left to the other reader, the comparison above would show nothing.
#[test]
fn reads_ordinary_entries_itself() {
    for text in [
        r#"{"objectType":"case","objectId":"1"}"#,
        r#" { "@type" : "update" , "actor" : "anna", "objectType" : "case", "objectId" : "é\n" } "#,
        r#"{"objectType":"a","objectId":"b","actor":{"id":"x","domain":"d","name":"","type":"Group"},"content":"\ud83d\ude00"}"#,
        r#"{"objectType":"a","objectId":"b","targets":["x",{"Id":"y"},{"@type":"Everyone"},{"type":"Members","targetId":"c"}]}"#,
        r#"{"objectType":"a","objectId":"b","targets":[{"targetId":"x","name":"X","notify":true},{"targetId":{"id":"x"},"notify":null}]}"#,
        r#"{"objectType":"a","objectId":"b","targets":[{"@type":"Public","targetId":null}],"actor":null,"published":"2026-11-24T01:20:00Z"}"#,
        r#"{"objectType":"a","objectId":"b","attachments":["f",{"id":"g","@type":"link","size":[1,{"x":-0.5e+3}]}],"to":"closed"}"#,
        r#"{"objectType":"a","objectId":"b","task":{"a":[],"b":{},"c":[[{"d":"\ud800"}],true,null]},"status":false,"price":1.50}"#,
    ] {
        let limits = Limits::default();
        // `é\n` is no id.
        assert_eq!(read(text, &limits), decided(text, &limits), "{text}");
        assert_eq!(read(text, &limits).is_some(), !text.contains(r"\n"), "{text}");
    }
}

#[test]
fn leaves_to_the_other_reader_what_is_beyond_a_limit() {
    let levels = |count: usize| {
        format!(r#"{{"objectType":"a","objectId":"b","x":{}{}}}"#, "[".repeat(count), "]".repeat(count))
    };
    let limits = Limits { nesting: 70, ..limits() };
    for (text, is_read) in [
        (levels(64), true),
        // Deeper than the bits of one word.
        (levels(65), false),
        (levels(70), false),
        (r#"{"objectType":"éé123","objectId":"b"}"#.to_owned(), true),
        (r#"{"objectType":"éé1234","objectId":"b"}"#.to_owned(), false),
        (r#"{"objectType":"a","objectId":"b","targets":["a","b","a"]}"#.to_owned(), true),
        (r#"{"objectType":"a","objectId":"b","targets":["a","b","a","b"]}"#.to_owned(), false),
        (r#"{"objectType":"a","objectId":"b","attachment":["a","b"]}"#.to_owned(), true),
        (r#"{"objectType":"a","objectId":"b","attachment":["a","b","c"]}"#.to_owned(), false),
    ] {
        assert_eq!(read(&text, &limits).is_some(), is_read, "{text}");
        assert_agree(&text, &limits).unwrap();
    }
    let five = Limits { nesting: 5, ..limits };
    assert!(read(&levels(4), &five).is_some());
    assert!(read(&levels(5), &five).is_none());
    assert!(read(&levels(1), &Limits { nesting: 3, ..five }).is_none());
}
