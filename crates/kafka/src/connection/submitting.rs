//! A connection while it submits a produce request: what is under way before that goes on.

use base::time::now;

use super::{Connection, Ended, Event, TICK, front_completed};
use crate::handlers::produce::Submission;

impl Connection {
    /// Submits a produce request, and goes on with those before it while there is no room for its batches.
    pub(super) async fn submit(&mut self, mut submission: Submission) -> Result<(), Ended> {
        self.look_at(self.active + TICK);
        while !submission.admit(&self.context, &mut self.sequences, self.active) {
            self.drain().await?;
            if *self.shutdown.borrow() {
                submission.stop();
            }
            submission.expire(now());
        }
        let mut is_stopping = false;
        while let Some(event) = self.while_appending(&mut submission, is_stopping).await {
            match event {
                Event::Answerable => self.answer_completed().await?,
                Event::Shutdown => {
                    is_stopping = true;
                    submission.stop();
                }
                Event::Tick | Event::Request(_) | Event::Begun | Event::Gone(_) => {
                    let now = now();
                    submission.expire(now);
                    // It is us who do not read.
                    (self.active, self.seen.1) = (now, now);
                    self.tick()?;
                    self.look_at(now + TICK);
                }
            }
        }
        self.in_flight.push_back(submission.into_produce());
        self.look_at(self.active + TICK);
        Ok(())
    }

    /// What is to be done before all of the request is appended; nothing is read.
    async fn while_appending(&mut self, submission: &mut Submission, is_stopping: bool) -> Option<Event> {
        let Self { context, in_flight, timer, shutdown, .. } = self;
        tokio::select! {
            biased;
            () = submission.append(context) => None,
            () = front_completed(in_flight), if !in_flight.is_empty() => Some(Event::Answerable),
            () = timer => Some(Event::Tick),
            _ = shutdown.wait_for(|stopping| *stopping), if !is_stopping => Some(Event::Shutdown),
        }
    }
}
