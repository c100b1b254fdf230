//! What `demo --keep` tells its reader to type does what it says.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use testkit::lab::PASSWORD;
use testkit::wait::{BOUND, until};

/// Starts a program that writes into a file and reads from us.
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

/// A process that is killed when the test is over.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The command under a heading.
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

fn says(command: &str) -> String {
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
        .unwrap_or_else(|late| panic!("{late}\n{}", fs::read_to_string(file).unwrap_or_default()))
}

#[test]
fn a_demo_that_stays_up_can_be_poked_at_as_it_says_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (told, client) = (directory.path().join("told"), directory.path().join("client"));
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    // It ends with its input, so it cleans up also when this test fails.
    let mut demo = start(demo.arg("--keep"), &told);
    let text = wait_for(&told, "press Enter");

    assert!(says(command_under(&text, "sessions as the portal")).contains("alice"));
    assert!(says(command_under(&text, "sessions as ocserv")).contains("alice"));
    assert!(says(command_under(&text, "what the agent decided")).contains("the account is suspended"));
    let ended = says(command_under(&text, "end alice's session"));
    assert!(ended.contains('1'), "{ended}");

    let login = command_under(&text, "log in again");
    let mut openconnect = Command::new("sh");
    let with_password = format!("exec {login} --passwd-on-stdin");
    let mut openconnect = Killed(start(openconnect.args(["-c", &with_password]), &client));
    writeln!(openconnect.0.stdin.as_mut().unwrap(), "{PASSWORD}").unwrap();
    let said = wait_for(&client, "Configured as ");
    let (_, address) = said.split_once("Configured as ").unwrap();
    let address = address.split(',').next().unwrap();
    let namespace = login.split(' ').nth(3).unwrap();
    until("the tunnel", BOUND, || {
        says(&format!("ip -n {namespace} -o address"))
            .contains(address)
            .then_some(())
    })
    .unwrap();
    drop(openconnect);

    demo.stdin.take().unwrap().write_all(b"\n").unwrap();
    let ended = until("the demo's end", BOUND, || demo.try_wait().unwrap()).unwrap();
    assert!(ended.success());
    let text = fs::read_to_string(&told).unwrap();
    assert!(
        text.lines()
            .last()
            .unwrap()
            .ends_with("everything is stopped and removed"),
        "{text}"
    );
    let left = says("ip netns list");
    assert!(!left.contains(namespace), "{left}");
}
