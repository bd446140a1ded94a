//! Commands from files: a `.json` file is one; any other file, and standard input, has one on each line that is not blank.
//! They are bytes: broken JSON or text that is not UTF-8 is posted as it is, for the processor to decide.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use kafka::client::MESSAGE_MAX_BYTES;

/// More than any broker accepts. Longer input is no command, and is not read into memory.
const LONGEST: u64 = MESSAGE_MAX_BYTES as u64;

/// One command, and where it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub place: Place,
    pub value: Vec<u8>,
}

/// A file, or a line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// Counted from 1; `None` if the whole file is the command.
    pub line: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// The commands of several files, one after another, read on demand.
pub struct Inputs {
    waiting: std::vec::IntoIter<Opened>,
    lines: Option<Lines>,
    /// Bytes of all files, if all are regular files.
    pub total_bytes: Option<u64>,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs").field("total_bytes", &self.total_bytes).finish_non_exhaustive()
    }
}

struct Opened {
    name: String,
    whole: bool,
    reader: Box<dyn BufRead + Send>,
}

struct Lines {
    name: String,
    number: u64,
    reader: Box<dyn BufRead + Send>,
}

impl Inputs {
    /// Opens every file, so that a wrong name is reported before anything is posted.
    pub fn open(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut total_bytes = Some(0);
        let mut opened = Vec::with_capacity(files.len());
        for path in files {
            let (file, bytes) = open(path)?;
            total_bytes = total_bytes.zip(bytes).map(|(total, bytes)| total + bytes);
            opened.push(file);
        }
        Ok(Self { waiting: opened.into_iter(), lines: None, total_bytes })
    }
}

fn open(path: &Path) -> anyhow::Result<(Opened, Option<u64>)> {
    let name = path.display().to_string();
    if path.as_os_str() == "-" {
        let reader = Box::new(BufReader::new(io::stdin()));
        return Ok((Opened { name: "standard input".into(), whole: false, reader }, None));
    }
    let file = File::open(path).with_context(|| format!("can't open '{name}'"))?;
    let metadata = file.metadata().with_context(|| format!("can't read '{name}'"))?;
    if metadata.is_dir() {
        bail!("'{name}' is a folder; name the files in it");
    }
    let whole = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let reader = Box::new(BufReader::with_capacity(128 * 1024, file));
    Ok((Opened { name, whole, reader }, metadata.is_file().then_some(metadata.len())))
}

impl Iterator for Inputs {
    type Item = anyhow::Result<Input>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(lines) = &mut self.lines {
                match lines.next().transpose() {
                    Some(line) => return Some(line),
                    None => self.lines = None,
                }
            }
            let Opened { name, whole, mut reader } = self.waiting.next()?;
            if !whole {
                self.lines = Some(Lines { name, number: 0, reader });
                continue;
            }
            let place = Place { file: name, line: None };
            let mut value = Vec::new();
            let read = reader.by_ref().take(LONGEST + 1).read_to_end(&mut value);
            let read = read.with_context(|| format!("can't read '{place}'"));
            return Some(read.and_then(|_| fitting(place, value)));
        }
    }
}

impl Lines {
    /// The next line that holds a command.
    fn next(&mut self) -> anyhow::Result<Option<Input>> {
        loop {
            match self.next_line()? {
                Some(line) if line.value.trim_ascii().is_empty() => {}
                line => return Ok(line),
            }
        }
    }

    fn next_line(&mut self) -> anyhow::Result<Option<Input>> {
        let mut value = Vec::new();
        // One more for the line's end, and one to detect that it is too long.
        let read = self.reader.by_ref().take(LONGEST + 2).read_until(b'\n', &mut value);
        self.number += 1;
        let place = Place { file: self.name.clone(), line: Some(self.number) };
        if read.with_context(|| format!("can't read {place}"))? == 0 {
            return Ok(None);
        }
        if value.last() == Some(&b'\n') {
            value.pop();
        }
        fitting(place, value).map(Some)
    }
}

fn fitting(place: Place, value: Vec<u8>) -> anyhow::Result<Input> {
    if value.len() as u64 > LONGEST {
        bail!(
            "{place}: expected a command of at most {LONGEST} bytes, found more. Is this a file of commands?"
        );
    }
    Ok(Input { place, value })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = files
            .iter()
            .map(|(name, bytes)| {
                let path = folder.path().join(name);
                fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let prefix = format!("{}/", folder.path().display());
        Inputs::open(&paths)
            .unwrap()
            .map(|input| {
                let Input { place, value } = input.unwrap();
                (place.to_string().replace(&prefix, ""), value)
            })
            .collect()
    }

    #[test]
    fn a_json_file_is_one_command_and_other_files_are_one_a_line() {
        let found = read(&[("a.json", b"{\n}\n"), ("b.ndjson", b"{}\n{}\r\n{}")]);
        let wanted =
            [("a.json", "{\n}\n"), ("b.ndjson:1", "{}"), ("b.ndjson:2", "{}\r"), ("b.ndjson:3", "{}")];
        let wanted: Vec<_> =
            wanted.iter().map(|(place, value)| ((*place).to_owned(), value.as_bytes().to_vec())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn blank_lines_are_no_commands_and_broken_ones_are() {
        for blank in [&b""[..], b"\n", b"\n\n \t\r\n", b" "] {
            assert_eq!(read(&[("e.txt", blank)]), []);
        }
        let lines = read(&[("l.txt", b"\n\xff\n \r\n{}\n\n\xc2\xa0\n")]);
        let at = |line: u32, value: &[u8]| (format!("l.txt:{line}"), value.to_vec());
        assert_eq!(lines, [at(2, b"\xff"), at(4, b"{}"), at(6, b"\xc2\xa0")]);
        // A file that is one command is one, whatever it holds.
        assert_eq!(read(&[("b.json", b" \n")]), [("b.json".to_owned(), b" \n".to_vec())]);
        assert_eq!(read(&[("e.json", b"")]), [("e.json".to_owned(), Vec::new())]);
    }

    #[test]
    fn input_too_large_for_any_broker_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.json", "a.ndjson"] {
            let path = folder.path().join(name);
            // Sparse, and far larger than memory: only what stops early ends.
            File::create(&path).unwrap().set_len(1 << 42).unwrap();
            let error = Inputs::open(&[path]).unwrap().next().unwrap().unwrap_err().to_string();
            assert!(error.contains("at most 33554432 bytes, found more"), "{error}");
        }
        let path = folder.path().join("b.ndjson");
        fs::write(&path, [vec![b'x'; LONGEST as usize], b"\n{}".to_vec()].concat()).unwrap();
        let lengths: Vec<_> =
            Inputs::open(&[path]).unwrap().map(|input| input.unwrap().value.len()).collect();
        assert_eq!(lengths, [LONGEST as usize, 2]);
    }

    #[test]
    fn a_wrong_name_is_reported_before_anything_is_read() {
        let error = Inputs::open(&["no-such-file".into()]).unwrap_err();
        assert_eq!(format!("{error}"), "can't open 'no-such-file'");
        assert!(Inputs::open(&[std::env::temp_dir()]).unwrap_err().to_string().contains("is a folder"));
    }
}
