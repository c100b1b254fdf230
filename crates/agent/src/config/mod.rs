//! The configuration: schema, loading, checks.
//!
//! The schema lives here and nowhere else: only `app` reads it, and every other part takes a small
//! `Settings` of its own. [`Document::parse`] checks values without I/O; [`preflight`] checks what
//! needs the disk; [`load`] does both.

mod check;
mod checker;
mod environment;
mod error;
mod grpc;
mod health;
mod http;
mod ipc;
mod ipc_socket;
mod load;
mod locate;
mod log;
mod nested;
mod ocserv;
mod outbox;
mod period;
mod portal;
mod preflight;
mod reload;
mod resilience;
mod schema;
mod server_environment;
mod sessions;
mod summary;
mod tls_files;

pub use environment::ENV_PREFIX;
pub use error::{ConfigError, Location, Problem};
pub use grpc::{Grpc, Role};
pub use health::Health;
pub use http::Http;
pub(crate) use ipc::RESPONSE_MARGIN;
pub use ipc::{Ipc, SocketMode};
pub use ipc_socket::ipc_socket;
pub use load::{Document, check_file, load};
pub use log::{Log, LogFormat};
pub use ocserv::Ocserv;
pub use outbox::Outbox;
pub use period::Period;
pub use portal::{Address, Mode as PortalMode, Portal, PortalTls, Reconnect};
pub use preflight::{Preflight, preflight};
pub use reload::{RELOADABLE, needing_restart};
pub use resilience::{Cache, CircuitBreaker, Keyword, Rate, RateLimit, Resilience};
pub use schema::Config;
pub use server_environment::Environment;
pub use sessions::Sessions;
pub use tls_files::TlsFiles;

/// The default path of the configuration file.
pub const DEFAULT_PATH: &str = "/etc/ocserv-agent/config.toml";

#[cfg(test)]
pub(crate) mod tests;
