//! The cost of the helper per login: exec to exit with a decision, compared to a static no-op.
//!
//! `VPN_AUTH_STATIC` names the helper as it is shipped:
//!
//! ```sh
//! RUSTFLAGS="-C target-feature=+crt-static" cargo build -p vpn-auth --profile helper --target x86_64-unknown-linux-gnu
//! ```
//!
//! The no-op (`noop.rs`), the helper and the wrapper script are spawned in turn, in rounds, with
//! the same environment; the stub agent responds from a thread. Figures are medians; only their
//! ratio carries over to another machine. `VPN_AUTH_ROUNDS` [2000] and `VPN_AUTH_TARGET` [the host]
//! change the run. Exits 1 when a figure is over its limit.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use ipc::{FrameDecoder, Response};

/// The largest ratio of helper to no-op, at the median.
const MAX_RATIO: f64 = 1.6;
/// The largest size of the helper's file.
const MAX_BYTES: u64 = 1_500_000;
const WARM_UP: usize = 50;

fn main() -> io::Result<ExitCode> {
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(helper) = env::var_os("VPN_AUTH_STATIC").map(PathBuf::from) else {
        writeln!(
            io::stderr(),
            "VPN_AUTH_STATIC must name the static helper: see benches/exec.rs"
        )?;
        return Ok(ExitCode::from(2));
    };
    let rounds = match env::var("VPN_AUTH_ROUNDS") {
        Ok(text) => text.parse().map_err(io::Error::other)?,
        Err(_) => 2000,
    };
    let directory = tempfile::tempdir()?;
    let noop = compile_noop(directory.path())?;
    let socket = directory.path().join("ipc.sock");
    serve(UnixListener::bind(&socket)?)?;
    let wrapper = write_wrapper(directory.path(), &helper, &socket)?;

    let flags = ["--socket".as_ref(), socket.as_os_str()];
    let mut commands = [Command::new(&noop), Command::new(&helper), Command::new(&wrapper)];
    for (index, command) in commands.iter_mut().enumerate() {
        // The wrapper has its own flags; the no-op gets those of the helper.
        command.args(if index < 2 { &flags[..] } else { &[] });
        login(command);
    }
    let [floor, helper_time, wrapper_time] = measure(&mut commands, rounds)?;
    report(
        rounds,
        floor,
        helper_time,
        wrapper_time,
        fs::metadata(&helper)?.len(),
    )
}

fn report(
    rounds: usize,
    floor: Duration,
    helper: Duration,
    wrapper: Duration,
    bytes: u64,
) -> io::Result<ExitCode> {
    let ratio = helper.as_secs_f64() / floor.as_secs_f64();
    let mut failed = false;
    let mut verdict = |good: bool| {
        failed |= !good;
        if good { "PASS" } else { "FAIL" }
    };
    let milliseconds = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
    let rows = [
        (
            "static no-op, exec to exit",
            milliseconds(floor),
            String::new(),
            "",
        ),
        (
            "vpn-auth with a decision, exec to exit",
            milliseconds(helper),
            String::new(),
            "",
        ),
        (
            "vpn-auth over no-op",
            format!("{ratio:.2}"),
            format!("<= {MAX_RATIO}"),
            verdict(ratio <= MAX_RATIO),
        ),
        (
            "the wrapper script's share",
            milliseconds(wrapper.saturating_sub(helper)),
            String::new(),
            "",
        ),
        (
            "static vpn-auth, size",
            format!("{:.0} kB", bytes as f64 / 1e3),
            format!("<= {:.0} kB", MAX_BYTES as f64 / 1e3),
            verdict(bytes <= MAX_BYTES),
        ),
    ];
    let mut out = io::stdout().lock();
    writeln!(out, "vpn-auth: medians of {rounds} rounds")?;
    for (name, value, limit, verdict) in rows {
        writeln!(out, "  {name:<40} {value:>10}  {limit:<10} {verdict}")?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// Returns the median of each command, spawned in turn; every round starts with another one.
fn measure(commands: &mut [Command; 3], rounds: usize) -> io::Result<[Duration; 3]> {
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds + WARM_UP {
        for turn in 0..commands.len() {
            let index = (round + turn) % commands.len();
            let start = Instant::now();
            let status = commands[index].status()?;
            let time = start.elapsed();
            if !status.success() {
                return Err(io::Error::other(format!(
                    "{:?} ended with {status}",
                    commands[index]
                )));
            }
            if round >= WARM_UP {
                times[index].push(time);
            }
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }))
}

/// The environment of a recorded login.
fn login(command: &mut Command) {
    let recorded = include_str!("../tests/fixtures/1.1.6/connect.env");
    command
        .env_clear()
        .envs(recorded.lines().filter_map(|line| line.split_once('=')))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
}

/// Starts a stub agent that allows every login until the process ends.
fn serve(listener: UnixListener) -> io::Result<()> {
    let allow = Response {
        source: Some("cache".into()),
        ..Response::new(true)
    };
    let response = allow.to_frame().map_err(io::Error::other)?;
    thread::spawn(move || -> io::Result<()> {
        let mut buffer = [0; 8192];
        loop {
            let (mut peer, _) = listener.accept()?;
            let mut decoder = FrameDecoder::new();
            while let read @ 1.. = peer.read(&mut buffer)? {
                if decoder.push(&buffer[..read]).map_err(io::Error::other)?.is_some() {
                    peer.write_all(&response)?;
                    break;
                }
            }
        }
    });
    Ok(())
}

/// Compiles `noop.rs` as the helper is compiled.
fn compile_noop(directory: &Path) -> io::Result<PathBuf> {
    let program = directory.join("noop");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition",
        "2024",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "opt-level=s",
        "-C",
        "lto=fat",
    ]);
    rustc.args([
        "-C",
        "codegen-units=1",
        "-C",
        "panic=abort",
        "-C",
        "strip=symbols",
    ]);
    if let Some(target) = env::var_os("VPN_AUTH_TARGET") {
        rustc.arg("--target").arg(target);
    }
    rustc
        .arg("-o")
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/noop.rs"));
    if !rustc.status()?.success() {
        return Err(io::Error::other("rustc could not compile benches/noop.rs"));
    }
    Ok(program)
}

/// Writes the shipped wrapper with this helper and this socket.
fn write_wrapper(directory: &Path, helper: &Path, socket: &Path) -> io::Result<PathBuf> {
    let shipped = include_str!("../../../deploy/connect-script");
    let text = shipped
        .replace("/usr/bin/vpn-auth", &helper.to_string_lossy())
        .replace("/run/ocserv-agent/ipc.sock", &socket.to_string_lossy());
    let path = directory.join("connect-script");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
