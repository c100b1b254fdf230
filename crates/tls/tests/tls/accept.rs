//! Peers that the accept loop admits or refuses, and the log line of each.

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tls::accept::{Incoming, Settings};
use tls::{ClientTls, IdentityFiles, ServerTls, explain};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected as _;
use tracing::subscriber::DefaultGuard;

use crate::pki::{Ca, files, write};

/// Timeout of every wait; reached only when a test fails.
const BOUND: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collects what this thread logs from WARN up.
    fn capture() -> (Self, DefaultGuard) {
        // tracing caches per call site whether any subscriber is interested, and a thread without
        // one can disable a call site for all threads: a global subscriber prevents that.
        let _ = tracing::subscriber::set_global_default(
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::WARN)
                .with_writer(io::sink)
                .finish(),
        );
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    async fn wait_for(&self, text: &str) {
        let logged = async {
            while !String::from_utf8_lossy(&self.0.lock().unwrap()).contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(BOUND, logged).await.is_err() {
            let log = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
            panic!("{text:?} was not logged, only: {log}");
        }
    }
}

struct Server {
    address: SocketAddr,
    incoming: Incoming,
    tls: ServerTls,
    files: IdentityFiles,
    token: CancellationToken,
    tracker: TaskTracker,
    _dir: TempDir,
}

async fn server(ca: &Ca, settings: Settings) -> Server {
    let (dir, files) = files(ca, &ca.leaf("localhost"));
    let tls = ServerTls::load(files.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    let (incoming, accept_loop) = Incoming::new(listener, tls.clone(), settings, &tracker, token.clone());
    tracker.spawn(accept_loop);
    Server {
        address,
        incoming,
        tls,
        files,
        token,
        tracker,
        _dir: dir,
    }
}

fn settings() -> Settings {
    Settings {
        max_connections: 8,
        handshake_timeout: BOUND,
    }
}

fn client(trusted: &Ca, issuer: &Ca, name: &str) -> ClientTls {
    let leaf = issuer.leaf(name);
    let (_dir, files) = files(trusted, &leaf);
    ClientTls::load(files).unwrap()
}

async fn dial(address: SocketAddr, tls: &ClientTls) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(tls.current()).connect(name, tcp).await
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.unwrap()
}

/// Reads the reason of a refusal. In TLS 1.3 the client's handshake ends before the server verifies
/// it.
async fn read_refusal(stream: &mut TlsStream<TcpStream>) -> String {
    let mut byte = [0];
    explain(&bounded(stream.read_exact(&mut byte)).await.unwrap_err())
}

#[tokio::test]
async fn peer_of_our_ca_is_admitted_with_its_names_over_http2_and_tls13() {
    let ca = Ca::new("ca");
    let mut server = server(&ca, settings()).await;
    let tls = client(&ca, &ca, "portal.test");
    let (dialled, accepted) =
        bounded(async { tokio::join!(dial(server.address, &tls), server.incoming.next()) }).await;
    let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(accepted.peer().label(), "portal.test");
    let session = dialled.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));

    dialled.write_all(b"hello").await.unwrap();
    dialled.flush().await.unwrap();
    let mut received = [0; 5];
    bounded(accepted.read_exact(&mut received)).await.unwrap();
    assert_eq!(&received, b"hello");
}

#[tokio::test]
async fn client_of_a_foreign_ca_is_refused_with_an_alert_and_logged() {
    let (log, _guard) = Log::capture();
    let (ca, foreign) = (Ca::new("ca"), Ca::new("foreign"));
    let server = server(&ca, settings()).await;
    let mut stream = bounded(dial(server.address, &client(&ca, &foreign, "evil.test")))
        .await
        .unwrap();
    let local = stream.get_ref().0.local_addr().unwrap();
    // Unread data of the client must not reset the connection before it reads the reason.
    stream.write_all(&[0; 4096]).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(
        read_refusal(&mut stream).await,
        "it refused our certificate: issued by a CA that it does not trust"
    );
    log.wait_for(&format!(
        "refused {local}: its certificate was issued by a CA we do not trust"
    ))
    .await;
}

#[tokio::test]
async fn client_with_an_expired_certificate_is_refused_and_logged() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let server = server(&ca, settings()).await;
    // `ClientTls` would reject the certificate, so the client is built by hand.
    let leaf = ca.expired_leaf("late.test");
    let mut stream = bounded(dial_with(server.address, &ca, Some(&leaf))).await;
    assert_eq!(
        read_refusal(&mut stream).await,
        "it refused our certificate: expired"
    );
    log.wait_for("its certificate has expired").await;
}

