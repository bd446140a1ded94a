//! `completions`: a script that completes this program's command lines in a shell.

use std::io::Write;

use clap_complete::{Shell, generate};

use super::output::{self, Unread};

/// Prints a script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream completions bash > ~/.local/share/bash-completion/completions/activity-stream
  activity-stream completions zsh > ~/.zfunc/_activity-stream
  activity-stream completions fish > ~/.config/fish/completions/activity-stream.fish

The folder for zsh must be in $fpath before compinit runs.")]
pub struct Args {
    /// Of which shell
    shell: Shell,
}

/// Prints the script for `program`.
pub(super) fn completions(args: &Args, mut program: clap::Command) -> anyhow::Result<()> {
    let mut out = output::stdout(Unread::Stop);
    let name = program.get_name().to_owned();
    // `generate` panics if it can't write, as to a closed pipe.
    let mut script = Vec::new();
    generate(args.shell, &mut program, name, &mut script);
    out.raw().write_all(&script)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::args;

    fn script(shell: Shell) -> String {
        let mut script = Vec::new();
        generate(shell, &mut args::Args::command(), "activity-stream", &mut script);
        String::from_utf8(script).expect("UTF-8")
    }

    #[test]
    fn every_shell_completes_every_command_and_its_options() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in args::Args::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
                for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                    assert!(script.contains(option), "{shell}: {} --{option}", command.get_name());
                }
            }
        }
    }

    #[test]
    fn bash_can_parse_its_script() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("script");
        std::fs::write(&file, script(Shell::Bash)).expect("written");
        let parsed = Command::new("bash").arg("-n").arg(&file).output();
        let output = parsed.expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
