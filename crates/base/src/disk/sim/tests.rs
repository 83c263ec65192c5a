//! What the simulated disk keeps and what it loses.

use std::io::IoSlice;

use super::*;
use crate::disk::{Disk, File, OpenOptions};

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed, SimDiskOptions::default());
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk
}

async fn write(disk: &SimDisk, path: &str, position: u64, bytes: &[u8]) -> Arc<dyn File> {
    let options = OpenOptions { create: true, ..OpenOptions::read_write() };
    let file = disk.open(Path::new(path), options).unwrap();
    file.write_at(position, &[IoSlice::new(bytes)]).await.unwrap();
    file
}

#[tokio::test]
async fn what_is_synced_survives_every_seed() {
    for seed in 0..100 {
        let disk = disk(seed);
        let file = write(&disk, "/d/a", 0, &[1; 3_000]).await;
        file.sync_data().await.unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(1_000, &[IoSlice::new(&[2; 500])]).await.unwrap();
        disk.crash();
        let bytes = disk.contents(Path::new("/d/a"));
        assert_eq!(bytes.len(), 3_000);
        assert!(bytes[..512] == [1; 512] && bytes[1_536..] == [1; 1_464]);
        assert!(file.read_at(0, 1).await.is_err(), "a file of before the crash is dead");
    }
}

#[tokio::test]
async fn what_is_not_synced_is_lost_torn_or_kept() {
    let (mut lost, mut torn, mut kept, mut nameless) = (0, 0, 0, 0);
    for seed in 0..300 {
        let disk = disk(seed);
        write(&disk, "/d/a", 0, &[1; 4_096]).await;
        disk.crash();
        if !disk.exists(Path::new("/d/a")) {
            nameless += 1;
            continue;
        }
        let ones = disk.contents(Path::new("/d/a")).iter().filter(|byte| **byte == 1).count();
        match ones {
            0 => lost += 1,
            4_096 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 10 && torn > 10 && kept > 10 && nameless > 100, "{lost} {torn} {kept} {nameless}");
}

#[tokio::test]
async fn the_same_seed_crashes_the_same_way() {
    let run = async |seed| {
        let disk = disk(seed);
        write(&disk, "/d/a", 0, &[1; 10_000]).await.sync_data().await.unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&disk, "/d/a", 700, &[2; 5_000]).await;
        write(&disk, "/d/a", 300, &[3; 900]).await;
        disk.crash();
        disk.contents(Path::new("/d/a"))
    };
    for seed in 0..20 {
        assert_eq!(run(seed).await, run(seed).await);
    }
}

#[tokio::test]
async fn an_ignored_sync_loses() {
    let lost = async |seed| {
        let disk = disk(seed);
        disk.set_options(|options| options.ignore_sync = true);
        write(&disk, "/d/a", 0, &[1; 512]).await.sync_data().await.unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.crash();
        !disk.exists(Path::new("/d/a"))
    };
    let mut losses = 0;
    for seed in 0..50 {
        losses += u32::from(lost(seed).await);
    }
    assert!(losses > 10);
}

#[tokio::test]
async fn space_and_errors_are_as_asked() {
    let disk = disk(1);
    disk.set_options(|options| options.capacity_bytes = 100);
    let file = write(&disk, "/d/a", 0, &[1; 60]).await;
    assert_eq!(file.allocate(0, 101).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap().available, 40);
    disk.fail_after(1);
    file.sync_data().await.unwrap();
    assert_eq!(disk.failures(), 0);
    assert!(file.sync_data().await.is_err());
    assert!(file.write_at(0, &[IoSlice::new(b"x")]).await.is_err());
    assert_eq!(disk.failures(), 2);
}

#[tokio::test]
async fn a_crash_at_a_beginning_tears_what_a_file_begins_with() {
    let (mut with_page, mut without_page, mut first_only) = (0, 0, 0);
    for seed in 0..200 {
        let disk = disk(seed);
        let file = write(&disk, "/d/a", 0, &[1; 8_192]).await;
        file.sync_data().await.unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.crash_after_beginning(0, || {});
        file.write_at(4_096, &[IoSlice::new(&[3; 512])]).await.unwrap();
        file.write_at(0, &[IoSlice::new(&[2; 8_192])]).await.unwrap();
        assert!(file.sync_data().await.is_err());
        let bytes = disk.contents(Path::new("/d/a"));
        with_page += u32::from(bytes[..4_096] == [2; 4_096]);
        without_page += u32::from(bytes[..4_096] == [1; 4_096]);
        first_only += u32::from(bytes[..4_096] == [2; 4_096] && bytes[4_608..] == [1; 3_584]);
    }
    assert!(with_page > 30 && without_page > 30 && first_only > 5, "{with_page} {without_page} {first_only}");
}
