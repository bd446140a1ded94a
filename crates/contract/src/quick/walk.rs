//! JSON, read in one walk: each method moves over what it reads, and returns `None` where the text is not that.

use super::Reader;

impl<'a> Reader<'a, '_> {
    pub(super) fn boolean(&mut self) -> Option<bool> {
        if self.literal("true").is_some() { Some(true) } else { self.literal("false").map(|()| false) }
    }

    pub(super) fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.literal("null").is_some()
    }

    /// Calls `member` with each name, in its quotes; it reads the value.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let (name, has_escapes) = self.raw_string()?;
            if has_escapes {
                return None;
            }
            self.take(b':')?;
            member(self, name)?;
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    pub(super) fn array<T>(
        &mut self,
        at_most: usize,
        mut element: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.take(b'[')?;
        let mut elements = Vec::new();
        if self.take(b']').is_some() {
            return Some(elements);
        }
        loop {
            if elements.len() == at_most {
                return None;
            }
            elements.push(element(self)?);
            if self.take(b',').is_none() {
                return self.take(b']').map(|()| elements);
            }
        }
    }

    /// Any valid value as it stands in the text, inside of `level` objects and arrays.
    pub(super) fn value(&mut self, level: usize) -> Option<&'a str> {
        let most = (self.limits.nesting - level).min(Open::MOST);
        self.peek()?;
        let start = self.at;
        let mut open = Open::default();
        loop {
            match self.peek()? {
                byte @ (b'{' | b'[') => {
                    if open.levels == most {
                        return None;
                    }
                    self.at += 1;
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
                let Some(is_object) = open.innermost() else { return self.text.get(start..self.at) };
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

    /// A string in its quotes, and whether it has escapes.
    pub(super) fn raw_string(&mut self) -> Option<(&'a str, bool)> {
        self.peek()?;
        let rest = self.text.get(self.at..)?;
        let bytes = rest.as_bytes();
        if bytes.first() != Some(&b'"') {
            return None;
        }
        let (mut end, mut has_escapes) = (1, false);
        loop {
            end += plain_bytes(bytes.get(end..)?);
            match bytes.get(end)? {
                b'"' => {
                    end += 1;
                    self.at += end;
                    return Some((rest.get(..end)?, has_escapes));
                }
                b'\\' => {
                    has_escapes = true;
                    end += escape_length(bytes.get(end..)?)?;
                }
                // A control character.
                _ => return None,
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.step(b"-");
        // Zero is followed by no other digit.
        if !self.step(b"0") {
            self.digits()?;
        }
        if self.step(b".") {
            self.digits()?;
        }
        if self.step(b"eE") {
            self.step(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    /// Moves over the next byte if it is one of these.
    fn step(&mut self, bytes: &[u8]) -> bool {
        let found = self.text.as_bytes().get(self.at).is_some_and(|byte| bytes.contains(byte));
        self.at += usize::from(found);
        found
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        self.peek()?;
        let found = self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found.then_some(())
    }

    /// Moves over whitespace, and over this byte if it is next.
    pub(super) fn take(&mut self, byte: u8) -> Option<()> {
        let found = self.peek()? == byte;
        self.at += usize::from(found);
        found.then_some(())
    }

    /// The next byte that is not whitespace.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
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

/// How many bytes come before the first quote, backslash or control character. Looks at eight at a time.
pub(super) fn plain_bytes(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH * 0x80;
    // The high bit of each byte that is below `least` (at most 0x80), and perhaps of bytes after the first of them.
    let below = |word: u64, least: u64| word.wrapping_sub(EACH * least) & !word & HIGH;
    let equal = |word: u64, byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let found = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    at + bytes[at..].iter().take_while(|byte| plain(byte)).count()
}

/// The bytes of the escape that comes first. Whether surrogates come in pairs is looked at where a string has to be text.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

pub(super) fn unquoted(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}
