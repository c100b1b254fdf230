//! What tests run the product against, from the real thing to the scripted one. Dev only.
//!
//! - [`lab`]: real ocserv and openconnect, with the agent and the reference portal, in network namespaces of their own.
//! - [`pki`]: certificates, the good and the bad.
//! - [`portal_double`]: a portal in this process that answers, lies, hangs or hangs up, as told.
//! - [`fake_control`]: ocserv's control socket without an ocserv.
//! - [`grpc`]: a client connection over a socket at hand, to call an agent as a portal does.
//! - [`scene`]: what the tests on real ocserv have in common.
//! - [`wait`]: waiting for a state, with a bound.
//!
//! Leans on the wire types (`proto`) and on nothing else of ours: what it checks by is not what it checks. Only the program
//! `bench` uses more (`ipc`, `occtl`): it measures those.

pub mod fake_control;
pub mod grpc;
pub mod lab;
mod mtls;
pub mod pki;
pub mod portal_double;
pub mod scene;
pub mod wait;
