//! The end.

use super::*;

#[tokio::test]
async fn a_stop_answers_every_login_that_has_come() {
    let (decide, open, mut waiting) = gated();
    let lab = lab(Setup {
        decide,
        ..Setup::default()
    });
    let mut pending = Vec::new();
    for n in 1..=20 {
        let mut stream = UnixStream::connect(&lab.path).await.unwrap();
        stream
            .write_all(&request("connect", "alice", n).to_frame().unwrap())
            .await
            .unwrap();
        pending.push(stream);
    }
    waiting.wait_for(|came| *came == 20).await.unwrap();
    lab.stop.cancel();
    until(|| !lab.path.exists()).await;
    assert!(
        UnixStream::connect(&lab.path).await.is_err(),
        "nobody new comes in"
    );
    assert!(!lab.served.is_finished());
    open.send_replace(true);
    for mut stream in pending {
        assert!(response(&hear(&mut stream).await).allowed);
    }
    until(|| lab.told().len() == 20).await;
    lab.drained().await;
}

#[tokio::test]
async fn a_login_that_waits_to_be_accepted_when_the_stop_comes_is_answered() {
    let lab = lab(Setup::default());
    lab.stop.cancel();
    // The server has not run yet: this test has not given the processor away since it was made.
    let frame = request("connect", "alice", 7).to_frame().unwrap();
    let mut queued: Vec<_> = (0..20)
        .map(|_| std::os::unix::net::UnixStream::connect(&lab.path).unwrap())
        .collect();
    for stream in &mut queued {
        io::Write::write_all(stream, &frame).unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    for stream in queued {
        let mut stream = UnixStream::from_std(stream).unwrap();
        assert!(response(&hear(&mut stream).await).allowed);
    }
    lab.drained().await;
}
