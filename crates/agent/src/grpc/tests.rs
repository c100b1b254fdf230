use std::collections::BTreeMap;
use std::sync::Arc;

use tls::Peer;
use tonic::{Code, Request};

use super::call::Call;
use super::*;
use crate::live::Live;

fn request(names: &[&str]) -> Request<()> {
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    let mut request = Request::new(());
    request.extensions_mut().insert(Arc::new(Peer {
        names,
        common_name: Some("operator.example".into()),
    }));
    request
}

fn authorized(required: Role, request: &Request<()>) -> Result<(), (Code, String)> {
    let roles = Roles::new(Live::fixed(BTreeMap::from([
        ("viewer.example".parse().unwrap(), Role::Viewer),
        ("operator.example".parse().unwrap(), Role::Operator),
    ])));
    let call = Call::authorize("Test", required, &roles, request);
    call.map(|_| ())
        .map_err(|status| (status.code(), status.message().to_owned()))
}

#[test]
fn a_call_needs_the_role_and_the_denial_names_it() {
    assert_eq!(authorized(Role::Viewer, &request(&["viewer.example"])), Ok(()));
    assert_eq!(authorized(Role::Viewer, &request(&["operator.example"])), Ok(()));
    assert_eq!(
        authorized(Role::Operator, &request(&["operator.example"])),
        Ok(())
    );
    let (code, message) = authorized(Role::Operator, &request(&["viewer.example"])).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(message, "viewer.example has the role viewer; Test needs operator");
    let (code, message) = authorized(Role::Viewer, &request(&["stranger.example"])).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(
        message,
        "no name in the certificate of stranger.example has a role in grpc.roles"
    );
}

#[test]
fn a_request_without_a_peer_is_denied() {
    let (code, _) = authorized(Role::Viewer, &Request::new(())).unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
}
