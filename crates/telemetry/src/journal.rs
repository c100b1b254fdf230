//! Lines for systemd's journal: each begins with its priority, as in sd-daemon(3).

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Returns whether standard error is the stream that systemd names in `JOURNAL_STREAM`: the number
/// of its device and of its inode. The variable is inherited, so it alone shows nothing.
#[must_use]
pub fn is_journal(stream: &str) -> bool {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    let meta = stderr.and_then(|stderr| File::from(stderr).metadata());
    meta.is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}

/// Formats an error that is reported outside of the log, each line with its priority where standard
/// error is the journal.
#[must_use]
pub fn error_lines(text: &str, journal: bool) -> String {
    let prefix = if journal { prefix(Level::ERROR) } else { "" };
    text.lines().map(|line| format!("{prefix}{line}\n")).collect()
}

/// The prefix of a line of `level`.
pub(crate) const fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// Formats events as text for the journal, which has the time already.
pub(crate) struct JournalText(Format<Full, ()>);

impl JournalText {
    pub(crate) fn new() -> Self {
        Self(tracing_subscriber::fmt::format().without_time())
    }
}

impl<S, N> FormatEvent<S, N> for JournalText
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        writer.write_str(prefix(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}
