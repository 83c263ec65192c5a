//! Digests of the shards of a node that does not run: what replicas are compared by, from their files.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Env;
use record::{LogIndex, NodeId, ShardId};
use replica::{ReplayError, Replayed, replay};
use storage::data_dir::{Claim, DataDir};
use thiserror::Error;

use crate::bootstrap::open_log;
use crate::cluster::METADATA;
use crate::config::Config;
use crate::errors::StartError;
use crate::host::Host;
use crate::node::Node;
use crate::peers::{Me, Peers};

/// Why there are no digests.
#[derive(Debug, Error)]
pub enum DigestError {
    /// The directory cannot be opened.
    #[error(transparent)]
    Open(#[from] StartError),
    /// The directory never was a node's.
    #[error("{} holds no node that has joined or founded a cluster", .0.display())]
    NoNode(std::path::PathBuf),
    /// The node has no replica of the shard.
    #[error("there is no shard {0} here")]
    NoShard(ShardId),
    /// One shard's state cannot be computed.
    #[error("shard {shard}")]
    Shard {
        /// The shard.
        shard: ShardId,
        /// Why not.
        #[source]
        source: ReplayError,
    },
}

/// Replays the logs of the node whose directory the configuration names, those of some shards only up to an entry. Nothing is told to other nodes; the log is
/// opened as a start does.
///
/// # Errors
/// When the directory is in use or not ours, a file cannot be read or is damaged, or a state cannot be computed.
pub async fn digests(
    env: Env,
    config: Config,
    through: &BTreeMap<ShardId, LogIndex>,
) -> Result<Vec<(ShardId, Option<Replayed>)>, DigestError> {
    let path = config.data_dir.clone();
    let claim = Claim::take(&env, &path).await.map_err(StartError::from)?;
    let identity = claim.identity().ok_or_else(|| DigestError::NoNode(path.clone()))?;
    assert_ne!(identity.node_id, NodeId(0), "an identity has a node");
    let data_dir = Arc::new(claim.founded(&env).await.map_err(StartError::from)?);
    let host = idle_host(&env, config, data_dir).await?;
    let digests = of_shards(&host, through).await;
    host.log.close().await;
    digests
}

/// What is here of the node whose directory it is, which does not run: nobody hears of it. Its log is to be closed.
pub(crate) async fn idle_host(env: &Env, config: Config, data_dir: Arc<DataDir>) -> Result<Host, StartError> {
    let identity = data_dir.identity();
    let me =
        Me { cluster: identity.cluster.unwrap_or(0), node: identity.node_id, life: 0, features: config.features_known };
    let node = Arc::new(Node::new(env.clone(), Peers::new(env.clone(), me), 0));
    let (log, payload_bytes_max) = open_log(env, &config, &data_dir).await?;
    Ok(Host::new(node, config, data_dir, log, payload_bytes_max))
}

async fn of_shards(
    host: &Host,
    through: &BTreeMap<ShardId, LogIndex>,
) -> Result<Vec<(ShardId, Option<Replayed>)>, DigestError> {
    let shards = host.data_dir.shards().map_err(|source| StartError::Files { shard: METADATA, source })?;
    if let Some(shard) = through.keys().find(|shard| !shards.contains(shard)) {
        return Err(DigestError::NoShard(*shard));
    }
    let mut digests = Vec::new();
    for shard in shards {
        let parts = host.parts(shard).await?;
        let marker = parts.marker.read().await.map_err(|source| StartError::Files { shard, source })?;
        // Not whole: it is brought here anew at the next start.
        let digest = if marker.is_some() {
            None
        } else {
            let through = through.get(&shard).copied();
            let replayed = replay(&host.replica_config(shard), &parts.checkpoints, &parts.log, through).await;
            replayed.map_err(|source| DigestError::Shard { shard, source })?
        };
        digests.push((shard, digest));
    }
    Ok(digests)
}
