//! `man`: manual pages, with the texts of `--help`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap_mangen::Man;

use super::output::{self, Unread};

/// Prints the manual page, or writes one page for each command to a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream man | man -l -
  activity-stream man ~/.local/share/man/man1")]
pub struct Args {
    /// The folder, which is created if it does not exist
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints or writes the pages of `program`.
pub(super) fn man(args: &Args, mut program: clap::Command) -> anyhow::Result<()> {
    // Builds the subcommands too, so that each knows its full name.
    program = program.disable_help_subcommand(true);
    program.build();
    let Some(dir) = &args.dir else {
        let mut out = output::stdout(Unread::Stop);
        out.raw().write_all(&page(program)?)?;
        return Ok(out.flush()?);
    };
    fs::create_dir_all(dir).with_context(|| format!("can't create '{}'", dir.display()))?;
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().cloned());
        let file = dir.join(format!("{}.1", command.get_display_name().unwrap_or(command.get_name())));
        fs::write(&file, page(command)?).with_context(|| format!("can't write '{}'", file.display()))?;
    }
    Ok(())
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("activity-stream ", env!("CARGO_PKG_VERSION"));
    Man::new(command).source(source).render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args;

    /// The page as `man` shows it; `None` if the machine has no `man`.
    fn rendered(file: &std::path::Path) -> Option<String> {
        let mut programs = [Command::new("mandoc"), Command::new("man")];
        programs[0].args(["-T", "utf8"]);
        programs[1]
            .args(["--no-hyphenation", "--local-file"])
            .env("MANWIDTH", "500")
            .env("LC_ALL", "C.UTF-8");
        let Output { status, stdout, stderr } =
            programs.iter_mut().find_map(|program| program.arg(file).output().ok())?;
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let mut text: Vec<char> = Vec::new();
        // A bold character is printed twice, with a backspace between.
        for c in String::from_utf8(stdout).expect("UTF-8").chars() {
            match c {
                '\u{8}' => {
                    text.pop();
                }
                _ => text.push(c),
            }
        }
        Some(text.into_iter().collect())
    }

    #[test]
    fn there_is_a_page_for_each_command_with_all_of_its_options() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("man1");
        man(&Args { dir: Some(dir.clone()) }, args::Args::command()).expect("pages");
        let mut left = vec![(String::from("activity-stream"), args::Args::command())];
        let mut pages = 0;
        while let Some((name, command)) = left.pop() {
            pages += 1;
            let file = dir.join(format!("{name}.1"));
            let source = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
            let text = rendered(&file).unwrap_or_else(|| source.replace("\\-", "-"));
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(text.contains(&format!("--{option}")), "{name}: no --{option} in {text}");
            }
            for line in command.get_after_help().expect("examples").to_string().lines() {
                assert!(text.contains(line.trim()), "{name}: no {line:?} in {text}");
            }
            left.extend(
                command.get_subcommands().map(|sub| (format!("{name}-{}", sub.get_name()), sub.clone())),
            );
        }
        assert_eq!(fs::read_dir(&dir).expect("pages").count(), pages);
    }
}
