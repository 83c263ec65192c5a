//! What a session tells, whose turn it is, and who must go.

use std::sync::Arc;

use base::random::SeededRandom;
use record::TopicId;

use super::cache::Sessions;
use super::*;
use crate::wire::fetch::FetchPartition;
use crate::wire::fetch_response::{Aborted, PartitionHead};
use crate::wire::produce::TopicKey;

fn wish(index: i32) -> FetchPartition {
    FetchPartition { index, current_leader_epoch: -1, fetch_offset: 0, last_fetched_epoch: -1, max_bytes: 1 }
}

fn head(index: i32, high_watermark: i64) -> PartitionHead {
    PartitionHead {
        index,
        error: 0,
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: 0,
        diverging_epoch: None,
        current_leader: None,
        aborted: Aborted::Null,
    }
}

const KEY: TopicKey = TopicKey::Id(TopicId(1));

fn session(partitions: i32) -> Session {
    let mut session = Session::new(true);
    for index in 0..partitions {
        session.set(&KEY, wish(index));
    }
    session
}

fn order(session: &mut Session) -> Vec<i32> {
    session.iter_mut().map(|(_, cached)| cached.wish.index).collect()
}

fn turn(session: &mut Session, index: i32) -> u64 {
    session.iter_mut().find(|(_, cached)| cached.wish.index == index).map(|(turn, _)| turn).expect("there")
}

#[test]
fn only_what_changed_is_told() {
    let mut session = session(1);
    let mut tell = |head: PartitionHead, has_data| {
        let turn = turn(&mut session, 0);
        session.answer(turn, &head, has_data)
    };
    assert_eq!(tell(head(0, 5), false), Change::Told);
    assert_eq!(tell(head(0, 5), false), Change::None);
    assert_eq!(tell(head(0, 6), false), Change::Told);
    assert_eq!(tell(head(0, 6), true), Change::Data);
    let moved = PartitionHead { log_start_offset: 2, ..head(0, 6) };
    assert_eq!(tell(moved.clone(), false), Change::Told);
    assert_eq!(tell(moved.clone(), false), Change::None);
    // An error is told every time, and what comes after it too.
    let refused = PartitionHead::refused(0, 3, Aborted::Empty);
    assert_eq!(tell(refused.clone(), false), Change::Told);
    assert_eq!(tell(refused, false), Change::Told);
    assert_eq!(tell(moved.clone(), false), Change::Told);
    let diverging = PartitionHead { diverging_epoch: Some((1, 1)), ..moved };
    assert_eq!(tell(diverging.clone(), false), Change::Told);
    assert_eq!(tell(diverging, false), Change::Told);
}

#[test]
fn who_was_given_data_goes_to_the_end() {
    let mut session = session(3);
    let first = turn(&mut session, 0);
    session.answer(first, &head(0, 1), true);
    assert_eq!(order(&mut session), [1, 2, 0]);
    // A change of what is wished keeps the place.
    session.set(&KEY, FetchPartition { fetch_offset: 9, ..wish(2) });
    assert_eq!(order(&mut session), [1, 2, 0]);
    session.forget(&KEY, 2);
    session.forget(&KEY, 7);
    assert_eq!(order(&mut session), [1, 0]);
    assert_eq!(session.len(), 2);
}

#[test]
fn epochs_start_at_one_and_never_come_back_to_zero() {
    let mut session = session(1);
    assert_eq!(session.epoch(), 1);
    session.advance();
    assert_eq!(session.epoch(), 2);
    assert_eq!(next_epoch(i32::MAX), 1);
}

fn cache(sessions: usize, partitions: usize) -> Sessions {
    Sessions::new(sessions, partitions, Arc::new(SeededRandom::new(1)))
}

#[tokio::test(start_paused = true)]
async fn the_longest_unused_session_makes_room_after_two_minutes() {
    let cache = cache(2, 100);
    let first = cache.create(session(1)).expect("room");
    let second = cache.create(session(1)).expect("room");
    assert!(cache.create(session(1)).is_none(), "both are fresh");
    base::time::sleep(base::time::Duration::from_secs(121)).await;
    assert!(cache.find(first.id, None).is_some());
    let third = cache.create(session(1)).expect("the second one goes");
    assert!(second.is_closed() && cache.find(second.id, Some(&second)).is_none());
    assert!(cache.find(first.id, None).is_some() && cache.find(third.id, Some(&third)).is_some());
    assert_eq!(cache.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_old_small_session_makes_room_for_a_larger_one() {
    let cache = cache(1, 100);
    let small = cache.create(session(1)).expect("room");
    base::time::sleep(base::time::Duration::from_secs(121)).await;
    assert!(cache.find(small.id, None).is_some(), "used just now");
    assert!(cache.create(session(1)).is_none(), "no larger than the old one");
    assert!(cache.create(session(2)).is_some());
    assert!(small.is_closed());
}

#[tokio::test]
async fn partitions_in_all_sessions_are_bounded() {
    let cache = cache(10, 5);
    let first = cache.create(session(3)).expect("room");
    assert!(cache.create(session(3)).is_none());
    assert!(cache.resize(&first, 5));
    assert!(cache.create(session(1)).is_none());
    assert!(cache.resize(&first, 1));
    let second = cache.create(session(4)).expect("room again");
    assert!(!cache.resize(&first, 2), "no room: the session ends");
    assert!(first.is_closed());
    cache.close(second.id);
    assert!(cache.create(session(5)).is_some());
}

#[test]
fn partitions_that_come_to_a_closed_session_are_not_counted() {
    let sessions = Sessions::new(2, 10, Arc::new(SeededRandom::new(1)));
    let slot = sessions.create(session(2)).expect("there is room");
    sessions.close(slot.id);
    for _ in 0..5 {
        sessions.resize(&slot, 10);
    }
    assert!(sessions.create(session(10)).is_some(), "all places are free");
}
