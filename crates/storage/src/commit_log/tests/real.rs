//! On real files in a temporary directory.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::inspect::inspect;

#[tokio::test]
async fn what_is_appended_is_read_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) = open(dir.path(), small()).await;
    assert!(recovered.is_empty());
    let shards = [log.shard(ShardId(0)), log.shard(ShardId(7))];
    for index in 0..300 {
        for (place, shard) in shards.iter().enumerate() {
            let len = usize::try_from(index * 17 % 5_000).unwrap() + place;
            append(shard, vec![entry(1 + index / 100, index, len)]).await;
        }
    }
    let check_all = async |log: &CommitLog| {
        for index in 0..300 {
            for (place, shard) in [ShardId(0), ShardId(7)].into_iter().enumerate() {
                let len = usize::try_from(index * 17 % 5_000).unwrap() + place;
                check_entry(&log.shard(shard), 1 + index / 100, index, len).await;
            }
        }
    };
    check_all(&log).await;
    log.close().await;
    for _ in 0..3 {
        let (log, recovered) = open(dir.path(), small()).await;
        assert_eq!(recovered.len(), 2);
        for shard in &recovered {
            assert_eq!(shard.log_state.last, Some(id(3, 299)));
            assert_eq!(shard.damage, []);
        }
        check_all(&log).await;
        log.close().await;
    }
}

#[tokio::test]
async fn a_restart_without_close_finds_everything_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..20 {
        let (log, recovered) = open(dir.path(), small()).await;
        let shard = log.shard(SHARD);
        let last = recovered.first().and_then(|found| found.log_state.last);
        assert_eq!(last.map(|last| last.index.0), (life * 10_u64).checked_sub(1));
        for index in life * 10..life * 10 + 10 {
            append(&shard, vec![entry(1, index, 1_000)]).await;
        }
        for index in 0..life * 10 + 10 {
            check_entry(&shard, 1, index, 1_000).await;
        }
    }
}

#[tokio::test]
async fn vote_truncation_and_marks_survive() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), small()).await;
    let shard = log.shard(SHARD);
    append(&shard, (0..20).map(|index| entry(1, index, 3_000)).collect()).await;
    shard.save_vote(vote(2)).await.unwrap();
    shard.truncate_after(Some(id(1, 9))).await.unwrap();
    assert!(shard.entries(LogIndex(10)..LogIndex(11), 1).await.unwrap().is_empty());
    append(&shard, (10..15).map(|index| entry(2, index, 2_000)).collect()).await;
    shard.purge(id(1, 4)).await.unwrap();
    shard.save_committed(id(2, 12));
    log.close().await;
    let (log, recovered) = open(dir.path(), small()).await;
    let state = recovered[0].log_state;
    assert_eq!((state.vote, state.purged, state.last), (Some(vote(2)), Some(id(1, 4)), Some(id(2, 14))));
    assert!(state.committed.is_none_or(|committed| committed == id(2, 12)));
    let shard = log.shard(SHARD);
    for index in 5..15 {
        let (term, len) = if index < 10 { (1, 3_000) } else { (2, 2_000) };
        check_entry(&shard, term, index, len).await;
    }
    shard.truncate_after(Some(id(1, 4))).await.unwrap();
    drop(log);
    let (_log, recovered) = open(dir.path(), small()).await;
    assert_eq!(recovered[0].log_state.last, Some(id(1, 4)));
}

#[tokio::test]
async fn dead_segments_are_recycled_and_what_lives_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), small()).await;
    let shard = log.shard(SHARD);
    shard.save_vote(vote(1)).await.unwrap();
    shard.keep(vec![LogIndex(40)..=LogIndex(41)]);
    for index in 0..400 {
        append(&shard, vec![entry(1, index, 10_000)]).await;
        if index % 20 == 19 {
            shard.purge(id(1, index - 10)).await.unwrap();
        }
    }
    eventually("recycling", || log.stats().segments <= 4).await;
    assert!(log.stats().segments_recycled > 0);
    for index in [40, 41].into_iter().chain(390..400) {
        check_entry(&shard, 1, index, 10_000).await;
    }
    assert_eq!(shard.read(LogIndex(100), 0..1).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    let files = RealDisk.read_dir(dir.path()).unwrap().len();
    assert!(files < 10, "{files} files are left of 17 segments");
    drop(log);
    let (log, recovered) = open(dir.path(), small()).await;
    assert_eq!(recovered[0].log_state.vote, Some(vote(1)));
    assert_eq!(recovered[0].damage, []);
    for index in [40, 41].into_iter().chain(390..400) {
        check_entry(&log.shard(SHARD), 1, index, 10_000).await;
    }
}

