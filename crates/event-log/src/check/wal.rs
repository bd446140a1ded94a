//! Checks the frames of the -wal file.
//!
//! SQLite stops reading at the first frame with a wrong checksum, silently: after a crash the file ends there. If a disk
//! changed a frame, all later appends are lost with it.
//! <https://sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs::File;
use std::io::ErrorKind::{NotFound, UnexpectedEof};
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::check::LogFinding;
use crate::error::LogError;
use crate::files::{self, with_suffix};
use crate::instance::is_in_use;
use crate::reader::LogReader;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit selects the byte order for the checksums.
const MAGIC: u32 = 0x377f_0682;

/// The state of the -wal file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalState {
    /// It is missing, or contains all that was committed to it.
    Sound,
    Damaged(LogFinding),
    /// A processor is writing it, so it was not read.
    InUse,
}

impl LogReader {
    /// Detects damage that hides appends and leaves no trace in the tables.
    pub fn examine_wal(&self) -> Result<WalState, LogError> {
        if is_in_use(&self.path) {
            return Ok(WalState::InUse);
        }
        let found = damage(&self.path)?;
        // A processor may have started in the meantime.
        Ok(match found {
            _ if is_in_use(&self.path) => WalState::InUse,
            None => WalState::Sound,
            Some(found) => WalState::Damaged(LogFinding::of_file(found)),
        })
    }
}

/// Damage of the -wal file, which no process may be writing.
pub(crate) fn damage(database: &Path) -> Result<Option<String>, LogError> {
    let path = with_suffix(&files::canonical(database), "-wal");
    let found = match files::open(&path).and_then(|file| read(&file)) {
        // It is missing, or another program truncated it after its length was read.
        Err(error) if matches!(error.kind(), NotFound | UnexpectedEof) => None,
        found => found.map_err(LogError::io(&path, "reading it"))?,
    };
    Ok(found.map(|found| {
        format!(
            "the -wal file: {found}; SQLite ignores the rest of the file, so events may be missing; the next \
             'activity-stream run' appends them again from the topic, if the topic retains their commands"
        )
    }))
}

/// Returns the first damaged frame. These are no damage: an incomplete last frame or transaction, which a crash leaves,
/// and frames from before the last checkpoint after the end, which have other salts.
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
    let mut before = update((0, 0), &header[..24], is_big_endian);
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
    let is_current = |frame: &[u8]| frame[8..16] == header[16..24];
    let commits = |frame: &[u8]| number(frame, 4) != 0;
    let (mut sound, mut is_damage) = (0, false);
    while sound < count {
        file.read_exact(&mut frame)?;
        let stored = (number(&frame, 16), number(&frame, 20));
        let page_number_and_commit = update(before, &frame[..8], is_big_endian);
        let is_next = stored == update(page_number_and_commit, &frame[FRAME_HEADER..], is_big_endian);
        if is_next && is_current(&frame) {
            (sound, before) = (sound + 1, stored);
            continue;
        }
        // The checksum does not cover the salts. A frame that was only partly written is not complete at the file's end.
        let is_whole_and_last = sound + 1 == count && rest == 0;
        is_damage = is_next || (is_whole_and_last && is_current(&frame) && commits(&frame));
        break;
    }
    let mut after = 0;
    for _ in sound + 1..count {
        file.read_exact(&mut frame)?;
        if is_current(&frame) {
            after += 1;
            // A transaction that was rolled back leaves frames too, but none that commits.
            is_damage |= commits(&frame);
        }
    }
    Ok(is_damage.then(|| format!("frame {} of {} is damaged", sound + 1, sound + 1 + after)))
}

/// All numbers except those in checksums are big-endian.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

type Checksum = (u32, u32);

/// The length of `bytes` must be a multiple of 8.
fn update(before: Checksum, bytes: &[u8], is_big_endian: bool) -> Checksum {
    let word = |bytes| if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().fold(before, |(first, second), [one, two]| {
        let first = first.wrapping_add(word(*one)).wrapping_add(second);
        (first, second.wrapping_add(word(*two)).wrapping_add(first))
    })
}
