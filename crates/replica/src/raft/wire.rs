//! What members of a group say to each other, as bytes.
//!
//! A request to append is a head and, behind it, the payloads of its entries: they are sent as they
//! lie in memory and received as slices of what was read. All integers are little-endian.
//!
//! ```text
//! append:           1 u8 | vote | log id? before | log id? committed | entries u32
//!                   | per entry: log id, kind u8, payload bytes u32 | payloads
//! appended:         0 u8 | log id? through which it is durable
//!                   1 u8 | log id that is not in the log
//!                   2 u8 | vote that is higher
//! vote:             2 u8, asked beforehand 3 u8 | vote | log id? last | in a transfer u8
//! voted:            vote | granted u8 | log id? last
//! transfer:         4 u8 | vote of the leader | node u64 that takes over | log id? last
//! transferred:      0 u8
//!                   1 u8 | vote expected | vote found
//!                   2 u8 | log id? expected | log id? found
//!
//! vote:    term u64 | node u64 | committed u8
//! log id:  term u64 | index u64
//! log id?: 0 u8, or 1 u8 | log id
//! ```

#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use record::{LogIndex, NodeId, Term};
use storage::{EntryKind, LogId, Payload};
use thiserror::Error;

use super::membership;
use super::types::{ConsensusVote, Entry, TypeConfig, consensus_log_id, consensus_vote, stored_log_id, stored_vote};

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const TRANSFER: u8 = 4;

/// Entries that one request carries at most; the library's own bound is the same.
pub(crate) const ENTRIES_MAX: u32 = 4_096;
/// What an entry takes in the head.
const ENTRY_HEAD_BYTES: usize = 16 + 1 + 4;
const VOTE_BYTES: usize = 17;
const MAYBE_LOG_ID_BYTES: usize = 17;

/// What a member asks of another.
#[derive(Debug)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    Transfer(TransferLeaderRequest<TypeConfig>),
}

/// Why bytes are no message of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    #[error("a message ends early")]
    Short,
    #[error("a message has {0} bytes too many")]
    Trailing(usize),
    #[error("a message of the unknown kind {0}")]
    Kind(u8),
    #[error("the term or index {0} is out of range")]
    Number(u64),
    #[error("a vote is granted already where it is asked for, or not where it must be")]
    Vote,
    #[error("commands that cannot be decoded")]
    Commands,
    #[error("a message counts {0} entries, at most {ENTRIES_MAX} are allowed")]
    Count(u32),
    #[error("the entries of a message do not follow each other")]
    Order,
    #[error("an entry of a message is of a term behind its leader's")]
    Term,
    #[error("an entry of a message is of the unknown kind {0}")]
    EntryKind(u8),
    #[error("an entry of a message says other members than it may: {0}")]
    Membership(#[from] membership::DecodeError),
}

impl Request {
    /// Who says to have sent it.
    pub(crate) fn node(&self) -> NodeId {
        let vote = match self {
            Self::Append(request) => &request.vote,
            Self::Vote(request) | Self::PreVote(request) => &request.vote,
            Self::Transfer(request) => request.from_leader(),
        };
        NodeId(vote.leader_id.voted_for)
    }
}

impl From<bytes::TryGetError> for DecodeError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

pub(crate) fn encode_append(request: AppendEntriesRequest<TypeConfig>) -> Payload {
    let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
    let head_bytes = 1 + VOTE_BYTES + 2 * MAYBE_LOG_ID_BYTES + 4 + entries.len() * ENTRY_HEAD_BYTES;
    let mut head = BytesMut::with_capacity(head_bytes);
    head.put_u8(APPEND);
    put_vote(&mut head, &vote);
    put_maybe(&mut head, prev_log_id.map(stored_log_id));
    put_maybe(&mut head, leader_commit.map(stored_log_id));
    let count = u32::try_from(entries.len()).expect("a request is bounded in entries");
    head.put_u32_le(count);
    let mut payloads = Vec::new();
    for entry in entries {
        let storage::Entry { id, kind, payload } = entry.into_stored();
        put_log_id(&mut head, id);
        head.put_u8(kind as u8);
        head.put_u32_le(u32::try_from(payload.len()).expect("an entry is smaller than a frame"));
        payloads.extend(payload.into_buffers());
    }
    std::iter::once(head.freeze()).chain(payloads).collect()
}

pub(crate) fn encode_vote(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + VOTE_BYTES + MAYBE_LOG_ID_BYTES + 1);
    out.put_u8(if pre_vote { PRE_VOTE } else { VOTE });
    put_vote(&mut out, &request.vote);
    put_maybe(&mut out, request.last_log_id.map(stored_log_id));
    out.put_u8(u8::from(request.leadership_transfer));
    out.freeze()
}

