//! Sessions as a table and as JSON.

use std::collections::BTreeMap;

use ocserv_agent_model::one_line;
use ocserv_agent_proto::agent::v1::VpnSession;
use serde::Serialize;

use crate::rfc3339;

/// The longest text from an agent that is printed, in characters.
pub(super) const MAX_TEXT: usize = 256;

/// One session, as printed by `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    session_id: String,
    username: String,
    client_ip: String,
    vpn_ip: String,
    connected_at: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    device: String,
    metadata: BTreeMap<String, String>,
}

impl From<VpnSession> for Row {
    fn from(session: VpnSession) -> Self {
        Self {
            session_id: session.session_id,
            username: session.username,
            client_ip: session.client_ip,
            vpn_ip: session.vpn_ip,
            connected_at: session.connected_at.and_then(rfc3339::text),
            bytes_in: session.bytes_in,
            bytes_out: session.bytes_out,
            device: session.device_id,
            metadata: session.metadata.into_iter().collect(),
        }
    }
}

/// Formats a table with a header and a final count.
pub(super) fn render(rows: &[Row]) -> String {
    let header = [
        "ID",
        "USER",
        "FROM",
        "VPN ADDRESS",
        "SINCE",
        "BYTES IN",
        "BYTES OUT",
    ]
    .map(str::to_owned);
    let cell = |text: &str| one_line(text, MAX_TEXT);
    let mut lines = vec![header];
    lines.extend(rows.iter().map(|row| {
        [
            cell(&row.session_id),
            cell(&row.username),
            cell(&row.client_ip),
            cell(&row.vpn_ip),
            row.connected_at.clone().unwrap_or_else(|| "?".to_owned()),
            row.bytes_in.to_string(),
            row.bytes_out.to_string(),
        ]
    }));
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    let count = rows.len();
    text + &format!("{count} {}\n", if count == 1 { "session" } else { "sessions" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_one_row_without_control_characters() {
        let session = VpnSession {
            session_id: "27015".to_owned(),
            username: "al\u{1b}[31mice".to_owned(),
            client_ip: "192.0.2.7".to_owned(),
            vpn_ip: "10.99.0.2".to_owned(),
            connected_at: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            bytes_in: 1,
            bytes_out: 22,
            ..VpnSession::default()
        };
        let unnamed = VpnSession {
            connected_at: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            }),
            ..VpnSession::default()
        };
        assert_eq!(
            render(&[session.into(), unnamed.into()]),
            "ID     USER        FROM       VPN ADDRESS  SINCE                     BYTES IN  BYTES OUT\n\
             27015  al [31mice  192.0.2.7  10.99.0.2    2023-11-14T22:13:20.000Z  1         22\n\
             \u{20}                                          ?                         0         0\n\
             2 sessions\n"
        );
    }
}
