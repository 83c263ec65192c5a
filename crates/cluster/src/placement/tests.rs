//! Plans over made-up clusters, carried out step by step until nothing is left to do.

use proptest::prelude::*;

use super::new_shards::{change, in_use, new_shards, taken_up};
use super::*;

fn home(id: u64, rack: Option<&str>) -> Home {
    Home { id: NodeId(id), rack: rack.map(str::to_owned), live: true, draining: false, replaced: false, full: false }
}

fn homes(count: u64) -> Vec<Home> {
    (1..=count).map(|id| home(id, None)).collect()
}

/// A shard that is where it should be.
fn placed(id: u32, voters: &[u64]) -> Placed {
    let voters: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
    let actual = Led { voters: voters.clone(), learners: vec![], changing: false };
    let most = if ShardId(id) == METADATA { METADATA_VOTERS } else { 3 };
    Placed { id: ShardId(id), voters, actual: Some(actual), founder: None, most }
}

/// Does what is planned until nothing is; gives the steps.
fn settle(homes: &[Home], shards: &mut [Placed]) -> usize {
    for step in 0..1_000 {
        let Some(record) = plan(homes, shards, true) else { return step };
        let changed = shards.iter_mut().find(|placed| placed.id == record.id).expect("one of them");
        assert_ne!(changed.voters, record.voters, "a plan changes something");
        let most = changed.most;
        let moved = placed(record.id.0, &record.voters.iter().map(|node| node.0).collect::<Vec<_>>());
        *changed = Placed { most, ..moved };
    }
    panic!("no end of plans: {shards:?}");
}

fn load(shards: &[Placed], node: u64) -> usize {
    shards.iter().filter(|placed| placed.id != METADATA && placed.voters.contains(&NodeId(node))).count()
}

fn leads(shards: &[Placed], node: u64) -> usize {
    shards.iter().filter(|placed| placed.id != METADATA && placed.voters.first() == Some(&NodeId(node))).count()
}

#[test]
fn odd_numbers_of_voters() {
    assert_eq!([0, 1, 2, 3, 4, 5, 6].map(odd), [0, 1, 1, 3, 3, 5, 5]);
}

/// While the only copy goes from one node to the other, both are named.
#[test]
fn the_only_copy_that_is_on_its_way_is_not_two() {
    let nodes = homes(2);
    let under_way = Led { voters: vec![NodeId(1), NodeId(2)], learners: vec![], changing: true };
    let shard = Placed { actual: Some(under_way), ..placed(1, &[2]) };
    assert_eq!(fill(&nodes, std::slice::from_ref(&shard), &shard), None);
    assert!(shard.has_its_copies(&nodes));
}

#[test]
fn a_second_copy_is_kept_and_not_made() {
    assert_eq!(voters_of(3, 2, 1), 1);
    assert_eq!(voters_of(3, 2, 2), 2);
    assert_eq!(voters_of(3, 2, 3), 2);
    assert_eq!(voters_of(5, 4, 5), 3);
    let mut nodes = homes(3);
    let mut shards = vec![placed(0, &[1, 2, 3]), placed(1, &[1, 2, 3]), placed(2, &[3, 1, 2])];
    nodes[2].draining = true;
    settle(&nodes, &mut shards);
    for placed in &shards {
        assert_eq!(placed.voters.iter().map(|node| node.0).collect::<BTreeSet<_>>(), [1, 2].into(), "{placed:?}");
    }
    nodes[1].draining = true;
    settle(&nodes, &mut shards);
    assert!(shards.iter().all(|placed| placed.voters == [NodeId(1)]), "{shards:?}");
}

#[test]
fn one_node_that_grows_to_three_is_on_all_of_them() {
    let mut shards = vec![placed(0, &[1]), placed(1, &[1]), placed(2, &[1])];
    assert_eq!(settle(&homes(1), &mut shards), 0);
    assert_eq!(settle(&homes(2), &mut shards), 0, "a second vote would only be one more that can fail");
    assert!(settle(&homes(3), &mut shards) > 0);
    for placed in &shards {
        assert_eq!(placed.voters.len(), 3, "{placed:?}");
    }
    assert!((1..=3).all(|node| leads(&shards, node) <= 1), "leaders are spread: {shards:?}");
}

