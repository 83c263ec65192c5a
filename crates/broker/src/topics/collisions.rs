//! Names that differ only in '.' and '_' from those of existing topics, looked for in no more than one pass over the
//! topics for a whole request.

use std::collections::BTreeMap;

use cluster::Cluster;

use super::names;

/// Names of a request whose variants are looked for one by one; for more, all topics are gone through once.
const LOOKED_FOR_MAX: usize = 16;

/// For one request.
#[derive(Debug)]
pub(super) struct Collisions<'a> {
    cluster: &'a Cluster,
    looked_for: usize,
    /// Folded name -> name, of every topic.
    folded: Option<BTreeMap<String, String>>,
}

impl<'a> Collisions<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, looked_for: 0, folded: None }
    }

    /// An existing topic whose name differs only in '.' and '_' from this one, which does not exist.
    pub(super) fn find(&mut self, name: &str) -> Option<String> {
        self.looked_for += 1;
        if self.folded.is_none()
            && self.looked_for <= LOOKED_FOR_MAX
            && let Some(variants) = names::colliding(name)
        {
            let metadata = self.cluster.metadata();
            return variants.into_iter().find(|variant| metadata.topic_by_name(variant).is_some());
        }
        let cluster = self.cluster;
        let folded = self.folded.get_or_insert_with(|| {
            let metadata = cluster.metadata();
            metadata.topics().map(|topic| (names::folded(&topic.name), topic.name.clone())).collect()
        });
        folded.get(&names::folded(name)).cloned()
    }
}
