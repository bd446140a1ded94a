//! JSON, read in one walk: each method moves over what it reads, and returns `None` where the text is not that.

use super::Reader;
use crate::field::Field;

/// How a string is written. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spelling {
    /// Printable ASCII.
    Ascii,
    /// Any text, without escapes.
    Unescaped,
    /// With escapes, all as the normal form has them.
    Normal,
    /// With other escapes. They may be halves of surrogate pairs.
    Other,
}

impl<'a> Reader<'a, '_> {
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Moves over that many bytes, and over the whitespace after them.
    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.next = self.text.as_bytes().get(self.at).copied().unwrap_or_default();
        if self.next <= b' ' {
            self.skip_whitespace();
        }
    }

    #[cold]
    fn skip_whitespace(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let is_whitespace = |byte: &&u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
        self.at += rest.iter().take_while(is_whitespace).count();
        self.next = self.text.as_bytes().get(self.at).copied().unwrap_or_default();
    }

    /// Moves over this byte if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> Option<()> {
        (self.next == byte).then(|| self.advance(1))
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        let is_next = self.rest().starts_with(word.as_bytes());
        is_next.then(|| self.advance(word.len()))
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    pub(super) fn boolean(&mut self) -> Option<bool> {
        if self.literal("true").is_some() { Some(true) } else { self.literal("false").map(|()| false) }
    }

    pub(super) fn null(&mut self) -> bool {
        self.next == b'n' && self.literal("null").is_some()
    }

    /// Calls `member` with the field or the name, in its quotes, of each member; it reads the value.
    #[inline]
    pub(super) fn object<F: Field>(
        &mut self,
        mut member: impl FnMut(&mut Self, Result<F, &'a str>) -> Option<()>,
    ) -> Option<()> {
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            if let Some((field, length)) = F::starting(self.rest()) {
                self.advance(length);
                member(self, Ok(field))?;
            } else {
                let (name, spelling) = self.raw_string()?;
                if spelling > Spelling::Unescaped {
                    return None;
                }
                self.take(b':')?;
                member(self, F::of(unquoted(name)).ok_or(name))?;
            }
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    /// Calls `element` for each element; it reads it.
    #[inline]
    pub(super) fn array(
        &mut self,
        at_most: usize,
        mut element: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.take(b'[')?;
        if self.take(b']').is_some() {
            return Some(());
        }
        for _ in 0..at_most {
            element(self)?;
            if self.take(b',').is_none() {
                return self.take(b']');
            }
        }
        None
    }

    /// Any valid value as it stands in the text, inside of `level` objects and arrays.
    pub(super) fn value(&mut self, level: usize) -> Option<&'a str> {
        let most = (self.limits.nesting - level).min(Open::MOST);
        let start = self.at;
        let mut open = Open::default();
        loop {
            match self.next {
                byte @ (b'{' | b'[') => {
                    if open.levels == most {
                        return None;
                    }
                    self.advance(1);
                    let is_object = byte == b'{';
                    if self.take(if is_object { b'}' } else { b']' }).is_none() {
                        open.push(is_object);
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.raw_string()?;
                }
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => self.number()?,
            }
            // A value has ended, and with it perhaps what it is the last of.
            loop {
                let Some(is_object) = open.innermost() else {
                    return self.text.get(start..self.at).map(str::trim_ascii_end);
                };
                if self.take(b',').is_some() {
                    if is_object {
                        self.name()?;
                    }
                    break;
                }
                self.take(if is_object { b'}' } else { b']' })?;
                open.pop();
            }
        }
    }

    /// A name and the colon after it.
    fn name(&mut self) -> Option<()> {
        self.raw_string()?;
        self.take(b':')
    }

    /// A string in its quotes.
    #[inline]
    pub(super) fn raw_string(&mut self) -> Option<(&'a str, Spelling)> {
        if self.next != b'"' {
            return None;
        }
        let (length, spelling) = string_length(self.rest())?;
        let raw = self.text.get(self.at..self.at + length)?;
        self.advance(length);
        Some((raw, spelling))
    }

    fn number(&mut self) -> Option<()> {
        let length = number_length(self.rest())?;
        self.advance(length);
        Some(())
    }
}

/// The objects and arrays that a value is inside of, a bit for each: whether it is an object.
#[derive(Default)]
struct Open {
    levels: usize,
    are_objects: u64,
}

impl Open {
    const MOST: usize = u64::BITS as usize;

    fn push(&mut self, is_object: bool) {
        self.levels += 1;
        self.are_objects = self.are_objects << 1 | u64::from(is_object);
    }

    fn pop(&mut self) {
        self.levels -= 1;
        self.are_objects >>= 1;
    }

    fn innermost(&self) -> Option<bool> {
        (self.levels > 0).then_some(self.are_objects & 1 == 1)
    }
}

/// The length of the string that begins with the first byte, a quote.
pub(super) fn string_length(bytes: &[u8]) -> Option<(usize, Spelling)> {
    let (mut end, mut spelling) = (1, Spelling::Ascii);
    loop {
        let (plain, is_ascii) = plain(bytes.get(end..)?);
        end += plain;
        if !is_ascii {
            spelling = spelling.max(Spelling::Unescaped);
        }
        match bytes.get(end)? {
            b'"' => return Some((end + 1, spelling)),
            b'\\' => {
                let (length, escape) = escape(&bytes[end..])?;
                spelling = spelling.max(escape);
                end += length;
            }
            // A control character.
            _ => return None,
        }
    }
}

/// The number of bytes before the first quote, backslash or control character, and whether they are printable ASCII.
/// Looks at eight bytes at a time.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> (usize, bool) {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH * 0x80;
    let (mut rest, mut others) = (bytes, 0);
    while let Some((chunk, next)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*chunk);
        // In both of these, the high bit of each such byte, and perhaps of bytes after the first of them. With this bit
        // flipped, the quote is just above the control characters, and no other byte is.
        let control_or_quote = (word ^ (EACH * 0x02)).wrapping_sub(EACH * 0x21);
        let backslash = (word ^ (EACH * 0x5c)).wrapping_sub(EACH);
        let special = (control_or_quote | backslash) & !word & HIGH;
        // The high bit of each byte from 0x7f, and perhaps of bytes after the first of them.
        let other = (word | word.wrapping_add(EACH)) & HIGH;
        if special != 0 {
            others |= other & (special ^ (special - 1));
            return (bytes.len() - rest.len() + special.trailing_zeros() as usize / 8, others == 0);
        }
        others |= other;
        rest = next;
    }
    let is_plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    let last = rest.iter().take_while(is_plain);
    let is_ascii = others == 0 && last.clone().all(|byte| *byte < 0x7f);
    (bytes.len() - rest.len() + last.count(), is_ascii)
}

fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after =
        |at: usize, any: &[u8]| at + usize::from(bytes.get(at).is_some_and(|byte| any.contains(byte)));
    let some_digits = |at: usize| {
        let count = digits(bytes.get(at..)?);
        (count > 0).then_some(at + count)
    };
    let mut end = after(0, b"-");
    // Zero is followed by no other digit.
    end = if bytes.get(end) == Some(&b'0') { end + 1 } else { some_digits(end)? };
    if bytes.get(end) == Some(&b'.') {
        end = some_digits(end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        end = some_digits(after(end + 1, b"+-"))?;
    }
    Some(end)
}

/// The length of the escape that comes first. Whether surrogates come in pairs is checked where a string must be text.
fn escape(bytes: &[u8]) -> Option<(usize, Spelling)> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => Some((2, Spelling::Normal)),
        b'/' => Some((2, Spelling::Other)),
        b'u' if bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit) => Some((6, Spelling::Other)),
        _ => None,
    }
}

pub(super) fn unquoted(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}