#[test]
fn the_metadata_gets_five_voters() {
    let mut shards = vec![placed(0, &[1]), placed(1, &[1])];
    settle(&homes(6), &mut shards);
    assert_eq!(shards[0].voters.len(), 5);
    assert_eq!(shards[1].voters.len(), 3);
}

#[test]
fn a_node_that_is_emptied_ends_empty_and_the_others_stay_even() {
    let mut shards: Vec<Placed> = (0..5).map(|id| placed(id, &[1])).collect();
    settle(&homes(4), &mut shards);
    let mut nodes = homes(4);
    nodes[0].draining = true;
    settle(&nodes, &mut shards);
    assert!(shards.iter().all(|placed| !placed.voters.contains(&NodeId(1))), "{shards:?}");
    assert!(shards.iter().all(|placed| placed.voters.len() == 3));
}

#[test]
fn what_is_there_moves_only_when_no_copy_is_missing() {
    // The first node has more than its share, and a shard lacks copies.
    let mut shards: Vec<Placed> = (1..=4).map(|id| placed(id, &[1, 2, 3])).collect();
    shards.push(placed(5, &[4]));
    let filled = plan(&homes(4), &shards, true).expect("a plan");
    assert_eq!(filled.id, ShardId(5));
    shards[4].voters = filled.voters;
    assert_eq!(plan(&homes(4), &shards, true), None, "it is not there yet");
    let voters: Vec<u64> = shards[4].voters.iter().map(|node| node.0).collect();
    shards[4] = placed(5, &voters);
    let moved = plan(&homes(4), &shards, true).expect("a plan");
    assert!(moved.voters.contains(&NodeId(4)), "{moved:?}");
}

#[test]
fn new_shards_begin_where_few_are_led() {
    let founders = |leads: &[(u64, usize)], count| -> Vec<(u32, u64)> {
        let leads = leads.iter().map(|(node, leads)| (NodeId(*node), *leads)).collect();
        new_shards(leads, 2, count).iter().map(|new| (new.id.0, new.founder.0)).collect()
    };
    assert_eq!(founders(&[(1, 2), (2, 0), (3, 0)], 4), [(3, 2), (4, 3), (5, 2), (6, 3)]);
    assert_eq!(founders(&[(1, 1), (2, 0)], 0), []);
    assert_eq!(founders(&[], 3), []);
}

/// A shard that is not in use, wanted on `voters`, and led where it is on `actual`.
fn coming(id: u32, founder: u64, voters: &[u64], actual: Option<&[u64]>) -> Placed {
    let actual = actual.and_then(|actual| placed(id, actual).actual);
    Placed { founder: Some(NodeId(founder)), actual, ..placed(id, voters) }
}

#[test]
fn a_new_shard_is_in_use_when_it_has_its_copies() {
    let nodes = homes(4);
    let used = |shard: Placed| in_use(&nodes, &[placed(1, &[1, 2, 3]), shard]);
    assert_eq!(used(coming(7, 4, &[4], None)), []);
    assert_eq!(used(coming(7, 4, &[4], Some(&[4]))), [], "on one disk");
    assert_eq!(used(coming(7, 4, &[4, 1, 2], Some(&[4]))), [], "the others have none of it yet");
    assert_eq!(used(coming(7, 4, &[4, 1, 2], Some(&[1, 2, 4]))), [ShardId(7)]);
    assert_eq!(in_use(&homes(2), &[coming(3, 2, &[2], Some(&[2]))]), [ShardId(3)], "more is not to be had");
    assert!(!coming(7, 4, &[4, 1, 2], Some(&[1, 2, 4])).is_settled());
    assert!(placed(1, &[1, 2, 3]).has_its_copies(&nodes) && !placed(1, &[1]).has_its_copies(&nodes));
    assert!(!Placed { actual: None, ..placed(1, &[1, 2, 3]) }.has_its_copies(&nodes));
    // Others get copies as of any shard, once there is something to copy.
    let whole = [placed(0, &[1, 2, 3]), placed(1, &[1, 2, 3])];
    let with = |shard| whole.iter().cloned().chain([shard]).collect::<Vec<_>>();
    assert_eq!(plan(&nodes, &with(coming(2, 4, &[4], None)), true), None);
    let filled = plan(&nodes, &with(coming(2, 4, &[4], Some(&[4]))), true).expect("a plan");
    assert_eq!((filled.voters[0], filled.voters.len()), (NodeId(4), 3));
}

