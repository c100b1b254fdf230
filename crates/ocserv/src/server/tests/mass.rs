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
async fn a_session_that_gets_an_id_while_its_disconnect_waits_stays_connected() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, ocserv) = ocserv(dir.path(), Release::V1_4_2);
    let session = ocserv.sessions().await.unwrap().remove(0);
    let successor = FakeSession {
        id: session.id.get(),
        ..bob()
    };
    let earlier = async {
        join_all((0..10).map(|_| ocserv.disconnects.turn())).await;
        fake.set_sessions(vec![successor.clone()]);
    };
    let disconnect = async {
        match ocserv.confirm(&session).await.unwrap() {
            Some(confirmed) => ocserv.disconnect(&confirmed).await.unwrap(),
            None => false,
        }
    };
    let ((), disconnected) = tokio::join!(earlier, disconnect);
    assert!(!disconnected);
    assert_eq!(fake.sessions(), [successor]);
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
    let disconnects = listed.iter().map(async |session| {
        let confirmed = ocserv.confirm(session).await?.unwrap();
        ocserv.disconnect(&confirmed).await
    });
    let disconnects = join_all(disconnects).await;
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
