//! Test tools, from real programs to scripted doubles. Development only.
//!
//! - [`lab`]: real ocserv and openconnect, with the agent and the reference portal, in network
//!   namespaces.
//! - [`pki`]: certificates, valid and invalid.
//! - [`portal_double`]: a portal in this process that replies as a test tells it.
//! - [`fake_control`]: ocserv's control socket without an ocserv.
//! - [`grpc`]: a client connection over a given socket, to call an agent as a portal does.
//! - [`harness`]: what the tests on real ocserv share.
//! - [`booted`]: a server with systemd as its first process.
//! - [`wait`]: waiting for a state, with a timeout.
//!
//! Depends on the wire types (`ocserv-agent-proto`) and on nothing else of the product:
//! expectations must not come from the code under test. Only the program `bench` uses more (`ipc`,
//! `occtl`), because it measures those.

pub mod booted;
pub mod fake_control;
pub mod grpc;
pub mod harness;
pub mod lab;
mod mtls;
pub mod pki;
pub mod portal_double;
pub mod wait;
