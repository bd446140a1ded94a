//! Repeated keys: members, audiences and headers that may occur only once.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
};

/// The indexes of keys that occurred before, in order, each with the index of the first occurrence.
pub(crate) fn repeated<K: Ord + Hash>(keys: impl ExactSizeIterator<Item = K> + Clone) -> Vec<(usize, usize)> {
    /// Up to this number, comparing all pairs is faster than a map.
    const FEW: usize = 16;
    let keys = keys.enumerate();
    if keys.len() <= FEW {
        let mut repeated = Vec::new();
        for (index, key) in keys.clone() {
            let mut earlier = keys.clone().take(index);
            if let Some((first, _)) = earlier.find(|(_, earlier)| *earlier == key) {
                repeated.push((index, first));
            }
        }
        return repeated;
    }
    if have_different_hashes(keys.clone().map(|(_, key)| key)) {
        return Vec::new();
    }
    let mut first_of = BTreeMap::new();
    keys.filter_map(|(index, key)| {
        let first = *first_of.entry(key).or_insert(index);
        (first != index).then_some((index, first))
    })
    .collect()
}

/// Then all keys differ: equal keys have equal hashes. Different keys that have equal ones only cost the time of a map.
fn have_different_hashes<K: Hash>(keys: impl Iterator<Item = K>) -> bool {
    let hash = |key: K| {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    };
    let mut hashes: Vec<u64> = keys.map(hash).collect();
    hashes.sort_unstable();
    hashes.windows(2).all(|pair| pair[0] != pair[1])
}

/// For the `retain` of what [`repeated`] was called with: keeps the first occurrences.
pub(crate) fn keep_first<T>(repeated: &[(usize, usize)]) -> impl FnMut(&mut T) -> bool {
    let mut repeated = repeated.iter().map(|(index, _)| *index).peekable();
    let mut index = 0;
    move |_| {
        index += 1;
        repeated.next_if_eq(&(index - 1)).is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, cmp::Ordering};

    use super::*;

    /// Counts how often it is compared.
    #[derive(Clone, Copy, Eq)]
    struct Counted<'c>(usize, &'c Cell<usize>);

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other) == Ordering::Equal
        }
    }

    impl PartialOrd for Counted<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counted<'_> {
        fn cmp(&self, other: &Self) -> Ordering {
            self.1.update(|count| count + 1);
            self.0.cmp(&other.0)
        }
    }

    /// Equal for half of the keys.
    impl Hash for Counted<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 % 2).hash(state);
        }
    }

    fn repeated_of(keys: impl IntoIterator<Item = usize>) -> (Vec<(usize, usize)>, usize) {
        let comparisons = Cell::new(0);
        let keys: Vec<_> = keys.into_iter().map(|key| Counted(key, &comparisons)).collect();
        (repeated(keys.iter().copied()), comparisons.get())
    }

    #[test]
    fn finds_repeated_keys_among_few_and_many() {
        for of in [0, 1, 2, 16, 17, 1000] {
            assert_eq!(repeated_of(0..of).0, [], "{of}");
            let twice = repeated_of((0..of).chain(0..of)).0;
            assert_eq!(twice, (of..2 * of).map(|index| (index, index - of)).collect::<Vec<_>>());
            let alike = repeated_of((0..of).map(|_| 7)).0;
            assert_eq!(alike, (1..of).map(|index| (index, 0)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn keeps_the_first_of_each_key() {
        for keys in [vec![], vec![1, 2], vec![1, 1, 2, 1, 3, 2], (0..40).map(|key| key % 30).collect()] {
            let mut kept = keys.clone();
            kept.retain_mut(keep_first(&repeated(keys.iter())));
            let mut expected = Vec::new();
            for key in keys.iter() {
                if !expected.contains(key) {
                    expected.push(*key);
                }
            }
            assert_eq!(kept, expected, "{keys:?}");
        }
    }

    /// Comparing all pairs of 20,000 keys needs 200,000,000 comparisons.
    #[test]
    fn many_keys_need_few_comparisons_each() {
        const KEYS: usize = 20_000;
        for distinct in [1, KEYS / 2, KEYS] {
            let (_, ascending) = repeated_of((0..KEYS).map(|key| key % distinct));
            let (_, scattered) = repeated_of((0..KEYS).map(|key| key * 7919 % distinct));
            for comparisons in [ascending, scattered] {
                // A lookup in a B-tree of 20,000 keys passes at most 5 nodes of up to 11 keys.
                assert!(
                    comparisons <= 55 * KEYS,
                    "{comparisons} comparisons of {KEYS} keys, {distinct} different"
                );
            }
        }
    }
}
