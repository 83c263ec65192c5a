//! The nodes that clients of a listener can be sent to.
//!
//! Every answer that names a node takes it from here, so that no answer names one that Metadata does not list. The list
//! is made once for each view of the cluster, not for each request.

use std::sync::Arc;

use broker::nodes::ClusterView;
use broker::topics::PartitionLeader;
use parking_lot::Mutex;
use record::NodeId;

use crate::context::node_id;
use crate::errors::{LEADER_NOT_AVAILABLE, LISTENER_NOT_FOUND};
use crate::wire::produce::NodeEndpoint;

/// The endpoints as of one view of the cluster.
#[derive(Debug)]
pub(crate) struct Endpoints {
    view: Arc<ClusterView>,
    /// By id.
    all: Vec<NodeEndpoint>,
    /// Nodes that are away, by id.
    away: Vec<NodeEndpoint>,
}

/// The endpoints that were made last.
#[derive(Debug, Default)]
pub(crate) struct Made {
    last: Mutex<Option<Arc<Endpoints>>>,
}

impl Made {
    /// The endpoints as of `view`, where clients came in by `listener` and this node is `own`.
    pub(crate) fn of(&self, view: Arc<ClusterView>, listener: &str, own: &NodeEndpoint) -> Arc<Endpoints> {
        let mut last = self.last.lock();
        if let Some(made) = last.as_ref().filter(|made| Arc::ptr_eq(&made.view, &view)) {
            return Arc::clone(made);
        }
        let made = Arc::new(Endpoints::new(view, listener, own));
        *last = Some(Arc::clone(&made));
        made
    }
}

impl Endpoints {
    /// Live nodes, with the address that each has for the listener; this one with its own in any case.
    fn new(view: Arc<ClusterView>, listener: &str, own: &NodeEndpoint) -> Self {
        let mut own = own.clone();
        let mut all = Vec::with_capacity(view.nodes().len().max(1));
        let mut away = Vec::new();
        for node in view.nodes() {
            let (id, rack) = (node_id(node.id), node.rack.clone());
            if id == own.id {
                own.rack = rack;
            } else if let Some(address) = node.address(listener) {
                let list = if node.is_live { &mut all } else { &mut away };
                list.push(NodeEndpoint { id, host: address.host.clone(), port: address.port.into(), rack });
            }
        }
        all.push(own);
        all.sort_unstable_by_key(|endpoint| endpoint.id);
        Self { view, all, away }
    }

    pub(crate) fn all(&self) -> &[NodeEndpoint] {
        &self.all
    }

    /// Where nodes that are away were reached.
    pub(crate) fn away(&self) -> &[NodeEndpoint] {
        &self.away
    }

    pub(crate) fn view(&self) -> &ClusterView {
        &self.view
    }

    pub(crate) fn find(&self, node: NodeId) -> Option<&NodeEndpoint> {
        self.at(i32::try_from(node.0).ok()?).map(|at| &self.all[at])
    }

    pub(crate) fn lists(&self, id: i32) -> bool {
        self.at(id).is_some()
    }

    fn at(&self, id: i32) -> Option<usize> {
        self.all.binary_search_by_key(&id, |endpoint| endpoint.id).ok()
    }

    /// The leader that clients are told, or the code of why there is none for them. Older clients do not know that a
    /// node may lack the listener.
    pub(crate) fn leader(&self, leader: PartitionLeader, knows_listeners: bool) -> Result<i32, i16> {
        let Some(node) = leader.node else { return Err(LEADER_NOT_AVAILABLE) };
        if let Some(endpoint) = self.find(node) {
            return Ok(endpoint.id);
        }
        let lacks_listener = self.view.node(node).is_some_and(|node| node.is_live);
        Err(if lacks_listener && knows_listeners { LISTENER_NOT_FOUND } else { LEADER_NOT_AVAILABLE })
    }

    /// Whom a client is told to ask that asked the wrong node: leader and epoch (KIP-951). Clients believe it only if the
    /// epoch is later than the one they know.
    pub(crate) fn hint(&self, leader: PartitionLeader) -> Option<(i32, i32)> {
        self.leader(leader, true).ok().map(|node| (node, leader.epoch))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use broker::nodes::{Address, Node};

    use super::*;

    fn own() -> NodeEndpoint {
        NodeEndpoint { id: 2, host: "me".to_owned(), port: 9092, rack: None }
    }

    fn node(id: u64, rack: Option<&str>, listener: &str, is_live: bool) -> Node {
        let addresses = vec![Address { listener: listener.to_owned(), host: format!("node{id}"), port: 9092 }];
        Node { id: NodeId(id), rack: rack.map(str::to_owned), is_live, start_number: 1, addresses }
    }

    fn view(nodes: Vec<Node>) -> Arc<ClusterView> {
        Arc::new(ClusterView::new(nodes, BTreeMap::new(), 3))
    }

    fn endpoints() -> Endpoints {
        let nodes = vec![
            node(1, Some("a"), "out", true),
            node(2, Some("b"), "out", true),
            node(3, None, "in", true),
            node(4, None, "out", false),
        ];
        Endpoints::new(view(nodes), "out", &own())
    }

    const fn led_by(node: u64) -> PartitionLeader {
        PartitionLeader { node: Some(NodeId(node)), epoch: 7 }
    }

    #[test]
    fn live_nodes_are_listed_with_their_address_for_the_listener_and_this_one_with_its_own() {
        let Endpoints { all, away, .. } = endpoints();
        assert_eq!(away.iter().map(|endpoint| endpoint.id).collect::<Vec<_>>(), [4]);
        let listed: Vec<_> = all.into_iter().map(|endpoint| (endpoint.id, endpoint.host, endpoint.rack)).collect();
        let expected = [(1, "node1", Some("a")), (2, "me", Some("b"))];
        assert_eq!(listed, expected.map(|(id, host, rack)| (id, host.to_owned(), rack.map(str::to_owned))));
    }

    #[test]
    fn this_node_is_listed_before_the_metadata_knows_it() {
        let alone = Endpoints::new(view(Vec::new()), "out", &own());
        assert_eq!(alone.all, [own()]);
    }

    #[test]
    fn a_leader_is_named_only_if_clients_can_reach_it() {
        let endpoints = endpoints();
        assert_eq!(endpoints.leader(led_by(1), true), Ok(1));
        assert_eq!(endpoints.leader(led_by(3), true), Err(LISTENER_NOT_FOUND));
        assert_eq!(endpoints.leader(led_by(3), false), Err(LEADER_NOT_AVAILABLE));
        assert_eq!(endpoints.leader(led_by(4), true), Err(LEADER_NOT_AVAILABLE));
        assert_eq!(endpoints.leader(PartitionLeader { node: None, epoch: 7 }, true), Err(LEADER_NOT_AVAILABLE));
        assert_eq!((endpoints.hint(led_by(1)), endpoints.hint(led_by(4))), (Some((1, 7)), None));
    }

    #[test]
    fn the_list_is_made_once_for_each_view() {
        let (made, none) = (Made::default(), view(Vec::new()));
        let first = made.of(Arc::clone(&none), "out", &own());
        assert!(Arc::ptr_eq(&first, &made.of(none, "out", &own())));
        let other = made.of(view(vec![node(1, None, "out", true)]), "out", &own());
        assert_eq!(other.all.len(), 2);
    }
}
