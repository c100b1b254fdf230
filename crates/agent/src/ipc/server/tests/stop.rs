//! Shutdown.

use super::*;

#[tokio::test]
async fn a_shutdown_answers_every_login_in_progress() {
    let (decide, release, mut waiting) = held_back();
    let server = serve(Setup {
        decide,
        ..Setup::default()
    });
    let mut pending = Vec::new();
    for n in 1..=20 {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        stream
            .write_all(&request("connect", "alice", n).to_frame().unwrap())
            .await
            .unwrap();
        pending.push(stream);
    }
    waiting.wait_for(|arrived| *arrived == 20).await.unwrap();
    server.stop.cancel();
    until(|| !server.path.exists()).await;
    assert!(
        UnixStream::connect(&server.path).await.is_err(),
        "the socket is gone"
    );
    assert!(!server.served.is_finished());
    release.send_replace(true);
    for mut stream in pending {
        assert!(response(&read_all(&mut stream).await).allowed);
    }
    until(|| server.reported().len() == 20).await;
    server.shut_down().await;
}

#[tokio::test]
async fn a_login_in_the_backlog_is_answered_in_a_shutdown() {
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
