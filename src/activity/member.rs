//! An object's members with their names read, each field at most once.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    Code,
    field::Field,
    found::{self, DidYouMean, Found, Quoted},
    json::{self, RawMember},
    problem::{Findings, Pointer},
};

/// A member of an entry, identity, target or attachment.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    pub name: Cow<'a, str>,
    pub raw: RawMember<'a>,
}

/// The one name under which a field is known, given any of its names.
pub(super) type FieldOf = fn(&str) -> &str;

impl Member<'_> {
    pub fn is_null(&self) -> bool {
        self.raw.value == "null"
    }
}

/// Reads the names and reports those that name a field which was named before; only the first is kept.
pub(super) fn of_raw<'a>(
    raw: Vec<RawMember<'a>>,
    at: &Pointer<'_>,
    field_of: FieldOf,
    findings: &mut Findings<'_>,
) -> Vec<Member<'a>> {
    let mut members = Vec::with_capacity(raw.len());
    for raw in raw {
        match json::string(raw.name) {
            Ok(name) => members.push(Member { name, raw }),
            Err(_) => findings.add(
                at,
                Code::UnpairedSurrogate,
                format_args!("expected names that are text, found {}", Found(raw.name)),
            ),
        }
    }
    let repeated = repeated(&members, field_of);
    if repeated.is_empty() {
        return members;
    }
    for (again, first) in &repeated {
        let (name, first) = (&members[*again].name, &members[*first].name);
        let at = at.name(name);
        if name == first {
            let message = format_args!("expected a name once, found {} again", Quoted(name));
            findings.add(&at, Code::DuplicateProperty, message);
        } else {
            let message = format_args!("{} and {} name the same field", Quoted(first), Quoted(name));
            findings.add(&at, Code::DuplicateProperty, message);
        }
    }
    let mut index = 0;
    members.retain(|_| {
        index += 1;
        repeated.binary_search_by_key(&(index - 1), |(again, _)| *again).is_err()
    });
    members
}

/// Indexes of members whose field came before, each with the index of the first, in order.
fn repeated(members: &[Member<'_>], field_of: FieldOf) -> Vec<(usize, usize)> {
    /// Up to here, comparing each with each is quicker than any order.
    const FEW: usize = 16;
    let field = |index: usize| field_of(&members[index].name);
    if members.len() <= FEW {
        return (1..members.len())
            .filter_map(|again| {
                (0..again).find(|first| field(*first) == field(again)).map(|first| (again, first))
            })
            .collect();
    }
    let mut first_of = BTreeMap::new();
    (0..members.len())
        .filter_map(|index| {
            let first = *first_of.entry(field(index)).or_insert(index);
            (first != index).then_some((index, first))
        })
        .collect()
}

/// Reports a required field that is absent or null.
pub(super) fn require<F: Field>(
    field: F,
    expected: &str,
    members: &[Member<'_>],
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) {
    let field = field.name();
    let at = at.name(field);
    match members.iter().find(|member| F::canonical(&member.name) == field) {
        Some(member) if member.is_null() => {
            findings.add(&at, Code::Missing, format_args!("expected {expected}, found null"));
        }
        Some(_) => {}
        None => {
            let near = members.iter().find(|member| found::nearest(&member.name, &[field]).is_some());
            let given = near.map_or("", |member| &member.name);
            let hint = DidYouMean { given, known: &[field] };
            match near {
                Some(_) => findings.add(
                    &at,
                    Code::Missing,
                    format_args!("expected {expected}, found only {}{hint}", Quoted(given)),
                ),
                None => findings.add(&at, Code::Missing, format_args!("expected {expected}, found nothing")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::Limits;

    fn field_of(name: &str) -> &str {
        if name == "alias" { "field" } else { name }
    }

    fn names_and_problems(json: &str) -> (Vec<String>, Vec<String>) {
        let limits = Limits::default();
        let mut findings = Findings::new(&limits);
        let members = of_raw(json::members(json).unwrap(), &Pointer::Root, field_of, &mut findings);
        let problems = findings.into_problems().map_or(vec![], |problems| problems.0);
        (
            members.into_iter().map(|member| member.name.into_owned()).collect(),
            problems.into_iter().map(|problem| format!("{} {}", problem.pointer, problem.message)).collect(),
        )
    }

    #[test]
    fn the_first_of_a_field_is_kept_and_the_others_reported() {
        let (names, problems) = names_and_problems(r#"{"a":1,"field":2,"\u0061":3,"alias":4,"b":5,"a":6}"#);
        assert_eq!(names, ["a", "field", "b"]);
        assert_eq!(
            problems,
            [
                r#"/a expected a name once, found "a" again"#,
                r#"/alias "field" and "alias" name the same field"#,
                r#"/a expected a name once, found "a" again"#,
            ]
        );
    }

    #[test]
    fn many_members_are_compared_as_few_are() {
        let many: Vec<_> = (0..100).map(|index| format!("\"{}\":0", index % 60)).collect();
        let (names, problems) = names_and_problems(&format!("{{{}}}", many.join(",")));
        assert_eq!(names.len(), 60);
        assert_eq!(problems.len(), 40);
        assert_eq!(problems[0], r#"/0 expected a name once, found "0" again"#);
    }

    #[test]
    fn a_name_that_is_no_text_is_a_problem_of_the_object() {
        let (names, problems) = names_and_problems(r#"{"\ud800":1,"b":2}"#);
        assert_eq!(names, ["b"]);
        assert_eq!(problems, [r#" expected names that are text, found "\ud800""#]);
    }
}
