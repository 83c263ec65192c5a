//! Panics of those who are at a group: nobody waits for ever, and the group goes on from what is durable.

use bytes::Bytes;
use cluster::Cluster;

use super::*;
use crate::groups::api::{Heartbeat, HeartbeatError, JoinGroup, MemberIdentity, SyncGroup};
use crate::{Broker, Config};

const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    broker: Broker,
    /// Of a stable group's only member.
    member: String,
    _directory: tempfile::TempDir,
}

fn join() -> JoinGroup {
    JoinGroup {
        group_id: "g".to_owned(),
        member: MemberIdentity { member_id: String::new(), instance_id: None },
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::new())],
        requires_known_member_id: false,
        supports_skipping_assignment: true,
        reason: None,
    }
}

impl Node {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut settings = cluster::Config::new(directory.path().to_owned());
        (settings.shards, settings.segment_bytes, settings.reserve_bytes) = (1, 4 << 20, 1 << 20);
        let cluster = Cluster::start(base::Env::real(), settings).await.expect("the cluster starts");
        let config = Config { group_initial_rebalance_delay_ms: 0, ..Config::default() };
        let broker = Broker::start(base::Env::real(), cluster, config);
        let joined = broker.groups().join(join()).await.expect("it joins");
        let member = joined.member_id;
        let sync = SyncGroup {
            group_id: "g".to_owned(),
            member: MemberIdentity { member_id: member.clone(), instance_id: None },
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments: vec![(member.clone(), Bytes::from_static(b"all"))],
        };
        broker.groups().sync(sync).await.expect("it is assigned");
        Self { broker, member, _directory: directory }
    }

    fn group(&self) -> Arc<Group> {
        self.broker.groups().inner.all_in_use().pop().expect("the group is in use")
    }

    async fn heartbeat(&self) -> Result<(), HeartbeatError> {
        let member = MemberIdentity { member_id: self.member.clone(), instance_id: None };
        self.broker.groups().heartbeat(Heartbeat { group_id: "g".to_owned(), member, generation: 1 }).await
    }

    /// What a heartbeat is told once the group is there again.
    async fn heartbeat_at_last(&self) -> Result<(), HeartbeatError> {
        let heard = async {
            loop {
                match self.heartbeat().await {
                    Err(HeartbeatError::Coordinator(CoordinatorError::Loading)) => base::task::yield_now().await,
                    other => return other,
                }
            }
        };
        time::timeout(PATIENCE, heard).await.expect("the group is loaded anew")
    }
}

#[tokio::test]
async fn a_driver_that_panics_ends_the_waits_and_the_group_is_loaded_anew() {
    let node = Node::start().await;
    let broken = node.group();
    let groups = node.broker.clone();
    let waiting = base::task::spawn("join", async move { groups.groups().join(join()).await });
    let rebalancing = async {
        while node.heartbeat().await.is_ok() {
            base::task::yield_now().await;
        }
    };
    time::timeout(PATIENCE, rebalancing).await.expect("the join rebalances the group");
    broken.with(|machine, _| machine.corrupt()).expect("it is open");
    broken.changed.notify_one();
    let told = time::timeout(PATIENCE, waiting).await.expect("it does not wait on").expect("it does not fail");
    assert_eq!(told, Err(JoinGroupError::Coordinator(CoordinatorError::Loading)));
    assert_eq!(node.heartbeat_at_last().await, Err(HeartbeatError::RebalanceInProgress));
    assert!(broken.is_closed() && !node.group().is_closed());
}

#[tokio::test]
async fn a_request_that_panics_closes_its_group_which_is_loaded_anew() {
    let node = Node::start().await;
    let broken = node.group();
    let at_it = Arc::clone(&broken);
    let request = base::task::spawn("request", async move { at_it.with(|_, _| panic!("on purpose")) });
    assert!(request.await.expect_err("it panicked").is_panic());
    assert!(broken.is_closed());
    assert_eq!(node.heartbeat_at_last().await, Ok(()));
}
