//! Formats events as JSON lines: one flat object per event, written into one reused buffer.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::journal::prefix;
use crate::writer::LineSink;

/// The layer that formats events. Fields keep their order, the message first.
pub(crate) struct JsonLines {
    sink: LineSink,
    clock: fn() -> SystemTime,
    journal: bool,
}

impl JsonLines {
    /// Creates a layer that writes to `sink` with the time of `clock`; for the `journal`, each line
    /// begins with its priority.
    pub(crate) fn new(sink: LineSink, clock: fn() -> SystemTime, journal: bool) -> Self {
        Self { sink, clock, journal }
    }
}

thread_local! {
    /// The buffer, reused for each line of a thread.
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A new buffer in a thread that is ending, and for a value that logs while it is formatted.
        let mut line = BUFFER.try_with(Cell::take).unwrap_or_default();
        if self.journal {
            line.push_str(prefix(*event.metadata().level()));
        }
        write_line(&mut line, event, (self.clock)());
        self.sink.push(line.as_bytes());
        line.clear();
        let _ending = BUFFER.try_with(|buffer| buffer.set(line));
    }
}

fn write_line(line: &mut String, event: &Event<'_>, now: SystemTime) {
    let metadata = event.metadata();
    line.push_str("{\"timestamp\":\"");
    // A time before 1970 is omitted. Writing to a String cannot fail except for a time after 9999.
    if now >= SystemTime::UNIX_EPOCH {
        let _infallible = write!(line, "{}", humantime::format_rfc3339_micros(now));
    }
    line.push_str("\",\"level\":\"");
    line.push_str(metadata.level().as_str());
    line.push('"');
    event.record(&mut Fields(line));
    line.push_str(",\"target\":");
    quoted(line, metadata.target());
    line.push_str("}\n");
}

/// Writes the fields of an event, each after a comma.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn key(&mut self, field: &Field) -> &mut String {
        let name = field.name();
        self.0.push(',');
        quoted(self.0, name.strip_prefix("r#").unwrap_or(name));
        self.0.push(':');
        self.0
    }

    /// Writes a value whose text is valid JSON.
    fn raw(&mut self, field: &Field, value: impl fmt::Display) {
        let _infallible = write!(self.key(field), "{value}");
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        quoted(self.key(field), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.raw(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.raw(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.raw(field, value);
        } else {
            // JSON has no such number.
            self.raw(field, "null");
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let line = self.key(field);
        line.push('"');
        let _infallible = write!(Escaped(line), "{value:?}");
        line.push('"');
    }
}

fn quoted(line: &mut String, text: &str) {
    line.push('"');
    escape(line, text);
    line.push('"');
}

/// Escapes the text formatted into it.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Appends `text` as the content of a JSON string.
fn escape(line: &mut String, text: &str) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    let mut rest = text;
    // Special characters are one byte, so both splits are at character boundaries.
    while let Some(at) = rest.bytes().position(is_special) {
        let (plain, special) = rest.split_at(at);
        line.push_str(plain);
        match special.as_bytes()[0] {
            b'"' => line.push_str("\\\""),
            b'\\' => line.push_str("\\\\"),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            control => {
                let _infallible = write!(line, "\\u{control:04x}");
            }
        }
        rest = &special[1..];
    }
    line.push_str(rest);
}

#[cfg(test)]
mod tests;
