//! The lab itself, on real ocserv. Needs root.

use std::fs;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use testkit::fake_control::{FakeControl, FakeSession, Release};
use testkit::lab::{ConnectOptions, Lab, Node, OcservVersion, Script, ocserv_version};
use testkit::portal_double::PortalDouble;
use testkit::wait::{self, BOUND};

#[test]
fn a_user_connects_to_an_ocserv_without_a_connect_script() {
    let lab = Lab::builder("no-agent").users(&["alice"]).start().unwrap();
    let alice = lab.server().connect("alice").unwrap();

    let rows = lab.wait_for_sessions("alice", 1).unwrap();
    assert_eq!(rows[0].vpn_ip, Some(alice.vpn_ip()));
    assert_eq!(rows[0].client_ip, Some("10.77.0.2".parse().unwrap()));

    alice.disconnect(BOUND).unwrap();
    lab.wait_for_sessions("alice", 0).unwrap();
}

#[test]
fn a_wrong_password_is_not_reported_as_a_denied_session() {
    let lab = Lab::builder("wrong-password").users(&["alice"]).start().unwrap();
    let rejected = lab.server().connect("nobody").unwrap_err();
    assert!(!rejected.is_session_denied(), "{rejected}");
}

#[test]
fn a_script_that_denies_shows_as_a_rejected_cookie() {
    let script = Script::Text("#!/bin/sh\n[ \"$USERNAME\" = alice ]\n".to_owned());
    let lab = Lab::builder("script")
        .users(&["alice", "mallory"])
        .script(script)
        .start()
        .unwrap();
    let _alice = lab.server().connect("alice").unwrap();
    let rejected = lab.server().connect("mallory").unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    lab.wait_for_sessions("mallory", 0).unwrap();
}

#[test]
fn two_labs_run_at_once_independently() {
    let one = Lab::builder("one").users(&["alice"]).start().unwrap();
    let two = Lab::builder("two").users(&["bob"]).start().unwrap();
    let _alice = one.server().connect("alice").unwrap();
    let _bob = two.server().connect("bob").unwrap();
    one.wait_for_sessions("alice", 1).unwrap();
    two.wait_for_sessions("bob", 1).unwrap();
    assert!(one.sessions_of("bob").unwrap().is_empty());
    drop(one);
    two.wait_for_sessions("bob", 1).unwrap();
}

#[test]
fn a_panic_leaves_no_namespace_no_process_and_the_logs() {
    let mut namespaces = Vec::new();
    let mut pids = Vec::new();
    let mut directory = PathBuf::new();
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::builder("panic").users(&["alice"]).start().unwrap();
        let alice = lab.server().connect("alice").unwrap();
        namespaces = lab.namespaces();
        directory = lab.directory().to_owned();
        pids = vec![lab.server().process().unwrap().pid(), alice.pid()];
        pids.extend(
            lab.rows()
                .unwrap()
                .iter()
                .map(|row| i32::try_from(row.id).unwrap()),
        );
        assert!(pids.iter().all(|&pid| is_alive(pid)));
        panic!("expected by the test");
    }));
    assert!(result.is_err());
    assert_eq!((namespaces.len(), pids.len()), (3, 3));
    for namespace in namespaces {
        assert!(
            !Path::new("/run/netns").join(&namespace).exists(),
            "{namespace} still exists"
        );
    }
    wait::until("exit of all processes", BOUND, || {
        (!pids.iter().any(|&pid| is_alive(pid))).then_some(())
    })
    .unwrap();
    assert!(directory.join("ocserv.0.log").is_file());
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_lab_that_ends_without_a_panic_leaves_no_files() {
    let lab = Lab::builder("files").start().unwrap();
    let directory = lab.directory().to_owned();
    assert!(directory.join("ocserv.conf").is_file());
    drop(lab);
    assert!(std::env::var_os("OCSERV_AGENT_KEEP").is_some() || !directory.exists());
}

