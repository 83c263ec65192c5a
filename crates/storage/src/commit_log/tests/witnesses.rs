//! The real end of the log goes bad: frames there have no later frame to speak of them.

use std::path::PathBuf;

use base::disk::{OpenOptions, SimDisk, SimDiskOptions};

use super::*;
use crate::inspect::{Report, inspect};

const DIR: &str = "/data/log";

fn options() -> Options {
    Options { segment_bytes: 64 << 10, fill_bytes_per_second: 0, salt: 7, ..small() }
}

fn covered(index: u64) -> Options {
    let covered = Covered { shard: SHARD, at: id(1, index), file: PathBuf::from("/data/shards/1/checkpoints/1.base") };
    Options { covered: vec![covered], ..options() }
}

async fn try_open(disk: &SimDisk, options: Options) -> Result<(CommitLog, Vec<Recovered>), OpenError> {
    CommitLog::open(Arc::new(disk.clone()), Path::new(DIR), options).await
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn accept_loss(disk: &SimDisk) {
    disk.open(&path("ACCEPT-LOSS"), OpenOptions::create_new()).unwrap();
}

async fn look(disk: &SimDisk) -> Report {
    inspect(disk, Path::new(DIR), &mut |_| {}).await.unwrap()
}

/// A log of 20 entries that fell silent and then lost its power.
async fn silent() -> SimDisk {
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let (log, _) = try_open(&disk, options()).await.unwrap();
    log.shard(SHARD).save_vote(vote(1)).await.unwrap();
    for index in 0..20 {
        append(&log.shard(SHARD), vec![entry(1, index, 1_000)]).await;
    }
    let end = log.shard(SHARD).shared.synced().pack().to_le_bytes();
    eventually("the synced position", || disk.contents(&path("SYNCED")).windows(8).any(|bytes| bytes == end)).await;
    disk.crash();
    disk
}

/// Zeros the last `bytes` of the first segment before its end.
async fn zero_the_end(disk: &SimDisk, bytes: u64) -> u64 {
    let (file, end) = look(disk).await.end.unwrap();
    let opened = disk.open(&file, OpenOptions::read_write()).unwrap();
    opened.write_at(end - bytes, &[io::IoSlice::new(&vec![0; usize::try_from(bytes).unwrap()])]).await.unwrap();
    opened.sync_data().await.unwrap();
    end - bytes
}

#[tokio::test]
async fn an_end_that_was_durable_when_the_log_fell_silent_is_damage() {
    for bytes in [3_000, 2_150, 9_000] {
        let disk = silent().await;
        zero_the_end(&disk, bytes).await;
        let before = disk.contents(&path("0000000001.segment"));
        let seen = look(&disk).await.damage;
        assert!(seen.iter().any(|damage| damage.file == path("0000000001.segment")), "{bytes}: {seen:?}");
        for _ in 0..2 {
            let error = try_open(&disk, options()).await.map(drop).unwrap_err();
            let OpenError::Damaged { damage, .. } = &error else { panic!("{error}") };
            assert!(seen.contains(damage), "{bytes}: {damage:?}");
        }
        assert!(disk.contents(&path("0000000001.segment")) == before, "a refused start changes nothing");
        accept_loss(&disk);
        let (log, recovered) = try_open(&disk, options()).await.unwrap();
        let last = recovered[0].log_state.last.unwrap().index.0;
        assert!((10..19).contains(&last), "{last}");
        append(&log.shard(SHARD), vec![entry(2, last + 1, 1_000)]).await;
        log.close().await;
        let (log, recovered) = try_open(&disk, options()).await.unwrap();
        assert_eq!(recovered[0].log_state.last, Some(id(2, last + 1)), "it holds for ever");
        log.close().await;
    }
}

#[tokio::test]
async fn a_last_segment_that_is_gone_is_damage() {
    let disk = silent().await;
    disk.remove(&path("0000000001.segment")).unwrap();
    let missing = |damage: &Damage| damage.file == path("0000000001.segment") && damage.position == 0;
    assert!(look(&disk).await.damage.iter().any(missing));
    let error = try_open(&disk, options()).await.map(drop).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { damage, .. } if missing(damage)), "{error}");
    accept_loss(&disk);
    try_open(&disk, options()).await.unwrap().0.close().await;
    try_open(&disk, options()).await.unwrap().0.close().await;
}

