//! Bits that flip on the disk: reported with file and position, never served.

use std::path::PathBuf;

use base::disk::{OpenOptions, SimDisk, SimDiskOptions};

use super::*;
use crate::inspect::{Report, SegmentState, inspect};

const DIR: &str = "/data/log";

fn disk() -> SimDisk {
    SimDisk::new(1, SimDiskOptions::default())
}

fn options() -> Options {
    Options { segment_bytes: 64 << 10, fill_bytes_per_second: 0, salt: 7, ..small() }
}

async fn open_on(disk: &SimDisk) -> (CommitLog, Vec<Recovered>) {
    CommitLog::open(Arc::new(disk.clone()), Path::new(DIR), options()).await.unwrap()
}

async fn try_open_on(disk: &SimDisk) -> Result<(CommitLog, Vec<Recovered>), OpenError> {
    CommitLog::open(Arc::new(disk.clone()), Path::new(DIR), options()).await
}

fn accept_loss(disk: &SimDisk) {
    disk.open(&Path::new(DIR).join("ACCEPT-LOSS"), OpenOptions::create_new()).unwrap();
}

async fn look(disk: &SimDisk) -> (Report, Vec<(ShardId, u64, u64)>) {
    let mut entries = Vec::new();
    let report =
        inspect(disk, Path::new(DIR), &mut |entry| entries.push((entry.shard, entry.meta.id.index.0, entry.position)))
            .await
            .unwrap();
    (report, entries)
}

fn segment(sequence: u32) -> PathBuf {
    Path::new(DIR).join(segment_name(sequence))
}

/// A log of `count` entries of 1,000 bytes, closed.
async fn written(count: u64) -> SimDisk {
    let disk = disk();
    let (log, _) = open_on(&disk).await;
    log.shard(SHARD).save_vote(vote(1)).await.unwrap();
    for index in 0..count {
        append(&log.shard(SHARD), vec![entry(1, index, 1_000)]).await;
    }
    // The keeper seals in its own time.
    eventually("the footer", || count < 60 || is_sealed(&disk)).await;
    log.close().await;
    disk
}

/// Whether the first segment has a footer.
fn is_sealed(disk: &SimDisk) -> bool {
    let contents = disk.contents(&segment(1));
    footer::Trailer::decode(&contents[contents.len() - 64..], 1, 64 << 10).is_some()
}

async fn read(log: &CommitLog, index: u64) -> io::Result<Vec<Entry>> {
    log.shard(SHARD).entries(LogIndex(index)..LogIndex(index + 1), 0).await
}