pub(crate) fn encode_transfer(request: &TransferLeaderRequest<TypeConfig>) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + VOTE_BYTES + 8 + MAYBE_LOG_ID_BYTES);
    out.put_u8(TRANSFER);
    put_vote(&mut out, request.from_leader());
    out.put_u64_le(*request.to_node_id());
    put_maybe(&mut out, request.last_log_id().copied().map(stored_log_id));
    out.freeze()
}

pub(crate) fn decode_request(mut bytes: Bytes) -> Result<Request, DecodeError> {
    let request = match bytes.try_get_u8()? {
        APPEND => return decode_append(bytes).map(Request::Append),
        kind @ (VOTE | PRE_VOTE) => {
            let vote = take_vote(&mut bytes)?;
            if vote.committed {
                return Err(DecodeError::Vote);
            }
            let last_log_id = take_maybe(&mut bytes)?.map(consensus_log_id);
            let leadership_transfer = take_flag(&mut bytes)?;
            let mut request = VoteRequest::new(vote, last_log_id);
            request.leadership_transfer = leadership_transfer;
            if kind == VOTE { Request::Vote(request) } else { Request::PreVote(request) }
        }
        TRANSFER => {
            let leader = take_vote(&mut bytes)?;
            let to = bytes.try_get_u64_le()?;
            let last = take_maybe(&mut bytes)?.map(consensus_log_id);
            Request::Transfer(TransferLeaderRequest::new(leader, to, last))
        }
        kind => return Err(DecodeError::Kind(kind)),
    };
    end(&bytes)?;
    Ok(request)
}

/// Bounds and order are checked here: consensus takes what it is given at its word.
fn decode_append(mut bytes: Bytes) -> Result<AppendEntriesRequest<TypeConfig>, DecodeError> {
    let vote = take_vote(&mut bytes)?;
    if !vote.committed {
        return Err(DecodeError::Vote);
    }
    let prev = take_maybe(&mut bytes)?;
    let committed = take_maybe(&mut bytes)?;
    let count = bytes.try_get_u32_le()?;
    if count > ENTRIES_MAX {
        return Err(DecodeError::Count(count));
    }
    let mut heads = bytes.clone();
    let heads_bytes = count as usize * ENTRY_HEAD_BYTES;
    if bytes.len() < heads_bytes {
        return Err(DecodeError::Short);
    }
    let mut payloads = bytes.split_off(heads_bytes);
    let mut entries = Vec::with_capacity(count as usize);
    let mut before = prev;
    for _ in 0..count {
        let id = take_log_id(&mut heads)?;
        let kind = heads.try_get_u8()?;
        let kind = EntryKind::from_number(kind).ok_or(DecodeError::EntryKind(kind))?;
        let length = heads.try_get_u32_le()? as usize;
        let index = before.map_or(Some(0), |before| before.index.0.checked_add(1));
        if index != Some(id.index.0) || before.is_some_and(|before| before.term > id.term) {
            return Err(DecodeError::Order);
        }
        if id.term.0 > vote.leader_id.term {
            return Err(DecodeError::Term);
        }
        if length > payloads.len() {
            return Err(DecodeError::Short);
        }
        let payload = payloads.split_to(length);
        match kind {
            EntryKind::Blank if length > 0 => return Err(DecodeError::Trailing(length)),
            EntryKind::Membership => drop(membership::decode(&payload)?),
            EntryKind::Commands if !are_commands(&payload) => return Err(DecodeError::Commands),
            EntryKind::Blank | EntryKind::Commands => {}
        }
        let entry = storage::Entry { id, kind, payload: Payload::from(payload) };
        entries.push(Entry::from_stored(entry).expect("a membership was decoded before"));
        before = Some(id);
    }
    end(&payloads)?;
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id: prev.map(consensus_log_id),
        entries,
        leader_commit: committed.map(consensus_log_id),
    })
}

/// Whether every command of an entry can be decoded and the bodies are all there: no member could apply it otherwise.
fn are_commands(payload: &[u8]) -> bool {
    let Ok(mut commands) = shard::EntryCommands::parse(payload) else { return false };
    let header = commands.header();
    if header.head_bytes as usize + header.body_bytes as usize != payload.len() {
        return false;
    }
    loop {
        match commands.next_command() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

pub(crate) fn encode_appended(result: &StreamAppendResult<TypeConfig>) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + VOTE_BYTES);
    match result {
        Ok(through) => {
            out.put_u8(0);
            put_maybe(&mut out, through.map(stored_log_id));
        }
        Err(StreamAppendError::Conflict(at)) => {
            out.put_u8(1);
            put_log_id(&mut out, stored_log_id(*at));
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            out.put_u8(2);
            put_vote(&mut out, vote);
        }
    }
    out.freeze()
}

