//! Errors in log lines.

use std::error::Error;

/// Returns the error and its causes, outermost first: `could not connect: connection refused`.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn every_cause_is_printed_outermost_first() {
        let cause = Layer("no route to host", None);
        assert_eq!(error_chain(&cause), "no route to host");
        let middle = Layer("connect", Some(Box::new(cause)));
        let outer = Layer("call", Some(Box::new(middle)));
        assert_eq!(error_chain(&outer), "call: connect: no route to host");
    }
}