#[test]
fn a_new_shard_is_given_up_when_nobody_can_begin_it_and_nobody_has_it() {
    let mut nodes = homes(4);
    let of = |nodes: &[Home], shard: Placed, kept| change(nodes, &[placed(1, &[1, 2, 3]), shard], |_| kept);
    let given_up = ShardRecord { id: ShardId(7), voters: vec![] };
    assert_eq!(of(&nodes, coming(7, 4, &[4], None), false), None, "it begins");
    nodes[3].live = false;
    assert_eq!(of(&nodes, coming(7, 4, &[4], None), false), None, "it may come back");
    for gone in [
        homes(3),
        [homes(3), vec![Home { draining: true, ..home(4, None) }]].concat(),
        [homes(3), vec![Home { live: false, replaced: true, ..home(4, None) }]].concat(),
    ] {
        assert_eq!(of(&gone, coming(7, 4, &[4], None), false).as_ref(), Some(&given_up));
        assert_eq!(of(&gone, coming(7, 4, &[2, 3, 1], None), false).as_ref(), Some(&given_up), "wanted elsewhere");
        assert_eq!(of(&gone, coming(7, 4, &[4], None), true), None, "something is on it");
        assert_eq!(of(&gone, coming(7, 4, &[2, 3, 1], Some(&[2, 3, 4])), false), None, "others have it");
        assert_eq!(of(&gone, coming(7, 4, &[], None), false), None, "it is");
        assert_eq!(of(&gone, Placed { actual: None, ..placed(7, &[4]) }, false), None, "it was in use");
    }
    // Somebody has it all the same.
    let back = of(&nodes, coming(7, 4, &[], Some(&[2, 3, 4])), true).expect("it is taken up");
    assert_eq!(back, ShardRecord { id: ShardId(7), voters: vec![NodeId(2), NodeId(3), NodeId(4)] });
    // Or who was to begin it is here again.
    let shards = [coming(7, 4, &[], None), coming(8, 3, &[], None)];
    assert_eq!(taken_up(&nodes, &shards[..1]), None);
    assert_eq!(taken_up(&nodes, &shards), Some(ShardRecord { id: ShardId(8), voters: vec![NodeId(3)] }));
}

#[test]
fn some_shards_at_a_time_and_a_silent_voter_keeps_its_place() {
    let mut shards = vec![placed(0, &[1, 2, 3])];
    shards.extend((1..=6).map(|id| placed(id, &[1])));
    for id in 1..=FILLED_AT_ONCE {
        let next = plan(&homes(3), &shards, true).expect("a plan");
        assert_eq!(next.id.0 as usize, id);
        // Written down, not brought about.
        shards[id].voters = next.voters;
    }
    assert_eq!(plan(&homes(3), &shards, true), None, "those are not done");
    let mut shards = vec![placed(0, &[1, 2, 3]), placed(1, &[1]), placed(2, &[1, 2, 3])];
    let mut nodes = homes(3);
    nodes[2].live = false;
    let mut whole = vec![placed(0, &[1, 2, 3]), placed(1, &[1, 2, 3])];
    assert_eq!(settle(&nodes, &mut whole), 0);
    // One that never got its vote is given up for one that lives.
    nodes.push(home(4, None));
    shards[1].voters = vec![NodeId(1), NodeId(2), NodeId(3)];
    let again = plan(&nodes, &shards, true).expect("a plan");
    assert_eq!(again, ShardRecord { id: ShardId(1), voters: vec![NodeId(1), NodeId(2), NodeId(4)] });
}

