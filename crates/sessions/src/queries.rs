//! Look-ups in the store.

use std::net::IpAddr;
use std::time::SystemTime;

use ocserv_agent_model::{GroupName, OcservId, SessionUid, Username};

use crate::session::Session;
use crate::store::{SessionStore, State};
use crate::time::at_second;

impl SessionStore {
    /// The live sessions, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.by_id.values().filter_map(|entry| match &entry.state {
            State::Live(session) => Some(&**session),
            State::AwaitingAnswer(_) => None,
        })
    }

    /// The live session with ocserv's `id`.
    #[must_use]
    pub fn get(&self, id: OcservId) -> Option<&Session> {
        match &self.by_id.get(&id)?.state {
            State::Live(session) => Some(session),
            State::AwaitingAnswer(_) => None,
        }
    }

    /// The live session with this uid.
    #[must_use]
    pub fn by_uid(&self, uid: &SessionUid) -> Option<&Session> {
        self.sessions().find(|session| session.uid == *uid)
    }

    /// The live sessions of a user.
    pub fn by_user<'a>(&'a self, username: &'a Username) -> impl Iterator<Item = &'a Session> {
        self.sessions()
            .filter(move |session| session.username == *username)
    }

    /// The live sessions of a group.
    pub fn by_group<'a>(&'a self, group: &'a GroupName) -> impl Iterator<Item = &'a Session> {
        self.sessions()
            .filter(move |session| session.group.as_ref() == Some(group))
    }

    /// The live sessions with an address inside the VPN: two while a client roams.
    pub fn by_vpn_ip(&self, address: IpAddr) -> impl Iterator<Item = &Session> {
        self.sessions()
            .filter(move |session| session.vpn_ip == Some(address))
    }

    /// The number of live sessions.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.sessions().count()
    }

    /// When the oldest live session connected.
    #[must_use]
    pub fn oldest(&self) -> Option<SystemTime> {
        self.sessions().map(Session::second).min().map(at_second)
    }
}
