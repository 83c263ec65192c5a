//! Disks that fill and disks that fail.

use std::io;

use base::disk::{Disk, SimDisk, SimDiskOptions};
use base::time::Duration;

use super::*;

const DIR: &str = "/data/log";

fn disk(capacity_bytes: u64) -> SimDisk {
    SimDisk::new(1, SimDiskOptions { capacity_bytes, ..SimDiskOptions::default() })
}

async fn open_on(disk: &SimDisk, options: Options) -> CommitLog {
    CommitLog::open(Arc::new(disk.clone()), Path::new(DIR), options).await.unwrap().0
}

#[tokio::test]
async fn a_full_disk_refuses_reads_go_on_and_room_brings_it_back() {
    let options = Options { segment_bytes: 64 << 10, queue_bytes: 50_000, fill_bytes_per_second: 0, ..small() };
    let disk = disk(400 << 10);
    let log = open_on(&disk, Options { reserve_bytes: 100 << 10, ..options }).await;
    let shard = log.shard(SHARD);
    let state = log.disk_state();
    let mut index = 0;
    while *state.borrow() == DiskState::Writable {
        shard.append(vec![entry(1, index, 5_000)], Box::new(|result| result.unwrap())).unwrap();
        index += 1;
        base::time::sleep(Duration::from_millis(5)).await;
        assert!(index < 100, "the reserve is noticed before the disk is full");
    }
    // What is in flight goes on into the reserve, then waits, then the queue refuses.
    let mut refused = None;
    for _ in 0..200 {
        match shard.append(vec![entry(1, index, 5_000)], Box::new(|result| result.unwrap())) {
            Ok(()) => index += 1,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
        base::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(refused, Some(Refused::DiskFull));
    check_entry(&shard, 1, 0, 5_000).await;
    check_entry(&shard, 1, index - 1, 5_000).await;
    assert!(log.failure().borrow().is_none());

    disk.set_options(|options| options.capacity_bytes = 10 << 20);
    eventually("room", || *state.borrow() == DiskState::Writable).await;
    let mut durable = None;
    // What filled the queue goes first.
    eventually("room in the queue", || {
        let (sender, receiver) = oneshot::channel();
        durable = Some(receiver);
        let appended =
            shard.append_each(vec![entry(1, index, 5_000)], Box::new(move |result| drop(sender.send(result))));
        assert!(matches!(appended, Ok(()) | Err(Refused::Busy)), "{appended:?}");
        appended.is_ok()
    })
    .await;
    durable.unwrap().await.unwrap().unwrap();
    log.close().await;
    disk.crash();
    let log = open_on(&disk, small()).await;
    for index in 0..=index {
        check_entry(&log.shard(SHARD), 1, index, 5_000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_at_the_threshold_does_not_change_its_mind_again_and_again() {
    let _simulated = base::task::simulate();
    let segment_bytes = 64 << 10;
    let disk = disk(10 << 20);
    let reserve_bytes = 4 * segment_bytes;
    let log = open_on(&disk, Options { segment_bytes, reserve_bytes, fill_bytes_per_second: 0, ..small() }).await;
    append(&log.shard(SHARD), vec![entry(1, 0, 100)]).await;
    base::time::sleep(Duration::from_secs(1)).await;
    let used = (10 << 20) - disk.free_bytes(Path::new(DIR)).unwrap().available;
    let mut state = log.disk_state();
    let mut look = async |free: u64| {
        disk.set_options(|options| options.capacity_bytes = used + free);
        base::time::sleep(Duration::from_secs(1)).await;
        *state.borrow_and_update()
    };
    assert_eq!(look(reserve_bytes).await, DiskState::Writable);
    assert_eq!(look(reserve_bytes - 1).await, DiskState::Full);
    assert_eq!(look(reserve_bytes).await, DiskState::Full, "that little is used up at once");
    assert_eq!(look(reserve_bytes + segment_bytes / 4 - 1).await, DiskState::Full);
    assert_eq!(look(reserve_bytes + segment_bytes / 4).await, DiskState::Writable);
    assert_eq!(look(reserve_bytes).await, DiskState::Writable, "it was not refused there");
    // There is no segment ready, so that one must fit.
    assert_eq!(look(reserve_bytes / 2).await, DiskState::Full);
    assert_eq!(look(reserve_bytes / 2 - 1).await, DiskState::Scarce);
    assert_eq!(look(reserve_bytes / 2 + segment_bytes / 4).await, DiskState::Full);
    assert_eq!(look(reserve_bytes / 4).await, DiskState::Scarce);
    assert_eq!(look(reserve_bytes / 4 - 1).await, DiskState::Exhausted);
    assert_eq!(look(10 * reserve_bytes).await, DiskState::Writable);
    log.close().await;
}

#[tokio::test]
async fn closing_does_not_wait_for_space_that_never_comes() {
    let disk = disk(200 << 10);
    let options = Options { segment_bytes: 64 << 10, fill_bytes_per_second: 0, ..small() };
    let log = open_on(&disk, options).await;
    let shard = log.shard(SHARD);
    append(&shard, vec![entry(1, 0, 5_000)]).await;
    let (sender, durable) = oneshot::channel();
    let rest = (1..60).map(|index| entry(1, index, 5_000)).collect();
    shard.append_each(rest, Box::new(move |result| drop(sender.send(result)))).unwrap();
    base::time::timeout(Duration::from_secs(60), log.close()).await.unwrap();
    assert!(durable.await.unwrap().is_err(), "what found no space is not acknowledged");
    assert!(log.failure().borrow().as_ref().unwrap().to_string().contains("make"));
    drop((log, shard));
    disk.set_options(|options| options.capacity_bytes = 10 << 20);
    disk.crash();
    let log = open_on(&disk, small()).await;
    check_entry(&log.shard(SHARD), 1, 0, 5_000).await;
}

#[tokio::test]
async fn a_log_is_opened_on_a_disk_without_any_room() {
    let list = Path::new(DIR).join("LET-GO");
    let options = || Options { segment_bytes: 64 << 10, fill_bytes_per_second: 0, ..small() };
    for (synced_is_there, changed) in [(true, false), (true, true), (false, false), (false, true)] {
        let disk = disk(u64::MAX);
        let log = open_on(&disk, options()).await;
        let shard = log.shard(SHARD);
        shard.save_vote(vote(1)).await.unwrap();
        for index in 0..60 {
            append(&shard, vec![entry(1, index, 5_000)]).await;
        }
        shard.keep(Vec::new());
        shard.purge(id(1, 39)).await.unwrap();
        eventually("segments that go", || disk.contents(&list).ends_with(b"from 1 through 4\n")).await;
        log.close().await;
        drop((log, shard));
        let before = disk.contents(&list);
        if !synced_is_there {
            disk.remove(&Path::new(DIR).join("SYNCED")).unwrap();
        }
        if changed {
            // As a crash between the list and what it speaks of leaves it.
            let file = disk.open(&list, base::disk::OpenOptions::read_write()).unwrap();
            file.write_at(before.len() as u64, &[io::IoSlice::new(b"from 30 through 30\n")]).await.unwrap();
        }
        let used = u64::MAX - disk.free_bytes(Path::new(DIR)).unwrap().available;
        disk.set_options(|options| options.capacity_bytes = used);
        let log = open_on(&disk, options()).await;
        assert!(!disk.exists(&list.with_extension("new")));
        assert_eq!(disk.exists(&list), !changed, "the list is removed where it cannot be written");
        check_entry(&log.shard(SHARD), 1, 59, 5_000).await;
        append(&log.shard(SHARD), vec![entry(1, 60, 100)]).await;
        log.close().await;
        assert!(log.failure().borrow().is_none());
        drop(log);
        disk.crash();
        disk.set_options(|options| options.capacity_bytes = u64::MAX);
        let log = open_on(&disk, options()).await;
        check_entry(&log.shard(SHARD), 1, 60, 100).await;
        assert_eq!(disk.contents(&list), before);
        log.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn dead_segments_are_kept_to_be_used_again_up_to_so_many() {
    let _simulated = base::task::simulate();
    for ready_segments in [1, 4] {
        let disk = disk(u64::MAX);
        let segment_bytes = 64 << 10;
        let options = Options { segment_bytes, ready_segments, fill_bytes_per_second: 0, ..small() };
        let log = open_on(&disk, options).await;
        let shard = log.shard(SHARD);
        shard.keep(Vec::new());
        let files = || disk.files().iter().filter(|(_, len)| *len == segment_bytes).count() as u64;
        let settled = Duration::from_secs(1);
        for index in 0..20 {
            append(&shard, vec![entry(1, index, 20_000)]).await;
        }
        base::time::sleep(settled).await;
        let before = log.stats().segments;
        assert!(before > 6, "{before}");
        assert_eq!(files(), before + 1, "one is made ahead");
        shard.purge(id(1, 18)).await.unwrap();
        base::time::sleep(settled).await;
        let stats = log.stats();
        assert!(stats.segments < 3, "{stats:?}");
        assert_eq!(files(), stats.segments + ready_segments as u64);
        assert_eq!(stats.segments_recycled, ready_segments as u64 - 1);
        for index in 20..40 {
            append(&shard, vec![entry(1, index, 20_000)]).await;
        }
        log.close().await;
        drop((log, shard));
        let log = open_on(&disk, small()).await;
        for index in 19..40 {
            check_entry(&log.shard(SHARD), 1, index, 20_000).await;
        }
        log.close().await;
    }
}

#[tokio::test]
async fn a_failed_write_or_sync_ends_the_log_for_good() {
    for operations in 0..6 {
        let disk = disk(u64::MAX);
        let log = open_on(&disk, Options { fill_bytes_per_second: 0, ..small() }).await;
        let shard = log.shard(SHARD);
        append(&shard, vec![entry(1, 0, 10)]).await;
        let failure = log.failure();
        assert!(failure.borrow().is_none());
        disk.fail_after(operations);
        let mut failed = false;
        for _ in 1..10 {
            let index = shard.log_state().last.unwrap().index.0 + 1;
            let (sender, durable) = oneshot::channel();
            let appended =
                shard.append_each(vec![entry(1, index, 10)], Box::new(move |result| drop(sender.send(result))));
            match appended {
                Ok(()) => failed |= durable.await.map_or(true, |result| result.is_err()),
                Err(error) => {
                    assert_eq!(error, Refused::Failed);
                    assert!(failed);
                }
            }
        }
        let text = failure.borrow().as_ref().unwrap().to_string();
        assert!(text.contains("segment") && text.contains("the node stops"), "{text}");
        // The disk is well again; the log is not.
        disk.fail_after(u64::MAX);
        assert!(shard.save_vote(vote(1)).await.is_err());
        assert_eq!(shard.append(Vec::new(), Box::new(|_| {})), Err(Refused::Failed));
        log.close().await;
    }
}
