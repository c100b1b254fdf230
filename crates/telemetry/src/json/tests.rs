use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::writer;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_005)
}

/// Returns the lines that `log` writes.
fn lines(clock: fn() -> SystemTime, log: impl FnOnce()) -> String {
    let output = Output::default();
    let sink = writer::start(output.clone()).unwrap();
    let subscriber = tracing_subscriber::registry().with(JsonLines::new(sink.clone(), clock, false));
    tracing::subscriber::with_default(subscriber, log);
    assert!(sink.flush(Duration::from_secs(20)));
    let written = output.0.lock().unwrap().clone();
    String::from_utf8(written).unwrap()
}

#[test]
fn a_line_is_one_flat_object_with_its_fields_in_order() {
    let none: Option<u64> = None;
    let line = lines(clock, || {
        tracing::info!(
            target: "audit",
            user = "alice",
            id = %7,
            address = ?std::net::Ipv4Addr::LOCALHOST,
            waiting = 3_u64,
            left = -1_i64,
            share = 0.5,
            odd = f64::NAN,
            done = true,
            none,
            r#type = "t",
            "login decided"
        );
    });
    let expected = concat!(
        r#"{"timestamp":"2023-11-14T22:13:20.000005Z","level":"INFO","message":"login decided","user":"alice","#,
        r#""id":"7","address":"127.0.0.1","waiting":3,"left":-1,"share":0.5,"odd":null,"done":true,"#,
        r#""type":"t","target":"audit"}"#,
        "\n"
    );
    assert_eq!(line, expected);
}

#[test]
fn no_value_breaks_its_line_or_its_quotes() {
    let every: String = (0..=0x1ff)
        .chain(0x2020..0x2030)
        .filter_map(char::from_u32)
        .chain(['🦀'])
        .collect();
    let line = lines(clock, || {
        tracing::warn!(text = every.as_str(), shown = %every, debug = ?every, "{every}");
    });
    assert_eq!(line.matches('\n').count(), 1);
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["text"], every.as_str());
    assert_eq!(object["shown"], every.as_str());
    assert_eq!(object["message"], every.as_str());
    assert_eq!(object["debug"], format!("{every:?}"));
}

#[test]
fn a_value_that_logs_while_it_is_formatted_leaves_the_line_intact() {
    struct Logging;
    impl fmt::Display for Logging {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            tracing::info!("inner");
            f.write_str("shown")
        }
    }
    let lines = lines(clock, || tracing::info!(value = %Logging, "outer"));
    let messages: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].to_string())
        .collect();
    // tracing may drop the inner line; the outer one is complete either way.
    assert_eq!(messages.last().map(String::as_str), Some("\"outer\""));
}

#[test]
fn a_time_before_1970_or_after_9999_is_omitted() {
    for clock in [
        (|| SystemTime::UNIX_EPOCH - Duration::from_secs(1)) as fn() -> SystemTime,
        || SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800),
    ] {
        let line = lines(clock, || tracing::info!("message"));
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], "message");
        assert_eq!(object["timestamp"], "");
    }
}
