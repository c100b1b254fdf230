//! How the double treats new connections.

/// What the double does with a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptMode {
    /// Serves it.
    Serve,
    /// Closes it at once.
    Close,
    /// Keeps it open and sends nothing: no TLS handshake.
    Silent,
    /// Completes the TLS handshake and sends nothing after it: no HTTP/2.
    HandshakeOnly,
    /// Completes the TLS handshake and sends these bytes.
    Garbage(Vec<u8>),
}
