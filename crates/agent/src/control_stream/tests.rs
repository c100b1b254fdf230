use std::collections::BTreeMap;

use super::*;
use crate::fixture;
use crate::operations::disconnect_user::DisconnectUser;
use crate::operations::drain::{Drain, DrainState};
use crate::operations::invalidate_decisions::InvalidateDecisions;
use crate::operations::notifications::Notifications;
use crate::operations::request_reload::RequestReload;
use crate::operations::resync::{Resync, ValidationRequest};
use crate::operations::runtime_switches::{FailModeRules, RuntimeSwitches};
use crate::operations::shared_outbox::SharedOutbox;

/// An endpoint without ocserv, whose portal has the highest role.
fn endpoint(rules: Live<FailModeRules>) -> Endpoint {
    let ocserv = fixture::ocserv(std::path::Path::new("/nonexistent/occtl.sock"));
    let authorizer = fixture::authorizer(fixture::AllowingPortal::default());
    let notifications = Notifications::default();
    let (reload, _) = RequestReload::new();
    let outbox = SharedOutbox::without_disk();
    Endpoint {
        sender: ControlSender::new("a1", "1"),
        operations: Operations {
            disconnect_user: DisconnectUser::new(
                ocserv.clone(),
                fixture::recorder(),
                authorizer.clone(),
                None,
            ),
            invalidate: InvalidateDecisions::new(authorizer.clone()),
            switches: RuntimeSwitches::new(authorizer, rules, notifications.clone()),
            resync: Resync::new(ocserv, ValidationRequest::default()),
            reload,
            drain: Drain::new(DrainState::default(), outbox, None, notifications.clone()),
            notifications,
        },
        role: Live::fixed(Role::Admin),
        metrics: Metrics::new("a1").unwrap(),
    }
}

fn action(request_id: &str, name: &str, parameters: &[(&str, &str)]) -> Instruction {
    let parameters = parameters.iter();
    let parameters = parameters.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Instruction {
        request_id: request_id.to_owned(),
        kind: InstructionKind::Action {
            name: name.to_owned(),
            parameters: parameters.collect(),
        },
    }
}

#[tokio::test]
async fn an_action_that_panics_fails_and_a_repetition_gets_the_same_result() {
    let endpoint = endpoint(Live::new(|| panic!("a fault in an operation")));
    let (sender, metrics) = (endpoint.sender.clone(), endpoint.metrics.clone());
    let (queue, instructions) = instructions();
    let close = [("mode", "close"), ("duration", "1m")];
    queue.send(action("r1", "set_fail_mode", &close)).await.unwrap();
    queue.send(action("r1", "set_fail_mode", &close)).await.unwrap();
    // What comes after it is executed.
    queue.send(action("r2", "resume", &[])).await.unwrap();
    drop(queue);
    endpoint.run(instructions, CancellationToken::new()).await;
    assert_eq!(sender.stats().pending, 2, "a result of each");
    let page = metrics.registry().render();
    let failed = "ocserv_agent_control_actions_total{action=\"set_fail_mode\",result=\"failed\"";
    assert_eq!(page.matches(failed).count(), 1, "{page}");
}

#[tokio::test]
async fn the_result_of_an_action_that_panics_says_so() {
    let endpoint = endpoint(Live::new(|| panic!("a fault in an operation")));
    let parameters = [("mode", "close"), ("duration", "1m")];
    let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let result = endpoint
        .answer("r1", "set_fail_mode", BTreeMap::from(parameters))
        .await;
    assert_eq!(result.metadata["success"], "false");
    assert!(result.metadata["error"].contains("panicked"), "{result:?}");
}
