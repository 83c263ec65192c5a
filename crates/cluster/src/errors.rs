//! What can go wrong with a node's part of the cluster, as its callers see it.

use record::ShardId;
use replica::ProposeError;
use storage::OpenError;
use storage::data_dir::DataDirError;
use thiserror::Error;

/// Why a node could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address for other nodes cannot be listened on.
    #[error("cannot listen for other nodes on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the network says.
        #[source]
        source: std::io::Error,
    },
    /// A node that is to join a cluster has to be reached by its other nodes.
    #[error("a node that joins a cluster needs an address for the other nodes: set cluster.listen")]
    NoListener,
    /// The node had its cluster's metadata, and it is gone.
    #[error(
        "the data directory {} says that it is node {node} of a cluster, but what the node had of the cluster is gone: \
         bring it back, or empty the directory to let a new node join in its place", path.display()
    )]
    Emptied {
        /// The directory.
        path: std::path::PathBuf,
        /// The node.
        node: record::NodeId,
    },
    /// The node's copy of the metadata is damaged, by which it would find everything else.
    #[error(
        "the node's copy of the cluster's metadata is damaged: empty its data directory {} to let it join as a new node, and \
         then remove node {node} (`rosettamq cluster remove {node}`)", path.display()
    )]
    MetadataDamaged {
        /// The directory.
        path: std::path::PathBuf,
        /// The node.
        node: record::NodeId,
    },
    /// The node's id is gone for good.
    #[error(
        "the cluster has removed node {node} for good; empty its data directory {} to let it join as a new node", path.display()
    )]
    Removed {
        /// The node.
        node: record::NodeId,
        /// Its directory.
        path: std::path::PathBuf,
    },
    /// Another process runs as this node.
    #[error(
        "two processes run as node {node}: {said} (for five seconds on end). Is the data directory {} a copy, or does \
         a copy of it run? End the one that runs on the copy and remove the copy; a new node starts with an empty directory",
        path.display()
    )]
    Twin {
        /// The node.
        node: record::NodeId,
        /// This process's directory.
        path: std::path::PathBuf,
        /// What another node said.
        said: String,
    },
    /// Only some of the node's logs go on without the nodes that were lost.
    #[error(
        "`cluster recover` was interrupted in the data directory {}: run it there again, or bring back the directory as it \
         was before", path.display()
    )]
    RecoveryInterrupted {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// The directory is of another cluster than the configuration.
    #[error(
        "the data directory {} is of the cluster {known:032x}, but {host}:{port}, which cluster.join names, is of the cluster \
         {found:032x}: give the node its own data directory, or take the address out of cluster.join", path.display()
    )]
    OtherCluster {
        /// The directory.
        path: std::path::PathBuf,
        /// The cluster whose it is.
        known: u128,
        /// Where another one was found.
        host: String,
        /// The port there.
        port: u16,
        /// That other one.
        found: u128,
    },
    /// The cluster uses features of the replicated state that came later than this program.
    #[error(
        "the data directory {} is of a cluster that uses features of level {level}, this program knows level {known}: start \
         the node with the program that the other nodes run", path.display()
    )]
    Features {
        /// The directory.
        path: std::path::PathBuf,
        /// The cluster's level.
        level: u32,
        /// What this program knows.
        known: u32,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The commit log cannot be opened.
    #[error("the commit log cannot be opened")]
    Log(#[from] OpenError),
    /// What the shards' checkpoints cover cannot be told.
    #[error("the checkpoints cannot be read")]
    Checkpoints(#[source] std::io::Error),
    /// A file below `shards/` cannot be used.
    #[error("the files of shard {} cannot be opened", shard.0)]
    Files {
        /// The shard.
        shard: ShardId,
        /// What the disk says.
        #[source]
        source: std::io::Error,
    },
    /// A shard is not here whole, and cannot be brought here or let go of.
    #[error("shard {} cannot be brought here or let go of", shard.0)]
    Install {
        /// The shard.
        shard: ShardId,
        /// What went wrong.
        #[source]
        source: replica::InstallError,
    },
    /// A shard did not start.
    #[error(transparent)]
    Replica(#[from] replica::StartError),
    /// What is here of a shard is damaged, and others have it.
    #[error("shard {} is damaged here: it is brought here anew when another node leads it", shard.0)]
    SetAside {
        /// The shard.
        shard: ShardId,
    },
    /// The cluster has given a shard that was being brought here to other nodes.
    #[error("shard {} is not wanted here any more", shard.0)]
    NotWanted {
        /// The shard.
        shard: ShardId,
    },
    /// The metadata group refused what a start must write.
    #[error("the cluster's metadata cannot be written: {reason}")]
    Metadata {
        /// What was refused.
        reason: String,
    },
}

impl StartError {
    /// Whether nobody can say what is on this node's disk: the node must stop.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Files { source, .. } => storage::is_lasting(source),
            Self::Install { source, .. } => source.is_lasting(),
            _ => false,
        }
    }
}

/// Why a topic was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CreateTopicError {
    /// The metadata group or a shard says so.
    #[error(transparent)]
    Refused(#[from] shard::CreateTopicError),
    /// A shard has no room for more streams; nothing of the topic is left.
    #[error(transparent)]
    Stream(#[from] shard::CreateStreamError),
    /// A shard could not be reached. If the intention was accepted, the topic is finished later.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Why a topic was not removed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeleteTopicError {
    /// There is no such topic.
    #[error("there is no such topic")]
    UnknownTopic,
    /// A shard could not be reached. If the intention was accepted, the topic is removed later.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Why partitions were not added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddPartitionsError {
    /// The metadata group says so.
    #[error(transparent)]
    Refused(#[from] shard::AddPartitionsError),
    /// The topic has as many partitions, or more.
    #[error("the topic has {current} partitions already")]
    NotMore {
        /// How many it has.
        current: u32,
    },
    /// A shard has no room for more streams.
    #[error(transparent)]
    Stream(#[from] shard::CreateStreamError),
    /// A shard could not be reached. If the intention was accepted, the partitions are added later.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Why a shard's preferred leader does not lead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PreferLeaderError {
    /// The first voter leads already.
    #[error("the preferred leader leads already")]
    LeadsAlready,
    /// The first voter is not live or not caught up.
    #[error("the preferred leader is not available")]
    NotAvailable,
    /// Nobody could be asked, or it did not come to be in time.
    #[error("the leader cannot be changed now")]
    Unavailable,
}

/// Why a node was not removed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RemoveNodeError {
    /// The metadata knows no such node.
    #[error("there is no such node")]
    UnknownNode,
    /// It is live, or still has something that others lack.
    #[error("{0}")]
    Refused(String),
    /// The metadata group cannot be reached.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}
