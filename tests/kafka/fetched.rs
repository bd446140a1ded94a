//! What package managers fetch for the tests, once, into the target folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The folder that `fill` filled. It is named after `wanted`, which says what is in it, filled under another name, and
/// renamed when it is complete; a lock keeps test programs that run at the same time apart.
pub fn folder(
    name: &str,
    wanted: &[u8],
    fill: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.join(format!("{name}-{:08x}", crc32c::crc32c(wanted)));
    let io = |doing: &str, path: &Path| {
        let place = path.display().to_string();
        let doing = doing.to_owned();
        move |error| format!("{doing} {place}: {error}")
    };
    let lock = target.join(format!("{name}.lock"));
    let held = File::create(&lock).map_err(io("making", &lock))?;
    held.lock().map_err(io("locking", &lock))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let partial = target.join(format!("{name}-partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(io("removing", &partial))?;
    }
    fs::create_dir(&partial).map_err(io("making", &partial))?;
    fill(&partial)?;
    fs::rename(&partial, &folder).map_err(io("renaming", &partial))?;
    Ok(folder)
}

/// Runs what fetches; `what` it fetches is for the error.
pub fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("'{program}' does not run ({error}); install it: it fetches {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "'{program}' could not fetch {what} ({}); check the network and its settings. It said:\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    ))
}
