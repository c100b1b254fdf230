//! Lists the sessions of a running ocserv: `sessions [SOCKET]`, as root.

use std::path::PathBuf;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), occtl::ControlError> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("/run/occtl.socket"), PathBuf::from);
    let socket = occtl::ControlSocket::new(path, Duration::from_secs(2));

    let status = socket.status().await?;
    println!(
        "ocserv {:?}, {:?} connections",
        status.main_pid, status.connections
    );
    for session in socket.list().await? {
        println!(
            "{:>8} {:<12} {:<16} {:?} {:?}",
            session.id,
            session.username.as_deref().unwrap_or("-"),
            session
                .client_ip
                .map_or_else(|| "-".to_owned(), |address| address.to_string()),
            session.vpn_ipv4,
            session.state,
        );
    }
    Ok(())
}
