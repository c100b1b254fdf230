//! Many sessions that are disconnected at once.

use std::time::Instant;

use futures_util::future::join_all;

use super::*;

/// Sessions with ids from 1 on, each with a cookie of its own.
fn sessions(count: i32) -> Vec<FakeSession> {
    let session = |id| FakeSession {
        safe_id: format!("{id:027}="),
        ..FakeSession::connected(id, "alice")
    };
    (1..=count).map(session).collect()
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "requests per second of real time")]
async fn a_thousand_disconnects_share_five_lists_a_second_and_are_fifty_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    fake.set_sessions(sessions(1_000));
    fake.set_linger(3);
    let listed = ocserv.sessions().await.unwrap();
    assert_eq!(listed.len(), 1_000);
    let start = Instant::now();
    let confirmed: Vec<_> = listed.into_iter().map(ConfirmedSession).collect();
    let disconnects = join_all(confirmed.iter().map(|session| ocserv.disconnect(session))).await;
    assert!(disconnects.into_iter().all(|disconnected| disconnected.unwrap()));
    let elapsed = start.elapsed().as_secs_f64();
    assert_eq!(fake.count(command::DISCONNECT_ID), 1_000);
    assert_eq!(fake.terminated().len(), 1_000);
    assert!(fake.terminated().iter().all(|login| !login.connected));
    assert!(fake.sessions().is_empty());
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let lists = fake.count(command::LIST) as f64;
    assert!(lists <= elapsed * 5.0 + 2.0, "{lists} lists in {elapsed} s");
    assert!(elapsed >= 999.0 / 50.0, "1,000 disconnects in {elapsed} s");
}
