//! Network namespaces: the places of a lab, the wires between them, sockets and programs inside them.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::LabError;
use super::requirements::required;

/// Where something of a lab stands. Each place is a network namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// ocserv and the agent.
    Server,
    /// The portal.
    Portal,
    /// Clients, on one of the lab's client networks, counted from 0.
    Client(u8),
}

impl Place {
    fn suffix(self) -> String {
        match self {
            Self::Server => "s".to_owned(),
            Self::Portal => "p".to_owned(),
            Self::Client(n) => format!("c{n}"),
        }
    }

    /// The interface of the wire that ends here; the server has one for each of the others.
    fn wire(self) -> String {
        match self {
            Self::Server => "lo".to_owned(),
            Self::Portal => "portal".to_owned(),
            Self::Client(n) => format!("client{n}"),
        }
    }

    /// The first part of the addresses of the wire between the server and this place.
    fn network(self) -> (String, String) {
        match self {
            Self::Server => ("127.0.0".to_owned(), String::new()),
            Self::Portal => ("10.78.0".to_owned(), "fd78::".to_owned()),
            Self::Client(n) => (format!("10.77.{n}"), format!("fd77:{n:x}::")),
        }
    }
}

/// The namespaces of one lab.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    lab: String,
    clients: u8,
    ip: PathBuf,
}

impl Network {
    pub(crate) fn new(lab: &str, clients: u8) -> Result<Self, LabError> {
        Ok(Self {
            lab: lab.to_owned(),
            clients,
            ip: required("ip")?,
        })
    }

    /// Makes the namespaces and the wires from the server to each of the others.
    pub(crate) fn build(&self) -> Result<(), LabError> {
        let server = self.name(Place::Server);
        let mut all = format!("netns add {server}\n");
        let mut at_server = "link set lo up\n".to_owned();
        for place in self.outer() {
            let name = self.name(place);
            let wire = place.wire();
            all.push_str(&format!(
                "netns add {name}\nlink add {wire} netns {server} type veth peer name {wire} netns {name}\n"
            ));
            at_server.push_str(&ends(place, 1));
        }
        self.batch(None, &all)?;
        self.batch(Some(Place::Server), &at_server)?;
        for place in self.outer() {
            self.batch(Some(place), &format!("link set lo up\n{}", ends(place, 2)))?;
        }
        Ok(())
    }

    /// The names of all its namespaces.
    pub(crate) fn names(&self) -> Vec<String> {
        std::iter::once(Place::Server)
            .chain(self.outer())
            .map(|place| self.name(place))
            .collect()
    }

    fn outer(&self) -> impl Iterator<Item = Place> + use<> {
        std::iter::once(Place::Portal).chain((0..self.clients).map(Place::Client))
    }

    /// The name of the namespace.
    pub(crate) fn name(&self, place: Place) -> String {
        format!("{}{}", self.lab, place.suffix())
    }

    /// A command that runs `program` at a place.
    pub(crate) fn command(&self, place: Place, program: &Path) -> Command {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.name(place)]).arg(program);
        command
    }

    /// Cuts the wire between the server and a place: packets get lost and nobody is told.
    pub(crate) fn cut(&self, place: Place) -> Result<(), LabError> {
        self.filter(place, "-I")
    }

    /// Mends the wire.
    pub(crate) fn mend(&self, place: Place) -> Result<(), LabError> {
        self.filter(place, "-D")
    }

    fn filter(&self, place: Place, verb: &str) -> Result<(), LabError> {
        let wire = place.wire();
        for program in ["iptables", "ip6tables"] {
            for (chain, side) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
                let mut command = self.command(place, &required("iptables")?.with_file_name(program));
                run(command.args(["-w", verb, chain, side, &wire, "-j", "DROP"]), "")?;
            }
        }
        Ok(())
    }

    /// Takes the link of a place down or up, as pulling its plug does.
    pub(crate) fn link(&self, place: Place, up: bool) -> Result<(), LabError> {
        let wire = place.wire();
        let lines = if up {
            // The kernel takes IPv6 addresses away with the link, and leaves IPv4 addresses.
            format!(
                "link set {wire} up\naddr replace {}/64 dev {wire} nodad\n",
                address(place, 2, true)
            )
        } else {
            format!("link set {wire} down\n")
        };
        self.batch(Some(place), &lines)
    }

    fn batch(&self, place: Option<Place>, lines: &str) -> Result<(), LabError> {
        let mut command = Command::new(&self.ip);
        if let Some(place) = place {
            command.args(["-n", &self.name(place)]);
        }
        run(command.args(["-batch", "-"]), lines).map(drop)
    }

    /// Runs a closure on a thread that stands at a place; sockets that it makes stay there.
    pub(crate) fn inside<T: Send>(
        &self,
        place: Place,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let path = Path::new(DIRECTORY).join(self.name(place));
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(File::open(&path)?, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }

    pub(crate) fn bind_tcp(&self, place: Place, address: SocketAddr) -> io::Result<TcpListener> {
        self.inside(place, || TcpListener::bind(address))
    }

    pub(crate) fn connect_tcp(
        &self,
        place: Place,
        address: SocketAddr,
        bound: Duration,
    ) -> io::Result<TcpStream> {
        self.inside(place, || TcpStream::connect_timeout(&address, bound))
    }

    /// The server's address on the wire to a place.
    pub(crate) fn server_address(place: Place, ipv6: bool) -> String {
        address(place, 1, ipv6)
    }
}

fn address(place: Place, end: u8, ipv6: bool) -> String {
    let (four, six) = place.network();
    if ipv6 {
        format!("{six}{end}")
    } else {
        format!("{four}.{end}")
    }
}

/// The commands that set up one end of a wire.
fn ends(place: Place, end: u8) -> String {
    let wire = place.wire();
    let (four, six) = (address(place, end, false), address(place, end, true));
    format!("addr add {four}/24 dev {wire}\naddr add {six}/64 dev {wire} nodad\nlink set {wire} up\n")
}

/// Where `ip netns` keeps the names.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// The processes in a namespace.
pub(crate) fn processes(namespace: &str) -> Vec<i32> {
    let Ok(ip) = required("ip") else { return Vec::new() };
    let Ok(output) = Command::new(ip).args(["netns", "pids", namespace]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

/// Deletes a namespace; its interfaces go with it when the last process has left.
pub(crate) fn delete(namespace: &str) {
    if let Ok(ip) = required("ip") {
        let _ = Command::new(ip)
            .args(["netns", "del", namespace])
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs a short program to its end and returns what it printed.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, LabError> {
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(LabError::io(format!("run {line}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input says why on its error output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(LabError::io(format!("run {line}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let output = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(LabError::Command {
        command: line,
        output,
    })
}
