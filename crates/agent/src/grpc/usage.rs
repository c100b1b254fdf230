//! What the tun devices moved.

use std::collections::HashMap;
use std::io;

use ocserv_agent_model::Usage;

/// Byte counters of every network device in this process's network namespace, by the device's name.
///
/// ocserv's control socket has no byte counts (ocserv's `occtl` reads the devices too). What a tun device received is
/// what ocserv wrote into it, so the device's `rx` is what came from the client.
pub(super) async fn devices() -> io::Result<HashMap<String, Usage>> {
    tokio::fs::read_to_string("/proc/self/net/dev")
        .await
        .map(|text| parse(&text))
}

fn parse(text: &str) -> HashMap<String, Usage> {
    text.lines().filter_map(device).collect()
}

/// `name: rx_bytes` and seven more figures, then `tx_bytes` (proc_pid_net(5)).
fn device(line: &str) -> Option<(String, Usage)> {
    let (name, figures) = line.split_once(':')?;
    let mut figures = figures.split_ascii_whitespace();
    let received = figures.next()?.parse().ok()?;
    let sent = figures.nth(7)?.parse().ok()?;
    Some((name.trim().to_owned(), Usage { received, sent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_that_a_device_received_came_from_the_client() {
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
