//! The parts of an HTTP/2 connection, run together in one task.
//!
//! HTTP/2 is several futures that wake each other for every call: who takes calls, who owns the socket, and two for each
//! call. As tasks of their own they would be woken from thread to thread, which costs more than what they do.

mod bell;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bell::Bell;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

/// How often parts that wake each other are looked at before other tasks have their turn.
const ROUNDS: usize = 8;

/// One of them.
type Part<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where HTTP/2 leaves the parts that it makes. They are begun by the one who runs them, before anything else happens.
#[derive(Clone, Default)]
pub(crate) struct Parts(Arc<Mutex<Vec<Part<()>>>>);

impl<F> hyper::rt::Executor<F> for Parts
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, part: F) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(Box::pin(part));
    }
}

impl Parts {
    fn take(&self) -> Vec<Part<()>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection with all its parts.
pub(crate) struct Together<T> {
    parts: Parts,
    running: FuturesUnordered<Part<Option<T>>>,
    /// Who owns the socket: the first part that HTTP/2 makes. Goes after the others, so that what they have to say leaves
    /// together.
    socket: Option<Part<()>>,
    bell: Arc<Bell>,
}

impl<T: 'static> Together<T> {
    /// Runs `connection`, which left its other parts in `parts`.
    pub(crate) fn new(connection: impl Future<Output = T> + Send + 'static, parts: Parts) -> Self {
        let mut made = parts.take().into_iter();
        let socket = made.next();
        let running = FuturesUnordered::new();
        running.push(Box::pin(async move { Some(connection.await) }) as Part<Option<T>>);
        let together = Self {
            parts,
            running,
            socket,
            bell: Arc::default(),
        };
        together.begin(made);
        together
    }

    fn begin(&self, made: impl Iterator<Item = Part<()>>) {
        for part in made {
            self.running.push(Box::pin(async move {
                part.await;
                None
            }));
        }
    }

    /// Runs all parts until the connection takes no more calls; gives what came of it.
    pub(crate) async fn connection(&mut self) -> T {
        loop {
            // The connection is one of the parts, so they do not all end before it.
            if let Some(outcome) = self.next().await {
                return outcome;
            }
        }
    }

    /// Runs what is left to its end.
    pub(crate) async fn rest(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Runs all parts until the connection has ended or, with `None`, all of them.
    async fn next(&mut self) -> Option<T> {
        let bell = Arc::clone(&self.bell);
        std::future::poll_fn(|cx| {
            let ended = bell.answer(cx, ROUNDS, |cx| match self.poll_once(cx) {
                Poll::Ready(ended) => Some(ended),
                Poll::Pending => None,
            });
            ended.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Goes on with every part that can.
    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let running = self.poll_running(cx);
        if let Poll::Ready(Some(outcome)) = running {
            return Poll::Ready(Some(outcome));
        }
        let over = |socket: &mut Part<()>| socket.as_mut().poll(cx).is_ready();
        if self.socket.as_mut().is_some_and(over) {
            self.socket = None;
        }
        match (running, &self.socket) {
            (Poll::Ready(_), None) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }

    /// Goes on with every part but the socket; `None` when all have ended.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            let polled = self.running.poll_next_unpin(cx);
            let made = self.parts.take();
            let is_new = !made.is_empty();
            self.begin(made.into_iter());
            match polled {
                Poll::Ready(Some(Some(outcome))) => return Poll::Ready(Some(outcome)),
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending if is_new => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