pub(crate) fn decode_appended(mut bytes: Bytes) -> Result<StreamAppendResult<TypeConfig>, DecodeError> {
    let result = match bytes.try_get_u8()? {
        0 => Ok(take_maybe(&mut bytes)?.map(consensus_log_id)),
        1 => Err(StreamAppendError::Conflict(consensus_log_id(take_log_id(&mut bytes)?))),
        2 => Err(StreamAppendError::HigherVote(take_vote(&mut bytes)?)),
        kind => return Err(DecodeError::Kind(kind)),
    };
    end(&bytes)?;
    Ok(result)
}

pub(crate) fn encode_voted(response: &VoteResponse<TypeConfig>) -> Bytes {
    let mut out = BytesMut::with_capacity(VOTE_BYTES + 1 + MAYBE_LOG_ID_BYTES);
    put_vote(&mut out, &response.vote);
    out.put_u8(u8::from(response.vote_granted));
    put_maybe(&mut out, response.last_log_id.map(stored_log_id));
    out.freeze()
}

pub(crate) fn decode_voted(mut bytes: Bytes) -> Result<VoteResponse<TypeConfig>, DecodeError> {
    let vote = take_vote(&mut bytes)?;
    let granted = take_flag(&mut bytes)?;
    let last = take_maybe(&mut bytes)?.map(consensus_log_id);
    end(&bytes)?;
    Ok(VoteResponse::new(vote, last, granted))
}

pub(crate) fn encode_transferred(response: &TransferLeaderResponse<TypeConfig>) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + 2 * VOTE_BYTES);
    match response {
        Ok(()) => out.put_u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            out.put_u8(1);
            put_vote(&mut out, expected);
            put_vote(&mut out, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            out.put_u8(2);
            put_maybe(&mut out, expected.map(stored_log_id));
            put_maybe(&mut out, actual.map(stored_log_id));
        }
    }
    out.freeze()
}

pub(crate) fn decode_transferred(mut bytes: Bytes) -> Result<TransferLeaderResponse<TypeConfig>, DecodeError> {
    let response = match bytes.try_get_u8()? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged { expected: take_vote(&mut bytes)?, actual: take_vote(&mut bytes)? }),
        2 => Err(TransferLeaderError::LogNotFlushed {
            expected: take_maybe(&mut bytes)?.map(consensus_log_id),
            actual: take_maybe(&mut bytes)?.map(consensus_log_id),
        }),
        kind => return Err(DecodeError::Kind(kind)),
    };
    end(&bytes)?;
    Ok(response)
}

/// Decodes whatever a member may send.
#[cfg(feature = "fuzzing")]
pub fn fuzz_messages(input: &[u8]) {
    crate::catch_up::wire::fuzz(input);
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(Request::Append(request)) = decode_request(bytes.clone()) {
        let again = encode_append(request).to_bytes();
        assert_eq!(again, bytes, "what decodes encodes to the same bytes");
    }
    let _ = decode_appended(bytes.clone());
    let _ = decode_voted(bytes.clone());
    let _ = decode_transferred(bytes);
}

fn put_vote(out: &mut BytesMut, vote: &ConsensusVote) {
    let storage::Vote { term, node_id, committed } = stored_vote(vote);
    out.put_u64_le(term.0);
    out.put_u64_le(node_id.0);
    out.put_u8(u8::from(committed));
}

fn put_log_id(out: &mut BytesMut, id: LogId) {
    out.put_u64_le(id.term.0);
    out.put_u64_le(id.index.0);
}

fn put_maybe(out: &mut BytesMut, id: Option<LogId>) {
    out.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(out, id);
    }
}

fn take_flag(bytes: &mut Bytes) -> Result<bool, DecodeError> {
    match bytes.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        kind => Err(DecodeError::Kind(kind)),
    }
}

/// Beyond it no term and no index is: what counts on from one never overflows.
const NUMBER_MAX: u64 = 1 << 62;

fn take_number(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let number = bytes.try_get_u64_le()?;
    if number < NUMBER_MAX { Ok(number) } else { Err(DecodeError::Number(number)) }
}

fn take_vote(bytes: &mut Bytes) -> Result<ConsensusVote, DecodeError> {
    let term = Term(take_number(bytes)?);
    let node_id = NodeId(bytes.try_get_u64_le()?);
    let committed = take_flag(bytes)?;
    Ok(consensus_vote(&storage::Vote { term, node_id, committed }))
}

fn take_log_id(bytes: &mut Bytes) -> Result<LogId, DecodeError> {
    Ok(LogId { term: Term(take_number(bytes)?), index: LogIndex(take_number(bytes)?) })
}

fn take_maybe(bytes: &mut Bytes) -> Result<Option<LogId>, DecodeError> {
    if take_flag(bytes)? { take_log_id(bytes).map(Some) } else { Ok(None) }
}

fn end(bytes: &Bytes) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(bytes.len())) }
}
