//! Requests to the group coordinator and its answers, one pair per operation, with exactly the errors of each.
//!
//! Source: Kafka's GroupCoordinator; KIP-345 (static members), KIP-394 (member id handshake), KIP-800 (reasons),
//! KIP-814 (skipped assignment).

use bytes::Bytes;
use record::{NodeId, TopicId};

/// Why no coordinator could serve the request at all. Clients look for the coordinator again and repeat.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    #[error("this node does not coordinate the group")]
    NotCoordinator { leader: Option<NodeId> },
    #[error("the coordinator is loading the group")]
    Loading,
    #[error("the coordinator is not available: {0}")]
    Unavailable(&'static str),
}

/// Who a member says it is, in every request after the first join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Empty when the member has none yet.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
}

#[derive(Debug, Clone)]
pub struct JoinGroup {
    pub group_id: String,
    pub member: MemberIdentity,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// Opaque: "consumer", "connect", "sr", anything.
    pub protocol_type: String,
    /// Name and opaque metadata, preferred first.
    pub protocols: Vec<(String, Bytes)>,
    /// A dynamic member without id is first given one and must join again with it (KIP-394; JoinGroup 4 and later).
    pub requires_known_member_id: bool,
    /// The client understands `skip_assignment` (KIP-814; JoinGroup 9 and later).
    pub supports_skipping_assignment: bool,
    /// Free text for the log.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// All members with their metadata for the leader; empty for everyone else.
    pub members: Vec<JoinedMember>,
    /// The leader must not assign: the assignment stands (KIP-814).
    pub skip_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinGroupError {
    #[error("the group id is empty")]
    InvalidGroupId,
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    #[error("join again with member id {member_id}")]
    MemberIdRequired { member_id: String },
    #[error("the member is unknown")]
    UnknownMemberId,
    #[error("another member has this instance id")]
    FencedInstanceId,
    #[error("no protocol is shared by all members")]
    InconsistentGroupProtocol,
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// A later join of the same member took this one's place.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

#[derive(Debug, Clone)]
pub struct SyncGroup {
    pub group_id: String,
    pub member: MemberIdentity,
    pub generation: i32,
    /// Checked when present (SyncGroup 5 and later).
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Member id and its opaque assignment; only the leader sends any.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    /// Byte for byte as the leader sent it.
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncGroupError {
    #[error("the group id is empty")]
    InvalidGroupId,
    #[error("the member is unknown")]
    UnknownMemberId,
    #[error("another member has this instance id")]
    FencedInstanceId,
    #[error("the generation is not the current one")]
    IllegalGeneration,
    #[error("the protocol is not the group's")]
    InconsistentGroupProtocol,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// Members and assignments do not fit the group's record.
    #[error("the assignment is too large")]
    AssignmentTooLarge,
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub group_id: String,
    pub member: MemberIdentity,
    pub generation: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    #[error("the group id is empty")]
    InvalidGroupId,
    #[error("the member is unknown")]
    UnknownMemberId,
    #[error("another member has this instance id")]
    FencedInstanceId,
    #[error("the generation is not the current one")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

#[derive(Debug, Clone)]
pub struct LeaveGroup {
    pub group_id: String,
    /// A member id that is empty beside an instance id removes that static member administratively.
    pub members: Vec<MemberIdentity>,
}

/// One answer per member of the request, in its order.
pub type Left = Vec<Result<(), LeaveMemberError>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveMemberError {
    #[error("the member is unknown")]
    UnknownMemberId,
    #[error("another member has this instance id")]
    FencedInstanceId,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveGroupError {
    #[error("the group id is empty")]
    InvalidGroupId,
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

/// The states of a classic group, under Kafka's names (see [`GroupState::name`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl GroupState {
    /// Kafka's name of the state.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group_id: String,
    pub state: GroupState,
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable, as is the assignment.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeGroupError {
    #[error("Group {group_id} not found.")]
    GroupIdNotFound { group_id: String },
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: String,
    /// Empty for a group that only has committed offsets.
    pub protocol_type: String,
    pub state: GroupState,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteGroupError {
    #[error("the group id is invalid")]
    InvalidGroupId,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

#[derive(Debug, Clone)]
pub struct CommitOffsets {
    pub group_id: String,
    pub member: MemberIdentity,
    /// -1: a consumer that does not use group management, or an administrator.
    pub generation: i32,
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone)]
pub struct OffsetToCommit {
    pub topic: TopicId,
    pub partition: i32,
    pub offset: i64,
    /// -1: unknown.
    pub leader_epoch: i32,
    pub metadata: String,
}

/// One answer per offset of the request, in its order.
pub type OffsetsCommitted = Vec<Result<(), CommitOffsetError>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitOffsetError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("the metadata is longer than allowed")]
    OffsetMetadataTooLarge,
}

/// The request as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitOffsetsError {
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// A generation was given and there is no such group (OffsetCommit before 9 answers illegal generation).
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the member is unknown")]
    UnknownMemberId,
    #[error("another member has this instance id")]
    FencedInstanceId,
    #[error("the generation is not the current one")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    pub topic: TopicId,
    pub partition: i32,
    /// -1 when nothing was committed; then the epoch is -1 and the metadata empty.
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchOffsetsError {
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

/// The request as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteOffsetsError {
    #[error("the group id is invalid")]
    InvalidGroupId,
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the group has members that are not consumers")]
    NonEmptyGroup,
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

/// One partition's offset is not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteOffsetError {
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
}
