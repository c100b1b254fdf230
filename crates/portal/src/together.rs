//! The parts of an HTTP/2 connection, run together in one task.
//!
//! HTTP/2 is several futures that wake each other for every call: who takes calls, who owns the socket, and two for each
//! call. As tasks of their own they would be woken from thread to thread, which costs more than what they do.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

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
    /// Who owns the socket: the first part that HTTP/2 makes. Goes last, so that what the others have to say for one call
    /// leaves in one piece.
    socket: Option<Part<()>>,
    running: FuturesUnordered<Part<Option<T>>>,
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
            socket,
            running,
        };
        together.run(made);
        together
    }

    fn run(&self, made: impl Iterator<Item = Part<()>>) {
        for part in made {
            self.running.push(Box::pin(async move {
                part.await;
                None
            }));
        }
    }

    /// Runs all parts until the connection takes no more calls; gives what came of it.
    pub(crate) async fn connection(&mut self) -> T {
        std::future::poll_fn(|cx| self.poll_connection(cx)).await
    }

    /// Runs what is left to its end.
    pub(crate) async fn rest(&mut self) {
        std::future::poll_fn(|cx| {
            while ready!(self.poll_all(cx)).is_some() {}
            Poll::Ready(())
        })
        .await;
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(self.poll_all(cx)) {
            Some(outcome) => Poll::Ready(outcome),
            // Not before the connection has ended, for it is one of them.
            None => Poll::Pending,
        }
    }

    /// Goes on with every part that can; `None` when all have ended.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // The socket brings answers, for which the others wait; what they say then, it sends when it is woken.
        if let Poll::Ready(Some(outcome)) = self.poll_running(cx) {
            return Poll::Ready(Some(outcome));
        }
        if self
            .socket
            .as_mut()
            .is_some_and(|socket| socket.as_mut().poll(cx).is_ready())
        {
            self.socket = None;
        }
        match ready!(self.poll_running(cx)) {
            Some(outcome) => Poll::Ready(Some(outcome)),
            None if self.socket.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Goes on with every part but the socket; `None` when all have ended.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            let polled = self.running.poll_next_unpin(cx);
            let made = self.parts.take();
            if !made.is_empty() {
                self.run(made.into_iter());
            } else if let Poll::Ready(Some(None)) = polled {
                continue;
            } else {
                return polled.map(Option::flatten);
            }
            if let Poll::Ready(Some(Some(outcome))) = polled {
                return Poll::Ready(Some(outcome));
            }
        }
    }
}
