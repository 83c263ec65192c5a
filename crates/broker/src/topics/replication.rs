//! How many copies a partition has and where they are: what may be asked for, given that shards decide it.
//!
//! A shard has [`ClusterView::copies_max`] copies where there are as many nodes, and else an odd number: two would stop
//! whenever one does. Each gets them soon after the nodes come; until then fewer are promised, namely those that every shard has, as a partition may
//! come to any. A client cannot choose among the shards' places.

use std::collections::BTreeSet;

use record::NodeId;

use crate::nodes::{ClusterView, Copies};

/// Whether partitions have as many copies as is asked for; -1 asks for what there is.
pub(super) fn check_factor(factor: i16, view: &ClusterView) -> Result<(), String> {
    let (nodes, most, at_most) = (view.nodes().len().max(1), copies(view), view.copies_max());
    let cannot = |why: String| {
        Err(format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
             reached because {why}."
        ))
    };
    match usize::try_from(factor) {
        Err(_) if factor == -1 => Ok(()),
        Err(_) | Ok(0) => Err("Replication factor must be larger than 0, or -1 to use the default value.".to_owned()),
        Ok(copies) if copies <= most => Ok(()),
        Ok(copies) if copies > nodes => cannot(format!("only {nodes} broker(s) are registered")),
        Ok(copies) if copies > at_most => {
            cannot(format!("a partition has at most {at_most} replica(s), which `rosettamq cluster copies` changes"))
        }
        Ok(_) if nodes < at_most => {
            cannot(format!("a partition has {most} replica(s) while there are fewer than {at_most} brokers"))
        }
        Ok(_) => cannot(format!("not every partition would have more than {most} replica(s) for now")),
    }
}

/// The factor of partitions that are made now.
pub(super) fn factor(view: &ClusterView) -> i16 {
    i16::try_from(copies(view)).unwrap_or(i16::MAX)
}

/// The copies that every shard has or is about to have, to any of which a new partition may come.
fn copies(view: &ClusterView) -> usize {
    data_shards(view).map(|copies| copies.wanted.len()).min().unwrap_or(1)
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
    let elsewhere = |copies: &&Copies| copies.wanted.iter().copied().collect::<BTreeSet<_>>() != wanted;
    match data_shards(view).find(elsewhere) {
        None => Ok(()),
        Some(copies) => {
            let there: Vec<String> = copies.wanted.iter().map(ToString::to_string).collect();
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
        let three = view(3, &[&[1], &[1, 2, 3], &[2, 3, 1]]);
        for asked in [-1, 1, 2, 3] {
            assert_eq!(check_factor(asked, &three), Ok(()));
        }
        assert!(check_factor(4, &three).unwrap_err().ends_with("because only 3 broker(s) are registered."));
        assert!(check_factor(4, &view(5, &[])).unwrap_err().contains("at most 3 replica(s), which"));
        assert!(check_factor(2, &view(0, &[])).unwrap_err().ends_with("because only 1 broker(s) are registered."));
        for asked in [0, -2] {
            assert!(check_factor(asked, &three).unwrap_err().starts_with("Replication factor must be larger than 0"));
        }
        assert_eq!((factor(&three), factor(&view(1, &[&[1], &[1]]))), (3, 1));
    }

    #[test]
    fn a_factor_that_some_shard_does_not_have_is_refused_with_the_one_that_all_have() {
        let two = view(2, &[&[1], &[1], &[2]]);
        assert_eq!((factor(&two), check_factor(1, &two)), (1, Ok(())));
        assert!(
            check_factor(2, &two)
                .unwrap_err()
                .ends_with("a partition has 1 replica(s) while there are fewer than 3 brokers.")
        );
        let grows = view(3, &[&[1], &[1, 2, 3], &[2]]);
        assert_eq!((factor(&grows), check_factor(1, &grows)), (1, Ok(())));
        assert!(check_factor(3, &grows).unwrap_err().ends_with("would have more than 1 replica(s) for now."));
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
