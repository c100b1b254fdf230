//! A list of 200 real sessions over ocserv's control socket, beside `occtl` from exec to exit.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use occtl::{ControlSocket, frame};
use testkit::lab::{Client, Lab};
use tokio::runtime;

use super::report::{Failure, Limit, Report, ensure};
use super::stats::{median, ratio, show};

const SESSIONS: u32 = 200;
const ROUNDS: usize = 200;
const FASTER: Limit = Limit::ratio(10.0);
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn measure(report: &mut Report) -> Result<(), Failure> {
    let lab = Lab::builder("listing").numbered_users(SESSIONS).start()?;
    eprintln!("  {SESSIONS} clients log in");
    let clients: Vec<Client> = lab
        .server()
        .connect_many(SESSIONS)
        .into_iter()
        .collect::<Result<_, _>>()?;

    let socket = lab.server().control_socket();
    // The socket is a file: occtl needs no namespace, whose setup would be measured too.
    let mut occtl = Command::new("occtl");
    occtl
        .arg("--socket-file")
        .arg(&socket)
        .args(["-j", "show", "users"]);
    let control = ControlSocket::new(socket.clone(), TIMEOUT);
    let request = frame::encode_request(occtl::Command::List, &[])?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let expected = usize::try_from(SESSIONS)?;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let output = occtl.output()?;
        times[0].push(start.elapsed());
        let users = String::from_utf8_lossy(&output.stdout)
            .matches("\"Username\"")
            .count();
        ensure(
            output.status.success() && users == expected,
            format!("occtl shows {users} users"),
        )?;

        let start = Instant::now();
        let sessions = runtime.block_on(control.list())?;
        times[1].push(start.elapsed());
        let connected = sessions.iter().filter(|session| session.is_connected()).count();
        ensure(connected == expected, format!("{connected} sessions are listed"))?;

        let start = Instant::now();
        exchange(&socket, &request)?;
        times[2].push(start.elapsed());
    }
    let [floor, measured, exchange] = times.map(|mut times| median(&mut times));
    report.at_least(
        &format!("{SESSIONS} sessions listed, times as fast as occtl -j show users"),
        &show(floor),
        &show(measured),
        ratio(floor, measured),
        FASTER,
    );
    report.note(
        "  of that ocserv's reply, read and discarded",
        "",
        &show(exchange),
    );
    disconnect_all(clients);
    Ok(())
}

/// Measures ocserv alone: sends the request and discards the reply.
fn exchange(socket: &Path, request: &[u8]) -> Result<(), Failure> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request)?;
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header)?;
    let length = frame::frame_end(&header)?.ok_or("incomplete header")?;
    let mut body = vec![0; length - frame::HEADER];
    Ok(stream.read_exact(&mut body)?)
}

/// Disconnects all clients concurrently.
pub(crate) fn disconnect_all(clients: Vec<Client>) {
    for client in &clients {
        client.process().signal(nix::sys::signal::Signal::SIGINT);
    }
    drop(clients);
}
