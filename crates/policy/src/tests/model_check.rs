//! The evaluation against a naive model.

use ocserv_agent_model::{GroupName, Username, VhostName};
use proptest::prelude::*;

use crate::Policy;

proptest! {
    /// Names and networks from small sets, so that rules often overlap.
    #[test]
    fn the_first_matching_rule_decides(
        rules in prop::collection::vec(
            (any::<bool>(), prop::option::of(0..3_u8), prop::option::of(0..3_u8), prop::option::of(0..3_u8),
                prop::option::of(0..3_u8)), 0..8),
        default in any::<bool>(), user in 0..3_u8, group in prop::option::of(0..3_u8), net in 0..3_u8,
        vhost in 0..3_u8,
    ) {
        let keyword = |allow: bool| if allow { "allow" } else { "deny" };
        let mut text = format!("version = 1\ndefault = {:?}\n", keyword(default));
        let mut expected = None;
        for (index, (allow, users, groups, networks, vhosts)) in rules.iter().enumerate() {
            text += &format!("[[rules]]\nverdict = {:?}\n", keyword(*allow));
            text += &users.map_or(String::new(), |n| format!("users = [\"u{n}\"]\n"));
            text += &groups.map_or(String::new(), |n| format!("groups = [\"g{n}\"]\n"));
            text += &networks.map_or(String::new(), |n| format!("networks = [\"10.{n}.0.0/16\"]\n"));
            text += &vhosts.map_or(String::new(), |n| format!("vhosts = [\"v{n}\"]\n"));
            let holds = users.is_none_or(|n| n == user) && groups.is_none_or(|n| Some(n) == group)
                && networks.is_none_or(|n| n == net) && vhosts.is_none_or(|n| n == vhost);
            if holds && expected.is_none() {
                expected = Some((index, *allow));
            }
            if users.is_none() && groups.is_none() && networks.is_none() && vhosts.is_none() {
                break;
            }
        }
        let policy = Policy::parse(&text, "p").unwrap();
        let username = Username::parse(&format!("u{user}")).unwrap();
        let group = group.map(|n| GroupName::parse(&format!("g{n}")).unwrap());
        let vhost = VhostName::parse(&format!("v{vhost}")).unwrap();
        let from = format!("10.{net}.1.2").parse().unwrap();
        let evaluation = policy.evaluate(&username, group.as_ref(), &vhost, from);
        prop_assert_eq!(evaluation.rule, expected.map(|(index, _)| index));
        prop_assert_eq!(evaluation.verdict.is_allow(), expected.map_or(default, |(_, allow)| allow));

        // Without the virtual host, and without the group too, the verdict is the same or absent.
        let without_vhost = policy.evaluate_without_vhost(&username, group.as_ref(), from);
        let without_both = policy.evaluate_without_group(&username, from);
        for without in [without_vhost, without_both].into_iter().flatten() {
            prop_assert_eq!(without.verdict.is_allow(), evaluation.verdict.is_allow());
        }
    }
}
