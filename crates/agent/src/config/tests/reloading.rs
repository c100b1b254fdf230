//! What a running agent makes of another configuration.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_reload_names_what_needs_a_restart_and_nothing_else() {
    let dir = ConfigDir::new();
    let old = dir.load(MINIMAL, &[]).unwrap();
    let fresh = dir
        .load(
            &format!(
                "{}[ipc]\ndeadline = \"2500ms\"\nmax_connections = 9\nallowed_uids = [0, 1]\n\
                 [log]\nlevel = \"debug\"\n[grpc.tls]\n@TLS[grpc.roles]\n\"p.test\" = \"viewer\"",
                MINIMAL.replace("a1", "a2")
            ),
            &[],
        )
        .unwrap();
    let keys = needing_restart(&old, &fresh);
    assert!(
        keys.iter().any(|key| key == "agent_id") && keys.iter().any(|key| key == "grpc.listen"),
        "{keys:?}"
    );
    assert!(
        !keys
            .iter()
            .any(|key| RELOADABLE.iter().any(|known| key.starts_with(known))),
        "{keys:?}"
    );
    assert!(needing_restart(&old, &old).is_empty());
    let only_roles = Config {
        grpc: fresh.grpc.clone().map(|g| Grpc {
            roles: BTreeMap::new(),
            ..g
        }),
        ..fresh.clone()
    };
    assert!(needing_restart(&fresh, &only_roles).is_empty());
}

#[test]
fn a_reload_takes_over_exactly_the_keys_that_are_said_to_be_taken_over() {
    let dir = ConfigDir::new();
    let old = dir
        .load(
            &format!("{MINIMAL}[grpc.tls]\n@TLS[grpc.roles]\n\"a.test\" = \"viewer\"\n"),
            &[],
        )
        .unwrap();
    // Every key has another value.
    let mut fresh = dir
        .load(
            "agent_id = \"a2\"\nhostname = \"h\"\nenvironment = \"test\"\nstate_dir = \"/s\"\n\
             [portal]\naddress = \"https://other.test\"\ntimeout = \"1s\"\nconnect_timeout = \"1s\"\n\
             keepalive_interval = \"1s\"\nkeepalive_timeout = \"1s\"\n\
             reconnect = { initial_delay = \"2s\", max_delay = \"3s\", multiplier = 3.0 }\n\
             [portal.tls]\n@TLS\nserver_name = \"x\"\n\
             [resilience]\nfail_mode = \"close\"\nstale_match = \"user\"\nallow_fail_open_in_production = true\n\
             circuit_breaker = { failure_threshold = 9, interval = \"9s\", timeout = \"9s\", max_requests = 9 }\n\
             cache = { ttl = \"9s\", stale_ttl = \"9s\", deny_ttl = \"9s\", max_size = 9 }\n\
             rate_limit = { per_user = { burst = 9, every = \"9s\" }, per_address = { burst = 9, every = \"9s\" } }\n\
             [ipc]\nsocket = \"/s\"\nsocket_mode = \"0660\"\ndeadline = \"4s\"\nhelper_deadline = \"5s\"\n\
             allowed_uids = [1]\nmax_connections = 9\n\
             [grpc]\nlisten = \"127.0.0.1:1\"\nmax_connections = 9\nhandshake_timeout = \"9s\"\n\
             [grpc.tls]\n@TLS[grpc.roles]\n\"b.test\" = \"operator\"\n\
             [ocserv]\nocctl_socket = \"/o\"\nocctl_timeout = \"9s\"\n[sessions]\nsync_interval = \"9s\"\n\
             [outbox]\nmax_bytes = 99999\n[http]\nlisten = \"127.0.0.1:2\"\n\
             [log]\nlevel = \"debug\"\nformat = \"json\"\n",
            &[],
        )
        .unwrap();
    for files in [
        &mut fresh.portal.tls.as_mut().unwrap().ca,
        &mut fresh.grpc.as_mut().unwrap().tls.ca,
    ] {
        *files = "/other".into();
    }
    let (before, wanted, after) = (
        reload::flat(&old),
        reload::flat(&fresh),
        reload::flat(&old.taking_over(&fresh)),
    );
    let reloadable = |key: &str| {
        RELOADABLE
            .iter()
            .any(|known| key == *known || (known.ends_with('.') && key.starts_with(known)))
    };
    let keys: BTreeSet<_> = before.keys().chain(wanted.keys()).collect();
    let mut taken_over = 0;
    for key in keys {
        let expected = if reloadable(key) { &wanted } else { &before };
        assert_eq!(after.get(key), expected.get(key), "{key}");
        taken_over += usize::from(after.get(key) != before.get(key));
    }
    assert!(taken_over > 20, "{taken_over}");
}

#[test]
fn what_a_reload_would_make_of_old_and_new_is_checked_together() {
    let dir = ConfigDir::new();
    let old = dir.load(MINIMAL, &[]).unwrap();
    for (fresh, what) in [
        // The environment needs a restart: until then this server is a production server.
        (
            MINIMAL.replace("agent_id", "environment = \"test\"\nagent_id")
                + "[resilience]\nfail_mode = \"open\"",
            "resilience.fail_mode: \"open\" allows every login",
        ),
        // So does the call's timeout.
        (
            MINIMAL.replace("[portal.tls]", "portal.timeout = \"500ms\"\n[portal.tls]")
                + "[ipc]\ndeadline = \"1s\"",
            "portal.timeout: 2s is not shorter than ipc.deadline (1s)",
        ),
    ] {
        let fresh = dir.load(&fresh, &[]).unwrap();
        let problems = old.taking_over(&fresh).contradictions();
        assert!(
            problems.len() == 1 && problems[0].starts_with(what),
            "{problems:?}"
        );
    }
    let fresh = dir
        .load(&format!("{MINIMAL}[resilience]\nfail_mode = \"close\""), &[])
        .unwrap();
    assert!(old.taking_over(&fresh).contradictions().is_empty());
}