#[tokio::test]
async fn nothing_is_overwritten_under_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), small()).await;
    let shard = log.shard(SHARD);
    shard.keep(Vec::new());
    append(&shard, vec![entry(1, 0, 50_000)]).await;
    let held = shard.read(LogIndex(0), 0..50_000).await.unwrap();
    assert!(matches!(held, Chunk::File { .. }));
    // On a busy machine the writer makes segments itself before the keeper comes to the dead ones.
    for index in 1.. {
        append(&shard, vec![entry(1, index, 20_000)]).await;
        shard.purge(id(1, index - 1)).await.unwrap();
        if index >= 200 && log.stats().segments_recycled > 1 {
            break;
        }
        assert!(index < 100_000, "recycling never came");
    }
    assert_eq!(held.into_bytes().await.unwrap(), payload(1, 0, 50_000).to_bytes());
    assert_eq!(shard.read(LogIndex(0), 0..1).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn memory_serves_the_recent_and_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memory_bytes: 100_000, segment_bytes: 4 << 20, ..small() };
    let (log, _) = open(dir.path(), options).await;
    let shard = log.shard(SHARD);
    for index in 0..1_000 {
        append(&shard, vec![entry(1, index, 1_000)]).await;
    }
    assert!(log.stats().memory_bytes <= 100_000, "{:?}", log.stats());
    assert!(shard.recent(LogIndex(999)).is_some() && shard.recent(LogIndex(0)).is_none());
    assert!(matches!(shard.read(LogIndex(999), 0..10).await.unwrap(), Chunk::Memory(_)));
    assert!(matches!(shard.read(LogIndex(0), 0..10).await.unwrap(), Chunk::File { .. }));
    let all = shard.entries(LogIndex(0)..LogIndex(1_000), usize::MAX).await.unwrap();
    assert_eq!(all, (0..1_000).map(|index| entry(1, index, 1_000)).collect::<Vec<_>>());
    let some = shard.entries(LogIndex(0)..LogIndex(1_000), 10_500).await.unwrap();
    assert_eq!(some.len(), 10);
    assert_eq!(shard.entries(LogIndex(3)..LogIndex(9), 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn concurrent_appends_of_many_shards_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), Options { memory_bytes: 1 << 20, segment_bytes: 4 << 20, ..small() }).await;
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let shard = log.shard(ShardId(number));
            base::task::spawn("test", async move {
                let mut waits = Vec::new();
                for index in 0..500 {
                    let (sender, durable) = oneshot::channel();
                    let entries = vec![entry(1, index, 3_000)];
                    shard.append_each(entries, Box::new(move |result| drop(sender.send(result)))).unwrap();
                    waits.push(durable);
                }
                for wait in waits {
                    wait.await.unwrap().unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(log.stats().writes < 4_000, "writes are shared: {:?}", log.stats());
    log.close().await;
    let (log, _) = open(dir.path(), small()).await;
    for number in 0..8 {
        for index in 0..500 {
            check_entry(&log.shard(ShardId(number)), 1, index, 3_000).await;
        }
    }
}

#[tokio::test]
async fn a_log_of_another_segment_size_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [64 << 10, 4 << 20, 128 << 10];
    let mut index = 0;
    for segment_bytes in sizes.into_iter().cycle().take(7) {
        let (log, _) = open(dir.path(), Options { segment_bytes, ..small() }).await;
        let shard = log.shard(SHARD);
        for _ in 0..30 {
            append(&shard, vec![entry(1, index, 9_000)]).await;
            index += 1;
        }
        for index in 0..index {
            check_entry(&shard, 1, index, 9_000).await;
        }
    }
}

#[tokio::test]
async fn limits_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let bad = CommitLog::open(Arc::new(RealDisk), dir.path(), Options { segment_bytes: 5_000, ..small() }).await;
    assert!(matches!(bad, Err(OpenError::SegmentBytes { bytes: 5_000 })));
    let (log, _) = open(dir.path(), small()).await;
    let shard = log.shard(SHARD);
    let large = shard.append(vec![entry(1, 0, 200_000)], Box::new(|_| {}));
    assert_eq!(large, Err(Refused::TooLarge { bytes: 200_000 }));
    append(&shard, vec![entry(1, 0, 128 << 10)]).await;
    append(&shard, vec![entry(1, 1, 128 << 10)]).await;
    log.close().await;
    assert_eq!(shard.append(vec![entry(1, 2, 1)], Box::new(|_| {})), Err(Refused::Closed));
    assert!(shard.save_vote(vote(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_beside_a_writer_finds_no_damage() {
    // Again and again from the beginning: a look at a short log takes little time.
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let log_dir = dir.path().join("log");
        let (log, _) = open(&log_dir, small()).await;
        let stop = Arc::new(AtomicBool::new(false));
        // Several at a time, so that writes go on while others are synced.
        let write = |number: u32| {
            let (shard, stop) = (log.shard(ShardId(number)), Arc::clone(&stop));
            base::task::spawn("writer", async move {
                for index in 0.. {
                    // Of all sizes, so that a look finds the end anywhere in a window.
                    let len = usize::try_from((index + u64::from(number)) * 7_919 % 20_000).unwrap();
                    append(&shard, vec![entry(1, index, len)]).await;
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        };
        let writers: Vec<_> = (0..6).map(write).collect();
        for _ in 0..20 {
            let report = inspect(&RealDisk, &log_dir, &mut |_| {}).await.unwrap();
            assert_eq!(report.damage, []);
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        log.close().await;
    }
}
