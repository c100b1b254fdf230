//! Network namespaces: the nodes of a lab, the links between them, sockets and programs in them.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::error::LabError;
use super::requirements::required;

/// A host in the lab's network. Each has a network namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// Runs ocserv and the agent.
    Server,
    /// Runs the portal.
    Portal,
    /// Runs clients, on one of the lab's client networks, counted from 0.
    Client(u8),
}

impl Node {
    fn suffix(self) -> String {
        match self {
            Self::Server => "s".to_owned(),
            Self::Portal => "p".to_owned(),
            Self::Client(n) => format!("c{n}"),
        }
    }

    /// Returns the name of the interface of the link between the server and this node, at both
    /// ends.
    fn interface(self) -> String {
        match self {
            Self::Server => "lo".to_owned(),
            Self::Portal => "portal".to_owned(),
            Self::Client(n) => format!("client{n}"),
        }
    }

    /// Returns the prefixes of the addresses on the link between the server and this node.
    fn prefixes(self) -> (String, String) {
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

    /// Creates the namespaces and the links from the server to each of the others.
    pub(crate) fn build(&self) -> Result<(), LabError> {
        let server = self.name(Node::Server);
        let mut all = format!("netns add {server}\n");
        let mut at_server = "link set lo up\n".to_owned();
        for node in self.outer() {
            let name = self.name(node);
            let interface = node.interface();
            all.push_str(&format!(
                "netns add {name}\nlink add {interface} netns {server} type veth peer name {interface} netns {name}\n"
            ));
            at_server.push_str(&ends(node, 1));
        }
        self.batch(None, &all)?;
        self.batch(Some(Node::Server), &at_server)?;
        for node in self.outer() {
            self.batch(Some(node), &format!("link set lo up\n{}", ends(node, 2)))?;
        }
        Ok(())
    }

    /// Lists the names of its namespaces.
    pub(crate) fn names(&self) -> Vec<String> {
        std::iter::once(Node::Server)
            .chain(self.outer())
            .map(|node| self.name(node))
            .collect()
    }

    fn outer(&self) -> impl Iterator<Item = Node> + use<> {
        std::iter::once(Node::Portal).chain((0..self.clients).map(Node::Client))
    }

    /// Returns the name of a node's namespace.
    pub(crate) fn name(&self, node: Node) -> String {
        format!("{}{}", self.lab, node.suffix())
    }

    /// Returns a command that runs a program on a node.
    pub(crate) fn command(&self, node: Node, program: &Path) -> Command {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.name(node)]).arg(program);
        command
    }

    /// Drops all packets between the server and a node, or stops doing so.
    ///
    /// Both ends filter both directions: a packet is lost as long as one of four rules holds.
    pub(crate) fn partition(&self, node: Node, partitioned: bool) -> Result<(), LabError> {
        let verb = if partitioned { "-I" } else { "-D" };
        let interface = node.interface();
        for end in [Node::Server, node] {
            for program in ["iptables", "ip6tables"] {
                for (chain, side) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
                    let mut command = self.command(end, &required("iptables")?.with_file_name(program));
                    run(
                        command.args(["-w", verb, chain, side, &interface, "-j", "DROP"]),
                        "",
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Takes a node's link down or up.
    pub(crate) fn link(&self, node: Node, up: bool) -> Result<(), LabError> {
        let interface = node.interface();
        let lines = if up {
            // The kernel removes IPv6 addresses with the link and keeps IPv4 addresses.
            format!(
                "link set {interface} up\naddr replace {}/64 dev {interface} nodad\n",
                address(node, 2, true)
            )
        } else {
            format!("link set {interface} down\n")
        };
        self.batch(Some(node), &lines)
    }

    fn batch(&self, node: Option<Node>, lines: &str) -> Result<(), LabError> {
        let mut command = Command::new(&self.ip);
        if let Some(node) = node {
            command.args(["-n", &self.name(node)]);
        }
        run(command.args(["-batch", "-"]), lines).map(drop)
    }

    /// Runs a closure on a thread that has entered a node's namespace; its sockets belong there.
    pub(crate) fn inside<T: Send>(
        &self,
        node: Node,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let path = Path::new(DIRECTORY).join(self.name(node));
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

    pub(crate) fn bind_tcp(&self, node: Node, address: SocketAddr) -> io::Result<TcpListener> {
        self.inside(node, || TcpListener::bind(address))
    }

    pub(crate) fn connect_tcp(
        &self,
        node: Node,
        address: SocketAddr,
        bound: Duration,
    ) -> io::Result<TcpStream> {
        self.inside(node, || TcpStream::connect_timeout(&address, bound))
    }

    /// Returns the server's address on the link to a node.
    pub(crate) fn server_address(node: Node, ipv6: bool) -> String {
        address(node, 1, ipv6)
    }
}

fn address(node: Node, end: u8, ipv6: bool) -> String {
    let (four, six) = node.prefixes();
    if ipv6 {
        format!("{six}{end}")
    } else {
        format!("{four}.{end}")
    }
}

/// Returns the commands that set up one end of a link.
fn ends(node: Node, end: u8) -> String {
    let interface = node.interface();
    let (four, six) = (address(node, end, false), address(node, end, true));
    format!(
        "addr add {four}/24 dev {interface}\naddr add {six}/64 dev {interface} nodad\nlink set {interface} up\n"
    )
}

/// The directory where `ip netns` keeps the names.
pub(crate) const DIRECTORY: &str = "/run/netns";

/// Lists the processes in a namespace.
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

/// Deletes a namespace; its interfaces are removed with its last process.
pub(crate) fn delete(namespace: &str) {
    if let Ok(ip) = required("ip") {
        let _ = Command::new(ip)
            .args(["netns", "del", namespace])
            .stderr(Stdio::null())
            .status();
    }
}

/// Runs a program to its end and returns its output.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, LabError> {
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(LabError::io(format!("run {line}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says why on its error output.
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