#[test]
fn a_shard_keeps_its_voters_while_nodes_are_silent() {
    let mut nodes = homes(3);
    nodes[2].live = false;
    let mut shards = vec![placed(0, &[1, 2, 3]), placed(1, &[1, 2, 3])];
    // Nobody knows its leader, as while one is elected: that says nothing of who votes.
    shards[1].actual = None;
    assert_eq!(plan(&nodes, &shards, true), None);
    // One that was to get a vote, and nobody else could.
    let led = |voters: &[u64], learners: &[u64]| {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        Some(Led { voters: nodes(voters), learners: nodes(learners), changing: false })
    };
    shards[1].actual = led(&[1], &[2, 3]);
    assert_eq!(plan(&nodes, &shards, true), None);
    shards[1].actual = led(&[1, 2], &[]);
    assert_eq!(plan(&nodes, &shards, true), None);
    // The same of the metadata, and with a fourth node that would be too few as well.
    shards[1] = placed(1, &[1, 2, 3]);
    shards[0].actual = None;
    nodes.push(home(4, None));
    assert_eq!(plan(&nodes, &shards, true), None);
}

#[test]
fn a_node_is_replaced_by_a_later_one_at_its_address() {
    let record = |id: u64, port: Option<u16>| {
        let address = |port| shard::NodeAddress { listener: INTERNAL_LISTENER.to_owned(), host: "h".to_owned(), port };
        let addresses = port.map(address).into_iter().collect();
        NodeRecord { id: NodeId(id), start_number: 1, rack: None, addresses }
    };
    let records = [record(1, Some(1)), record(2, Some(2)), record(3, Some(1)), record(4, None), record(5, None)];
    let nodes: Vec<&NodeRecord> = records.iter().collect();
    let replaced: Vec<u64> = records.iter().filter(|one| is_replaced(one, &nodes)).map(|one| one.id.0).collect();
    assert_eq!(replaced, [1]);
}

