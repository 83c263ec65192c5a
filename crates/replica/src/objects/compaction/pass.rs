//! Passes, from the keeper's side: which stream, object by object, and what is left alone for a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use base::time::{Instant, now};
use record::{FileNumber, StreamId};
use shard::PlacedObject;
use shard::commands::PutCompacted;
use storage::is_lasting;

use super::{Cleanable, Dirts, FAILED_PAUSE, Pass, Rewritten};
use crate::objects::work::WorkKind;
use crate::objects::{Keeper, Proposed, Round};

/// What the keeper knows of compaction.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    dirts: Dirts,
    pass: Option<Pass>,
    /// Streams that could not be compacted, and until when they are left alone.
    failed: BTreeMap<StreamId, Instant>,
}

impl Keeper {
    /// One step of compaction; none if nothing is to be compacted.
    pub(crate) async fn clean(&mut self) -> io::Result<Option<Round>> {
        let core = Arc::clone(&self.core);
        let (pass, stream) = match self.compaction.pass.take() {
            Some(pass) => (Ok(Some(pass)), None),
            None => {
                let failed = &mut self.compaction.failed;
                failed.retain(|_, until| now() < *until);
                let Some(cleanable) = core.choose_cleanable(&mut self.compaction.dirts, failed).await else {
                    return Ok(None);
                };
                // Another shard's keys may be in memory for long, and objects are missed meanwhile.
                let Some(turn) = core.pace.cleaning_turn() else { return Ok(Some(Round::Later)) };
                (core.begin_pass(&cleanable, turn).await, Some(cleanable))
            }
        };
        let of = |cleanable: Option<Cleanable>| cleanable.map(|cleanable| cleanable.stream);
        let stepped = match pass {
            Ok(Some(mut pass)) => {
                let stream = pass.stream;
                let stepped = self.step(&mut pass).await;
                if matches!(stepped, Ok(Step::Again)) {
                    self.compaction.pass = Some(pass);
                }
                stepped.map_err(|error| (Some(stream), error))
            }
            // What was to be compacted is gone, or somewhere else now: it is looked for again later.
            Ok(None) => Ok(stream.map_or(Step::Ended, |cleanable| Step::Refused(cleanable.stream))),
            Err(error) => Err((of(stream), error)),
        };
        match stepped {
            Ok(Step::Again | Step::Ended) => Ok(Some(Round::Again)),
            Ok(Step::Refused(stream)) => {
                self.compaction.failed.insert(stream, now() + FAILED_PAUSE);
                Ok(Some(Round::Later))
            }
            Err((_, error)) if is_lasting(&error) => Err(error),
            Err((stream, error)) => {
                let shard = core.config.shard.0;
                let number = stream.map_or(0, |stream| stream.0);
                tracing::warn!(shard, stream = number, %error, "a stream cannot be compacted: it stays as it is for now");
                self.compaction.failed.extend(stream.map(|stream| (stream, now() + FAILED_PAUSE)));
                Ok(Some(Round::Later))
            }
        }
    }

    async fn step(&mut self, pass: &mut Pass) -> io::Result<Step> {
        let core = Arc::clone(&self.core);
        let key = core.new_key();
        let (shard, stream) = (core.config.shard.0, pass.stream);
        core.here.claim(key);
        let rewritten = {
            let _turn = core.pace.turn().await;
            core.rewrite(key, pass).await
        };
        let put = match rewritten {
            Ok(Rewritten::Object(put)) => put,
            other => {
                core.here.give_up(key, None);
                return other.map(|rewritten| {
                    let is_done = matches!(rewritten, Rewritten::Done);
                    if is_done {
                        let Pass { dropped, records, cleaned_to, .. } = pass;
                        tracing::info!(
                            shard,
                            stream = stream.0,
                            records,
                            dropped,
                            cleaned_to = cleaned_to.0,
                            "a stream was compacted"
                        );
                        Step::Ended
                    } else {
                        Step::Refused(stream)
                    }
                });
            }
        };
        Ok(match self.place(key, put.into()).await {
            Proposed::Put => Step::Again,
            Proposed::Refused | Proposed::Lost => Step::Refused(stream),
        })
    }

    /// Builds a compacted object that nobody has from what it was to replace, which is here as long as it is not.
    pub(crate) async fn copy_anew(&mut self, object: &PlacedObject, stream: StreamId) -> io::Result<bool> {
        let core = Arc::clone(&self.core);
        let cleaned_to = {
            let state = core.state.read();
            let Some(view) = state.shard.stream(stream) else { return Ok(false) };
            let Some(known) = view.compacted().find(|known| known.object.key == object.key) else { return Ok(false) };
            known.cleaned_to
        };
        let key = core.new_key();
        core.here.claim(key);
        let copied = {
            let _turn = core.pace.turn().await;
            let work = core.begin_work(WorkKind::Build, object.bytes);
            core.copy_compacted(key, object, stream, &work).await
        };
        let summary = match copied {
            Ok(Some(summary)) => summary,
            other => {
                core.here.give_up(key, None);
                return other.map(|_| false);
            }
        };
        tracing::warn!(shard = core.config.shard.0, object = %object.key, "nobody has a compacted object: it is built anew");
        let put = PutCompacted {
            key,
            stream,
            first: object.first,
            last: object.last,
            bytes: summary.bytes,
            index_digest: summary.index_digest,
            replaces: vec![object.key],
            cleaned_to,
            part_files: FileNumber(0),
        };
        Ok(matches!(self.place(key, put.into()).await, Proposed::Put))
    }
}

/// What came of a step.
enum Step {
    /// The pass goes on.
    Again,
    Ended,
    /// The stream is left alone for a time.
    Refused(StreamId),
}
