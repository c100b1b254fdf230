//! What happens in the model, at random.

use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Accept(Index),
    Answer(Index, Answer),
    Register(Index, bool),
    End(Index, Script),
    Deliver(Index),
    AskForList,
    ReadList,
    Poll,
    KillAgent,
    StartAgent,
    RestartOcserv,
    Advance(u64),
    /// The agent is killed during the next change, before that is on disk.
    LoseNextChange,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Allow,
    AllowToVanishedClient,
    Deny,
    LateDeny,
    Unread,
    UnreadAndReported,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    Reports,
    IsDelayed,
    IsLost,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    let answer = prop_oneof![
        5 => Just(Answer::Allow),
        1 => Just(Answer::AllowToVanishedClient),
        1 => Just(Answer::Deny),
        1 => Just(Answer::LateDeny),
        1 => Just(Answer::Unread),
        1 => Just(Answer::UnreadAndReported),
    ];
    let script = prop_oneof![
        Just(Script::Reports),
        Just(Script::IsDelayed),
        Just(Script::IsLost)
    ];
    prop_oneof![
        6 => index().prop_map(Op::Accept),
        6 => (index(), answer).prop_map(|(index, answer)| Op::Answer(index, answer)),
        5 => (index(), any::<bool>()).prop_map(|(index, known)| Op::Register(index, known)),
        5 => (index(), script).prop_map(|(index, script)| Op::End(index, script)),
        2 => index().prop_map(Op::Deliver),
        2 => Just(Op::AskForList),
        2 => Just(Op::ReadList),
        3 => Just(Op::Poll),
        1 => Just(Op::KillAgent),
        2 => Just(Op::StartAgent),
        1 => Just(Op::RestartOcserv),
        8 => (1_u64..12).prop_map(Op::Advance),
        1 => Just(Op::LoseNextChange),
    ]
}
