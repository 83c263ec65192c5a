//! What is answered to the other members: each request is read, compared with what is known here, and
//! then decided by the library.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{VoteRequest, VoteResponse};
use parking_lot::Mutex;
use record::NodeId;

use super::types::{Commands, Entry, EntryPayload, TypeConfig, consensus_log_id, consensus_vote, stored_log_id};
use super::wire::{self, Request};
use super::{Group, trust};
use crate::errors::AnswerError;

impl Group {
    /// Answers what another member asks.
    pub(crate) async fn answer(&self, from: NodeId, request: Bytes) -> Result<Bytes, AnswerError> {
        let request = self.read_request(from, request)?;
        // Most of them are heartbeats, which begin no task.
        if matches!(request, Request::Append(_)) {
            return self.decide(request).await;
        }
        self.with_chance(self.decide(request)).await
    }

    /// A request of `from`, who speaks for nobody else.
    fn read_request(&self, from: NodeId, request: Bytes) -> Result<Request, AnswerError> {
        let request = wire::decode_request(request).map_err(|error| AnswerError::Message(error.to_string()))?;
        if request.node() != from || from == self.node {
            return Err(AnswerError::Message(format!("node {} speaks for node {}", from.0, request.node().0)));
        }
        if let Request::Append(append) = &request {
            trust::check_append(append, &self.log.log_state()).map_err(AnswerError::Message)?;
            if !self.takes_over(&append.entries) {
                return Err(AnswerError::DiskFull);
            }
        }
        Ok(request)
    }

    /// Whether entries of others are taken: where they are not, the member counts like one that is away.
    fn takes_over(&self, entries: &[Entry]) -> bool {
        let payloads = entries.iter().filter_map(|entry| match &entry.payload {
            EntryPayload::Commands(Commands(payload)) => Some(payload),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        });
        self.is_vital || entries.is_empty() || self.full_disk.takes_over(self.log.disk_state(), payloads)
    }

    async fn decide(&self, request: Request) -> Result<Bytes, AnswerError> {
        let stopped = |_| AnswerError::Stopped;
        Ok(match request {
            Request::Append(request) => {
                let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
                let before = request.prev_log_id;
                let response = self.raft.append_entries(request).await.map_err(stopped)?;
                // Without an entry before it nothing can conflict.
                if response.is_conflict() && before.is_none() {
                    return Err(AnswerError::Message("a conflict with nothing".to_owned()));
                }
                wire::encode_appended(&response.into_stream_result(before, last))
            }
            Request::Vote(request) | Request::PreVote(request) if !self.may_lead(&request) => {
                let state = self.log.log_state();
                // Its own vote where there is none here: it says nothing by that.
                let vote = state.vote.as_ref().map_or(request.vote, consensus_vote);
                wire::encode_voted(&VoteResponse::new(vote, state.last.map(consensus_log_id), false))
            }
            Request::Vote(request) => wire::encode_voted(&self.raft.vote(request).await.map_err(stopped)?),
            Request::PreVote(request) => wire::encode_voted(&self.raft.pre_vote(request).await.map_err(stopped)?),
            Request::Transfer(request) => {
                let response = self.raft.handle_transfer_leader(request).await.map_err(|_| AnswerError::Stopped)?;
                wire::encode_transferred(&response)
            }
        })
    }

    /// Whether the one that asks for a vote may have one, as far as is known here.
    fn may_lead(&self, request: &VoteRequest<TypeConfig>) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = [&*metrics.membership_config, &*metrics.committed_membership_config];
        let node = NodeId(request.vote.leader_id.voted_for);
        trust::may_lead(node, request.last_log_id.map(stored_log_id), members, self.log.log_state().last)
    }

    /// Answers a stream of requests to append in their order, each when what it brought is durable.
    /// The stream ends at the first that is refused, and with an error at one that is none.
    pub(crate) async fn answer_appends(
        &self,
        from: NodeId,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxStream<'static, Result<Bytes, AnswerError>> {
        let refused = Arc::<Mutex<Option<AnswerError>>>::default();
        let refusal = Arc::clone(&refused);
        let group = self.clone();
        let appends = requests.scan((), move |(), request| {
            let append = match group.read_request(from, request) {
                Ok(Request::Append(append)) => Some(append),
                Ok(other) => {
                    *refusal.lock() = Some(AnswerError::Message(format!("{other:?} among appends")));
                    None
                }
                Err(error) => {
                    *refusal.lock() = Some(error);
                    None
                }
            };
            std::future::ready(append)
        });
        // The library begins a task that takes the requests.
        let results = self.with_chance(async { self.raft.stream_append(appends) }).await;
        let answers = results.map(|result| match result {
            Ok(result) => Ok(wire::encode_appended(&result)),
            Err(_) => Err(AnswerError::Stopped),
        });
        let end = async move { refused.lock().take().map(Err) };
        answers.chain(end.into_stream().filter_map(std::future::ready)).boxed()
    }
}
