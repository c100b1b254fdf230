//! The fake's state, and ocserv's replies from it.

use std::collections::HashMap;

use prost::Message;

use super::behavior::{ControlRequest, Fault, Release, Terminated};
use super::messages::{
    BoolMessage, CookieList, FakeLogin, FakeSession, IdRequest, SafeIdRequest, StatusReply, UserList,
    UsernameRequest, command,
};

/// The state of a session whose connect-script runs.
const IN_SCRIPT: u32 = 1;
/// The state of a connected session.
const CONNECTED: u32 = 4;
/// Length of a login's id in a request.
const SAFE_ID_BYTES: usize = 28;

#[derive(Default)]
pub(super) struct State {
    pub(super) release: Release,
    pub(super) starts: u32,
    pub(super) sessions: Vec<FakeSession>,
    /// The number of lists in which a session stays after its disconnect.
    pub(super) linger: u32,
    /// Disconnected sessions that are still listed, each with the remaining lists.
    pub(super) lingering: HashMap<i32, u32>,
    /// The number of queries for a session after which its connect-script ends; `None` means never.
    pub(super) script: Option<u32>,
    /// The number of queries for each session.
    pub(super) queries: HashMap<i32, u32>,
    pub(super) logins: Vec<FakeLogin>,
    pub(super) terminated: Vec<Terminated>,
    pub(super) recorded: HashMap<u8, Vec<u8>>,
    pub(super) fault: Option<Fault>,
    pub(super) requests: Vec<ControlRequest>,
}

/// Returns ocserv's reply; `None` where it closes the connection.
pub(super) fn reply_to(state: &mut State, request: &ControlRequest) -> Option<Vec<u8>> {
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
            state.count_list();
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
            state.count_query(id);
            frame(command::LIST_REPLY, &state.list(|session| session.id == id))
        }
        command::DISCONNECT_NAME => {
            let name = name()?;
            let ended = state.disconnect(|session| session.username == name);
            frame(command::DISCONNECT_NAME_REPLY, &ended)
        }
        command::DISCONNECT_ID => {
            let id = id()?;
            frame(
                command::DISCONNECT_ID_REPLY,
                &state.disconnect(|session| session.id == id),
            )
        }
        command::LIST_COOKIES => {
            let cookies = state.logins.iter().map(FakeLogin::to_message).collect();
            frame(command::LIST_COOKIES_REPLY, &CookieList { cookies })
        }
        command::TERMINATE_USER if state.release >= Release::V1_4_2 => {
            let name = name()?;
            let ended = state.disconnect(|session| session.username == name);
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

    /// Disconnects sessions; lingering ones are removed by [`Self::count_list`].
    fn disconnect(&mut self, wanted: impl Fn(&FakeSession) -> bool) -> BoolMessage {
        let (disconnected, others): (Vec<_>, Vec<_>) =
            self.sessions.drain(..).partition(|session| wanted(session));
        let status = !disconnected.is_empty();
        self.sessions = others;
        if self.linger > 0 {
            for session in disconnected {
                self.lingering.entry(session.id).or_insert(self.linger);
                self.sessions.push(session);
            }
        }
        BoolMessage { status }
    }

    /// Counts a list: removes lingering sessions that have been listed often enough.
    fn count_list(&mut self) {
        for left in self.lingering.values_mut() {
            *left = left.saturating_sub(1);
        }
        let lingering = &self.lingering;
        self.sessions
            .retain(|session| lingering.get(&session.id) != Some(&0));
        self.lingering.retain(|_, left| *left > 0);
    }

    /// Counts a query for a session: ends its connect-script after enough of them.
    fn count_query(&mut self, id: i32) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else {
            return;
        };
        let queries = self.queries.entry(id).or_default();
        if session.state == IN_SCRIPT && self.script.is_some_and(|script| *queries >= script) {
            session.state = CONNECTED;
        }
        *queries += 1;
    }

    /// Terminates a login. Like ocserv, accepts only the 28 characters without the NUL that lists
    /// have.
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

/// Encodes a message in ocserv's frame.
fn frame(command: u8, message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = vec![command];
    frame.extend(length.to_ne_bytes());
    frame.extend(body);
    frame
}
