//! An object's members with their names read, each field at most once.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    code::Code,
    field::Field,
    found::{self, DidYouMean, Found, Quoted},
    json::{self, RawMember},
    problem::{Findings, Pointer},
};

/// A member of an object whose fields are `F`.
#[derive(Debug, Clone)]
pub(super) struct Member<'a, F> {
    pub name: Cow<'a, str>,
    /// The field that has this name. Looked up once, since each member is compared with the others.
    pub field: Option<F>,
    pub raw: RawMember<'a>,
}

impl<F: Field> Member<'_, F> {
    pub fn is_null(&self) -> bool {
        self.raw.value == "null"
    }

    /// Names are the same if they name the same field, or none and are equal.
    fn names_same(&self, other: &Self) -> bool {
        self.field == other.field && (self.field.is_some() || self.name == other.name)
    }

    /// The same for all members that name the same.
    fn canonical(&self) -> &str {
        match self.field {
            Some(field) => field.name(),
            None => &self.name,
        }
    }
}

/// Reads the names and reports those that name a field which was named before; only the first is kept.
pub(super) fn of_raw<'a, F: Field>(
    raw: Vec<RawMember<'a>>,
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Member<'a, F>> {
    once_each(raw, Code::DuplicateProperty, at, findings)
}

/// The same, where a repeated name has a code of its own.
pub(super) fn once_each<'a, F: Field>(
    raw: Vec<RawMember<'a>>,
    repeated_is: Code,
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Member<'a, F>> {
    let mut members = Vec::with_capacity(raw.len());
    for raw in raw {
        match json::string(raw.name) {
            Ok(name) => members.push(Member { field: F::of(&name), name, raw }),
            Err(_) => findings.add(
                at,
                Code::UnpairedSurrogate,
                format_args!("expected names that are text, found {}", Found(raw.name)),
            ),
        }
    }
    let repeated = repeated(&members);
    if repeated.is_empty() {
        return members;
    }
    for (again, first) in &repeated {
        let (name, first) = (&members[*again].name, &members[*first].name);
        let at = at.name(name);
        if name == first {
            let message = format_args!("expected a name once, found {} again", Quoted(name));
            findings.add(&at, repeated_is, message);
        } else {
            let message = format_args!("{} and {} name the same field", Quoted(first), Quoted(name));
            findings.add(&at, repeated_is, message);
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
fn repeated<F: Field>(members: &[Member<'_, F>]) -> Vec<(usize, usize)> {
    /// Up to here, comparing each with each is quicker than any order.
    const FEW: usize = 16;
    let members = members.iter().enumerate();
    if members.len() <= FEW {
        let first = |again: &Member<'_, F>| members.clone().find(|(_, first)| first.names_same(again));
        return members
            .clone()
            .filter_map(|(index, again)| first(again).map(|(first, _)| (index, first)))
            .filter(|(index, first)| index != first)
            .collect();
    }
    let mut first_of = BTreeMap::new();
    members
        .filter_map(|(index, member)| {
            let first = *first_of.entry(member.canonical()).or_insert(index);
            (first != index).then_some((index, first))
        })
        .collect()
}

/// Reports a required field that is absent or null.
pub(super) fn require<F: Field>(
    field: F,
    expected: &str,
    members: &[Member<'_, F>],
    at: &Pointer<'_>,
    findings: &mut Findings<'_>,
) {
    let (wanted, field) = (Some(field), field.name());
    let at = at.name(field);
    match members.iter().find(|member| member.field == wanted) {
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
    use crate::{field::fields, limits::Limits};

    fields! {
        /// An example.
        Example { Field => "field" | "alias", }
    }

    fn names_and_problems(json: &str) -> (Vec<String>, Vec<String>) {
        let limits = Limits::default();
        let mut findings = Findings::new(&limits);
        let members: Vec<Member<'_, Example>> =
            of_raw(json::members(json).unwrap(), &Pointer::Root, &mut findings);
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
        // Two names of one field are the same among many, too.
        let (names, problems) =
            names_and_problems(&format!("{{{},\"alias\":1,\"field\":2}}", many[..30].join(",")));
        assert_eq!(names.last().map(String::as_str), Some("alias"));
        assert_eq!(problems, [r#"/field "alias" and "field" name the same field"#]);
    }

    #[test]
    fn a_name_that_is_no_text_is_a_problem_of_the_object() {
        let (names, problems) = names_and_problems(r#"{"\ud800":1,"b":2}"#);
        assert_eq!(names, ["b"]);
        assert_eq!(problems, [r#" expected names that are text, found "\ud800""#]);
    }
}
