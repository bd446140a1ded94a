//! The members of an object, each field at most once.

use std::borrow::Cow;

use crate::{
    code::Code,
    field::Field,
    json::{self, RawMember},
    problem::{Findings, Pointer},
    repeated::{keep_first, repeated},
    wording::{self, DidYouMean, Found, Quoted},
};

/// A member of an object whose fields are `F`.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a, F> {
    pub name: Cow<'a, str>,
    /// The field with this name. Looked up once, because each member is compared with the others.
    pub field: Option<F>,
    pub raw: RawMember<'a>,
}

impl<F: Field> Member<'_, F> {
    pub fn is_null(&self) -> bool {
        self.raw.value == "null"
    }

    /// The field, or the name if it is not a field's. Equal keys are the same property.
    fn key(&self) -> Result<F, &str> {
        self.field.ok_or(&*self.name)
    }
}

/// Reads the names, and reports repeated fields. The first of each is kept.
pub(crate) fn read_all<'a, F: Field>(
    raw: Vec<RawMember<'a>>,
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Member<'a, F>> {
    read_all_with(raw, Code::DuplicateProperty, at, findings)
}

/// [`read_all`] with another code for repeated fields.
pub(crate) fn read_all_with<'a, F: Field>(
    raw: Vec<RawMember<'a>>,
    repeated_code: Code,
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Member<'a, F>> {
    let mut members = Vec::with_capacity(raw.len());
    for raw in raw {
        match json::string(raw.name) {
            Ok(name) => members.push(Member { field: F::of(&name), name, raw }),
            Err(_) => {
                let found = format_args!("half of a surrogate pair in {}", Found(raw.name));
                findings.expected(at, Code::UnpairedSurrogate, "text as a property's name", found);
            }
        }
    }
    let repeated = repeated(members.iter().map(Member::key));
    if repeated.is_empty() {
        return members;
    }
    for (again, first) in &repeated {
        let (name, first) = (&members[*again].name, &members[*first].name);
        let at = at.name(name);
        if name == first {
            findings.add(&at, repeated_code, format_args!("expected property {} only once", Quoted(name)));
        } else {
            let message = format_args!("{} and {} are the same field", Quoted(first), Quoted(name));
            findings.add(&at, repeated_code, message);
        }
    }
    members.retain_mut(keep_first(&repeated));
    members
}

/// Reports a required field that is absent or null.
pub(crate) fn require<F: Field>(
    field: F,
    expected: &str,
    members: &[Member<'_, F>],
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) {
    let (wanted, field) = (Some(field), field.name());
    let at = at.name(field);
    match members.iter().find(|member| member.field == wanted) {
        Some(member) if member.is_null() => findings.expected(&at, Code::Missing, expected, "null"),
        Some(_) => {}
        None => match members.iter().find(|member| wording::nearest(&member.name, &[field]).is_some()) {
            Some(Member { name, .. }) => {
                let hint = DidYouMean { given: name, known: &[field] };
                let found = format_args!("only {}{hint}", Quoted(name));
                findings.expected(&at, Code::Missing, expected, found);
            }
            None => findings.expected(&at, Code::Missing, expected, "nothing"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{field::fields, limits::Limits};

    fields! {
        /// An example.
        Example { Field => "field" | "alias", }
    }

    fn names_and_problems(json: &str) -> (Vec<String>, Vec<String>) {
        let limits = Limits::default();
        let mut findings = Findings::new(&limits);
        let members: Vec<Member<'_, Example>> =
            read_all(json::members(json).unwrap(), &Pointer::Root, &mut findings);
        let problems = findings.into_problems().map_or(vec![], |problems| problems.0);
        (
            members.into_iter().map(|member| member.name.into_owned()).collect(),
            problems.into_iter().map(|problem| format!("{} {}", problem.pointer, problem.message)).collect(),
        )
    }

    #[test]
    fn keeps_the_first_of_a_field_and_reports_the_others() {
        let (names, problems) = names_and_problems(r#"{"a":1,"field":2,"\u0061":3,"alias":4,"b":5,"a":6}"#);
        assert_eq!(names, ["a", "field", "b"]);
        assert_eq!(
            problems,
            [
                r#"/a expected property "a" only once"#,
                r#"/alias "field" and "alias" are the same field"#,
                r#"/a expected property "a" only once"#,
            ]
        );
    }

    #[test]
    fn finds_repeated_fields_among_many() {
        let many: Vec<_> = (0..100).map(|index| format!("\"{}\":0", index % 60)).collect();
        let (names, problems) = names_and_problems(&format!("{{{}}}", many.join(",")));
        assert_eq!(names.len(), 60);
        assert_eq!(problems.len(), 40);
        assert_eq!(problems[0], r#"/0 expected property "0" only once"#);
        // Aliases count as the same field among many members, too.
        let (names, problems) =
            names_and_problems(&format!("{{{},\"alias\":1,\"field\":2}}", many[..30].join(",")));
        assert_eq!(names.last().map(String::as_str), Some("alias"));
        assert_eq!(problems, [r#"/field "alias" and "field" are the same field"#]);
    }

    #[test]
    fn reports_a_name_that_is_not_text_at_the_object() {
        let (names, problems) = names_and_problems(r#"{"\ud800":1,"b":2}"#);
        assert_eq!(names, ["b"]);
        assert_eq!(
            problems,
            [r#" expected text as a property's name, found half of a surrogate pair in "\ud800""#]
        );
    }
}