#[tokio::test]
async fn a_silent_log_records_its_synced_position_once() {
    let disk = silent().await;
    let (log, _) = try_open(&disk, options()).await.unwrap();
    append(&log.shard(SHARD), vec![entry(1, 20, 10)]).await;
    let end = log.shard(SHARD).shared.synced().pack().to_le_bytes();
    let recorded = || disk.contents(&path("SYNCED"));
    eventually("the synced position", || recorded().windows(8).any(|bytes| bytes == end)).await;
    let before = recorded();
    base::time::sleep(base::time::Duration::from_millis(350)).await;
    assert_eq!(recorded(), before, "nothing was written since");
    log.close().await;
}

#[tokio::test]
async fn a_log_that_ends_before_what_a_checkpoint_covers_has_lost_its_end() {
    let disk = silent().await;
    disk.remove(&path("SYNCED")).unwrap();
    try_open(&disk, covered(19)).await.unwrap().0.close().await;
    let disk = silent().await;
    let at = zero_the_end(&disk, 3_000).await;
    // As a log of a version that did not record it.
    disk.remove(&path("SYNCED")).unwrap();
    let last = look(&disk).await.shards[0].1.last.unwrap().index.0;
    assert!(last < 19);
    let before = disk.contents(&path("0000000001.segment"));
    for _ in 0..2 {
        let error = try_open(&disk, covered(19)).await.map(drop).unwrap_err();
        let OpenError::EndLost { shard, damage, .. } = &error else { panic!("{error}") };
        assert_eq!((*shard, &damage.indexes), (SHARD, &Some(LogIndex(last + 1)..=LogIndex(19))));
        assert!(damage.file == path("0000000001.segment") && damage.position <= at, "{damage}");
        assert!(error.to_string().contains("1.base") && error.to_string().contains("ACCEPT-LOSS"), "{error}");
    }
    assert!(disk.contents(&path("0000000001.segment")) == before, "a refused start changes nothing");
    accept_loss(&disk);
    let (log, recovered) = try_open(&disk, covered(19)).await.unwrap();
    assert!(log.shard(SHARD).accepts_loss());
    let lost = recovered[0].damage.clone();
    assert_eq!(
        lost.iter().map(|damage| damage.indexes.clone()).collect::<Vec<_>>(),
        [Some(LogIndex(last + 1)..=LogIndex(19))]
    );
    // What a replica does: the log goes on behind the checkpoint.
    let shard = log.shard(SHARD);
    shard.give_up(lost).await.unwrap();
    shard.purge(id(1, 19)).await.unwrap();
    append(&shard, vec![entry(2, 20, 1_000)]).await;
    log.close().await;
    disk.crash();
    let (log, recovered) = try_open(&disk, covered(19)).await.unwrap();
    assert_eq!(recovered[0].log_state.last, Some(id(2, 20)));
    let shard = log.shard(SHARD);
    assert_eq!(shard.lacking(LogIndex(0)..=LogIndex(20)), [], "it was given up");
    for lost in last + 1..=19 {
        let error = shard.read(LogIndex(lost), 0..1).await.unwrap_err();
        assert!(error.to_string().contains("0000000001.segment"), "{error}");
    }
    check_entry(&shard, 1, last, 1_000).await;
    check_entry(&shard, 2, 20, 1_000).await;
    assert_eq!(look(&disk).await.lost.len(), 1);
}

#[tokio::test]
async fn what_lacks_in_the_middle_is_named_with_the_segment_that_had_it() {
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let (log, _) = try_open(&disk, options()).await.unwrap();
    log.shard(SHARD).save_vote(vote(1)).await.unwrap();
    for index in 0..200 {
        append(&log.shard(SHARD), vec![entry(1, index, 1_000)]).await;
    }
    // All is below the mark, and all is live.
    log.shard(SHARD).purge(id(1, 199)).await.unwrap();
    assert_eq!(log.shard(SHARD).lacking(LogIndex(0)..=LogIndex(199)), []);
    log.close().await;
    disk.remove(&path("0000000002.segment")).unwrap();
    let (log, _) = try_open(&disk, options()).await.unwrap();
    let shard = log.shard(SHARD);
    let lacking = shard.lacking(LogIndex(0)..=LogIndex(199));
    assert_eq!(lacking.len(), 1);
    assert_eq!((&lacking[0].file, lacking[0].position), (&path("0000000002.segment"), 0));
    let indexes = lacking[0].indexes.clone().unwrap();
    assert!(shard.lacking(LogIndex(0)..=LogIndex(indexes.start().0 - 1)).is_empty());
    assert_eq!(shard.lacking(indexes.clone()).len(), 1);
    shard.give_up(lacking).await.unwrap();
    assert_eq!(shard.lacking(LogIndex(0)..=LogIndex(199)), []);
    assert_eq!(shard.read(*indexes.start(), 0..1).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
