//! What is left of a cluster whose majority is gone for good, on one of its nodes that does not run.
//!
//! For every shard that lacks a majority without the lost nodes, this node becomes the only member of
//! its group. Whatever the others acknowledged and this node never got is lost, and the others must
//! never start again with what they have: they would go on as if nothing had happened. So the directory says who they are
//! before the first log is changed, and whether all logs are: this node does not start in between, and
//! listens to none of them afterwards.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use base::Env;
use base::time::{Duration, timeout};
use futures_util::future::join_all;
use record::{NodeId, ShardId};
use replica::{Found, examine, make_alone, replay_state};
use shard::commands::SkipIds;
use shard::{Command, NodeAddress, NodeRecord, Shard};
use storage::InstallStage;
use storage::data_dir::{Claim, LostNodes};
use thiserror::Error;

use crate::cluster::{INTERNAL_LISTENER, METADATA};
use crate::config::Config;
use crate::digest::idle_host;
use crate::errors::StartError;
use crate::host::Host;

/// How long a node that was named may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);

/// Why nothing was recovered.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The directory cannot be opened.
    #[error(transparent)]
    Open(#[from] StartError),
    /// The directory never was a node's.
    #[error("{} holds no node that has joined or founded a cluster", .0.display())]
    NoNode(std::path::PathBuf),
    /// The node itself cannot be among the lost ones.
    #[error("this is node {0}, which is not lost: name the others")]
    Itself(NodeId),
    /// Nodes that were named are there, and would be made worthless.
    #[error(
        "{0}: what answers is not lost. If the cluster is to go on without it nevertheless, stop it first; nothing was changed"
    )]
    Answers(String),
    /// Nothing that could be recovered.
    #[error("no shard has lost its majority without the nodes named; nothing was changed")]
    NothingLost,
    /// A shard's log cannot be written.
    #[error("shard {shard} cannot be recovered")]
    Write {
        /// The shard.
        shard: ShardId,
        /// What the log says.
        #[source]
        source: std::io::Error,
    },
}

/// Looks at the shards of the node whose directory the configuration names, and, if `accepted`, goes on
/// without the nodes `lost` where they were the majority. Gives a report for people.
///
/// # Errors
/// When the directory cannot be read or written, or there is nothing to recover.
pub async fn recover(
    env: Env,
    config: Config,
    lost: &BTreeSet<NodeId>,
    accepted: bool,
) -> Result<String, RecoverError> {
    let path = config.data_dir.clone();
    let no_node = || RecoverError::NoNode(path.clone());
    let claim = Claim::take_existing(&env, &path).await.map_err(StartError::from)?.ok_or_else(no_node)?;
    let identity = claim.identity().ok_or_else(no_node)?;
    if lost.contains(&identity.node_id) {
        return Err(RecoverError::Itself(identity.node_id));
    }
    let earlier = claim.lost().cloned();
    let data_dir = Arc::new(claim.founded(&env).await.map_err(StartError::from)?);
    let host = idle_host(&env, config, data_dir).await?;
    let result = Box::pin(recover_shards(&host, lost, earlier, accepted)).await;
    host.log.close().await;
    result
}

