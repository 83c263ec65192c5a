//! How many copies a partition has and where they are: what may be asked for, given that shards decide it.
//!
//! Every shard has as many copies as there are nodes, up to [`COPIES_MAX`], so a topic never has fewer than it was
//! created with. A client cannot choose among the shards' places.

use std::collections::BTreeSet;

use record::NodeId;

use crate::nodes::{COPIES_MAX, ClusterView, Copies};

/// Whether partitions have as many copies as is asked for; -1 asks for what there is.
pub(super) fn check_factor(factor: i16, view: &ClusterView) -> Result<(), String> {
    let (nodes, most) = (view.nodes().len().max(1), view.copies_max());
    match usize::try_from(factor) {
        Err(_) if factor == -1 => Ok(()),
        Err(_) | Ok(0) => Err("Replication factor must be larger than 0, or -1 to use the default value.".to_owned()),
        Ok(copies) if copies <= most => Ok(()),
        Ok(copies) if copies > nodes => Err(format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
             reached because only {nodes} broker(s) are registered."
        )),
        Ok(_) => Err(format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
             reached because a partition has at most {COPIES_MAX} replicas."
        )),
    }
}

/// The factor of partitions that are made now.
pub(super) fn factor(view: &ClusterView) -> i16 {
    let copies = data_shards(view).map(|copies| copies.replicas.len()).max().unwrap_or(1);
    i16::try_from(copies).unwrap_or(i16::MAX)
}

/// Whether a partition's copies can be where the client wants them.
pub(super) fn check_assignment(brokers: &[i32], view: &ClusterView) -> Result<(), String> {
    if brokers.is_empty() {
        return Err("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut wanted = BTreeSet::new();
    for broker in brokers {
        let known = u64::try_from(*broker).ok().map(NodeId).filter(|node| view.node(*node).is_some());
        let Some(node) = known else {
            return Err(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        };
        if !wanted.insert(node) {
            return Err(format!("The manual partition assignment includes the broker {broker} more than once."));
        }
    }
    let elsewhere = |copies: &&Copies| copies.replicas.iter().copied().collect::<BTreeSet<_>>() != wanted;
    match data_shards(view).find(elsewhere) {
        None => Ok(()),
        Some(copies) => {
            let there: Vec<String> = copies.replicas.iter().map(ToString::to_string).collect();
            Err(format!(
                "The manual partition assignment cannot be met: a partition is where its shard is, and that may be on the \
                 brokers {}.",
                there.join(", ")
            ))
        }
    }
}

fn data_shards(view: &ClusterView) -> impl Iterator<Item = &Copies> {
    view.shards().filter(|(shard, _)| *shard != cluster::METADATA).map(|(_, copies)| copies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::tests::view;

    #[test]
    fn a_factor_that_every_shard_has_is_taken() {
        let three = view(3, &[&[1], &[1, 2, 3]]);
        for asked in [-1, 1, 2, 3] {
            assert_eq!(check_factor(asked, &three), Ok(()));
        }
        assert!(check_factor(4, &three).unwrap_err().ends_with("because only 3 broker(s) are registered."));
        assert!(check_factor(4, &view(5, &[])).unwrap_err().ends_with("at most 3 replicas."));
        assert!(check_factor(2, &view(0, &[])).unwrap_err().ends_with("because only 1 broker(s) are registered."));
        for asked in [0, -2] {
            assert!(check_factor(asked, &three).unwrap_err().starts_with("Replication factor must be larger than 0"));
        }
        assert_eq!((factor(&three), factor(&view(1, &[&[1], &[1]]))), (3, 1));
    }

    #[test]
    fn an_assignment_is_met_only_where_every_shard_is() {
        let three = view(3, &[&[1], &[1, 2, 3], &[3, 1, 2]]);
        assert_eq!(check_assignment(&[2, 3, 1], &three), Ok(()));
        assert!(check_assignment(&[1], &three).unwrap_err().contains("cannot be met"));
        assert!(
            check_assignment(&[1, 2, 3], &view(4, &[&[1], &[1, 2, 3], &[2, 3, 4]])).unwrap_err().contains("2, 3, 4")
        );
        assert!(check_assignment(&[9], &three).unwrap_err().contains("no such broker"));
        assert!(check_assignment(&[-1], &three).unwrap_err().contains("no such broker"));
        assert!(check_assignment(&[1, 1], &three).unwrap_err().contains("more than once"));
        assert!(check_assignment(&[], &three).unwrap_err().contains("empty"));
    }
}
