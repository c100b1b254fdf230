//! What was read again and refused, so that the agent serves on what it had before.

use std::sync::{Arc, Mutex, PoisonError};

/// What is read again while the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reloaded {
    Config,
    Certificates,
    Policy,
}

/// The problems of the last reads, one for each [`Reloaded`]; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RefusedReloads(Arc<Mutex<[Option<String>; Reloaded::ALL.len()]>>);

impl Reloaded {
    pub(crate) const ALL: [Self; 3] = [Self::Config, Self::Certificates, Self::Policy];

    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Certificates => "certificates",
            Self::Policy => "policy",
        }
    }

    /// What `/readyz` says of it.
    fn refused(self) -> &'static str {
        match self {
            Self::Config => "the configuration was refused, the old settings are in effect",
            Self::Certificates => "a certificate was refused, the old one is in use",
            Self::Policy => "the policy file was refused, the last good policy is in effect",
        }
    }
}

impl RefusedReloads {
    /// Records the last read of `what`: its problem, or `None` when it is in effect.
    pub(crate) fn set(&self, what: Reloaded, problem: Option<String>) {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        problems[what as usize] = problem;
    }

    /// Whether the last read of `what` was refused.
    pub(crate) fn is_refused(&self, what: Reloaded) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[what as usize].is_some()
    }

    /// Returns a sentence for each refused read.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = Reloaded::ALL.into_iter().zip(problems.iter());
        named
            .filter_map(|(what, problem)| Some(format!("{}: {}", what.refused(), problem.as_ref()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_read_stands_alone_and_a_good_one_ends_its_problem() {
        let refused = RefusedReloads::default();
        for what in Reloaded::ALL {
            refused.set(what, Some(what.label().to_owned()));
        }
        assert_eq!(refused.problems().len(), 3);
        refused.set(Reloaded::Config, None);
        refused.set(Reloaded::Policy, Some("line 2".to_owned()));
        assert!(!refused.is_refused(Reloaded::Config) && refused.is_refused(Reloaded::Certificates));
        assert_eq!(
            refused.problems(),
            [
                "a certificate was refused, the old one is in use: certificates",
                "the policy file was refused, the last good policy is in effect: line 2",
            ]
        );
    }
}
