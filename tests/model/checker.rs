//! Explores every state of a model, breadth first, so that a counterexample is as short as possible.
//!
//! A state is kept until its steps are taken. Of those before, there are fingerprints.
//!
//! A crate for this, stateright, was considered. It has an HTTP server among its twelve dependencies, its fingerprints have
//! 64 bits, and it does not find steps that go on for ever.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    fmt,
    hash::Hash,
};

use super::fingerprint::{ByFingerprint, Fingerprint, fingerprint};

pub trait Model {
    type State: Hash;
    type Step: Copy;

    fn start(&self) -> Self::State;

    /// All steps that are possible in a state.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;

    fn next(&self, state: &Self::State, step: Self::Step) -> Self::State;

    /// Whether the step happens sooner or later, unless another one makes it impossible. The other steps are faults, and
    /// what people do. A state without such a step is at rest.
    fn is_progress(&self, step: Self::Step) -> bool;

    /// The property that the state violates.
    fn check(&self, state: &Self::State, is_at_rest: bool) -> Result<(), String>;

    /// What the step does, as a sentence.
    fn sentence(&self, before: &Self::State, step: Self::Step) -> String;

    /// The kind of a state that an exploration must include.
    fn kind(&self, state: &Self::State) -> Option<&'static str>;
}

/// What there was in a model whose states all have the required properties.
#[derive(Debug, Default)]
pub struct Explored {
    pub states: usize,
    pub at_rest: usize,
    /// The number of steps to the farthest state.
    pub depth: usize,
    pub kinds: BTreeMap<&'static str, usize>,
}

/// The fewest steps that lead to a violation.
#[derive(Debug)]
pub struct Counterexample {
    pub steps: Vec<String>,
    pub violation: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {step}", index + 1)?;
        }
        write!(f, "This violates: {}", self.violation)
    }
}

/// How a state was first reached: from the state with this number.
type Origin<S> = Option<(u32, S)>;

pub fn explore<M: Model>(model: &M) -> Result<Explored, Counterexample> {
    let start = model.start();
    let mut known: HashMap<Fingerprint, u32, ByFingerprint> = HashMap::default();
    known.insert(fingerprint(&start), 0);
    let mut origins: Vec<Origin<M::Step>> = vec![None];
    let mut waiting = VecDeque::from([(0_u32, start, 0)]);
    let mut progress: Vec<(u32, u32)> = Vec::new();
    let mut explored = Explored::default();
    while let Some((number, state, depth)) = waiting.pop_front() {
        let steps = model.steps(&state);
        let is_at_rest = !steps.iter().any(|step| model.is_progress(*step));
        if let Err(violation) = model.check(&state, is_at_rest) {
            return Err(counterexample(model, &origins, number, violation));
        }
        explored.states += 1;
        explored.at_rest += usize::from(is_at_rest);
        explored.depth = depth;
        if let Some(kind) = model.kind(&state) {
            *explored.kinds.entry(kind).or_default() += 1;
        }
        for step in steps {
            let next = model.next(&state, step);
            let to = match known.entry(fingerprint(&next)) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let to = u32::try_from(origins.len()).expect("fewer states than memory holds");
                    origins.push(Some((number, step)));
                    waiting.push_back((to, next, depth + 1));
                    *entry.insert(to)
                }
            };
            if model.is_progress(step) {
                progress.push((number, to));
            }
        }
    }
    match restless(explored.states, progress) {
        None => Ok(explored),
        Some(number) => {
            let violation = "without another fault, it comes to rest".to_owned();
            Err(counterexample(model, &origins, number, violation))
        }
    }
}

/// The first state from which progress leads back, if it can go on for ever.
fn restless(states: usize, mut progress: Vec<(u32, u32)>) -> Option<u32> {
    let mut ahead = vec![0_u32; states];
    progress.iter().for_each(|(from, _)| ahead[*from as usize] += 1);
    progress.sort_unstable_by_key(|(_, to)| *to);
    let mut resting: Vec<u32> =
        (0..).zip(&ahead).filter(|(_, ahead)| **ahead == 0).map(|(at, _)| at).collect();
    while let Some(at) = resting.pop() {
        let first = progress.partition_point(|(_, to)| *to < at);
        for (from, _) in progress[first..].iter().take_while(|(_, to)| *to == at) {
            ahead[*from as usize] -= 1;
            if ahead[*from as usize] == 0 {
                resting.push(*from);
            }
        }
    }
    // What is left can reach a cycle, and each cycle has a step to an earlier state.
    let is_left = |at: u32| ahead[at as usize] > 0;
    let back = progress.iter().filter(|(from, to)| to <= from && is_left(*from) && is_left(*to));
    back.map(|(from, _)| *from).min()
}

fn counterexample<M: Model>(
    model: &M,
    origins: &[Origin<M::Step>],
    number: u32,
    violation: String,
) -> Counterexample {
    let back = std::iter::successors(origins[number as usize], |(from, _)| origins[*from as usize]);
    let mut path: Vec<M::Step> = back.map(|(_, step)| step).collect();
    path.reverse();
    let mut state = model.start();
    let sentence = |step| {
        let sentence = model.sentence(&state, step);
        state = model.next(&state, step);
        sentence
    };
    Counterexample { steps: path.into_iter().map(sentence).collect(), violation }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up to `end`, by one or by two, and from `end` back to `back`.
    struct Counter {
        end: u8,
        back: Option<u8>,
        forbidden: Option<u8>,
    }

    impl Model for Counter {
        type State = u8;
        type Step = u8;

        fn start(&self) -> u8 {
            0
        }

        fn steps(&self, state: &u8) -> Vec<u8> {
            let ahead = [state + 1, state + 2].into_iter().filter(|to| *to <= self.end);
            ahead.chain(self.back.filter(|_| *state == self.end)).collect()
        }

        fn next(&self, _: &u8, to: u8) -> u8 {
            to
        }

        fn is_progress(&self, _: u8) -> bool {
            true
        }

        fn check(&self, state: &u8, is_at_rest: bool) -> Result<(), String> {
            let is_wrong = self.forbidden == Some(*state) || (is_at_rest && *state != self.end);
            if is_wrong { Err(format!("it is never {state}")) } else { Ok(()) }
        }

        fn sentence(&self, before: &u8, to: u8) -> String {
            format!("from {before} to {to}")
        }

        fn kind(&self, state: &u8) -> Option<&'static str> {
            state.is_multiple_of(2).then_some("even")
        }
    }

    #[test]
    fn every_state_is_explored_once() {
        let explored = explore(&Counter { end: 10, back: None, forbidden: None }).unwrap();
        assert_eq!((explored.states, explored.at_rest, explored.depth), (11, 1, 5));
        assert_eq!(explored.kinds["even"], 6);
    }

    #[test]
    fn a_counterexample_is_as_short_as_possible() {
        let found = explore(&Counter { end: 10, back: None, forbidden: Some(3) }).unwrap_err();
        assert_eq!(found.to_string(), "  1. from 0 to 1\n  2. from 1 to 3\nThis violates: it is never 3");
    }

    #[test]
    fn steps_that_go_on_for_ever_are_found() {
        let found = explore(&Counter { end: 4, back: Some(2), forbidden: None }).unwrap_err();
        assert_eq!(found.violation, "without another fault, it comes to rest");
        assert_eq!(found.steps, ["from 0 to 2", "from 2 to 4"]);
    }
}
