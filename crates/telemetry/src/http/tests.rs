use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::registry::{Declared, Kind};

const LIVE: Declared = Declared {
    name: "t_live",
    kind: Kind::Gauge,
    labels: &[],
    help: "Live sessions.",
};

struct Served {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

async fn served() -> Served {
    let registry = Arc::new(Registry::new(&[LIVE]).unwrap());
    let live = registry.gauge(&LIVE, &[]);
    let ready = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&ready);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pages = Pages {
        registry,
        refresh: Box::new(move || live.increment(1.0)),
        readiness: Box::new(move || match asked.load(Ordering::SeqCst) {
            true => Readiness::Ready,
            false => Readiness::NotReady("draining".into()),
        }),
    };
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    serve(listener, pages, &tracker, stop.clone());
    Served {
        address,
        ready,
        tracker,
        stop,
    }
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_are_refreshed_before_each_rendering() {
    let served = served().await;
    assert!(ask(served.address, "GET /metrics").await.contains("\nt_live 1\n"));
    assert!(ask(served.address, "GET /metrics").await.contains("\nt_live 2\n"));
}

#[tokio::test]
async fn readiness_says_why_not_while_liveness_stays() {
    let served = served().await;
    assert!(
        ask(served.address, "GET /readyz")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    served.ready.store(false, Ordering::SeqCst);
    let answer = ask(served.address, "GET /readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("not ready: draining\n"),
        "{answer}"
    );
    assert!(
        ask(served.address, "GET /livez")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let served = served().await;
    assert!(ask(served.address, "GET /").await.starts_with("HTTP/1.1 404 "));
    assert!(
        ask(served.address, "POST /metrics")
            .await
            .starts_with("HTTP/1.1 405 ")
    );
}

#[tokio::test]
async fn peers_that_send_nothing_do_not_keep_a_stop_waiting() {
    let served = served().await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 8 {
        idle.push(TcpStream::connect(served.address).await.unwrap());
    }
    served.stop.cancel();
    served.tracker.close();
    tokio::time::timeout(Duration::from_secs(10), served.tracker.wait())
        .await
        .unwrap();
}
