//! The evaluation against a plain reading of the rules.

use ocserv_agent_model::Username;
use proptest::prelude::*;

use super::ask;
use crate::Policy;

proptest! {
    /// A plain reading of the rules in the order of the file, over small worlds where rules often meet.
    #[test]
    fn the_first_rule_whose_conditions_all_hold_decides(
        rules in prop::collection::vec(
            (any::<bool>(), prop::option::of(0..3_u8), prop::option::of(0..3_u8), prop::option::of(0..3_u8)), 0..8),
        default in any::<bool>(), user in 0..3_u8, group in prop::option::of(0..3_u8), net in 0..3_u8,
    ) {
        let word = |allow: bool| if allow { "allow" } else { "deny" };
        let mut text = format!("version = 1\ndefault = {:?}\n", word(default));
        let mut expected = None;
        for (index, (allow, users, groups, networks)) in rules.iter().enumerate() {
            text += &format!("[[rules]]\nverdict = {:?}\n", word(*allow));
            text += &users.map_or(String::new(), |n| format!("users = [\"u{n}\"]\n"));
            text += &groups.map_or(String::new(), |n| format!("groups = [\"g{n}\"]\n"));
            text += &networks.map_or(String::new(), |n| format!("networks = [\"10.{n}.0.0/16\"]\n"));
            let holds = users.is_none_or(|n| n == user) && groups.is_none_or(|n| Some(n) == group)
                && networks.is_none_or(|n| n == net);
            if holds && expected.is_none() {
                expected = Some((index, *allow));
            }
            if users.is_none() && groups.is_none() && networks.is_none() {
                break;
            }
        }
        let policy = Policy::parse(&text, "p").unwrap();
        let group = group.map(|n| format!("g{n}"));
        let answer = ask(&policy, &format!("u{user}"), group.as_deref(), &format!("10.{net}.1.2"));
        prop_assert_eq!(answer.rule, expected.map(|(index, _)| index));
        prop_assert_eq!(answer.verdict.is_allow(), expected.map_or(default, |(_, allow)| allow));

        // Knowing less never gives another yes or no than knowing the group.
        let username = Username::parse(&format!("u{user}")).unwrap();
        let from = format!("10.{net}.1.2").parse().unwrap();
        if let Some(without) = policy.evaluate_without_group(&username, from) {
            prop_assert_eq!(without.verdict.is_allow(), answer.verdict.is_allow());
        }
    }
}
