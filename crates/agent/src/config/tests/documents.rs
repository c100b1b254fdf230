//! The page and the example say what the schema says.

use std::collections::BTreeSet;

use super::*;

/// Every key that can be written, with its default in TOML where it has one.
fn schema() -> BTreeMap<String, String> {
    let everything = format!("{MINIMAL}[grpc.tls]\n@TLS");
    let mut config = ConfigDir::new().load(&everything, &[]).unwrap();
    // What has no value by default is set, so that its key shows.
    config.hostname = Some("x".to_owned());
    config.portal.connect_timeout = Some(Period::seconds(1));
    config.outbox.dir = Some("x".into());
    config.portal.policy_file = Some("x".into());
    config.portal.tls.as_mut().unwrap().server_name = Some("x".to_owned());
    let rate = Rate {
        burst: 1.try_into().unwrap(),
        every: Period::seconds(1),
    };
    config.resilience.rate_limit = RateLimit {
        per_user: Some(rate),
        per_address: Some(rate),
    };
    let mut keys = reload::flat(&config);
    keys.insert("grpc.roles".to_owned(), "{}".to_owned());
    keys
}

fn repository_file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_page_lists_every_key_with_its_default_and_no_other() {
    let page = repository_file("docs/configuration.md");
    let mut listed = BTreeSet::new();
    for row in page
        .lines()
        .filter(|line| line.starts_with("| `") && !line.starts_with("| `key"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, key, kind, default, reload, ..] = cells[..] else {
            panic!("{row}")
        };
        let key = key.trim_matches('`').to_owned();
        let schema = schema();
        let value = schema
            .get(&key)
            .unwrap_or_else(|| panic!("{key} is on the page and not in the schema"));
        let open = [
            "required",
            "required with `portal`",
            "required with `embedded`",
            "no limit",
            "the system's",
            "`portal.timeout`",
            "`state_dir`",
            "host of `portal.address`",
            "empty",
        ];
        if !open.contains(&default) {
            assert_eq!(default.trim_matches('`'), value.trim_matches('"'), "{key}");
        }
        let known = RELOADABLE.iter().any(|known| {
            known.trim_end_matches('.') == key || (known.ends_with('.') && key.starts_with(known))
        });
        let expected = match key.rsplit('.').next() {
            _ if known => "yes",
            Some("ca" | "cert" | "key" | "policy_file") => "content",
            _ => "restart",
        };
        assert_eq!(reload, expected, "{key}");
        assert!(!kind.is_empty());
        listed.insert(key);
    }
    let schema: BTreeSet<String> = schema().into_keys().collect();
    assert_eq!(listed, schema);
}

#[test]
fn the_example_is_good_and_shows_every_key_with_its_default() {
    let example = repository_file("deploy/examples/config.toml");
    let dir = ConfigDir::new();
    let with_files = |text: &str| -> String {
        let mut text = text.to_owned();
        for line in dir.tls.lines() {
            let key = line.split(' ').next().unwrap();
            text = text
                .lines()
                .map(|old| {
                    if old.starts_with(&format!("{key} = ")) {
                        line
                    } else {
                        old
                    }
                })
                .collect::<Vec<_>>()
                .join("\n");
        }
        text
    };
    let as_it_is = dir.load(&with_files(&example), &[]).unwrap();
    // "# key = value" is a default; prose after "# " has no "=" behind its first word.
    let spelled_out: String = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_whitespace().nth(1) == Some("=") => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let spelled_out = dir.load(&with_files(&spelled_out), &[]).unwrap();

    let keys = reload::flat(&spelled_out);
    for key in schema()
        .keys()
        .filter(|key| !["grpc.roles", "portal.policy_file"].contains(&key.as_str()))
    {
        assert!(keys.contains_key(key), "{key} is not in the example");
    }
    let defaults = Config {
        hostname: as_it_is.hostname.clone(),
        outbox: Outbox {
            dir: None,
            ..spelled_out.outbox.clone()
        },
        portal: Portal {
            connect_timeout: as_it_is.portal.connect_timeout,
            tls: spelled_out.portal.tls.clone().map(|tls| PortalTls {
                server_name: None,
                ..tls
            }),
            ..spelled_out.portal.clone()
        },
        resilience: Resilience {
            rate_limit: RateLimit::default(),
            ..spelled_out.resilience.clone()
        },
        ..spelled_out
    };
    assert_eq!(defaults, as_it_is, "what is commented out is the default");
}
