//! What agents and portals say to each other: gRPC messages, clients and servers, generated from `proto/`.
//!
//! For the agent, and for whoever writes a portal in Rust. Leans on `prost` and `tonic` and on nothing of ours; knows no
//! transport: bring your own, with mutual TLS 1.3 (see `docs/portal-dev.md` for a portal that does).
//!
//! | package | the portal serves | the agent serves |
//! |---|---|---|
//! | [`vpn::v1`] | `AuthService` (may this user in?), `EventService` (who came, who went) | `ConfigService` |
//! | [`agent::v1`] | `AgentService/AgentStream` | `VPNAgentService` (who is there, disconnect), the rest of `AgentService` |
//!
//! A client is made with `new` from any `tower` service that speaks HTTP/2, such as a `tonic` channel; a server is a
//! trait to implement and a service to give to `tonic::transport::Server` or `tonic::service::Routes`. Here one stands
//! directly in front of the other:
//!
//! ```
//! use ocserv_agent_proto::vpn::v1::auth_service_client::AuthServiceClient;
//! use ocserv_agent_proto::vpn::v1::auth_service_server::{AuthService, AuthServiceServer};
//! use ocserv_agent_proto::vpn::v1::{
//!     CheckPolicyRequest, CheckPolicyResponse, ValidateSessionRequest, ValidateSessionResponse,
//! };
//! use tonic::{Request, Response, Status};
//!
//! struct OnlyAlice;
//!
//! #[tonic::async_trait]
//! impl AuthService for OnlyAlice {
//!     async fn check_policy(
//!         &self,
//!         request: Request<CheckPolicyRequest>,
//!     ) -> Result<Response<CheckPolicyResponse>, Status> {
//!         let allowed = request.into_inner().username == "alice";
//!         let deny_reason = if allowed { String::new() } else { "not on the list".to_owned() };
//!         Ok(Response::new(CheckPolicyResponse { allowed, deny_reason, ..Default::default() }))
//!     }
//!
//!     async fn validate_session(
//!         &self,
//!         _request: Request<ValidateSessionRequest>,
//!     ) -> Result<Response<ValidateSessionResponse>, Status> {
//!         Ok(Response::new(ValidateSessionResponse { valid: true, ..Default::default() }))
//!     }
//! }
//!
//! # fn run<F: Future>(future: F) -> F::Output {
//! #     let mut future = std::pin::pin!(future);
//! #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
//! #     loop {
//! #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
//! #             return output;
//! #         }
//! #     }
//! # }
//! # run(async {
//! let mut portal = AuthServiceClient::new(AuthServiceServer::new(OnlyAlice));
//! let mallory = CheckPolicyRequest { username: "mallory".to_owned(), ..Default::default() };
//! let answer = portal.check_policy(mallory).await?.into_inner();
//! assert!(!answer.allowed);
//! assert_eq!(answer.deny_reason, "not on the list");
//! # Ok::<_, Status>(())
//! # }).unwrap();
//! ```
//!
//! [`FILE_DESCRIPTOR_SET`] is what gRPC reflection and tools such as `grpcurl` need. The generated files are committed
//! (`cargo xtask codegen` writes them), so that no build needs a protobuf compiler.

pub use prost_types::{Duration, Timestamp};

/// Control of an agent and of the VPN sessions of its server.
pub mod agent {
    /// Version 1 of the messages and services.
    #[expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated: written in tonic's style, not in ours"
    )]
    pub mod v1 {
        include!("generated/agent.v1.rs");
    }
}

/// Logins, sessions and settings of VPN users.
pub mod vpn {
    /// Version 1 of the messages and services.
    #[expect(
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated: written in tonic's style, not in ours"
    )]
    pub mod v1 {
        include!("generated/vpn.v1.rs");
    }
}

/// All files under `proto/` and what they import, as an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
