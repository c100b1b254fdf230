//! A request to the agent's IPC socket without an ocserv: through the connect-script, or byte by
//! byte.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value};

use super::handle::Lab;
use crate::wait::BOUND;

/// Session ids above every pid of an ocserv worker, so that no request means an existing session.
static NEXT_ID: AtomicU32 = AtomicU32::new(1_000_000_000);

/// A request about one login, each about another session.
#[derive(Debug, Clone)]
pub struct IpcRequest {
    fields: Map<String, Value>,
}

impl IpcRequest {
    /// Makes a request for a login of `user` from the first client network of a lab.
    #[must_use]
    pub fn login(user: &str) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed).to_string();
        let fields = [
            ("reason", "connect"),
            ("username", user),
            ("groupname", ""),
            ("ip_real", "10.77.0.2"),
            ("ip_remote", "10.88.0.9"),
            ("device", "bvpn9"),
            ("session_id", &id),
        ];
        let fields = fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()));
        Self {
            fields: fields.collect(),
        }
        .with("vhost", "default")
    }

    /// Sets a key of the request.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    /// Removes a key of the request.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.fields.remove(key);
        self
    }

    /// Returns the id of its session.
    #[must_use]
    pub fn session_id(&self) -> &str {
        self.fields
            .get("session_id")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Turns it into a request for the disconnect of the same session.
    #[must_use]
    pub fn into_disconnect(self) -> Self {
        self.with("reason", "disconnect")
    }

    /// Encodes it as a frame: four bytes of length, then JSON.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let body = Value::Object(self.fields.clone()).to_string();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), body.as_bytes()].concat()
    }

    /// Sends it; [`Self::read_response`] reads the response from the returned stream.
    ///
    /// # Errors
    /// When nothing listens, or the frame cannot be written.
    pub fn send(&self, socket: &Path) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        stream.write_all(&self.frame())?;
        Ok(stream)
    }

    /// Sends it to a lab's agent and returns the response.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::read_response`].
    pub fn call(&self, lab: &Lab) -> io::Result<Value> {
        Self::read_response(self.send(&lab.agent().socket())?)
    }

    /// Reads the response to a request that was sent.
    ///
    /// # Errors
    /// When it is not one whole frame of JSON.
    pub fn read_response(mut stream: UnixStream) -> io::Result<Value> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let (length, body) = bytes.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        if usize::try_from(u32::from_be_bytes(*length)).ok() != Some(body.len()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(serde_json::from_slice(body)?)
    }

    /// Runs the lab's connect-script with the login in its environment, as ocserv does.
    ///
    /// # Errors
    /// When the script cannot be started.
    pub fn run_script(&self, lab: &Lab) -> io::Result<Output> {
        let mut command = Command::new(lab.directory().join("connect-script"));
        command.env_clear().stdin(Stdio::null());
        let names = [
            ("REASON", "reason"),
            ("USERNAME", "username"),
            ("GROUPNAME", "groupname"),
            ("IP_REAL", "ip_real"),
            ("IP_REMOTE", "ip_remote"),
            ("DEVICE", "device"),
            ("ID", "session_id"),
            ("VHOST", "vhost"),
        ];
        for (name, key) in names {
            if let Some(value) = self.fields.get(key).and_then(Value::as_str) {
                command.env(name, value);
            }
        }
        command.output()
    }
}
