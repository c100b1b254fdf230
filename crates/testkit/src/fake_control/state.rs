//! What the fake knows, and what ocserv would say from that.

use std::collections::HashMap;

use prost::Message;

use super::messages::{
    BoolMessage, CookieList, FakeLogin, FakeSession, IdRequest, SafeIdRequest, StatusReply, UserList,
    UsernameRequest, command,
};
use super::{ControlRequest, Fault, Release, Terminated};

/// The state of a session whose connect-script runs.
const IN_SCRIPT: u32 = 1;
/// The state of one that is up.
const CONNECTED: u32 = 4;
/// Length of a login's id in a request.
const SAFE_ID_BYTES: usize = 28;

#[derive(Default)]
pub(super) struct State {
    pub(super) release: Release,
    pub(super) starts: u32,
    pub(super) sessions: Vec<FakeSession>,
    /// How many looks at the list a session stays in it for after it was told to end.
    pub(super) linger: u32,
    /// Those that were told to end, with the looks that are left.
    pub(super) leaving: HashMap<i32, u32>,
    /// How many looks at a session its connect-script takes; `None` has it run for ever.
    pub(super) script: Option<u32>,
    /// How many looks there were at those whose connect-script runs.
    pub(super) looks: HashMap<i32, u32>,
    pub(super) logins: Vec<FakeLogin>,
    pub(super) terminated: Vec<Terminated>,
    pub(super) recorded: HashMap<u8, Vec<u8>>,
    pub(super) fault: Option<Fault>,
    pub(super) requests: Vec<ControlRequest>,
}

/// What ocserv would say; `None` where it just closes.
pub(super) fn answer(state: &mut State, request: &ControlRequest) -> Option<Vec<u8>> {
    let payload = request.payload.as_slice();
    let name = || {
        UsernameRequest::decode(payload)
            .ok()
            .map(|request| request.username)
    };
    let id = || IdRequest::decode(payload).ok().map(|request| request.id);
    Some(match request.command {
        command::STATUS => frame(
            command::STATUS_REPLY,
            &StatusReply::new(state.sessions.len(), state.starts),
        ),
        command::LIST => {
            state.look();
            frame(command::LIST_REPLY, &state.list(|_| true))
        }
        command::USER_INFO => {
            let name = name()?;
            frame(
                command::LIST_REPLY,
                &state.list(|session| session.username == name),
            )
        }
        command::ID_INFO => {
            let id = id()?;
            state.look_at(id);
            frame(command::LIST_REPLY, &state.list(|session| session.id == id))
        }
        command::DISCONNECT_NAME => {
            let name = name()?;
            let ended = state.end(|session| session.username == name);
            frame(command::DISCONNECT_NAME_REPLY, &ended)
        }
        command::DISCONNECT_ID => {
            let id = id()?;
            frame(
                command::DISCONNECT_ID_REPLY,
                &state.end(|session| session.id == id),
            )
        }
        command::LIST_COOKIES => {
            let cookies = state.logins.iter().map(FakeLogin::to_message).collect();
            frame(command::LIST_COOKIES_REPLY, &CookieList { cookies })
        }
        command::TERMINATE_USER if state.release >= Release::V1_4_2 => {
            let name = name()?;
            let ended = state.end(|session| session.username == name);
            frame(command::TERMINATE_USER_REPLY, &ended)
        }
        command::TERMINATE_SESSION if state.release >= Release::V1_4_2 => {
            let safe_id = SafeIdRequest::decode(payload).ok()?.safe_id;
            frame(command::TERMINATE_SESSION_REPLY, &state.terminate(&safe_id))
        }
        _ => return None,
    })
}

impl State {
    fn list(&self, wanted: impl Fn(&FakeSession) -> bool) -> UserList {
        let session_start = self.release >= Release::V1_4_1;
        let wanted = self.sessions.iter().filter(|session| wanted(session));
        UserList {
            user: wanted.map(|session| session.to_message(session_start)).collect(),
        }
    }

    /// Tells sessions to end; those that linger are left for [`Self::look`].
    fn end(&mut self, wanted: impl Fn(&FakeSession) -> bool) -> BoolMessage {
        let (ending, staying): (Vec<_>, Vec<_>) =
            self.sessions.drain(..).partition(|session| wanted(session));
        let status = !ending.is_empty();
        self.sessions = staying;
        if self.linger > 0 {
            for session in ending {
                self.leaving.entry(session.id).or_insert(self.linger);
                self.sessions.push(session);
            }
        }
        BoolMessage { status }
    }

    /// Counts a look at the list: those whose looks are over are gone.
    fn look(&mut self) {
        for left in self.leaving.values_mut() {
            *left = left.saturating_sub(1);
        }
        let leaving = &self.leaving;
        self.sessions
            .retain(|session| leaving.get(&session.id) != Some(&0));
        self.leaving.retain(|_, left| *left > 0);
    }

    /// Counts a look at one session: when its connect-script has taken long enough, it is connected.
    fn look_at(&mut self, id: i32) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else {
            return;
        };
        let looks = self.looks.entry(id).or_default();
        if session.state == IN_SCRIPT && self.script.is_some_and(|script| *looks >= script) {
            session.state = CONNECTED;
        }
        *looks += 1;
    }

    /// Ends a login. Like ocserv it takes the 28 characters alone, without the NUL that it lists.
    fn terminate(&mut self, safe_id: &[u8]) -> BoolMessage {
        if safe_id.len() != SAFE_ID_BYTES {
            return BoolMessage { status: false };
        }
        let safe_id = String::from_utf8_lossy(safe_id).into_owned();
        let before = (self.sessions.len(), self.logins.len());
        self.sessions.retain(|session| session.safe_id != safe_id);
        self.logins.retain(|login| login.safe_id != safe_id);
        let connected = self.sessions.len() < before.0;
        let status = connected || self.logins.len() < before.1;
        self.terminated.push(Terminated { safe_id, connected });
        BoolMessage { status }
    }
}

/// A message as ocserv frames it.
fn frame(command: u8, message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = vec![command];
    frame.extend(length.to_ne_bytes());
    frame.extend(body);
    frame
}
