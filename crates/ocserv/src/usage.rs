//! Byte counters of tun devices.

use std::collections::HashMap;
use std::io;

use occtl::ControlError;
use ocserv_agent_model::Usage;

use crate::server::Ocserv;

/// Why the byte counters could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// ocserv did not tell its process.
    #[error("ocserv does not answer")]
    Ocserv(#[from] ControlError),
    /// Its devices could not be read.
    #[error("could not read the devices of ocserv's network namespace")]
    Proc(#[from] io::Error),
}

impl Ocserv {
    /// Reads the byte counters of every network device in the network namespace of ocserv's main
    /// process, by device name.
    ///
    /// ocserv's control socket has no byte counts (`occtl` reads the devices too). A tun device
    /// receives what ocserv writes to it, so its `rx` is the client's traffic.
    ///
    /// # Errors
    /// When ocserv does not reply, or `/proc` cannot be read.
    pub async fn device_usage(&self) -> Result<HashMap<String, Usage>, UsageError> {
        let process = match self.status().await?.main_pid {
            Some(pid) => pid.to_string(),
            None => "self".to_owned(),
        };
        let text = tokio::fs::read_to_string(format!("/proc/{process}/net/dev")).await?;
        Ok(parse(&text))
    }
}

fn parse(text: &str) -> HashMap<String, Usage> {
    text.lines().filter_map(parse_device).collect()
}

/// Parses `name: rx_bytes`, seven more counters, then `tx_bytes` (proc_pid_net(5)).
fn parse_device(line: &str) -> Option<(String, Usage)> {
    let (name, counters) = line.split_once(':')?;
    let mut counters = counters.split_ascii_whitespace();
    let received = counters.next()?.parse().ok()?;
    let sent = counters.nth(7)?.parse().ok()?;
    Some((name.trim().to_owned(), Usage { received, sent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_a_device_received_are_the_clients() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n \
               lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n \
            bvpn0:  102992     120    0    0    0     0          0         0      680      10    0    0    0     0       0          0\n";
        let devices = parse(text);
        assert_eq!(
            devices.get("bvpn0"),
            Some(&Usage {
                received: 102_992,
                sent: 680
            })
        );
        assert_eq!(devices.len(), 2);
    }
}
