//! A proposal's outcome, still to come.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use shard::Outcome;
use shard::commands::UploadId;
use tokio::sync::oneshot;

use crate::errors::ProposeError;

/// What becomes of a proposal.
pub type ProposeResult = Result<Outcome, ProposeError>;

/// Resolves to the outcome of one proposal. Dropping it changes nothing: the command stays
/// proposed.
#[must_use = "the outcome says whether the command was applied"]
pub struct Pending(State);

enum State {
    Refused(Option<ProposeError>),
    Waiting(oneshot::Receiver<ProposeResult>),
    Forwarded(BoxFuture<'static, ProposeResult>),
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// The other end of a [`Pending`]: answers exactly once, `Unknown` if it is dropped unanswered.
#[derive(Debug)]
pub(crate) struct Answer {
    sender: Option<oneshot::Sender<ProposeResult>>,
    uploads: Option<(Vec<UploadId>, Arc<Abandoned>)>,
}

/// Uploads whose last part did not come, to be dropped by command.
#[derive(Debug, Default)]
pub(crate) struct Abandoned(Mutex<Vec<UploadId>>);

impl Abandoned {
    pub(crate) fn take(&self) -> Vec<UploadId> {
        std::mem::take(&mut *self.0.lock())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Answer {
    /// Nobody waits for this one.
    pub(crate) fn ignored() -> Self {
        Self { sender: None, uploads: None }
    }

    /// Whatever ends without an append leaves the uploads' parts to be dropped.
    pub(crate) fn of_uploads(mut self, uploads: Vec<UploadId>, abandoned: Arc<Abandoned>) -> Self {
        self.uploads = Some((uploads, abandoned));
        self
    }

    pub(crate) fn send(mut self, result: ProposeResult) {
        if result.is_ok() {
            self.uploads = None;
        }
        if let Some(sender) = self.sender.take() {
            // Whoever proposed may have gone; the command's effect does not depend on it.
            let _ = sender.send(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some((uploads, abandoned)) = self.uploads.take() {
            abandoned.0.lock().extend(uploads);
        }
    }
}

impl Pending {
    pub(crate) fn new() -> (Answer, Self) {
        let (sender, receiver) = oneshot::channel();
        (Answer { sender: Some(sender), uploads: None }, Self(State::Waiting(receiver)))
    }

    /// The outcome of a proposal that was refused at once.
    pub fn refused(error: ProposeError) -> Self {
        Self(State::Refused(Some(error)))
    }

    /// The outcome of a proposal that another node was sent.
    pub fn forwarded(outcome: BoxFuture<'static, ProposeResult>) -> Self {
        Self(State::Forwarded(outcome))
    }
}

impl Future for Pending {
    type Output = ProposeResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<ProposeResult> {
        match &mut self.0 {
            State::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(ProposeError::Unknown))),
            State::Forwarded(outcome) => outcome.as_mut().poll(context),
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|answer| answer.unwrap_or(Err(ProposeError::Unknown)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_stay_to_be_dropped_until_an_outcome_comes() {
        let abandoned = Arc::<Abandoned>::default();
        let answer = || Pending::new().0.of_uploads(vec![UploadId(1), UploadId(2)], Arc::clone(&abandoned));
        drop(answer());
        assert_eq!(abandoned.take(), [UploadId(1), UploadId(2)]);
        answer().send(Err(ProposeError::Busy));
        assert_eq!(abandoned.take(), [UploadId(1), UploadId(2)]);
        answer().send(Ok(Outcome::AbandonParts { abandoned: 2 }));
        assert!(abandoned.is_empty());
    }
}
