//! The quick reader against the one that decides: same entry, or none.

use std::cell::Cell;

use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::TestRunner};

use super::{walk::plain, *};
use crate::{
    Coordinates, Decider, Event, IdempotencyKey, Record, decider,
    idempotency::GivenKey,
    problem::{Findings, Pointer},
};

fn quickly<'a>(text: &'a str, limits: &Limits) -> Option<Entry<'a>> {
    let mut entry = Entry::new();
    read(text, limits, &mut entry).map(|()| entry)
}

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

/// Whether the quick reader read it.
fn assert_agree(text: &str, limits: &Limits) -> Result<bool, TestCaseError> {
    let Some(entry) = quickly(text, limits) else { return Ok(false) };
    let decided = decided(text, limits);
    prop_assert_eq!(Some(&entry), decided.as_ref(), "{}", text);
    let decided = decided.expect("an equal entry");
    // Not at the beginning of their buffers, nor at the same place.
    let (event, key) = event(&entry, limits, "x");
    prop_assert_eq!((&event, key), (&self::event(&decided, limits, "yé").0, key), "{}", text);
    prop_assert_eq!(key, self::event(&decided, limits, "").1, "{}", text);
    let read_back = Event::from_log(event.id().topic_bits(), AT, event.json().to_owned());
    prop_assert_eq!(Ok(&event), read_back.as_ref().map_err(ToString::to_string), "{}", text);
    Ok(true)
}

const AT: Coordinates = Coordinates { partition: 3, offset: 12_345, timestamp: 1_795_478_400_123 };

