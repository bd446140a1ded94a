//! Reads problems, to compare them without their messages, which any release may reword.

use contract::Problems;

/// `None` if the text is not exactly what the program writes for some problems: it then has to be compared as it is.
pub(crate) fn problems_as_written(json: &[u8]) -> Option<Problems> {
    let problems: Problems = serde_json::from_slice(json).ok()?;
    (problems.to_json().as_bytes() == json).then_some(problems)
}

#[cfg(test)]
mod tests {
    use contract::Code;

    use super::*;

    #[test]
    fn reads_pointers_and_codes_in_their_order() {
        let mut problems = Problems::one(Code::Tombstone, "a \"word\"\n");
        problems.0.push(problems.0[0].clone());
        problems.0[1].pointer = "/a\"b".into();
        let json = problems.to_json();
        let problems = problems_as_written(json.as_bytes()).unwrap();
        let read: Vec<_> = problems.0.iter().map(|problem| (&*problem.pointer, &*problem.code)).collect();
        assert_eq!(read, [("", "tombstone"), ("/a\"b", "tombstone")]);
    }

    #[test]
    fn reads_nothing_but_problems() {
        let others = [
            "",
            "{}",
            "null",
            r#"[["","tombstone","m"]]"#,
            r#"[{"pointer":"","code":"tombstone"}]"#,
            r#"[{"pointer":"","code":"tombstone","message":1}]"#,
            r#"[{"pointer":"","code":"tombstone","message":null}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"\ud800"}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"m","more":1}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"m","message":"m"}]"#,
            r#"[{"pointer":"","code":"tombstone","message":"m"}"#,
            r#"[{"pointer":"","code":"tombstone","message":"m"}] []"#,
            // Problems, in other words than the program writes them.
            r#"[{"pointer":"","code":"tombstone", "message":"m"}]"#,
            r#"[{"code":"tombstone","pointer":"","message":"m"}]"#,
            r#"[{"pointer":"","code":"tombston\u0065","message":"m"}]"#,
        ];
        for json in others {
            assert_eq!(problems_as_written(json.as_bytes()), None, "{json}");
        }
        assert_eq!(problems_as_written(b"[{\"pointer\":\"\",\"code\":\"c\",\"message\":\"\xff\"}]"), None);
    }
}