#[test]
fn restricted_users_reach_their_routes_only_and_the_script_runs_after_the_firewall() {
    let script = Script::Text("#!/bin/sh\necho \"$REASON\" >>@DIR@/ran\n".to_owned());
    let lab = Lab::builder("restricted")
        .users(&["alice"])
        .script(script)
        .server(|server| {
            server.restrict_user_to_routes = true;
            server.routes = vec!["10.99.0.0/16".to_owned()];
        })
        .start()
        .unwrap();
    let options = ConnectOptions {
        tunnel: true,
        ..Default::default()
    };
    let alice = lab.server().connect_with("alice", &options).unwrap();
    let ran = || fs::read_to_string(lab.directory().join("ran")).unwrap();
    assert_eq!(ran(), "connect\n");

    // Two networks behind the server, of which the client may reach one.
    let run = |node, commands: &str| {
        let status = lab.command(node, "sh").args(["-ec", commands]).status();
        assert!(status.unwrap().success(), "{commands}");
    };
    run(
        Node::Portal,
        "ip address add 10.99.0.1 dev lo; ip address add 10.98.0.1 dev lo; ip route add 10.88.0.0/16 via 10.78.0.1",
    );
    run(
        Node::Server,
        "echo 1 >/proc/sys/net/ipv4/ip_forward; ip route add 10.98.0.0/15 via 10.78.0.2",
    );
    let in_tunnel = || {
        let route = format!("ip route add 10.98.0.0/16 dev {}", alice.device());
        let status = lab.command(Node::Client(0), "sh").args(["-c", &route]).status();
        status.unwrap().success().then_some(())
    };
    wait::until("tunnel", BOUND, in_tunnel).unwrap();
    let [allowed, denied]: [SocketAddr; 2] =
        ["10.99.0.1", "10.98.0.1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), 7));
    let _listeners = [allowed, denied].map(|address| {
        let listener = lab.bind_tcp(Node::Portal, address).unwrap();
        lab.connect_tcp(Node::Server, address).unwrap();
        listener
    });
    wait::until("route through the tunnel", BOUND, || {
        lab.connect_tcp(Node::Client(0), allowed).ok()
    })
    .unwrap();
    assert!(lab.connect_tcp(Node::Client(0), denied).is_err());

    alice.disconnect(BOUND).unwrap();
    wait::until("disconnect-script", BOUND, || {
        (ran() == "connect\ndisconnect\n").then_some(())
    })
    .unwrap();
}

#[test]
fn a_partition_drops_packets_without_a_reset_and_heals() {
    let lab = Lab::builder("partition").start().unwrap();
    let address: SocketAddr = "10.78.0.2:9444".parse().unwrap();
    let listener = lab.bind_tcp(Node::Portal, address).unwrap();
    let reach = || lab.connect_tcp(Node::Server, address);
    reach().unwrap();

    lab.partition(Node::Portal).unwrap();
    assert_eq!(reach().unwrap_err().kind(), std::io::ErrorKind::TimedOut);

    lab.heal(Node::Portal).unwrap();
    reach().unwrap();
    drop(listener);
    assert_eq!(reach().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_link_that_is_down_stops_a_client_until_it_is_up() {
    let lab = Lab::builder("link").client_networks(2).start().unwrap();
    let addresses: [SocketAddr; 2] = [
        "10.77.1.1:443".parse().unwrap(),
        "[fd77:1::1]:443".parse().unwrap(),
    ];
    let reach = |address| lab.connect_tcp(Node::Client(1), address).is_ok();
    assert!(addresses.into_iter().all(reach));
    lab.set_link(Node::Client(1), false).unwrap();
    assert!(!addresses.into_iter().any(reach));
    assert!(
        lab.connect_tcp(Node::Client(0), "10.77.0.1:443".parse().unwrap())
            .is_ok()
    );
    lab.set_link(Node::Client(1), true).unwrap();
    assert!(addresses.into_iter().all(reach));
}

#[test]
fn traffic_flows_through_the_tunnel_when_asked_for() {
    let lab = Lab::builder("tunnel").users(&["alice"]).start().unwrap();
    let options = ConnectOptions {
        tunnel: true,
        ..Default::default()
    };
    let alice = lab.server().connect_with("alice", &options).unwrap();
    let address = SocketAddr::new(alice.vpn_ip(), 7);
    let listener = wait::until("client's address", BOUND, || {
        lab.bind_tcp(Node::Client(0), address).ok()
    });
    let accepted = thread::spawn(move || listener.unwrap().accept().unwrap().1);
    lab.connect_tcp(Node::Server, address).unwrap();
    assert_eq!(
        accepted.join().unwrap().ip(),
        "10.88.0.1".parse::<std::net::IpAddr>().unwrap()
    );
}

#[test]
fn clients_connect_from_their_own_networks_and_over_ipv6() {
    let lab = Lab::builder("networks")
        .users(&["alice"])
        .client_networks(2)
        .server(|server| server.ipv6 = true)
        .start()
        .unwrap();
    let options = ConnectOptions {
        network: 1,
        over_ipv6: true,
        ..Default::default()
    };
    let _client = lab.server().connect_with("alice", &options).unwrap();
    let rows = lab.wait_for_sessions("alice", 1).unwrap();
    assert_eq!(rows[0].client_ip, Some("fd77:1::2".parse().unwrap()));
}

#[test]
fn ocserv_starts_again_after_a_stop_and_after_a_kill() {
    let lab = Lab::builder("restart").users(&["alice"]).start().unwrap();
    let _alice = lab.server().connect("alice").unwrap();
    lab.server().stop().unwrap();
    lab.server().start().unwrap();
    let _again = lab.server().connect("alice").unwrap();
    lab.server().kill();
    lab.server().start().unwrap();
    let _once_more = lab.server().connect("alice").unwrap();
}

#[test]
fn a_hundred_clients_connect_at_once() {
    let lab = Lab::builder("hundred").numbered_users(100).start().unwrap();
    let start = Instant::now();
    let clients = lab.server().connect_many(100);
    eprintln!("100 clients in {:?}", start.elapsed());
    for client in &clients {
        assert!(client.is_ok(), "{}", client.as_ref().unwrap_err());
    }
    let connected = lab
        .rows()
        .unwrap()
        .iter()
        .filter(|row| row.is_connected())
        .count();
    assert_eq!(connected, 100);
}

#[test]
fn what_a_killed_test_process_left_is_removed() {
    // As left by a killed process: a namespace with a process in it, and no lock.
    let name = "oa4194305-0s";
    let ip = |words: &[&str]| Command::new("ip").args(words).status().unwrap();
    assert!(ip(&["netns", "add", name]).success());
    let mut orphan = Command::new("ip")
        .args(["netns", "exec", name, "sleep", "600"])
        .spawn()
        .unwrap();
    wait::until("process in the namespace", BOUND, || {
        let pids = Command::new("ip").args(["netns", "pids", name]).output().unwrap();
        (!pids.stdout.is_empty()).then_some(())
    })
    .unwrap();
    let lab = Lab::builder("stale").start().unwrap();
    assert!(!Path::new("/run/netns").join(name).exists());
    wait::until("exit of the orphan", Duration::from_secs(5), || {
        orphan.try_wait().unwrap()
    })
    .unwrap();
    drop(lab);
}

#[test]
fn the_real_occtl_accepts_the_fake_control_socket() {
    let directory = tempfile::TempDir::new().unwrap();
    let fake = FakeControl::start(&directory.path().join("occtl.sock")).unwrap();
    let OcservVersion(major, minor, patch) = ocserv_version().unwrap();
    fake.restart_as(Release::of(major, minor, patch));
    fake.set_sessions(vec![
        FakeSession::connected(7, "alice"),
        FakeSession::before_login(8),
    ]);
    let occtl = |words: &[&str]| {
        let output = Command::new("occtl")
            .arg("-s")
            .arg(fake.path())
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let users: serde_json::Value = serde_json::from_str(&occtl(&["-j", "show", "users"])).unwrap();
    assert_eq!(
        (&users[0]["ID"], &users[0]["Username"]),
        (&7.into(), &"alice".into())
    );
    assert_eq!(users[0]["State"], "connected");
    assert_eq!(users[0]["Full session"], "YjSoCE/CKYwbaWcIhDLOxAWCfEE=");
    assert_eq!(
        (&users[1]["Username"], &users[1]["State"]),
        (&"(none)".into(), &"pre-auth".into())
    );
    assert!(occtl(&["show", "status"]).contains("Status: online"));
    assert!(occtl(&["disconnect", "user", "alice"]).contains("was disconnected"));
    assert!(fake.sessions().iter().all(|session| session.username != b"alice"));
}

#[test]
fn a_portal_double_listens_at_the_address_of_the_portal() {
    let lab = Lab::builder("double").start().unwrap();
    let portal = PortalDouble::in_lab(&lab, &lab.pki().portal().unwrap()).unwrap();
    assert_eq!(portal.uri(), "https://10.78.0.2:9444");
    let reach = || lab.connect_tcp(Node::Server, portal.address());
    reach().unwrap();
    portal.stop();
    assert_eq!(reach().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    portal.resume().unwrap();
    reach().unwrap();
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim_start().starts_with('Z'))
    })
}