fn event(entry: &Entry<'_>, limits: &Limits, before: &str) -> (Event, Option<IdempotencyKey>) {
    let decider = Decider::new("t", limits.clone());
    let record = Record { coordinates: AT, key: None, value: None, headers: Vec::new() };
    let (mut buffer, mut findings) = (before.to_owned(), Findings::new(limits));
    let key = GivenKey::Header(b"k");
    let (parts, key) = decider.write(entry, Some(key), &record, &mut findings, &mut buffer);
    assert!(findings.is_empty());
    (decider.event(AT, buffer.into(), parts), key)
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
        "\"\\/\"",
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

type Change = (prop::sample::Index, usize, &'static str);

fn changes(fewer_than: usize) -> impl Strategy<Value = Vec<Change>> {
    let other = vec![
        "", "\"", "\\", ",", ":", "{", "}", "[", "]", "0", "e", "n", " ", "\u{0}", "\u{feff}", "\"a\":1,",
        "é",
    ];
    vec((any::<prop::sample::Index>(), 0_usize..4, select(other)), 0..fewer_than)
}

const EXAMPLES: [&str; 3] = [
    r#"{"@type":"share","actor":{"id":"user-1","name":"Anna Berg"},"objectType":"case","objectId":"7","targets":[{"targetId":"user-2-0","notify":true},{"targetId":"user-3-1"}],"attachments":["bill-1-0.pdf"],"content":"the customer is waiting"}"#,
    r#"{"objectType":"case","objectId":"7","targets":["a",{"id":"b","domain":"d"},{"@type":"Members","notify":true},{"@type":"Identity","targetId":{"id":"b","domain":"d"},"notify":true},{"@type":"Everyone"},"a"]}"#,
    r#"{"objectType":"a/%:b","objectId":"\"","published":"2026-11-24T01:20:00.123+01:00","targets":[{"@type":"Members","notify":true},{"type":"Members","targetId":"\\:","notify":true}],"content":"\u00e9\n","x":[1,{"y":"\ud800"}],"to":"closed"}"#,
];

/// Cuts text out and puts other text in, at any place.
fn changed(text: &str, changes: &[Change]) -> String {
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
        changes in changes(3),
    ) {
        assert_agree(&text, &limits())?;
        assert_agree(&text, &Limits::default())?;
        let text = changed(&text, &changes);
        assert_agree(&text, &limits())?;
        assert_agree(&text, &Limits::default())?;
    }

    #[test]
    fn finds_the_first_special_byte(
        bytes in vec(prop_oneof![0x1e_u8..0x24, 0x5b_u8..0x5e, 0x7d_u8..0x82, any::<u8>()], 0..40),
    ) {
        let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
        let before = &bytes[..bytes.iter().position(special).unwrap_or(bytes.len())];
        prop_assert_eq!(plain(&bytes), (before.len(), before.iter().all(|byte| (0x20..0x7f).contains(byte))));
    }
}

/// Texts that are seldom generated.
#[test]
fn agrees_with_the_deciding_reader_on_rare_texts() {
    let numbers =
        ["0", "-0", "00", "01", "-01", "-", "1.", "1.0", ".5", "0.5e1", "1e", "1e+", "1e+0", "1e0.5", "+1"];
    let numbers = numbers.map(|number| format!(r#""x":{number}"#));
    let ids = [r"\/", r"\u002f", r"\n", r"\u0022", r"\\", r"\ud83d\ude00", r"\ude00\ud83d", "\u{7f}"];
    let texts = ids.iter().flat_map(|id| {
        [
            format!(r#""actor":"{id}""#),
            format!(r#""content":"{id}""#),
            format!(r#""attachment":[{{"id":"{id}"}}]"#),
        ]
    });
    let targets = [
        r#""targetId":"b""#,
        r#""targetId":{"id":"b"}"#,
        r#""targetId":{"id":"b","name":"B"}"#,
        r#""notify":true"#,
    ]
    .iter()
    .flat_map(|id| target::TYPES.map(|kind| format!(r#""targets":[{{"@type":"{kind}",{id}}}]"#)))
    .flat_map(|target| {
        [target.replace("}]", r#","name":"C"}]"#), target.replace("}]", r#","name":null}]"#), target]
    });
    for member in numbers.into_iter().chain(texts).chain(targets) {
        let text = format!(r#"{{"objectType":"a","objectId":"b",{member}}}"#);
        assert_agree(&text, &Limits::default()).unwrap();
    }
}

/// For as many seconds as `FUZZ_SECONDS` says. A failure prints the shortest text that fails.
#[test]
#[ignore = "runs for FUZZ_SECONDS"]
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "as long as the environment says")]
#[allow(clippy::disallowed_macros, reason = "prints what it did")]
fn agrees_with_the_deciding_reader_for_some_time() {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(10, |text| text.parse().expect("seconds"));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let (texts, read) = (Cell::new(0_u64), Cell::new(0_u64));
    let config = ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() };
    while std::time::Instant::now() < end {
        let text = prop_oneof![entry(), select(EXAMPLES.to_vec()).prop_map(str::to_owned)];
        let run = TestRunner::new(config.clone()).run(&(text, changes(4)), |(text, changes)| {
            for text in [&text, &changed(&text, &changes)] {
                for limits in [limits(), Limits::default()] {
                    texts.update(|count| count + 1);
                    let is_read = assert_agree(text, &limits)?;
                    read.update(|count| count + u64::from(is_read));
                }
            }
            Ok(())
        });
        run.unwrap_or_else(|failure| panic!("after {} texts: {failure}", texts.get()));
    }
    println!("{} texts, {} of which the quick reader read: no difference", texts.get(), read.get());
    assert!(read.get() * 10 > texts.get(), "it hardly reads any");
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
        assert_eq!(quickly(text, &limits), decided(text, &limits), "{text}");
        assert_eq!(quickly(text, &limits).is_some(), !text.contains(r"\n"), "{text}");
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
        assert_eq!(quickly(&text, &limits).is_some(), is_read, "{text}");
        assert_agree(&text, &limits).unwrap();
    }
    let five = Limits { nesting: 5, ..limits };
    assert!(quickly(&levels(4), &five).is_some());
    assert!(quickly(&levels(5), &five).is_none());
    assert!(quickly(&levels(1), &Limits { nesting: 3, ..five }).is_none());
}
