//! Telling whether a part woke another while they were looked at, so that both are done in one go.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// Nobody looks; whoever rings wakes the task.
const QUIET: u8 = 0;
/// The task looks.
const LOOKING: u8 = 1;
/// The task looks, and something rang since.
const RUNG: u8 = 2;

/// What parts ring when they can go on.
#[derive(Default)]
pub(super) struct Bell {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    /// Looks with `look` until nothing rings any more, at most `rounds` times; whatever rings then wakes the task.
    pub(super) fn answer<T>(
        self: &Arc<Self>,
        cx: &Context<'_>,
        rounds: usize,
        mut look: impl FnMut(&mut Context<'_>) -> Option<T>,
    ) -> Option<T> {
        {
            let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *task {
                Some(task) => task.clone_from(cx.waker()),
                None => *task = Some(cx.waker().clone()),
            }
        }
        let waker = Waker::from(Arc::clone(self));
        let mut found = None;
        for _ in 0..rounds {
            self.state.store(LOOKING, Ordering::SeqCst);
            found = look(&mut Context::from_waker(&waker));
            if found.is_some() || self.state.load(Ordering::SeqCst) == LOOKING {
                break;
            }
        }
        if self.state.swap(QUIET, Ordering::SeqCst) == RUNG {
            cx.waker().wake_by_ref();
        }
        found
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let looking = self
            .state
            .compare_exchange(LOOKING, RUNG, Ordering::SeqCst, Ordering::SeqCst);
        if looking != Err(QUIET) {
            return;
        }
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often the task is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How often the task looked, and was woken, when the first `rings` looks ring.
    fn answered(rings: usize, rounds: usize) -> (usize, usize) {
        let (bell, woken) = (Arc::new(Bell::default()), Arc::new(Woken::default()));
        let task = Waker::from(Arc::clone(&woken));
        let mut looks = 0;
        let found = bell.answer(&Context::from_waker(&task), rounds, |cx| {
            looks += 1;
            if looks <= rings {
                cx.waker().wake_by_ref();
            }
            None::<()>
        });
        assert_eq!(found, None);
        (looks, woken.0.load(Ordering::SeqCst))
    }

    #[test]
    fn what_rings_while_the_task_looks_is_looked_at_at_once_and_wakes_nobody() {
        assert_eq!(answered(0, 8), (1, 0));
        assert_eq!(answered(3, 8), (4, 0));
    }

    #[test]
    fn what_rings_for_ever_lets_other_tasks_go_on_in_between() {
        assert_eq!(answered(100, 8), (8, 1));
    }

    #[test]
    fn what_rings_later_wakes_the_task_every_time() {
        let (bell, woken) = (Arc::new(Bell::default()), Arc::new(Woken::default()));
        let task = Waker::from(Arc::clone(&woken));
        let mut kept = None;
        bell.answer(&Context::from_waker(&task), 8, |cx| {
            kept = Some(cx.waker().clone());
            None::<()>
        });
        let part = kept.unwrap();
        part.wake_by_ref();
        part.wake();
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_ring_after_the_last_look_is_never_lost() {
        for _ in 0..2_000 {
            let (bell, woken) = (Arc::new(Bell::default()), Arc::new(Woken::default()));
            let task = Waker::from(Arc::clone(&woken));
            let looks = AtomicUsize::new(0);
            let seen = std::thread::scope(|scope| {
                let mut ringer = None;
                bell.answer(&Context::from_waker(&task), 8, |cx| {
                    if looks.fetch_add(1, Ordering::SeqCst) == 0 {
                        let waker = cx.waker().clone();
                        ringer = Some(scope.spawn(move || waker.wake()));
                    }
                    None::<()>
                });
                ringer.map(|ringer| ringer.join().is_ok())
            });
            assert_eq!(seen, Some(true));
            let (looks, woken) = (looks.into_inner(), woken.0.load(Ordering::SeqCst));
            assert!(looks + woken >= 2, "{looks} looks, woken {woken} times");
        }
    }
}
