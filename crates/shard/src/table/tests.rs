//! Captures show the moment they began; the digest depends on what is there only.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::{decode, wire_struct};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    key: u64,
    value: u32,
}

wire_struct!(Pair { key: u64, value: u32 });

impl Record for Pair {
    type Key = u64;
    const TABLE: u8 = 99;
    fn key(&self) -> u64 {
        self.key
    }
}

/// What a capture gave so far.
type Items = Vec<(Item, Vec<u8>)>;

fn restore(state: &mut BTreeMap<u64, u32>, items: &[(Item, Vec<u8>)]) {
    for (item, payload) in items {
        match item {
            Item::Put => {
                let pair: Pair = decode(payload).unwrap();
                state.insert(pair.key, pair.value);
            }
            Item::Remove => {
                let key: u64 = decode(payload).unwrap();
                state.remove(&key);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, u32),
    Remove(u64),
    Begin(bool),
    Capture(usize),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..20, any::<u32>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0_u64..20).prop_map(Step::Remove),
        2 => any::<bool>().prop_map(Step::Begin),
        4 => (1_usize..8).prop_map(Step::Capture),
        1 => Just(Step::Settle),
    ]
}

fn model_of(table: &Table<Pair>) -> BTreeMap<u64, u32> {
    table.iter().map(|(_, pair)| (pair.key, pair.value)).collect()
}

#[test]
fn the_digest_depends_on_what_is_there_and_not_on_how_it_came() {
    let (mut one, mut two) = (Table::default(), Table::default());
    for key in 0..5000 {
        one.insert(Pair { key, value: 1 });
        two.insert(Pair { key: 4999 - key, value: 0 });
    }
    assert_ne!(one.digest(), two.digest());
    for key in 0..5000 {
        let slot = two.slot(&key).unwrap();
        two.change(slot).unwrap().value = 1;
    }
    two.insert(Pair { key: 9999, value: 0 });
    two.remove(&9999);
    assert_eq!(one.digest(), two.digest());
    for key in 0..5000 {
        one.remove(&key);
    }
    assert_eq!(one.digest(), Table::<Pair>::default().digest());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A base and the deltas behind it show the table as it was when each capture began, whatever happens meanwhile.
    #[test]
    fn captures_show_the_moment_they_began(steps in proptest::collection::vec(step(), 0..150)) {
        let mut table = Table::<Pair>::default();
        let mut model = BTreeMap::new();
        let mut restored: Option<BTreeMap<u64, u32>> = None;
        let mut open: Option<(bool, BTreeMap<u64, u32>, Items)> = None;
        for step in steps.into_iter().chain([Step::Capture(1000)]) {
            match step {
                Step::Put(key, value) => {
                    table.put(Pair { key, value });
                    model.insert(key, value);
                }
                Step::Remove(key) => {
                    prop_assert_eq!(table.remove(&key).map(|pair| pair.value), model.remove(&key));
                }
                Step::Begin(base) if open.is_none() => {
                    let base = base || restored.is_none();
                    table.begin_capture(base);
                    open = Some((base, model.clone(), Vec::new()));
                }
                Step::Begin(_) => {}
                Step::Capture(budget) => {
                    let Some((base, expected, mut items)) = open.take() else { continue };
                    if table.capture_some(budget, |item, payload| items.push((item, payload.to_vec()))) {
                        open = Some((base, expected, items));
                        continue;
                    }
                    table.end_capture();
                    let mut state = if base { BTreeMap::new() } else { restored.unwrap() };
                    restore(&mut state, &items);
                    prop_assert_eq!(&state, &expected);
                    restored = Some(state);
                }
                Step::Settle if open.is_none() => {
                    table.settle();
                    restored = Some(model.clone());
                }
                Step::Settle => {}
            }
            prop_assert_eq!(&model_of(&table), &model);
            prop_assert_eq!(table.len(), model.len());
        }
        let mut fresh = Table::<Pair>::default();
        for (key, value) in model {
            fresh.insert(Pair { key, value });
        }
        prop_assert_eq!(table.digest(), fresh.digest());
    }
}
