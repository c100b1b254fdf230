use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::registry::{Kind, MetricSpec};

const LIVE: MetricSpec = MetricSpec {
    name: "t_live",
    kind: Kind::Gauge,
    labels: &[],
    help: "Live sessions.",
};

struct Server {
    address: SocketAddr,
    readiness: Arc<Mutex<Readiness>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

async fn server() -> Server {
    let registry = Arc::new(Registry::new(&[LIVE]).unwrap());
    let live = registry.gauge(&LIVE, &[]);
    let readiness = Arc::new(Mutex::new(Readiness::Ready));
    let present = Arc::clone(&readiness);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoints = Endpoints {
        registry,
        refresh: Box::new(move || live.increment(1.0)),
        stalled: Box::new(|| None),
        readiness: Box::new(move || present.lock().unwrap().clone()),
    };
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    tracker.spawn(serve(listener, endpoints, tracker.clone(), stop.clone()));
    Server {
        address,
        readiness,
        tracker,
        stop,
    }
}

async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn metrics_are_refreshed_before_each_rendering() {
    let server = server().await;
    assert!(
        send(server.address, "GET /metrics")
            .await
            .contains("\nt_live 1\n")
    );
    assert!(
        send(server.address, "GET /metrics")
            .await
            .contains("\nt_live 2\n")
    );
}

#[tokio::test]
async fn a_process_that_is_degraded_or_not_ready_gives_the_reason_and_is_alive() {
    let server = server().await;
    for (readiness, body) in [
        (Readiness::Ready, "\r\n\r\nready\n"),
        (
            Readiness::Degraded("the disk".to_owned()),
            "ready, degraded: the disk\n",
        ),
    ] {
        *server.readiness.lock().unwrap() = readiness;
        let response = send(server.address, "GET /readyz").await;
        assert!(
            response.starts_with("HTTP/1.1 200 ") && response.ends_with(body),
            "{response}"
        );
    }
    *server.readiness.lock().unwrap() = Readiness::NotReady("draining".to_owned());
    let response = send(server.address, "GET /readyz").await;
    assert!(
        response.starts_with("HTTP/1.1 503 ") && response.ends_with("not ready: draining\n"),
        "{response}"
    );
    assert!(
        send(server.address, "GET /livez")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_errors() {
    let server = server().await;
    assert!(send(server.address, "GET /").await.starts_with("HTTP/1.1 404 "));
    assert!(
        send(server.address, "POST /metrics")
            .await
            .starts_with("HTTP/1.1 405 ")
    );
}

#[tokio::test]
async fn idle_connections_do_not_delay_shutdown() {
    let server = server().await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 8 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    server.stop.cancel();
    server.tracker.close();
    tokio::time::timeout(Duration::from_secs(10), server.tracker.wait())
        .await
        .unwrap();
}
