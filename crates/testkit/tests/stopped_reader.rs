//! A process that asks ocserv for its sessions and stands still: how much ocserv writes before its
//! main process waits, and that it goes on when that process is killed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::lab::{Client, Lab};
use testkit::wait::{self, BOUND};

/// A request for the list of sessions.
const LIST: [u8; 5] = [4, 0, 0, 0, 0];
/// Entries that ocserv repeats in the list for each session, so that few sessions make a long one.
const DOMAINS: usize = 200;
/// Returns how many bytes one write to a unix socket takes without waiting for a reader: 219264
/// with the kernel's default of `net.core.wmem_default`.
fn unread_capacity() -> usize {
    let (mut writer, _reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    writer.write(&vec![0; 4 << 20]).unwrap()
}

/// Reads the whole list; returns its length in bytes.
fn list_length(lab: &Lab) -> usize {
    let mut stream = request_list(lab);
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    reply.len()
}

fn request_list(lab: &Lab) -> UnixStream {
    let mut stream = UnixStream::connect(lab.server().control_socket()).unwrap();
    stream.write_all(&LIST).unwrap();
    stream
}

/// A stopped process that has asked for the list and reads nothing; killed when dropped.
struct StoppedReader(Child);

impl StoppedReader {
    fn new(lab: &Lab) -> Self {
        let stream = request_list(lab);
        let child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::from(OwnedFd::from(stream)))
            .spawn()
            .unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGSTOP).unwrap();
        Self(child)
    }
}

impl Drop for StoppedReader {
    fn drop(&mut self) {
        let _exited = self.0.kill();
        let _exited = self.0.wait();
    }
}

/// Waits until ocserv's main process is blocked in a write to a unix socket.
fn wait_until_blocked(lab: &Lab) {
    let pid = lab.server().process().unwrap().pid();
    let stack = || fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    wait::until("ocserv to wait for the reader", BOUND, || {
        stack().contains("sock_alloc_send").then_some(())
    })
    .unwrap_or_else(|timeout| panic!("{timeout}: it is in {:?}", stack()));
}

fn connect(lab: &Lab, users: std::ops::Range<usize>) -> Vec<Client> {
    let users = users.map(|n| format!("u{n}"));
    users.map(|user| lab.server().connect(&user).unwrap()).collect()
}

#[test]
fn a_stopped_reader_of_the_list_blocks_ocserv_only_beyond_the_buffer_and_until_it_is_killed() {
    let lab = Lab::builder("stopped-reader")
        .numbered_users(60)
        .server(|server| {
            let domain = |n| format!("split-dns = network-{n:03}.of-a-department-with-a-long-name.test");
            server.extra = (0..DOMAINS).map(domain).collect();
        })
        .start()
        .unwrap();
    let mut clients = connect(&lab, 1..3);
    let (capacity, per_session) = (unread_capacity(), list_length(&lab) / clients.len());
    let fitting = capacity / (per_session + 1);
    assert!((4..50).contains(&fitting), "{per_session} bytes per session");

    clients.extend(connect(&lab, 3..fitting));
    assert!(list_length(&lab) < capacity);
    let reader = StoppedReader::new(&lab);
    clients.extend(connect(&lab, fitting..fitting + 1));
    drop(reader);

    clients.extend(connect(&lab, fitting + 1..fitting + 4));
    assert!(list_length(&lab) > capacity);
    let reader = StoppedReader::new(&lab);
    wait_until_blocked(&lab);
    drop(reader);
    clients.extend(connect(&lab, fitting + 4..fitting + 5));
    assert!(list_length(&lab) > capacity);
}
