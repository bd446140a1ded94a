//! Fingerprints of states, which are kept in their place, and parts that states share.

use std::{
    cell::Cell,
    hash::{BuildHasherDefault, Hash, Hasher},
    ops::Deref,
    rc::Rc,
};

/// Of two different states out of n, some have the same fingerprint with a chance of n²/2¹²⁹: one in 10²⁴ for ten million.
pub type Fingerprint = u128;

pub fn fingerprint<T: Hash>(value: &T) -> Fingerprint {
    let mut hasher = TwoLanes { lanes: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344], word: 0, bytes: 0 };
    value.hash(&mut hasher);
    hasher.mix();
    (u128::from(hasher.lanes[0]) << 64) | u128::from(hasher.lanes[1])
}

/// Two hashes of 64 bits with other constants, each a chain of the mixing function of SplitMix64, which is bijective. Small
/// numbers, of which states consist, take one byte.
struct TwoLanes {
    lanes: [u64; 2],
    word: u64,
    bytes: u32,
}

impl TwoLanes {
    fn byte(&mut self, byte: u8) {
        self.word |= u64::from(byte) << (8 * self.bytes);
        self.bytes += 1;
        if self.bytes == 8 {
            self.mix();
        }
    }

    fn number(&mut self, number: u64) {
        match u8::try_from(number) {
            Ok(small) if small < u8::MAX => self.byte(small),
            _ => {
                self.byte(u8::MAX);
                self.write(&number.to_le_bytes());
            }
        }
    }

    fn mix(&mut self) {
        let constants = [
            (0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 30, 27),
            (0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53, 33, 33),
        ];
        for (lane, (one, two, first, second)) in self.lanes.iter_mut().zip(constants) {
            let mut mixed = (*lane ^ self.word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> first)).wrapping_mul(one);
            mixed = (mixed ^ (mixed >> second)).wrapping_mul(two);
            *lane = mixed ^ (mixed >> 31);
        }
        (self.word, self.bytes) = (0, 0);
    }
}

impl Hasher for TwoLanes {
    fn finish(&self) -> u64 {
        unreachable!("its two lanes are read")
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.byte(*byte));
    }

    fn write_u8(&mut self, number: u8) {
        self.byte(number);
    }

    fn write_u64(&mut self, number: u64) {
        self.number(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.number(number as u64);
    }

    fn write_i32(&mut self, number: i32) {
        self.number(u64::from(number.cast_unsigned()));
    }

    fn write_i64(&mut self, number: i64) {
        self.number(number.cast_unsigned());
    }

    /// What tells the variants of an enum apart.
    fn write_isize(&mut self, number: isize) {
        self.number(number.cast_unsigned() as u64);
    }
}

/// For maps by fingerprint: it is a hash already.
#[derive(Default)]
pub struct AsItIs(u64);

pub type ByFingerprint = BuildHasherDefault<AsItIs>;

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is one number")
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}

/// A part that all states share in which it is the same, with its fingerprint, since most steps change one part.
#[derive(Debug, Clone)]
pub struct Shared<T>(Rc<Part<T>>);

#[derive(Debug, Clone)]
struct Part<T> {
    value: T,
    fingerprint: Cell<Option<Fingerprint>>,
}

impl<T> Shared<T> {
    pub fn new(value: T) -> Self {
        Self(Rc::new(Part { value, fingerprint: Cell::new(None) }))
    }
}

impl<T: Clone> Shared<T> {
    /// The part of this state alone.
    pub fn own(&mut self) -> &mut T {
        let part = Rc::make_mut(&mut self.0);
        part.fingerprint.set(None);
        &mut part.value
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let known = self.0.fingerprint.get().unwrap_or_else(|| fingerprint(&self.0.value));
        self.0.fingerprint.set(Some(known));
        known.to_le_bytes().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_anywhere_has_another_fingerprint() {
        let of = |numbers: &[i64]| fingerprint(&numbers.to_vec());
        let (zero, all) = (of(&[0; 9]), [1, 254, 255, 256, -1].map(|number| of(&[number; 9])));
        assert!(!all.contains(&zero), "{zero:x} {all:x?}");
        for place in 0..9 {
            let mut numbers = [0; 9];
            numbers[place] = 1;
            assert_ne!(of(&numbers), zero, "place {place}");
        }
        assert_ne!(of(&[0]), of(&[0, 0]));
    }

    #[test]
    fn a_part_that_changes_has_another_fingerprint_and_leaves_the_others_as_they_are() {
        let before = Shared::new(1_u8);
        let known = fingerprint(&before);
        let mut after = before.clone();
        *after.own() = 2;
        assert_eq!((*before, fingerprint(&before)), (1, known));
        assert_eq!((*after, fingerprint(&after)), (2, fingerprint(&Shared::new(2_u8))));
        assert_ne!(fingerprint(&after), known);
    }
}