#[tokio::test]
async fn client_without_a_certificate_is_refused_and_logged() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let server = server(&ca, settings()).await;
    let mut stream = bounded(dial_with(server.address, &ca, None)).await;
    assert_eq!(
        read_refusal(&mut stream).await,
        "it refused us: it requires a certificate and received none"
    );
    log.wait_for("no certificate presented").await;
}

async fn dial_with(address: SocketAddr, ca: &Ca, leaf: Option<&crate::pki::Leaf>) -> TlsStream<TcpStream> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
    let config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap()
}

#[tokio::test]
async fn server_of_a_foreign_ca_is_refused_by_the_client_and_logged_on_both_sides() {
    let (log, _guard) = Log::capture();
    let (ca, foreign) = (Ca::new("ca"), Ca::new("foreign"));
    let server = server(&foreign, settings()).await;
    let error = bounded(dial(server.address, &client(&ca, &ca, "agent.test")))
        .await
        .unwrap_err();
    assert_eq!(
        explain(&error),
        "its certificate was issued by a CA we do not trust"
    );
    log.wait_for("it refused our certificate: issued by a CA that it does not trust")
        .await;
}

#[tokio::test]
async fn server_with_another_name_is_refused_by_the_client() {
    let ca = Ca::new("ca");
    let server = server(&ca, settings()).await;
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("portal.example").unwrap();
    let tls = client(&ca, &ca, "agent.test");
    let error = bounded(TlsConnector::from(tls.current()).connect(name, tcp))
        .await
        .unwrap_err();
    let text = explain(&error);
    assert!(text.contains("not for portal.example"), "{text}");
}

/// A ClientHello of OpenSSL's `s_client -tls1_2`, reduced to what TLS 1.2 needs.
fn tls12_client_hello() -> Vec<u8> {
    let extensions: &[u8] = &[
        0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x1d, // supported_groups: x25519
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // ec_point_formats: uncompressed
        0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03, // signature_algorithms: ecdsa_secp256r1_sha256
        0x00, 0x17, 0x00, 0x00, // extended_master_secret
    ];
    let mut body = vec![0x03, 0x03];
    body.extend([0x42; 32]);
    body.push(0);
    body.extend([0x00, 0x02, 0xc0, 0x2b, 0x01, 0x00]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut handshake = vec![0x01, 0x00];
    handshake.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    handshake.extend(body);
    let mut record = vec![0x16, 0x03, 0x01];
    record.extend(u16::try_from(handshake.len()).unwrap().to_be_bytes());
    record.extend(handshake);
    record
}

#[tokio::test]
async fn tls12_client_is_refused_with_the_protocol_version_alert_and_logged() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let server = server(&ca, settings()).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(&tls12_client_hello()).await.unwrap();
    let mut alert = Vec::new();
    bounded(tcp.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(
        alert,
        [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46],
        "not a fatal protocol_version alert"
    );
    log.wait_for("it offers only TLS 1.2 or older").await;
}

#[tokio::test]
async fn peer_that_speaks_no_tls_is_refused_and_logged() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let server = server(&ca, settings()).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    log.wait_for("it does not speak TLS").await;
}

