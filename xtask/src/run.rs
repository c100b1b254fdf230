//! Runs other programs: prints the command, waits for it, turns a failure into one sentence.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The cargo that runs this program, in the workspace at `root`.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Prints the command and runs it with this program's input and output. An error when it cannot
/// start or does not exit with 0.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs the command and returns what it printed. An error when it cannot start or does not exit
/// with 0.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = shown(command);
    let output = command
        .output()
        .with_context(|| format!("could not start `{line}`"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}: {}", output.status, errors.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed bytes that are not UTF-8"))
}

/// Formats the command as one would type it: variables that are set for it, program, arguments.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let variables = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), quoted(value)))
    });
    let name = quoted(program.file_name().unwrap_or(program.as_os_str()));
    let words = variables.chain([name]).chain(command.get_args().map(quoted));
    words.collect::<Vec<_>>().join(" ")
}

/// Quotes a word for the shell, where necessary.
pub(crate) fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=+./:,@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Finds cargo's target directory from this executable: it has a `CACHEDIR.TAG`.
pub fn target_dir() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("could not find this executable")?;
    let marked = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    let target = marked.with_context(|| format!("{} is not in a cargo target directory", exe.display()))?;
    Ok(target.to_owned())
}

/// Whether this process runs as root, which owns its directory in `/proc` then.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|directory| directory.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_one_would_type_them() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "it's", ""]).env("DIR", "/a b");
        assert_eq!(shown(&command), r"DIR='/a b' cargo test 'it'\''s' ''");
    }

    #[test]
    fn a_failure_names_the_command_and_its_exit_code() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 7'` failed: exit status: 7");
        let error = output(Command::new("sh").args(["-c", "echo broken >&2; exit 1"])).unwrap_err();
        assert!(error.to_string().ends_with("broken"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        assert!(run(&mut Command::new("/nonexistent/program")).is_err());
    }
}
