//! The coordinator of classic consumer groups.

use record::TopicId;

mod api;

pub use api::*;

/// The groups that this node coordinates.
#[derive(Debug)]
pub struct Groups {}

impl Groups {
    /// Ends when the group's members have joined, which can take as long as the rebalance timeout.
    pub async fn join(&self, request: JoinGroup) -> Result<Joined, JoinGroupError> {
        let _ = request;
        todo!()
    }
    /// Ends when the leader's assignment is durable.
    pub async fn sync(&self, request: SyncGroup) -> Result<Synced, SyncGroupError> {
        let _ = request;
        todo!()
    }
    pub async fn heartbeat(&self, request: Heartbeat) -> Result<(), HeartbeatError> {
        let _ = request;
        todo!()
    }
    pub async fn leave(&self, request: LeaveGroup) -> Result<Left, LeaveGroupError> {
        let _ = request;
        todo!()
    }
    pub async fn describe(&self, group_id: &str) -> Result<GroupDescription, DescribeGroupError> {
        let _ = group_id;
        todo!()
    }
    /// All groups that this node coordinates, by id.
    pub fn list(&self) -> Vec<ListedGroup> {
        todo!()
    }
    pub async fn delete(&self, group_id: &str) -> Result<(), DeleteGroupError> {
        let _ = group_id;
        todo!()
    }
    pub async fn commit(&self, request: CommitOffsets) -> Result<OffsetsCommitted, CommitOffsetsError> {
        let _ = request;
        todo!()
    }
    /// The named partitions in order, or (`None`) every offset the group has. An unknown group has none.
    pub async fn fetch_offsets(
        &self,
        group_id: &str,
        partitions: Option<&[(TopicId, i32)]>,
    ) -> Result<Vec<FetchedOffset>, FetchOffsetsError> {
        let _ = (group_id, partitions);
        todo!()
    }
    /// One answer per partition, in order.
    pub async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: &[(TopicId, i32)],
    ) -> Result<Vec<Result<(), DeleteOffsetError>>, DeleteOffsetsError> {
        let _ = (group_id, partitions);
        todo!()
    }
    /// Whether this node coordinates the group, and if not, who does (as far as is known).
    pub fn coordinator(&self, group_id: &str) -> Result<record::NodeId, CoordinatorError> {
        let _ = group_id;
        todo!()
    }
}
