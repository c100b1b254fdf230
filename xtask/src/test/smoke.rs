//! The tests of `cargo xtask test --smoke`: what must work on every release of ocserv.

use std::ffi::OsString;

use anyhow::ensure;

use super::report::Tally;

/// What must work, and the test in `crates/testkit/tests` that shows it, by its full name.
const TESTS: [(&str, &str); 9] = [
    (
        "login",
        "an_allowed_user_connects_and_the_portal_receives_connect_and_disconnect",
    ),
    (
        "deny",
        "a_denied_user_gets_an_error_and_leaves_neither_session_nor_events",
    ),
    (
        "deny behind ocserv's firewall script",
        "a_user_restricted_to_routes_is_checked_behind_ocserv_fw",
    ),
    (
        "list",
        "connections_before_their_login_are_never_reported_as_sessions",
    ),
    (
        "disconnect",
        "a_portal_disconnects_all_sessions_of_one_user_and_no_others",
    ),
    (
        "disconnect of a client without a connection",
        "a_killed_client_does_not_reconnect_with_its_cookie_after_a_disconnect_of_its_user",
    ),
    (
        "revocation",
        "a_user_denied_by_a_new_policy_is_disconnected_and_other_users_are_not",
    ),
    (
        "restart of the agent",
        "a_session_keeps_its_uid_over_a_restart_of_the_agent",
    ),
    (
        "restart of ocserv",
        "ocserv_starts_again_after_a_stop_and_after_a_kill",
    ),
];

/// Returns the arguments by which the test programs run these tests alone.
pub(super) fn arguments() -> Vec<OsString> {
    let names = TESTS.iter().map(|(_, name)| name.into());
    std::iter::once("--exact".into()).chain(names).collect()
}

/// Makes a successful run fail when a name above is not a test.
pub(super) fn check(result: anyhow::Result<()>, tally: &Tally) -> anyhow::Result<()> {
    result?;
    ensure!(
        tally.passed == TESTS.len(),
        "{} of {} smoke tests ran: a name in xtask/src/test/smoke.rs is not a test",
        tally.passed,
        TESTS.len()
    );
    Ok(())
}