#[tokio::test]
async fn damage_in_the_open_segment_is_reported_and_the_rest_is_served() {
    for (within, bytes) in [(100, 1_048), (10, 0)] {
        let disk = written(20).await;
        let (_, entries) = look(&disk).await;
        let (_, index, position) = entries[5];
        let at = position + within;
        disk.flip(&segment(1), at, 4);
        if bytes == 0 {
            // Without its header nothing says that only one entry was lost here.
            assert!(
                matches!(try_open_on(&disk).await, Err(OpenError::Damaged { damage, .. }) if damage.position == position)
            );
            accept_loss(&disk);
        }
        let (log, recovered) = open_on(&disk).await;
        let damage = &recovered[0].damage;
        assert!(damage.iter().any(|found| found.file == segment(1) && found.position == position), "{damage:?}");
        assert!(damage.iter().any(|found| found.indexes == Some(LogIndex(index)..=LogIndex(index))), "{damage:?}");
        assert!(bytes == 0 || damage[0].bytes == bytes);
        assert_eq!(recovered[0].log_state.last, Some(id(1, 19)));
        assert_eq!(recovered[0].log_state.vote, Some(vote(1)));
        assert_eq!(read(&log, index).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(log.shard(SHARD).read(LogIndex(index), 0..1).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(log.shard(SHARD).meta(LogIndex(index)).await.is_err());
        for other in (0..20).filter(|other| *other != index) {
            check_entry(&log.shard(SHARD), 1, other, 1_000).await;
        }
        // The range before it is served, up to it.
        let before = log.shard(SHARD).entries(LogIndex(0)..LogIndex(20), usize::MAX).await.unwrap();
        assert_eq!(before.len(), 5);
        log.close().await;
        disk.flip(&segment(1), at, 4);
        // Whole again: the damage was only on the disk.
        let (log, recovered) = open_on(&disk).await;
        assert_eq!(recovered[0].damage, []);
        check_entry(&log.shard(SHARD), 1, index, 1_000).await;
    }
}

#[tokio::test]
async fn what_was_lost_at_the_end_is_given_to_no_other_entry_unless_someone_accepts_it() {
    let disk = written(20).await;
    let (_, entries) = look(&disk).await;
    let (_, _, position) = entries[19];
    disk.flip(&segment(1), position + 10, 4);
    let before = disk.contents(&segment(1));
    for _ in 0..2 {
        let error = try_open_on(&disk).await.unwrap_err().to_string();
        assert!(error.contains("0000000001.segment") && error.contains("ACCEPT-LOSS"), "{error}");
    }
    assert!(disk.contents(&segment(1)) == before, "a refused start changes nothing");

    accept_loss(&disk);
    let (log, recovered) = open_on(&disk).await;
    assert_eq!(recovered[0].log_state.last, Some(id(1, 18)));
    assert!(recovered[0].damage.iter().any(|found| found.position == position));
    append(&log.shard(SHARD), vec![entry(2, 19, 1_000)]).await;
    log.close().await;
    assert!(!disk.exists(&Path::new(DIR).join("ACCEPT-LOSS")), "it holds for one start");
    disk.crash();
    let (log, recovered) = open_on(&disk).await;
    // A damaged segment gets no footer, with which its damage would be forgotten.
    assert!(recovered[0].damage.iter().any(|found| found.position == position));
    assert_eq!(recovered[0].log_state.last, Some(id(2, 19)));
    check_entry(&log.shard(SHARD), 2, 19, 1_000).await;
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_found_when_it_is_read() {
    let disk = written(200).await;
    let (report, entries) = look(&disk).await;
    assert_eq!(report.segments[0].state, SegmentState::Sealed);
    assert_eq!(report.damage, []);
    assert_eq!(entries.len(), 200);
    let (_, index, position) = entries[3];
    disk.flip(&segment(1), position + 500, 1);
    let (log, recovered) = open_on(&disk).await;
    assert_eq!(recovered[0].damage, [], "sealed segments are not read at start");
    let error = log.shard(SHARD).read(LogIndex(index), 0..10).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("0000000001.segment"), "{error}");
    assert!(read(&log, index).await.is_err());
    assert_eq!(log.stats().damaged_reads, 2);
    check_entry(&log.shard(SHARD), 1, index + 1, 1_000).await;
    let (report, entries) = look(&disk).await;
    assert_eq!((report.damage.len(), report.damage[0].position, entries.len()), (1, position, 199));
}

#[tokio::test]
async fn a_damaged_footer_is_walked_around() {
    let disk = written(200).await;
    let len = disk.contents(&segment(1)).len() as u64;
    disk.flip(&segment(1), len - 60, 1);
    let (log, recovered) = open_on(&disk).await;
    assert_eq!(recovered[0].damage, []);
    for index in 0..200 {
        check_entry(&log.shard(SHARD), 1, index, 1_000).await;
    }
    eventually("a new footer", || is_sealed(&disk)).await;
    log.close().await;
    // It was written anew. A slot block behind a good trailer: found when it is read.
    let contents = disk.contents(&segment(1));
    let trailer_at = contents.len() - 64;
    let slots_at = u32::from_le_bytes(contents[trailer_at + 28..trailer_at + 32].try_into().unwrap());
    disk.flip(&segment(1), u64::from(slots_at) + 9, 1);
    let (log, _) = open_on(&disk).await;
    assert_eq!(read(&log, 1).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_damaged_header_leaves_what_later_headers_say() {
    let disk = written(200).await;
    disk.flip(&segment(1), 30, 1);
    let (log, recovered) = open_on(&disk).await;
    assert!(recovered[0].damage.iter().any(|found| found.file == segment(1) && found.position == 0));
    assert_eq!((recovered[0].log_state.vote, recovered[0].log_state.last), (Some(vote(1)), Some(id(1, 199))));
    for index in 0..200 {
        check_entry(&log.shard(SHARD), 1, index, 1_000).await;
    }
}

#[tokio::test]
async fn a_damaged_last_header_costs_nothing_of_the_sealed_segment_before_it() {
    let disk = written(80).await;
    disk.flip(&segment(2), 30, 1);
    let (log, recovered) = open_on(&disk).await;
    let damage = &recovered[0].damage;
    assert_eq!((damage.len(), &damage[0].file, damage[0].position), (1, &segment(2), 0), "{damage:?}");
    assert_eq!((recovered[0].log_state.vote, recovered[0].log_state.last), (Some(vote(1)), Some(id(1, 79))));
    for index in 0..80 {
        check_entry(&log.shard(SHARD), 1, index, 1_000).await;
    }
}

#[tokio::test]
async fn a_missing_segment_is_damage() {
    let disk = written(200).await;
    disk.remove(&segment(2)).unwrap();
    let (log, recovered) = open_on(&disk).await;
    let lost = recovered[0].damage.iter().find_map(|found| found.indexes.clone()).unwrap();
    assert!(*lost.start() > LogIndex(0) && *lost.end() < LogIndex(199));
    assert_eq!(read(&log, lost.start().0).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    check_entry(&log.shard(SHARD), 1, 0, 1_000).await;
    check_entry(&log.shard(SHARD), 1, 199, 1_000).await;
}

#[tokio::test]
async fn every_flipped_byte_is_reported_or_harmless() {
    let mut disk = written(30).await;
    let (report, _) = look(&disk).await;
    let end = report.end.unwrap().1;
    for at in (0..end).step_by(97) {
        disk.flip(&segment(1), at, 0x20);
        let (log, recovered) = match try_open_on(&disk).await {
            Ok(opened) => opened,
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "position {at}: {error}");
                disk.flip(&segment(1), at, 0x20);
                continue;
            }
        };
        let state = recovered.first().map(|found| found.log_state).unwrap_or_default();
        let reported = recovered.iter().any(|found| !found.damage.is_empty());
        let mut lost = 0;
        for index in 0..30 {
            match read(&log, index).await {
                Ok(found) if found.is_empty() => lost += 1,
                Ok(found) => assert_eq!(found, [entry(1, index, 1_000)], "position {at}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    lost += 1;
                }
            }
        }
        let whole = lost == 0 && state.vote == Some(vote(1));
        assert!(whole || reported, "position {at} lost {lost} in silence");
        log.close().await;
        disk.flip(&segment(1), at, 0x20);
        if reported {
            // That life went on in another segment; the next place is to be hit in the last one.
            disk = written(30).await;
        }
    }
}

#[tokio::test]
async fn inspection_names_the_end_and_changes_nothing() {
    let disk = written(20).await;
    let before = disk.contents(&segment(1));
    let (report, entries) = look(&disk).await;
    assert_eq!(disk.contents(&segment(1)), before);
    let (file, end) = report.end.unwrap();
    let last = entries.last().unwrap().2;
    assert_eq!(file, segment(1));
    assert!(end > last + 1_000 && before[usize::try_from(end).unwrap()..].iter().all(|byte| *byte == 0));
    assert_eq!(
        report.shards,
        [(SHARD, LogState { purged: None, last: Some(id(1, 19)), vote: Some(vote(1)), committed: None })]
    );
    assert_eq!((report.segments[0].entries, report.segments[0].payload_bytes), (20, 20_000));
    // Beside a running log.
    let (log, _) = open_on(&disk).await;
    append(&log.shard(SHARD), vec![entry(1, 20, 10)]).await;
    assert_eq!(look(&disk).await.1.len(), 21);
}

/// The data directory's identity, with the salt that the tests use.
async fn identify(disk: &SimDisk) {
    let file = disk.open(Path::new("/data/IDENTITY"), OpenOptions::replace()).unwrap();
    let text = format!("RosettaMQ data directory\nformat 1\nnode 1\nuuid {:032x}\n", options().salt);
    file.write_at(0, &[io::IoSlice::new(text.as_bytes())]).await.unwrap();
}

/// Looks at a log, and asserts that the recovery sees it as the look did.
async fn check_look(disk: &SimDisk, frames_are_whole: bool, what: &str) {
    identify(disk).await;
    let (report, _) = look(disk).await;
    let found = |damage: &Damage| (damage.file.clone(), damage.position, damage.bytes, damage.indexes.clone());
    match try_open_on(disk).await {
        Ok((log, recovered)) => {
            let seen: Vec<_> = report.damage.iter().map(found).collect();
            let told: Vec<_> = recovered[0].damage.iter().map(found).collect();
            // Frames that a footer vouches for are read by the look only.
            let is_told = |damage: &&(PathBuf, u64, u64, _)| frames_are_whole || damage.1 == 0;
            assert_eq!(
                seen.iter().filter(is_told).collect::<Vec<_>>(),
                told.iter().filter(is_told).collect::<Vec<_>>()
            );
            assert!(told.iter().all(|damage| seen.contains(damage)), "{what}: {told:?} in {seen:?}");
            assert_eq!(report.shards, [(SHARD, recovered[0].log_state)], "{what}");
            log.close().await;
        }
        Err(OpenError::Damaged { damage, .. }) => {
            assert!(report.damage.iter().any(|seen| found(seen) == found(&damage)), "{what}: {:?}", report.damage);
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[tokio::test]
async fn inspection_tells_what_the_recovery_would() {
    check_look(&written(200).await, true, "nothing").await;
    let segments = look(&written(200).await).await.0.segments;
    let used: Vec<_> = segments.iter().filter(|segment| segment.entries > 0).map(|segment| segment.sequence).collect();
    assert!(used.len() >= 3, "{segments:?}");
    for sequence in used.iter().copied() {
        for flips in [&[30][..], &[30, 4096 + 10], &[30, 20_000], &[30, 4096 + 1_200]] {
            let disk = written(200).await;
            flips.iter().for_each(|at| disk.flip(&segment(sequence), *at, 1));
            check_look(&disk, flips.len() == 1, &format!("segment {sequence} flipped at {flips:?}")).await;
        }
    }
    for sequence in used {
        let disk = written(200).await;
        disk.remove(&segment(sequence)).unwrap();
        check_look(&disk, true, &format!("without segment {sequence}")).await;
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_in_silence() {
    let disk = written(20).await;
    let (report, entries) = look(&disk).await;
    let (_, end) = report.end.unwrap();
    // Garbage behind the end, as of a write that was torn.
    disk.flip(&segment(1), end + 20, 0xff);
    disk.flip(&segment(1), end + 700, 0xff);
    assert_eq!(look(&disk).await.0.damage, []);
    let (log, recovered) = open_on(&disk).await;
    assert_eq!(recovered[0].damage, []);
    assert_eq!(recovered[0].log_state.last, Some(id(1, 19)));
    append(&log.shard(SHARD), vec![entry(1, 20, 3_000)]).await;
    log.close().await;
    assert_eq!(look(&disk).await.1.len(), entries.len() + 1);
}
