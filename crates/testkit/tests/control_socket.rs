//! Every request of `occtl`, sent to a real ocserv: a double confirms only the form that its author
//! had in mind. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use occtl::{ControlError, ControlSocket, Cookie, LoginState, SafeId};
use testkit::harness::connect_by_cookie;
use testkit::lab::{Lab, OcservVersion, ocserv_version};
use testkit::wait::{BOUND, until};
use tokio::runtime::{Builder, Runtime};

/// The control socket of a lab's ocserv.
struct Control {
    socket: ControlSocket,
    runtime: Runtime,
}

impl Control {
    fn of(lab: &Lab) -> Self {
        Self {
            socket: ControlSocket::new(lab.server().control_socket(), Duration::from_secs(10)),
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    fn ask<T>(&self, request: impl AsyncFnOnce(&ControlSocket) -> T) -> T {
        self.runtime.block_on(request(&self.socket))
    }

    fn cookies_of(&self, user: &str) -> Vec<Cookie> {
        let mut cookies = self.ask(async |socket| socket.cookies().await.unwrap());
        cookies.retain(|cookie| cookie.username.as_deref() == Some(user));
        cookies
    }

    fn safe_id_of(&self, user: &str) -> SafeId {
        let rows = self.ask(async |socket| socket.user(user).await.unwrap());
        rows[0].safe_id.clone().unwrap()
    }
}

fn lab(name: &str) -> Lab {
    Lab::builder(name).users(&["alice", "bob"]).start().unwrap()
}

#[test]
fn status_list_user_id_and_cookies_are_answered() {
    let lab = lab("control-queries");
    let control = Control::of(&lab);
    let (alice, _bob) = (
        lab.server().connect("alice").unwrap(),
        lab.server().connect("bob").unwrap(),
    );
    lab.wait_for_sessions("alice", 1).unwrap();
    lab.wait_for_sessions("bob", 1).unwrap();

    let status = control.ask(async |socket| socket.status().await.unwrap());
    assert_eq!(status.online, Some(true));
    let pid = u32::try_from(lab.server().process().unwrap().pid()).unwrap();
    assert_eq!(status.main_pid, Some(pid));
    assert!(status.started_at.is_some());

    let list = control.ask(async |socket| socket.list().await.unwrap());
    let mut users: Vec<_> = list.iter().filter_map(|row| row.username.clone()).collect();
    users.sort();
    assert_eq!(users, ["alice", "bob"]);

    let rows = control.ask(async |socket| socket.user("alice").await.unwrap());
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].vpn_ipv4.map(Into::into), Some(alice.vpn_ip()));
    assert!(rows[0].is_connected());
    assert!(
        control
            .ask(async |socket| socket.user("nobody").await.unwrap())
            .is_empty()
    );

    let row = control.ask(async |socket| socket.id(rows[0].id).await.unwrap());
    assert_eq!(row.unwrap().username.as_deref(), Some("alice"));
    assert_eq!(
        control.ask(async |socket| socket.id(999_999).await.unwrap()),
        None
    );

    let cookies = control.cookies_of("alice");
    assert_eq!(cookies.len(), 1);
    assert_eq!(cookies[0].safe_id, rows[0].safe_id);
    assert_eq!(cookies[0].state, LoginState::Authenticated);
    assert_eq!(cookies[0].in_use, Some(true));
}

#[test]
fn a_disconnect_by_id_or_name_ends_the_connection_and_its_cookie() {
    let lab = lab("control-disconnect");
    let control = Control::of(&lab);
    for by_name in [false, true] {
        let connect = connect_by_cookie(&lab);
        let client = connect().unwrap();
        lab.wait_for_sessions("alice", 1).unwrap();
        let rows = control.ask(async |socket| socket.user("alice").await.unwrap());
        let disconnect = || {
            control.ask(async |socket| match by_name {
                true => socket.disconnect_user("alice").await.unwrap(),
                false => socket.disconnect_id(rows[0].id).await.unwrap(),
            })
        };
        assert!(disconnect(), "by name: {by_name}");
        client.wait_ended(BOUND).unwrap();
        lab.wait_for_sessions("alice", 0).unwrap();
        assert!(!disconnect(), "by name: {by_name}");
        assert_eq!(control.cookies_of("alice"), [], "by name: {by_name}");
        let rejected = connect().unwrap_err();
        assert!(rejected.is_session_denied(), "{rejected}");
    }
}

#[test]
fn terminate_ends_the_cookie_of_a_killed_client_where_ocserv_supports_it() {
    let lab = lab("control-terminate");
    let control = Control::of(&lab);
    let is_supported = ocserv_version().unwrap() >= OcservVersion(1, 4, 2);
    let supports = control.ask(async |socket| socket.supports_terminate().await.unwrap());
    assert_eq!(supports, is_supported);

    let connect = connect_by_cookie(&lab);
    let client = connect().unwrap();
    lab.wait_for_sessions("alice", 1).unwrap();
    let cookie = control.safe_id_of("alice");
    client.kill();
    lab.wait_for_sessions("alice", 0).unwrap();
    until("the cookie's release", BOUND, || {
        let cookies = control.cookies_of("alice");
        (cookies.first()?.in_use == Some(false)).then_some(())
    })
    .unwrap();
    let terminate = || control.ask(async |socket| socket.terminate_session(&cookie).await);
    if !is_supported {
        assert!(matches!(terminate(), Err(ControlError::Unsupported { .. })));
        connect().unwrap();
        return;
    }
    assert!(terminate().unwrap());
    assert_eq!(control.cookies_of("alice"), []);
    let rejected = connect().unwrap_err();
    assert!(rejected.is_session_denied(), "{rejected}");
    assert!(!terminate().unwrap(), "the cookie is invalid already");
}