#[tokio::test]
async fn stalled_handshakes_delay_no_other_peer_and_end_at_their_timeout() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let settings = Settings {
        max_connections: 1,
        handshake_timeout: Duration::from_millis(300),
    };
    let mut server = server(&ca, settings).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(TcpStream::connect(server.address).await.unwrap());
    }
    let tls = client(&ca, &ca, "portal.test");
    let (dialled, accepted) =
        bounded(async { tokio::join!(dial(server.address, &tls), server.incoming.next()) }).await;
    dialled.unwrap();
    assert_eq!(accepted.unwrap().peer().label(), "portal.test");
    log.wait_for("TLS handshake not finished within 300ms").await;
    for mut tcp in stalled {
        // Closed by the server, one way or the other.
        assert!(matches!(bounded(tcp.read(&mut [0; 16])).await, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn stalled_handshakes_beyond_the_limit_do_not_block_other_peers() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let settings = Settings {
        max_connections: 1,
        // No handshake ends by its timeout in this test.
        handshake_timeout: Duration::from_hours(1),
    };
    let mut server = server(&ca, settings).await;
    let mut stalled = Vec::new();
    for _ in 0..300 {
        stalled.push(bounded(TcpStream::connect(server.address)).await.unwrap());
    }
    let tls = client(&ca, &ca, "portal.test");
    let (dialled, accepted) =
        bounded(async { tokio::join!(dial(server.address, &tls), server.incoming.next()) }).await;
    dialled.unwrap();
    assert_eq!(accepted.unwrap().peer().label(), "portal.test");
    log.wait_for("evicted, too many unfinished TLS handshakes").await;
}

#[tokio::test]
async fn connection_above_the_limit_is_closed_and_a_closed_one_frees_its_permit() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let mut server = server(
        &ca,
        Settings {
            max_connections: 1,
            handshake_timeout: BOUND,
        },
    )
    .await;
    let tls = client(&ca, &ca, "portal.test");
    let _first = bounded(dial(server.address, &tls)).await.unwrap();
    let held = bounded(server.incoming.next()).await.unwrap();

    let mut second = bounded(dial(server.address, &tls)).await.unwrap();
    assert_ne!(bounded(second.read(&mut [0])).await.unwrap_or(0), 1);
    log.wait_for("connection limit reached (peer portal.test)").await;

    drop(held);
    let _third = bounded(dial(server.address, &tls)).await.unwrap();
    bounded(server.incoming.next()).await.unwrap();
}

#[tokio::test]
async fn reloaded_identity_serves_the_next_connection() {
    let ca = Ca::new("ca");
    let mut server = server(&ca, settings()).await;
    let tls = client(&ca, &ca, "portal.test");
    let mut certificates = Vec::new();
    for _ in 0..2 {
        let dialled = bounded(dial(server.address, &tls)).await.unwrap();
        bounded(server.incoming.next()).await.unwrap();
        certificates.push(dialled.get_ref().1.peer_certificates().unwrap()[0].clone());
        let next = ca.leaf("localhost");
        write(&server.files.cert, &next.cert);
        write(&server.files.key, &next.key);
        server.tls.reload().unwrap();
    }
    assert_ne!(certificates[0], certificates[1]);
}

#[tokio::test]
async fn reload_without_a_ca_closes_the_connections_it_issued_and_no_other() {
    let (log, _guard) = Log::capture();
    let (staying, leaving) = (Ca::new("staying"), Ca::new("leaving"));
    let mut server = server(&staying, settings()).await;
    write(&server.files.ca, &format!("{}{}", staying.pem(), leaving.pem()));
    server.tls.reload().unwrap();
    let mut connections = Vec::new();
    for ca in [&leaving, &staying] {
        let tls = client(&staying, ca, "portal.test");
        let dialled = bounded(dial(server.address, &tls)).await.unwrap();
        connections.push((dialled, bounded(server.incoming.next()).await.unwrap()));
    }
    write(&server.files.ca, &staying.pem());
    server.tls.reload().unwrap();

    let (_, revoked) = &mut connections[0];
    // A server is reading meanwhile.
    let error = bounded(revoked.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    revoked.write_all(b"x").await.unwrap_err();
    log.wait_for("portal.test at 127.0.0.1").await;
    log.wait_for("its certificate was issued by a CA we do not trust")
        .await;
    let (dialled, trusted) = &mut connections[1];
    dialled.write_all(b"x").await.unwrap();
    dialled.flush().await.unwrap();
    bounded(trusted.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn handshake_during_a_reload_is_verified_by_the_new_cas() {
    let (staying, leaving) = (Ca::new("staying"), Ca::new("leaving"));
    let mut server = server(&staying, settings()).await;
    write(&server.files.ca, &format!("{}{}", staying.pem(), leaving.pem()));
    server.tls.reload().unwrap();
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let tls = client(&staying, &leaving, "portal.test");
    let name = ServerName::try_from("localhost").unwrap();
    let mut half = TlsConnector::from(tls.current()).connect(name, tcp);
    let started = poll_fn(|cx| Poll::Ready(Pin::new(&mut half).poll(cx).is_pending())).await;
    assert!(started);
    // The server answered: its handshake started with the old CAs.
    bounded(half.get_ref().unwrap().peek(&mut [0])).await.unwrap();
    write(&server.files.ca, &staying.pem());
    server.tls.reload().unwrap();
    let _dialled = bounded(half).await;
    let mut accepted = bounded(server.incoming.next()).await.unwrap();
    bounded(accepted.read(&mut [0])).await.unwrap_err();
}

#[tokio::test]
async fn cancellation_stops_accepting_ends_the_stream_and_leaves_no_task() {
    let ca = Ca::new("ca");
    let mut server = server(&ca, settings()).await;
    let _stalled = TcpStream::connect(server.address).await.unwrap();
    server.token.cancel();
    assert!(bounded(server.incoming.next()).await.is_none());
    server.tracker.close();
    bounded(server.tracker.wait()).await;
    TcpStream::connect(server.address).await.unwrap_err();
}

#[tokio::test]
async fn connection_ends_when_its_clients_certificate_expires() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let mut server = server(&ca, settings()).await;
    let short = ca.leaf_for("portal.test", Duration::from_secs(3));
    let (_dir, files) = files(&ca, &short);
    let short = ClientTls::load(files).unwrap();
    let mut connections = Vec::new();
    for tls in [&short, &client(&ca, &ca, "other.test")] {
        let dialled = bounded(dial(server.address, tls)).await.unwrap();
        connections.push((dialled, bounded(server.incoming.next()).await.unwrap()));
    }

    // A server is reading meanwhile.
    let (_, expired) = &mut connections[0];
    let error = bounded(expired.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    expired.write_all(b"x").await.unwrap_err();
    log.wait_for("closed the connection of portal.test").await;
    log.wait_for("its certificate has expired").await;
    let (dialled, valid) = &mut connections[1];
    dialled.write_all(b"x").await.unwrap();
    dialled.flush().await.unwrap();
    bounded(valid.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn connections_are_a_stream_for_a_server_with_their_peer_and_vectored_writes() {
    let ca = Ca::new("ca");
    let mut server = server(&ca, settings()).await;
    let tls = client(&ca, &ca, "portal.test");
    let mut dialled = bounded(dial(server.address, &tls)).await.unwrap();
    let mut accepted = bounded(server.incoming.next()).await.unwrap();
    assert_eq!(accepted.connect_info().label(), "portal.test");
    assert_eq!(accepted.address(), dialled.get_ref().0.local_addr().unwrap());
    assert!(accepted.is_write_vectored());
    let parts = [io::IoSlice::new(b"hel"), io::IoSlice::new(b"lo")];
    assert_eq!(bounded(accepted.write_vectored(&parts)).await.unwrap(), 5);
    bounded(accepted.shutdown()).await.unwrap();
    let mut received = Vec::new();
    bounded(dialled.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, b"hello", "the shutdown is a clean end");

    let second = bounded(dial(server.address, &tls)).await.unwrap();
    let streamed = bounded(tokio_stream::StreamExt::next(&mut server.incoming)).await;
    assert_eq!(
        streamed.unwrap().unwrap().address(),
        second.get_ref().0.local_addr().unwrap()
    );
}

#[tokio::test]
async fn peer_that_closes_during_the_handshake_is_no_warning() {
    let (log, _guard) = Log::capture();
    let ca = Ca::new("ca");
    let server = server(&ca, settings()).await;
    let mut scanner = TcpStream::connect(server.address).await.unwrap();
    scanner.shutdown().await.unwrap();
    // Until the server has closed it, too.
    let _closed = bounded(scanner.read(&mut [0])).await;
    let mut other = TcpStream::connect(server.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    log.wait_for("it does not speak TLS").await;
    assert!(!log.text().contains("unexpectedly"), "{}", log.text());
}

#[tokio::test]
async fn a_refused_peer_reads_the_alert_and_a_clean_end_whatever_it_had_sent() {
    let ca = Ca::new("ca");
    let server = server(&ca, settings()).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    // More than the server reads before it refuses.
    tcp.write_all(&[b'x'; 32 << 10]).await.unwrap();
    let mut alert = Vec::new();
    bounded(tcp.read_to_end(&mut alert)).await.unwrap();
    assert_eq!(alert.first(), Some(&0x15), "no TLS alert: {alert:x?}");
    // On a slower network a reset may overtake the alert.
    assert!(tcp.take_error().unwrap().is_none(), "a reset over unread data");
}

#[tokio::test]
async fn a_flush_ends_when_the_peer_has_room_for_all_that_was_written() {
    let ca = Ca::new("ca");
    let mut server = server(&ca, settings()).await;
    let tls = client(&ca, &ca, "portal.test");
    let mut dialled = bounded(dial(server.address, &tls)).await.unwrap();
    let mut accepted = bounded(server.incoming.next()).await.unwrap();
    let mut written = 0;
    // The peer does not read. Unconstrained: only a full buffer makes a write wait.
    let fill = poll_fn(|cx| {
        while let Poll::Ready(count) = Pin::new(&mut accepted).poll_write(cx, &[b'x'; 16 << 10]) {
            let count = count.unwrap();
            assert_ne!(count, 0, "a write of nothing");
            written += count;
        }
        Poll::Ready(Pin::new(&mut accepted).poll_flush(cx))
    });
    assert!(tokio::task::unconstrained(fill).await.is_pending());
    let mut received = vec![0; written];
    let (flushed, read) =
        bounded(async { tokio::join!(accepted.flush(), dialled.read_exact(&mut received)) }).await;
    flushed.unwrap();
    assert_eq!(read.unwrap(), written);
}
