//! The results of the last actions, by the portal's id of each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use portal::Notification;

/// Most ids that are kept; the oldest is forgotten first.
const MAX_RESULTS: usize = 4_096;

/// The result of one action, once there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<OnceLock<Notification>>);

/// Whether an action is new.
#[derive(Debug)]
pub(super) enum Begun {
    /// Execute it, and put its result into the slot.
    New(Slot),
    /// It was begun before; its result, unless it is still in progress.
    Again(Option<Notification>),
}

/// The results by id.
#[derive(Debug, Default)]
pub(super) struct Results {
    slots: HashMap<String, Slot>,
    order: VecDeque<String>,
}

impl Slot {
    /// Sets the result; an action has one.
    pub(super) fn set(&self, result: Notification) {
        let _first = self.0.set(result);
    }
}

impl Results {
    /// Begins the action with this id.
    pub(super) fn begin(&mut self, request_id: &str) -> Begun {
        if let Some(slot) = self.slots.get(request_id) {
            return Begun::Again(slot.0.get().cloned());
        }
        if self.order.len() == MAX_RESULTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.slots.remove(&oldest);
        }
        let slot = Slot::default();
        self.slots.insert(request_id.to_owned(), slot.clone());
        self.order.push_back(request_id.to_owned());
        Begun::New(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_begun_once_and_gets_its_result_again() {
        let mut results = Results::default();
        let Begun::New(slot) = results.begin("r1") else {
            panic!("it is new");
        };
        assert!(matches!(results.begin("r1"), Begun::Again(None)));
        slot.set(Notification::new("action_result", "done"));
        let Begun::Again(Some(result)) = results.begin("r1") else {
            panic!("it is known");
        };
        assert_eq!(result.message, "done");
    }

    #[test]
    fn the_oldest_id_is_forgotten_first() {
        let mut results = Results::default();
        for id in 0..=MAX_RESULTS {
            assert!(matches!(results.begin(&id.to_string()), Begun::New(_)));
        }
        assert_eq!(results.slots.len(), MAX_RESULTS);
        assert!(matches!(results.begin("1"), Begun::Again(_)));
        assert!(matches!(results.begin("0"), Begun::New(_)));
    }
}
