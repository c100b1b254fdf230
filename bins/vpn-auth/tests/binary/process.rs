//! The helper under the conditions that ocserv, the operator and the machine may create.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write, pipe},
    os::unix::{
        ffi::OsStrExt,
        net::{UnixListener, UnixStream},
    },
    process::{Command, Stdio},
    sync::mpsc,
};

use crate::stub::{Agent, BOUND, HELPER, as_ocserv, code_and_line, finish, helper, run};
use ipc::Response;
use rustix::process::{Pid, Signal, kill_process};

fn response(allowed: bool) -> Vec<u8> {
    Response::new(allowed).to_frame().expect("frame")
}

fn code(command: &mut Command) -> i32 {
    code_and_line(&run(command)).0
}

#[test]
fn sigterm_ends_the_helper_at_once_and_leaves_no_child() {
    let (received, request) = mpsc::channel();
    let (closed, end) = mpsc::channel();
    let agent = Agent::new(move |peer| {
        let _ = received.send(());
        let _ = closed.send(peer.read_to_end(&mut Vec::new()));
    });
    let child = helper(agent.socket(), "--deadline 60m").spawn().expect("spawn");
    request.recv_timeout(BOUND).expect("the request");
    let (process, pid) = (format!("/proc/{0}/task", child.id()), Pid::from_child(&child));
    assert_eq!(fs::read_dir(&process).expect("/proc").count(), 1, "one thread");
    let children = fs::read_to_string(format!("{process}/{}/children", child.id())).unwrap_or_default();
    assert_eq!(children, "", "no children");

    kill_process(pid, Signal::TERM).expect("kill");
    assert_eq!(code_and_line(&finish(child)).0, -15);
    assert!(
        matches!(end.recv_timeout(BOUND), Ok(Ok(0))),
        "the agent sees the end"
    );
}

#[test]
fn closed_or_broken_streams_do_not_change_the_exit_code() {
    for allowed in [true, false] {
        for closed in ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"] {
            let agent = Agent::sending(response(allowed));
            let mut shell = Command::new("/bin/sh");
            shell
                .arg("-c")
                .arg(format!("exec \"$0\" --socket \"$1\" {closed}"))
                .arg(HELPER)
                .arg(agent.socket());
            as_ocserv(&mut shell);
            assert_eq!(code(&mut shell), i32::from(!allowed), "{closed}");
        }
        let agent = Agent::sending(response(allowed));
        let (reader, writer) = pipe().expect("pipe");
        drop(reader);
        assert_eq!(
            code(helper(agent.socket(), "").stderr(writer)),
            i32::from(!allowed)
        );
    }
}

#[test]
fn a_stalled_journal_does_not_delay_a_login() {
    let agent = Agent::sending(response(true));
    let (reader, mut writer) = pipe().expect("pipe");
    let flags = rustix::fs::fcntl_getfl(&writer).expect("flags");
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).expect("nonblocking");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).expect("blocking");
    assert_eq!(code(helper(agent.socket(), "").stderr(writer)), 0);
    drop(reader);
}

#[test]
fn stdin_is_never_read() {
    // As under ocserv: its listening control socket.
    let directory = tempfile::tempdir().expect("directory");
    let control = UnixListener::bind(directory.path().join("occtl.sock")).expect("listener");
    let agent = Agent::sending(response(true));
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(control.try_clone().expect("clone")));
    assert_eq!(code(helper(agent.socket(), "").stdin(stdin)), 0);

    let agent = Agent::sending(response(false));
    let (writer, reader) = UnixStream::pair().expect("pair");
    (&writer).write_all(b"not for you").expect("write");
    let left = reader.try_clone().expect("clone");
    assert_eq!(
        code(helper(agent.socket(), "").stdin(Stdio::from(std::os::fd::OwnedFd::from(reader)))),
        1
    );
    drop(writer);
    let mut text = String::new();
    (&left).read_to_string(&mut text).expect("read");
    assert_eq!(text, "not for you");
}

#[test]
fn a_bad_environment_denies_and_names_the_variable_not_the_value() {
    for (name, value, error) in [
        ("USERNAME", &b"al\xffice"[..], "USERNAME is not UTF-8"),
        ("GROUPNAME", b"\xff", "GROUPNAME is not UTF-8"),
        ("REASON", b"reconnect", "REASON is not connect"),
        ("ID", b"", "ID is not set"),
    ] {
        let mut command = helper("/nonexistent/ipc.sock", "--on-agent-down allow");
        let (code, line) = code_and_line(&run(command.env(name, OsStr::from_bytes(value))));
        assert_eq!(code, 4, "{line}");
        assert!(line.contains(error), "{line}");
    }
    let mut nothing = Command::new(HELPER);
    assert_eq!(code(nothing.env_clear().stderr(Stdio::piped())), 4);
}

#[test]
fn untrusted_variables_of_the_client_do_not_break_the_login() {
    let agent = Agent::sending(response(true));
    let mut command = helper(agent.socket(), "");
    command
        .env("USER_AGENT", OsStr::from_bytes(&[0xff; 60_000]))
        .env("REMOTE_HOSTNAME", "pc\n\"x\"\u{202e}");
    command.env("IPV6_LOCAL", "fd88:0:0:1::1%4095080704");
    assert_eq!(code(&mut command), 0);
    let request = agent.request();
    assert_eq!(request.hostname.as_deref(), Some("pc\n\"x\"\u{202e}"));
    assert_eq!(request.ipv6_local.as_deref(), Some("fd88:0:0:1::1"));
    assert!(request.user_agent.is_some_and(|agent| agent.len() <= 1024));
}

#[test]
fn five_thousand_routes_are_not_sent() {
    let agent = Agent::sending(response(true));
    // As many as fit the 128 KiB of one variable.
    let routes: String = (0..5000)
        .map(|n| format!("10.{}.{}.0/255.255.255.0 ", n / 250, n % 250))
        .collect();
    let routes = &routes[..routes.len().min(130_000)];
    let mut command = helper(agent.socket(), "");
    for name in [
        "OCSERV_ROUTES",
        "OCSERV_ROUTES4",
        "OCSERV_NO_ROUTES",
        "OCSERV_NO_ROUTES4",
    ] {
        command.env(name, routes);
    }
    assert_eq!(code(&mut command), 0);
    let frame = agent.request().to_frame().expect("frame");
    assert!(frame.len() < 1024, "{}", frame.len());
}

#[test]
fn a_deleted_working_directory_does_not_matter() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = Agent::sending(response(true));
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg("cd \"$2\" && rmdir \"$2\" && exec \"$0\" --socket \"$1\"");
    shell.arg(HELPER).arg(agent.socket()).arg(directory.path());
    as_ocserv(&mut shell);
    assert_eq!(code(&mut shell), 0);
}

#[test]
fn invalid_flags_and_help_never_allow_a_login() {
    for flags in ["--nonsense", "--deadline 0s", "--on-agent-down yes", "stray"] {
        let (code, line) = code_and_line(&run(&mut helper("/nonexistent", flags)));
        assert_eq!(code, 4, "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    for flag in ["--help", "--version"] {
        assert_eq!(code(&mut helper("/nonexistent", flag)), 4, "in a login");
        let output = run(Command::new(HELPER)
            .arg(flag)
            .env_remove("REASON")
            .stdout(Stdio::piped()));
        assert_eq!(output.status.code(), Some(0), "outside a login");
        assert!(String::from_utf8_lossy(&output.stdout).contains("vpn-auth"));
    }
}
