//! The -wal file, frame by frame.
//!
//! SQLite reads it up to the first frame whose checksum is wrong, and says nothing of those after it: after a crash
//! that is where the file ends. Where a disk changed a frame, all later appends go the same way.
//! <https://sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::File;
use std::io::ErrorKind::{NotFound, UnexpectedEof};
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::LogFinding;
use crate::instance::{beside, is_in_use};
use crate::{error::LogError, files, reader::LogReader};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says in which order the bytes of a number are summed up.
const MAGIC: u32 = 0x377f_0682;

/// What a look at the -wal file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalState {
    /// There is none, or it has all that was committed to it.
    Sound,
    Damaged(LogFinding),
    /// A processor is writing it, so it was not looked at.
    InUse,
}

impl LogReader {
    /// Looks for damage that hides appends without a trace in the tables.
    pub fn examine_wal(&self) -> Result<WalState, LogError> {
        if is_in_use(&self.path) {
            return Ok(WalState::InUse);
        }
        let found = damage(&self.path)?;
        // It may have been written to meanwhile.
        Ok(match found {
            _ if is_in_use(&self.path) => WalState::InUse,
            None => WalState::Sound,
            Some(found) => WalState::Damaged(LogFinding { table: None, row: None, found }),
        })
    }
}

/// What is wrong with the -wal file of a log that no process writes.
pub(crate) fn damage(database: &Path) -> Result<Option<String>, LogError> {
    let path = beside(&files::real(database), "-wal");
    let found = match files::open(&path).and_then(|file| read(&file)) {
        // None, or another program has emptied it since its length was asked for.
        Err(error) if matches!(error.kind(), NotFound | UnexpectedEof) => Ok(None),
        found => found,
    };
    let found = found.map_err(|source| LogError::Io { path: path.clone(), doing: "reading it", source })?;
    Ok(found.map(|found| {
        format!(
            "the -wal file: {found}; SQLite reads nothing from there on, so events may be missing; the next \
             'activity-stream run' appends them again from the topic, as far as that retains their commands"
        )
    }))
}

/// What is wrong with its frames. Normal are a last frame, or a transaction without its last frame, that a crash left
/// unfinished, and, after the end, frames of the file's use before the last checkpoint, which have other salts.
fn read(file: &File) -> io::Result<Option<String>> {
    let bytes = file.metadata()?.len();
    if bytes <= HEADER as u64 {
        return Ok(None);
    }
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    let (magic, page) = (number(&header, 0), number(&header, 8) as usize);
    let is_big_endian = magic & 1 == 1;
    let mut before = add((0, 0), &header[..24], is_big_endian);
    let is_sound = magic & !1 == MAGIC
        && page.is_power_of_two()
        && (512..=65_536).contains(&page)
        && before == (number(&header, 24), number(&header, 28));
    if !is_sound {
        return Ok(Some(format!("the header before its {bytes} bytes is damaged")));
    }

    let size = FRAME_HEADER + page;
    let (count, rest) = ((bytes - HEADER as u64) / size as u64, (bytes - HEADER as u64) % size as u64);
    let mut frame = vec![0; size];
    let is_of_this_use = |frame: &[u8]| frame[8..16] == header[16..24];
    let commits = |frame: &[u8]| number(frame, 4) != 0;
    let (mut sound, mut is_damage) = (0, false);
    while sound < count {
        file.read_exact(&mut frame)?;
        let stored = (number(&frame, 16), number(&frame, 20));
        let page_number_and_commit = add(before, &frame[..8], is_big_endian);
        let is_next = stored == add(page_number_and_commit, &frame[FRAME_HEADER..], is_big_endian);
        if is_next && is_of_this_use(&frame) {
            (sound, before) = (sound + 1, stored);
            continue;
        }
        // The checksum does not cover the salts. A frame of which a part was written is not whole at the file's end.
        let is_whole_and_last = sound + 1 == count && rest == 0;
        is_damage = is_next || (is_whole_and_last && is_of_this_use(&frame) && commits(&frame));
        break;
    }
    let mut after = 0;
    for _ in sound + 1..count {
        file.read_exact(&mut frame)?;
        if is_of_this_use(&frame) {
            after += 1;
            // A transaction that was rolled back can have left frames too, of which none commits it.
            is_damage |= commits(&frame);
        }
    }
    Ok(is_damage.then(|| format!("frame {} of {} is damaged", sound + 1, sound + 1 + after)))
}

/// A number, big-endian as all but the summed ones are.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

type Checksum = (u32, u32);

/// Adds what is a multiple of 8 bytes long.
fn add(before: Checksum, bytes: &[u8], is_big_endian: bool) -> Checksum {
    let word = |bytes| if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().fold(before, |(first, second), [one, two]| {
        let first = first.wrapping_add(word(*one)).wrapping_add(second);
        (first, second.wrapping_add(word(*two)).wrapping_add(first))
    })
}
