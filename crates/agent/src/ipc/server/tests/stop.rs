//! Shutdown.

use super::*;

#[tokio::test]
async fn a_shutdown_completes_every_login_in_progress() {
    let (decide, release, mut logins) = allow_when_released();
    let server = serve(Setup {
        decide,
        ..Setup::default()
    });
    let mut in_progress = Vec::new();
    for n in 1..=20 {
        in_progress.push(start_request(&server.path, &request("connect", "alice", n)).await);
    }
    logins.wait_for(|count| *count == 20).await.unwrap();
    server.stop.cancel();
    until(|| !server.path.exists()).await;
    assert!(
        UnixStream::connect(&server.path).await.is_err(),
        "the socket is removed"
    );
    assert!(!server.served.is_finished());
    release.send_replace(true);
    for mut stream in in_progress {
        assert!(response(&read_all(&mut stream).await).allowed);
    }
    until(|| server.events().len() == 20).await;
    server.shut_down().await;
}

#[tokio::test]
async fn a_shutdown_completes_logins_in_the_backlog() {
    let server = serve(Setup::default());
    server.stop.cancel();
    // The server has not run yet: the test has not yielded since it was spawned.
    let frame = request("connect", "alice", 7).to_frame().unwrap();
    let mut queued: Vec<_> = (0..20)
        .map(|_| std::os::unix::net::UnixStream::connect(&server.path).unwrap())
        .collect();
    for stream in &mut queued {
        io::Write::write_all(stream, &frame).unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    for stream in queued {
        let mut stream = UnixStream::from_std(stream).unwrap();
        assert!(response(&read_all(&mut stream).await).allowed);
    }
    server.shut_down().await;
}
