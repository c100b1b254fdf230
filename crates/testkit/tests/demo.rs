//! The commands that `demo --keep` prints do what they should.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use testkit::lab::PASSWORD;
use testkit::wait::{BOUND, until};

/// Starts a program with its output in a file and its input from this process.
fn start(command: &mut Command, output: &Path) -> Child {
    let output = File::create(output).unwrap();
    let errors = output.try_clone().unwrap();
    let child = command
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors)
        .spawn();
    child.unwrap()
}

/// A process that is killed on drop.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the command under a heading.
fn command_under<'a>(text: &'a str, heading: &str) -> &'a str {
    let mut lines = text.lines().skip_while(|line| !line.trim().starts_with(heading));
    lines
        .nth(1)
        .unwrap_or_else(|| panic!("no {heading:?} in:\n{text}"))
        .trim()
}

fn shell(command: &str) -> Output {
    Command::new("sh").args(["-c", command]).output().unwrap()
}

fn output_of(command: &str) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = shell(command);
    assert!(
        status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

fn wait_for(file: &Path, part: &str) -> String {
    let text = || fs::read_to_string(file).ok().filter(|text| text.contains(part));
    until(part, BOUND, text)
        .unwrap_or_else(|timeout| panic!("{timeout}\n{}", fs::read_to_string(file).unwrap_or_default()))
}

#[test]
fn a_kept_demo_can_be_inspected_with_the_printed_commands_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (transcript, client) = (
        directory.path().join("transcript"),
        directory.path().join("client"),
    );
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    // It stops at the end of its input, so it cleans up also when this test fails.
    let mut demo = start(demo.arg("--keep"), &transcript);
    let text = wait_for(&transcript, "press Enter");

    assert!(output_of(command_under(&text, "sessions as the portal")).contains("alice"));
    assert!(output_of(command_under(&text, "sessions as ocserv")).contains("alice"));
    assert!(output_of(command_under(&text, "decisions of the agent")).contains("the account is suspended"));
    let ended = output_of(command_under(&text, "disconnect alice"));
    assert!(ended.contains('1'), "{ended}");

    let login = command_under(&text, "log in again");
    let mut openconnect = Command::new("sh");
    let with_password = format!("exec {login} --passwd-on-stdin");
    let mut openconnect = KillOnDrop(start(openconnect.args(["-c", &with_password]), &client));
    writeln!(openconnect.0.stdin.as_mut().unwrap(), "{PASSWORD}").unwrap();
    let output = wait_for(&client, "Configured as ");
    let (_, address) = output.split_once("Configured as ").unwrap();
    let address = address.split(',').next().unwrap();
    let namespace = login.split(' ').nth(3).unwrap();
    until("tunnel", BOUND, || {
        output_of(&format!("ip -n {namespace} -o address"))
            .contains(address)
            .then_some(())
    })
    .unwrap();
    drop(openconnect);

    demo.stdin.take().unwrap().write_all(b"\n").unwrap();
    let status = until("exit of the demo", BOUND, || demo.try_wait().unwrap()).unwrap();
    assert!(status.success());
    let text = fs::read_to_string(&transcript).unwrap();
    assert!(
        text.lines()
            .last()
            .unwrap()
            .ends_with("everything is stopped and removed"),
        "{text}"
    );
    let namespaces = output_of("ip netns list");
    assert!(!namespaces.contains(namespace), "{namespaces}");
}
