//! What another member says, compared with what this one knows: consensus takes what it is given at
//! its word, and a member that is broken must not break others.

use std::collections::VecDeque;
use std::sync::Arc;

use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;
use record::NodeId;
use storage::{LogId, LogState};

use super::types::{ConsensusLogId, StoredMembership, TypeConfig, stored_log_id};

/// Whether entries of whoever leads now agree with what is committed here: its log has all of that. What comes from
/// one that led before is answered with the newer vote, whatever it is.
pub(super) fn check_append(append: &AppendEntriesRequest<TypeConfig>, log: &LogState) -> Result<(), String> {
    if log.vote.is_some_and(|vote| append.vote.leader_id.term < vote.term.0) {
        return Ok(());
    }
    let Some(committed) = log.committed.max(log.purged) else { return Ok(()) };
    let entries = append.entries.iter().map(|entry| entry.log_id);
    for id in append.prev_log_id.into_iter().chain(entries).map(stored_log_id) {
        let agrees = match id.index.cmp(&committed.index) {
            std::cmp::Ordering::Less => id.term <= committed.term,
            std::cmp::Ordering::Equal => id == committed,
            std::cmp::Ordering::Greater => id.term >= committed.term,
        };
        if !agrees {
            return Err(format!("entry {} of term {} beside what is committed: {committed:?}", id.index, id.term));
        }
    }
    Ok(())
}

/// Whether `node` may be voted for, which has a log up to `its_last`. One that this node does not know as a voter has a
/// vote only by entries that are not here yet.
pub(super) fn may_lead(
    node: NodeId,
    its_last: Option<LogId>,
    members: [&StoredMembership; 2],
    last: Option<LogId>,
) -> bool {
    let founded = members.iter().any(|members| members.voter_ids().next().is_some());
    let votes = members.iter().any(|members| members.voter_ids().any(|voter| voter == node.0));
    votes || !founded || its_last > last
}

/// Whether an answer is one to a request that ended at `last` and began behind `before`.
pub(super) fn check_appended(
    answer: &StreamAppendResult<TypeConfig>,
    before: Option<ConsensusLogId>,
    last: Option<ConsensusLogId>,
) -> Result<(), String> {
    let fits = match answer {
        Ok(through) => (before..=last).contains(through),
        Err(StreamAppendError::Conflict(at)) => Some(*at) == before,
        Err(StreamAppendError::HigherVote(_)) => true,
    };
    if fits { Ok(()) } else { Err(format!("an answer to something else than {before:?} to {last:?}: {answer:?}")) }
}

/// The requests of a stream that have no answer yet. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Unanswered(Arc<Mutex<VecDeque<Span>>>);

type Span = (Option<ConsensusLogId>, Option<ConsensusLogId>);

impl Unanswered {
    pub(super) fn sent(&self, request: &AppendEntriesRequest<TypeConfig>) {
        self.0.lock().push_back(span(request));
    }

    /// Whether `answer` is one to the oldest of them.
    pub(super) fn check(&self, answer: &StreamAppendResult<TypeConfig>) -> Result<(), String> {
        let oldest = self.0.lock().pop_front();
        let (before, last) = oldest.ok_or_else(|| "an answer to nothing".to_owned())?;
        check_appended(answer, before, last)
    }
}

/// Behind which entry a request begins, and its last one.
pub(super) fn span(request: &AppendEntriesRequest<TypeConfig>) -> Span {
    let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
    (request.prev_log_id, last)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::EmptyNode;
    use record::{LogIndex, Term};
    use storage::Vote;

    use super::*;
    use crate::raft::types::{Entry, EntryPayload, Membership, consensus_log_id, consensus_vote};

    fn id(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: LogIndex(index) }
    }

    fn append(term: u64, before: LogId, entries: &[LogId]) -> AppendEntriesRequest<TypeConfig> {
        let vote = consensus_vote(&Vote { term: Term(term), node_id: NodeId(2), committed: true });
        let entry = |id: &LogId| Entry { log_id: consensus_log_id(*id), payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote,
            prev_log_id: Some(consensus_log_id(before)),
            entries: entries.iter().map(entry).collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn who_leads_has_what_is_committed() {
        let vote = Some(Vote { term: Term(5), node_id: NodeId(2), committed: true });
        let log = LogState { vote, committed: Some(id(5, 10)), last: Some(id(5, 12)), ..LogState::default() };
        for (sound, append) in [
            (true, append(5, id(5, 10), &[id(5, 11)])),
            (true, append(7, id(4, 8), &[id(5, 9), id(5, 10), id(7, 11)])),
            (true, append(5, id(5, 12), &[])),
            (false, append(7, id(3, 10), &[id(3, 11)])),
            (false, append(7, id(4, 9), &[id(4, 10)])),
            (false, append(7, id(4, 12), &[])),
            (false, append(7, id(6, 9), &[])),
            // It led before: it is told so.
            (true, append(4, id(4, 12), &[])),
        ] {
            assert_eq!(check_append(&append, &log).is_ok(), sound, "{append:?}");
        }
        assert_eq!(check_append(&append(7, id(3, 10), &[]), &LogState::default()), Ok(()));
    }

    #[test]
    fn a_stranger_is_voted_for_only_with_a_longer_log() {
        let voters = vec![BTreeSet::from([1, 2, 3])];
        let nodes: BTreeMap<u64, EmptyNode> = [1, 2, 3, 4].map(|node| (node, EmptyNode {})).into();
        let members = StoredMembership::new(None, Membership::new(voters, nodes).expect("consistent"));
        let last = Some(id(2, 9));
        let may = |node, its_last| may_lead(NodeId(node), its_last, [&members, &members], last);
        assert!(may(3, Some(id(1, 1))), "its log is another question");
        assert!(!may(4, last) && !may(9, last) && !may(9, None));
        assert!(may(4, Some(id(2, 10))), "it may have become a voter since");
        let nobody = StoredMembership::default();
        assert!(may_lead(NodeId(9), None, [&nobody, &nobody], None));
    }

    #[test]
    fn no_more_is_believed_than_was_sent() {
        let unanswered = Unanswered::default();
        let at = |index| Some(consensus_log_id(id(3, index)));
        unanswered.sent(&append(3, id(3, 4), &[id(3, 5), id(3, 6)]));
        assert!(unanswered.check(&Ok(at(6))).is_ok());
        assert!(unanswered.check(&Ok(at(6))).is_err(), "an answer to nothing");
        for (sound, answer) in [
            (true, Ok(at(4))),
            (false, Ok(at(7))),
            (false, Ok(at(3))),
            (false, Ok(None)),
            (true, Err(StreamAppendError::Conflict(consensus_log_id(id(3, 4))))),
            (false, Err(StreamAppendError::Conflict(consensus_log_id(id(3, 2))))),
        ] {
            unanswered.sent(&append(3, id(3, 4), &[id(3, 5), id(3, 6)]));
            assert_eq!(unanswered.check(&answer).is_ok(), sound, "{answer:?}");
        }
    }
}
