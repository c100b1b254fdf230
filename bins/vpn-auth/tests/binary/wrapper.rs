//! The shipped connect-script, run as ocserv runs it.

use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ipc::Response;

use crate::stub::{Agent, HELPER, as_ocserv, code_and_line, run};

fn response(allowed: bool) -> Vec<u8> {
    Response::new(allowed).to_frame().expect("frame")
}

fn code(command: &mut Command) -> i32 {
    code_and_line(&run(command)).0
}

/// The shipped wrapper with this helper and this socket.
fn wrapper(directory: &Path, socket: &Path, program: &str) -> PathBuf {
    let path = directory.join("connect-script");
    // Written by a child: a file that this process has open for writing cannot be executed while
    // another test forks.
    let made = Command::new("/bin/sh")
        .arg("-c")
        .arg("sed -e \"s|/usr/bin/vpn-auth|$1|\" -e \"s|^SOCKET=[^ ]*|SOCKET='$2'|\" \"$0\" > \"$3\" && chmod 755 \"$3\"")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/connect-script"))
        .args([program.as_ref(), socket.as_os_str(), path.as_os_str()])
        .status()
        .expect("sh");
    assert!(made.success());
    path
}

#[test]
fn the_shipped_wrapper_works_when_run_and_when_ocserv_fw_runs_it() {
    for allowed in [true, false] {
        for shell in [None, Some("/bin/sh")] {
            let directory = tempfile::tempdir().expect("directory");
            let agent = Agent::sending(response(allowed));
            let script = wrapper(directory.path(), &agent.socket(), HELPER);
            let mut command = match shell {
                None => Command::new(&script),
                Some(shell) => Command::new(shell),
            };
            command.args(shell.map(|_| &script));
            as_ocserv(&mut command);
            let control = UnixListener::bind(directory.path().join("occtl.sock")).expect("listener");
            command.stdin(Stdio::from(std::os::fd::OwnedFd::from(control)));
            // Nothing in ocserv's environment may change the settings.
            command.envs([
                ("ON_AGENT_DOWN", "allow"),
                ("SOCKET", "/nonexistent"),
                ("DEADLINE", "0s"),
            ]);
            assert_eq!(code(&mut command), i32::from(!allowed), "{shell:?}");
        }
    }
}

#[test]
fn the_shipped_wrapper_denies_without_an_agent_or_a_helper() {
    let directory = tempfile::tempdir().expect("directory");
    let nowhere = directory.path().join("missing.sock");
    for (program, expected) in [(HELPER, 2), ("/nonexistent/vpn-auth", 127)] {
        let mut command = Command::new(wrapper(directory.path(), &nowhere, program));
        as_ocserv(command.env("ON_AGENT_DOWN", "allow"));
        assert_eq!(code(&mut command), expected);
    }
}