#[test]
fn replicas_spread_over_racks() {
    let nodes: Vec<Home> =
        [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")].map(|(id, rack)| home(id, Some(rack))).to_vec();
    let mut shards: Vec<Placed> = (0..7).map(|id| placed(id, &[1])).collect();
    settle(&nodes, &mut shards);
    for placed in shards.iter().filter(|placed| placed.id != METADATA) {
        let racks: BTreeSet<_> =
            placed.voters.iter().map(|id| nodes.iter().find(|home| home.id == *id).unwrap().rack.clone()).collect();
        assert_eq!(racks.len(), 3, "{placed:?}");
    }
}

#[test]
fn a_rack_that_comes_later_gets_copies() {
    let mut nodes: Vec<Home> = [(1, "a"), (2, "a"), (3, "b")].map(|(id, rack)| home(id, Some(rack))).to_vec();
    let mut shards: Vec<Placed> = (0..6).map(|id| placed(id, &[1])).collect();
    settle(&nodes, &mut shards);
    nodes.push(home(4, Some("c")));
    settle(&nodes, &mut shards);
    for placed in &shards {
        assert_eq!(racks(&nodes, &placed.voters), 3, "{placed:?}");
    }
}

#[test]
fn copies_of_a_shard_stay_while_one_is_missing() {
    let mut nodes = homes(5);
    nodes[2].live = false;
    let on = [[1, 2, 3], [2, 4, 3], [3, 4, 1], [4, 1, 2]];
    let shards: Vec<Placed> = (1..).zip(&on).map(|(id, voters)| placed(id, voters)).collect();
    let mut evened = shards.clone();
    settle(&nodes, &mut evened);
    assert_eq!(evened[..3], shards[..3], "the third may come back");
    assert!(load(&evened, 5) > 0);
    // When it is given up, its places go to the new one, and nothing else moves.
    nodes[2].draining = true;
    let mut replaced = shards;
    while let Some(record) = plan(&nodes, &replaced, false) {
        let changed = replaced.iter_mut().find(|placed| placed.id == record.id).expect("one of them");
        let kept = changed.voters.iter().filter(|voter| record.voters.contains(voter)).count();
        assert_eq!(kept, 2, "{changed:?} to {record:?}");
        changed.voters.clone_from(&record.voters);
        changed.actual = Some(Led { voters: record.voters, learners: vec![], changing: false });
    }
    assert!(replaced.iter().all(|placed| !placed.voters.contains(&NodeId(3))));
}

#[test]
fn who_is_silent_goes_first_where_copies_go() {
    let mut nodes = homes(5);
    nodes[2].live = false;
    let shards = [Placed { most: 5, ..placed(1, &[3, 1, 2, 4, 5]) }];
    let kept = |homes: &[Home], most| {
        let shards = [Placed { most, ..shards[0].clone() }];
        let record = plan(homes, &shards, false).expect("fewer copies");
        record.voters.iter().map(|node| node.0).collect::<Vec<_>>()
    };
    assert!(!kept(&nodes, 3).contains(&3));
    assert!(!kept(&nodes, 1).contains(&3));
    nodes[4].draining = true;
    let left = kept(&nodes, 5);
    assert!(left.len() == 3 && !left.contains(&3) && !left.contains(&5), "{left:?}");
}

#[test]
fn a_full_disk_keeps_what_it_has_and_gets_nothing() {
    let nodes = [homes(3), vec![Home { full: true, ..home(4, None) }]].concat();
    let mut shards: Vec<Placed> = (0..5).map(|id| placed(id, &[1, 2, 3])).collect();
    settle(&nodes, &mut shards);
    assert_eq!(load(&shards, 4), 0);
    let led = Led { voters: vec![NodeId(1), NodeId(2)], learners: vec![NodeId(4)], changing: false };
    let chosen = Placed { actual: Some(led), ..placed(1, &[1, 2, 4]) };
    let record = plan(&nodes, std::slice::from_ref(&chosen), true).expect("another is there");
    assert_eq!(record.voters, [NodeId(1), NodeId(2), NodeId(3)], "it would never have it all");
    let few = [homes(2), vec![Home { full: true, ..home(4, None) }]].concat();
    assert_eq!(plan(&few, &[chosen], true), None, "nobody else is there");
    assert_eq!(plan(&nodes, &[placed(1, &[1, 2, 4])], true), None, "it votes there");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plans_end_and_what_they_end_with_is_even(
        count in 1_u64..8,
        shard_count in 1_u32..12,
        draining in proptest::collection::vec(any::<bool>(), 8),
        racks in proptest::collection::vec(proptest::option::of(0_u8..3), 8),
        copies in proptest::collection::vec(prop_oneof![Just(1_usize), Just(3), Just(5)], 1..3),
    ) {
        let mut nodes: Vec<Home> = (1..=count)
            .map(|id| Home {
                rack: racks[usize::try_from(id).unwrap()].map(|rack| rack.to_string()),
                draining: draining[usize::try_from(id).unwrap()],
                ..home(id, None)
            })
            .collect();
        nodes[0].draining = false;
        let mut shards: Vec<Placed> = (0..=shard_count).map(|id| placed(id, &[1])).collect();
        // As many as are asked for in the end, whatever was asked for before.
        for most in &copies {
            for placed in shards.iter_mut().filter(|placed| placed.id != METADATA) {
                placed.most = *most;
            }
            settle(&nodes, &mut shards);
        }
        let usable = nodes.iter().filter(|home| !home.draining).count();
        for placed in &shards {
            // Two that are left of three are both kept.
            let now = placed.voters.len();
            prop_assert_eq!(now, voters_of(placed.most, usable, now));
            let set: BTreeSet<_> = placed.voters.iter().collect();
            prop_assert_eq!(set.len(), placed.voters.len());
            prop_assert!(placed.voters.iter().all(|id| nodes.iter().any(|home| home.id == *id && !home.draining)));
        }
        if racks.iter().all(Option::is_none) && usable >= copies[copies.len() - 1] {
            let of = nodes.iter().filter(|home| !home.draining).map(|home| load(&shards, home.id.0));
            let (least, most) = (of.clone().min().unwrap(), of.max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", shards);
        }
    }
}
