//! Every key of the configuration is explained.

use std::fmt::Write as _;

use activity_stream::config::Config;

use super::parts::{assert_part, exactly};
use super::text_of;

/// A key of `config/default.toml` with the comment above it.
struct Key {
    section: String,
    name: String,
    /// `None` where the file has it as a comment: not set.
    default: Option<String>,
    comment: String,
}

/// Keys, and what is said of sections.
fn keys(file: &str) -> (Vec<(String, String)>, Vec<Key>) {
    let (mut sections, mut keys) = (Vec::<(String, String)>::new(), Vec::new());
    let mut comment: Vec<&str> = Vec::new();
    for line in file.lines() {
        let uncommented = line.strip_prefix("# ").unwrap_or(line);
        let assignment = uncommented.split_once(" = ").filter(|(name, _)| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !name.is_empty()
        });
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((section.to_owned(), comment.join(" ")));
            comment.clear();
        } else if let Some((name, value)) = assignment {
            keys.push(Key {
                section: sections.last().expect("a section").0.clone(),
                name: name.to_owned(),
                default: (!line.starts_with('#')).then(|| value.to_owned()),
                comment: comment.join(" "),
            });
            comment.clear();
        } else if line.starts_with('#') {
            comment.push(uncommented.trim_start_matches('#'));
        } else {
            comment.clear();
        }
    }
    (sections, keys)
}

/// Takes `Label: ….` out of a comment, and gives what was in it.
fn take(comment: &mut String, label: &str) -> Option<String> {
    let at = comment.find(label)?;
    let rest = &comment[at + label.len()..];
    // The end of the sentence, not the dot in a name.
    let end = rest.find(". ").unwrap_or(rest.trim_end_matches('.').len());
    let taken = rest[..end].trim().to_owned();
    let behind = rest[end..].trim_start_matches('.').trim_start().to_owned();
    *comment = format!("{} {behind}", comment[..at].trim_end()).trim().to_owned();
    Some(taken)
}

fn row(key: &Key) -> String {
    let mut meaning = key.comment.clone();
    let variable = take(&mut meaning, "Environment: ").expect("a variable");
    assert_eq!(variable, format!("ACTIVITY_STREAM_{}_{}", key.section, key.name).to_uppercase());
    let flag = take(&mut meaning, "Flag: ").map(|flag| format!(", `{}`", flag.replace(", ", "`, `")));
    let flag = flag.unwrap_or_default();
    let default = key.default.as_ref().map_or("not set".to_owned(), |default| format!("`{default}`"));
    format!("| `{}` | {default} | {meaning} | `{variable}`{flag} |\n", key.name)
}

fn variables_as_code(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let name = word.trim_end_matches(['.', ',']);
        let is_variable = name.starts_with("ACTIVITY_STREAM_");
        if is_variable { format!("`{name}`{}", &word[name.len()..]) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_configuration_key_is_explained() {
    let (sections, keys) = keys(&text_of("config/default.toml"));
    let mut text = String::new();
    for (section, about) in &sections {
        let _ = writeln!(text, "## `[{section}]`\n");
        if !about.is_empty() {
            let _ = writeln!(text, "{}\n", variables_as_code(about));
        }
        let rows: String = keys.iter().filter(|key| &key.section == section).map(row).collect();
        if !rows.is_empty() {
            let _ = writeln!(
                text,
                "| key | default | meaning | variable, flag |\n| --- | --- | --- | --- |\n{rows}"
            );
        }
    }
    assert_part("docs/configuration.md", "keys", &format!("{}\n", text.trim_end()), exactly);

    // Those of the file are those of the program, and so are the defaults.
    let of_file: Vec<_> = keys
        .iter()
        .map(|key| (format!("{}.{}", key.section, key.name), key.default.clone().unwrap_or("\"\"".into())))
        .collect();
    let of_program: Vec<_> =
        Config::default().settings().into_iter().map(|setting| (setting.key, setting.value)).collect();
    assert_eq!(of_file, of_program);
}
