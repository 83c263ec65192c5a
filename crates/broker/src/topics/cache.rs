//! Resolved topics, made when they are first asked for and compared with the metadata when it has changed since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::hash::FixedHashMap;
use cluster::Cluster;
use parking_lot::{Mutex, RwLock};
use record::TopicId;
use shard::{ConfigResource, Shard, TopicState};
use tokio::sync::watch;

use super::topic::{Revision, Topic};
use crate::configs::{Layers, TopicSettings, Values};

/// Entries of topics that are gone are looked for when the cache has grown to this, and twice of what was left.
const SWEEP_ENTRIES_MIN: usize = 1_024;

/// See the module. Ids are this cluster's own, names are the clients' choice: hence a hash table and a tree.
#[derive(Debug)]
pub(crate) struct Cache {
    cluster: Cluster,
    /// Keys from the node's configuration file.
    fixed: Values,
    metadata: watch::Receiver<u64>,
    entries: RwLock<Entries>,
    layers: Mutex<Dynamic>,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: FixedHashMap<TopicId, Arc<Entry>>,
    by_name: BTreeMap<Arc<str>, Arc<Entry>>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    topic: Arc<Topic>,
    /// The metadata had this version when the topic was last found to be as it is here.
    version: AtomicU64,
}

/// Configuration of brokers that was set while they ran.
#[derive(Debug, Default)]
struct Dynamic {
    /// Of the metadata when this was read.
    version: Option<u64>,
    /// Counts the changes.
    revision: u64,
    node: Arc<Values>,
    all_nodes: Arc<Values>,
}

/// How a request names a topic.
#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    Name(&'a str),
    Id(TopicId),
}

impl Cache {
    pub(crate) fn new(cluster: Cluster, fixed: Values) -> Self {
        let metadata = cluster.metadata_changed();
        Self { cluster, fixed, metadata, entries: RwLock::default(), layers: Mutex::default() }
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.resolve(Name::Name(name))
    }

    pub(crate) fn by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.resolve(Name::Id(id))
    }

    /// Every live topic by name, without filling the cache.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        let version = *self.metadata.borrow();
        let stored: Vec<Arc<shard::Topic>> = {
            let metadata = self.cluster.metadata();
            metadata.topics().filter(|topic| topic.state == TopicState::Live).map(Arc::clone).collect()
        };
        stored.iter().map(|topic| self.made_of(topic, version).0).collect()
    }

    /// Runs with the layers of broker configuration as of now.
    pub(crate) fn with_layers<T>(&self, f: impl FnOnce(Layers<'_>) -> T) -> T {
        let version = *self.metadata.borrow();
        let (_, node, all_nodes) = self.dynamic(version);
        f(Layers { node: &node, all_nodes: &all_nodes, fixed: &self.fixed })
    }

    fn resolve(&self, name: Name<'_>) -> Option<Arc<Topic>> {
        // Read before the metadata: what is compared with a later state counts for this version at least.
        let version = *self.metadata.borrow();
        let known = {
            let entries = self.entries.read();
            match name {
                Name::Name(name) => entries.by_name.get(name).map(Arc::clone),
                Name::Id(id) => entries.by_id.get(&id).map(Arc::clone),
            }
        };
        if let Some(entry) = &known
            && entry.version.load(Ordering::Acquire) == version
        {
            return Some(Arc::clone(&entry.topic));
        }
        let stored = find(&self.cluster.metadata(), name).map(Arc::clone);
        let Some(stored) = stored else {
            if let Some(entry) = known {
                self.forget(&entry);
            }
            return None;
        };
        if let Some(entry) = known.filter(|entry| entry.topic.id == stored.id) {
            let (layers, _, _) = self.dynamic(version);
            if entry.topic.revision == (Revision { topic: stored.revision, layers }) {
                entry.version.fetch_max(version, Ordering::AcqRel);
                return Some(Arc::clone(&entry.topic));
            }
        }
        let (topic, fresh) = self.made_of(&stored, version);
        if fresh {
            self.remember(&topic, version);
        }
        Some(topic)
    }

    /// The resolved form of a topic: the one in the cache if it is still right, else a new one (`true`).
    fn made_of(&self, stored: &shard::Topic, version: u64) -> (Arc<Topic>, bool) {
        let (layers, node, all_nodes) = self.dynamic(version);
        let revision = Revision { topic: stored.revision, layers };
        if let Some(entry) = self.entries.read().by_id.get(&stored.id)
            && entry.topic.revision == revision
        {
            return (Arc::clone(&entry.topic), false);
        }
        let layers = Layers { node: &node, all_nodes: &all_nodes, fixed: &self.fixed };
        let settings = TopicSettings::of(&stored.configs, layers);
        (Arc::new(Topic::new(stored, settings, revision, &self.cluster)), true)
    }

    fn remember(&self, topic: &Arc<Topic>, version: u64) {
        let entry = Arc::new(Entry { topic: Arc::clone(topic), version: AtomicU64::new(version) });
        let mut entries = self.entries.write();
        entries.by_id.insert(topic.id, Arc::clone(&entry));
        entries.by_name.insert(Arc::clone(&topic.name), entry);
        if entries.by_id.len().max(entries.by_name.len()) >= entries.sweep_at.max(SWEEP_ENTRIES_MIN) {
            self.sweep(&mut entries);
        }
    }

    fn forget(&self, entry: &Arc<Entry>) {
        let mut entries = self.entries.write();
        if entries.by_id.get(&entry.topic.id).is_some_and(|known| Arc::ptr_eq(known, entry)) {
            entries.by_id.remove(&entry.topic.id);
        }
        if entries.by_name.get(&entry.topic.name).is_some_and(|known| Arc::ptr_eq(known, entry)) {
            entries.by_name.remove(&entry.topic.name);
        }
    }

    /// Drops what nobody asked for again after it was deleted.
    fn sweep(&self, entries: &mut Entries) {
        let metadata = self.cluster.metadata();
        let lives = |id: &TopicId| metadata.topic(*id).is_some_and(|topic| topic.state == TopicState::Live);
        entries.by_id.retain(|id, _| lives(id));
        entries.by_name.retain(|_, entry| lives(&entry.topic.id));
        entries.sweep_at = 2 * entries.by_id.len().max(entries.by_name.len());
    }

    /// The configuration of brokers, read anew when the metadata has changed, and the count of its changes.
    fn dynamic(&self, version: u64) -> (u64, Arc<Values>, Arc<Values>) {
        let mut layers = self.layers.lock();
        if layers.version.is_none_or(|read| read < version) {
            let (node, all_nodes) = {
                let metadata = self.cluster.metadata();
                let node = metadata.configs(&ConfigResource::Broker(Some(self.cluster.node_id()))).1;
                (node, metadata.configs(&ConfigResource::Broker(None)).1)
            };
            if *layers.node != node || *layers.all_nodes != all_nodes {
                layers.revision += 1;
                layers.node = Arc::new(node);
                layers.all_nodes = Arc::new(all_nodes);
            }
            layers.version = Some(version);
        }
        (layers.revision, Arc::clone(&layers.node), Arc::clone(&layers.all_nodes))
    }
}

fn find<'a>(metadata: &'a Shard, name: Name<'_>) -> Option<&'a Arc<shard::Topic>> {
    let topic = match name {
        Name::Name(name) => metadata.topic_by_name(name),
        Name::Id(id) => metadata.topic(id),
    };
    topic.filter(|topic| topic.state == TopicState::Live)
}