async fn recover_shards(
    host: &Host,
    lost: &BTreeSet<NodeId>,
    earlier: Option<LostNodes>,
    accepted: bool,
) -> Result<String, RecoverError> {
    let me = host.data_dir.identity().node_id;
    let is_begun = earlier.as_ref().is_some_and(|earlier| !earlier.done);
    // Who was lost before stays so.
    let lost: BTreeSet<NodeId> =
        earlier.into_iter().flat_map(|earlier| earlier.nodes).chain(lost.iter().copied()).collect();
    let mut out = String::new();
    let _ = writeln!(out, "{:<6} {:<16} {:>12} {:>6}  STATE", "SHARD", "VOTERS", "LAST ENTRY", "TERM");
    // Damage is given up only where nobody is left who may have what is damaged.
    let mut others_are_gone = true;
    let answering = match known_nodes(host).await? {
        Ok(nodes) => {
            others_are_gone = nodes.iter().all(|node| node.id == me || lost.contains(&node.id));
            answering(host, &lost, nodes).await
        }
        Err(reason) => {
            let _ = writeln!(
                out,
                "\n{reason}: nobody was asked whether what is named is there. Make sure that it is not.\n"
            );
            None
        }
    };
    let named = lost.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut doomed = Vec::new();
    for shard in host.data_dir.shards().map_err(|source| StartError::Files { shard: METADATA, source })? {
        let parts = host.parts(shard).await?;
        let name = if shard == METADATA { "meta".to_owned() } else { shard.to_string() };
        let marker = parts.marker.read().await.map_err(|source| StartError::Files { shard, source })?;
        let is_set_aside = marker.is_some_and(|marker| marker.stage == InstallStage::SetAside);
        if marker.is_some() && !is_set_aside {
            let _ = writeln!(out, "{name:<6} {:<16} {:>12} {:>6}  not whole on this node", "?", "-", "-");
            continue;
        }
        let mut config = host.replica_config(shard);
        config.others_are_gone = others_are_gone;
        let Found { members, last } =
            Box::pin(examine(&config, &parts.checkpoints, &parts.log)).await.map_err(StartError::from)?;
        let has_majority =
            |voters: &BTreeSet<NodeId>| 2 * voters.iter().filter(|voter| !lost.contains(voter)).count() > voters.len();
        let is_lost = !members.voters.iter().all(has_majority);
        let state = match (is_lost, members.is_voter(me)) {
            (true, _) if is_set_aside => format!("has no majority without {named}; damaged on this node"),
            (false, _) => format!("has a majority without {named}"),
            (true, true) => format!("has no majority without {named}"),
            (true, false) => format!("has no majority without {named}; this node only followed it"),
        };
        let voters: BTreeSet<NodeId> = members.voters.iter().flatten().copied().collect();
        let voters = voters.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let (index, term) = last.map_or((0, 0), |last| (last.index.0, last.term.0));
        let _ = writeln!(out, "{name:<6} {voters:<16} {index:>12} {term:>6}  {state}");
        if is_lost {
            doomed.push((shard, parts, config));
        }
    }
    if doomed.is_empty() && !is_begun {
        return Err(RecoverError::NothingLost);
    }
    if accepted && let Some(answering) = answering {
        return Err(RecoverError::Answers(answering));
    }
    if !accepted {
        out.push_str(
            "\nNothing was changed. Look at this on every node that is left, and recover each shard on one of them: where its \
             term,\nthen its last entry is the highest. What the lost nodes acknowledged and this one never got will be lost. \
             The lost\nnodes, and any other that lists a shard that is recovered here, must never be started again with what \
             they have:\nempty their directories, so that they join as new nodes. Nodes that list no such shard keep theirs.\n",
        );
        if let Some(answering) = answering {
            let _ = writeln!(out, "\n{answering}: what answers is not lost, and nothing is recovered while it does.");
        }
        if is_begun {
            out.push_str("An earlier recovery was interrupted here: this node does not start before it is ended.\n");
        }
        return Ok(out);
    }
    let note = |done| LostNodes { nodes: lost.clone(), done };
    host.data_dir.note_lost(&note(false)).await.map_err(StartError::from)?;
    for (shard, parts, config) in doomed {
        let skips = left_out(shard, &lost);
        let failed = |source| RecoverError::Write { shard, source };
        make_alone(&config, &parts.log, &skips).await.map_err(failed)?;
        // Damaged or not, it is all that there is.
        parts.marker.remove().await.map_err(failed)?;
    }
    host.data_dir.note_lost(&note(true)).await.map_err(StartError::from)?;
    let _ = writeln!(
        out,
        "\nNode {me} goes on alone where the majority was lost. Start it: it takes nothing from the lost nodes any more \
         ({named}),\nand removes them from the cluster. Then let new ones join."
    );
    Ok(out)
}

/// All nodes as this node's copy of the metadata has them, or for people why that is not known.
async fn known_nodes(host: &Host) -> Result<Result<Vec<NodeRecord>, String>, RecoverError> {
    let parts = host.parts(METADATA).await?;
    let marker = parts.marker.read().await.map_err(|source| StartError::Files { shard: METADATA, source })?;
    if marker.is_some() {
        return Ok(Err("The metadata is not whole on this node".to_owned()));
    }
    let config = host.replica_config(METADATA);
    Ok(match Box::pin(replay_state(&config, &parts.checkpoints, &parts.log)).await {
        Ok(state) => Ok(state.iter().flat_map(Shard::nodes).cloned().collect()),
        Err(error) => Err(format!("The metadata of this node cannot be read ({error})")),
    })
}

/// Those of `lost` that answer at the addresses that this node knows of them, for people. Who listens elsewhere by now is not found.
async fn answering(host: &Host, lost: &BTreeSet<NodeId>, nodes: Vec<NodeRecord>) -> Option<String> {
    let cluster = host.data_dir.identity().cluster;
    let asked = nodes.into_iter().filter(|record| lost.contains(&record.id)).flat_map(
        |NodeRecord { id, addresses, .. }| {
            addresses
                .into_iter()
                .filter(|address| address.listener == INTERNAL_LISTENER)
                .map(move |address| (id, address))
        },
    );
    let answers = join_all(asked.map(|(id, NodeAddress { host: name, port, .. })| async move {
        let answer = timeout(ANSWER_WAIT_MAX, host.node.peers.who_is_at(&name, port)).await;
        let is_it = matches!(answer, Ok(Ok(welcome)) if welcome.node == id && Some(welcome.cluster) == cluster);
        is_it.then(|| format!("node {id} at {name}:{port} answers"))
    }));
    let answers: Vec<String> = answers.await.into_iter().flatten().collect();
    (!answers.is_empty()).then(|| answers.join(", "))
}

/// What the group may have given out in the part of its log that is lost. Of streams, producers and changes far more than any
/// cluster gives out between two looks at its nodes, and far fewer than there are.
fn left_out(shard: ShardId, lost: &BTreeSet<NodeId>) -> Command {
    if shard == METADATA {
        let removed = lost.iter().copied().collect();
        return SkipIds { ids: 1 << 40, nodes: 100, epochs: 0, removed }.into();
    }
    // Who read records that are lost asks with their epoch whether its position is good.
    SkipIds { ids: 0, nodes: 0, epochs: 1_000, removed: Vec::new() }.into()
}
