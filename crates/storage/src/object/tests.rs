//! Objects against plain lists of batches, damaged objects, and objects that a crash cut off.

mod copies;

use std::path::Path as FilePath;

use base::disk::{Disk, OpenOptions, RealDisk, SimDisk, SimDiskOptions};
use base::random::{Random, SeededRandom};
use bytes::Bytes;
use proptest::prelude::*;
use record::{BatchEntry, FileNumber, LeaderEpoch, LogIndex, StreamId, StreamOffset, TimestampMs};

use super::*;

const ID: ObjectId =
    ObjectId { shard: ShardId(3), key: ObjectKey(7), first: FileNumber(4), last: FileNumber(9), stream: None };
const FILE: &str = "shards/3/objects/0000000000000007.object";

/// A batch and its bytes.
type Stored = (BatchEntry, Bytes);
type Streams = BTreeMap<u64, Vec<Stored>>;

async fn objects(disk: Arc<dyn Disk>, root: &FilePath) -> Objects {
    let store = Arc::new(DiskStore::new(disk, root.to_owned()));
    Objects::open(store, "shards/3/objects".into(), ID.shard, 1 << 20).await.unwrap()
}

async fn put(path: &FilePath, bytes: &[u8]) {
    let file = RealDisk.open(path, OpenOptions::replace()).unwrap();
    file.write_at(0, &[io::IoSlice::new(bytes)]).await.unwrap();
}

fn start(stream: u64) -> StreamStart {
    let before = TimestampMs(i64::try_from(stream).unwrap());
    StreamStart {
        stream: StreamId(stream),
        previous: 3,
        jump: 1,
        depth: 2,
        max_timestamp_before: before,
        last_stable_offset: StreamOffset(5),
        aborted: aborted(stream),
    }
}

fn aborted(stream: u64) -> Vec<AbortedRange> {
    let range = |number: i64| AbortedRange {
        producer: number,
        first_offset: StreamOffset(2 * number),
        last_offset: StreamOffset(2 * number + 1),
        last_stable_offset: StreamOffset(number),
    };
    (0..i64::try_from(stream % 3).unwrap()).map(range).collect()
}

/// Streams of batches of some sizes, with gaps.
fn some_streams(random: &dyn Random, streams: u64, batches_max: u64, sizes: &[u64]) -> Streams {
    let mut index = 100;
    let mut of_stream = |_| {
        let mut offset = 0;
        let mut batch = || {
            index += 1;
            offset += i64::try_from(random.below(3)).unwrap();
            let size = 1 + random.below(sizes[usize::try_from(random.below(sizes.len() as u64)).unwrap()]);
            let entry = BatchEntry {
                base_offset: StreamOffset(offset),
                record_count: 1 + u32::try_from(random.below(4)).unwrap(),
                max_timestamp: TimestampMs(i64::try_from(random.below(1_000)).unwrap()),
                log_index: LogIndex(index),
                position: 40,
                bytes: u32::try_from(size).unwrap(),
                epoch: LeaderEpoch(2),
                earlier: None,
                object: None,
            };
            offset = entry.next_offset().0;
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            random.fill(&mut bytes);
            (entry, Bytes::from(bytes))
        };
        (0..=random.below(batches_max)).map(|_| batch()).collect()
    };
    (0..streams).map(|stream| (stream * 5 + 1, of_stream(stream))).collect()
}

async fn write(objects: &Objects, streams: &Streams) -> io::Result<ObjectSummary> {
    let mut writer = objects.begin(ID).await?;
    for (stream, batches) in streams {
        writer.stream(start(*stream));
        for (entry, body) in batches {
            let cut = body.len() / 2;
            writer.batch(entry, &[body.slice(..cut), body.slice(cut..)]).await?;
        }
    }
    objects.finish(writer).await
}

/// The batches of a stream as they are read, by pages of `count`.
async fn read_stream(objects: &Objects, stream: u64, count: usize) -> io::Result<Vec<Stored>> {
    let (mut found, mut from) = (Vec::new(), StreamOffset(0));
    loop {
        let page = objects.batches(ID.key, StreamId(stream), from, count).await?;
        let Some(last) = page.last() else { return Ok(found) };
        from = last.next_offset();
        for entry in page {
            let block = u32::try_from(entry.log_index.0).unwrap();
            let blocks = objects.blocks(ID.key, block..block + 1).await?;
            let at = entry.position as usize;
            found.push((entry.clone(), blocks[0].bytes().slice(at..at + entry.bytes as usize)));
        }
    }
}

/// As it was written, but for the place.
fn facts(stored: &[Stored]) -> Vec<(StreamOffset, StreamOffset, TimestampMs, LeaderEpoch, Bytes)> {
    let facts = |(entry, body): &Stored| {
        (entry.base_offset, entry.next_offset(), entry.max_timestamp, entry.epoch, body.clone())
    };
    stored.iter().map(facts).collect()
}

#[tokio::test]
async fn what_was_written_is_read() {
    let cases: [(u64, u64, &[u64]); 4] =
        [(1, 1, &[1]), (3, 3_000, &[10, 200]), (9_000, 1, &[40]), (20, 10, &[100, 60_000, 300_000])];
    for (number, (streams, batches_max, sizes)) in cases.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let random = SeededRandom::new(number as u64);
        let streams = some_streams(&random, streams, batches_max, sizes);
        let here = objects(Arc::new(RealDisk), dir.path()).await;
        let summary = write(&here, &streams).await.unwrap();
        assert_eq!((summary.id, here.size(ID.key)), (ID, Some(summary.bytes)));
        // And as another process finds it.
        for objects in [here, objects(Arc::new(RealDisk), dir.path()).await] {
            assert_eq!(objects.keys(), [ID.key]);
            assert_eq!(objects.verify(ID.key).await.unwrap(), summary, "case {number}");
            for (stream, batches) in &streams {
                assert_eq!(facts(&read_stream(&objects, *stream, 700).await.unwrap()), facts(batches));
                let known = objects.stream(ID.key, StreamId(*stream)).await.unwrap().unwrap();
                let largest = batches.iter().map(|(entry, _)| entry.max_timestamp).max().unwrap();
                let bytes: u64 = batches.iter().map(|(entry, _)| entry.total_bytes()).sum();
                assert_eq!((known.batches as usize, known.bytes), (batches.len(), bytes));
                assert_eq!(known.max_timestamp, largest);
                assert_eq!(known.running_max_timestamp, largest.max(start(*stream).max_timestamp_before));
                assert_eq!(objects.aborted(ID.key, StreamId(*stream)).await.unwrap(), aborted(*stream));
                assert_eq!(objects.stream(ID.key, StreamId(stream - 1)).await.unwrap(), None);
            }
            assert_eq!(objects.stream(ID.key, StreamId(u64::MAX)).await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn the_same_batches_are_the_same_bytes() {
    let streams = some_streams(&SeededRandom::new(1), 50, 20, &[100, 9_000]);
    let mut files = Vec::new();
    for _ in 0..2 {
        let disk = SimDisk::new(1, SimDiskOptions::default());
        let objects = objects(Arc::new(disk.clone()), FilePath::new("/data")).await;
        write(&objects, &streams).await.unwrap();
        files.push(disk.contents(&FilePath::new("/data").join(FILE)));
    }
    assert_eq!(files[0], files[1]);
}

#[tokio::test]
async fn a_body_of_many_streams_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let objects = objects(Arc::new(RealDisk), dir.path()).await;
    let all = some_streams(&SeededRandom::new(2), 1, 1, &[1]);
    let (mut entry, _) = all[&1][0].clone();
    entry.bytes = 1_024;
    let body = Bytes::from(vec![7; 1_024]);
    let mut writer = objects.begin(ID).await.unwrap();
    writer.stream(start(1));
    let place = writer.batch(&entry, std::slice::from_ref(&body)).await.unwrap();
    for stream in 2..=1_000 {
        writer.stream(StreamStart { aborted: Vec::new(), ..start(stream) });
        writer.refer(&entry, place);
    }
    let summary = objects.finish(writer).await.unwrap();
    let per_stream = (summary.bytes - 1_024) / 1_000;
    assert!(per_stream < 128, "{per_stream} bytes for a stream");
    objects.verify(ID.key).await.unwrap();
    assert_eq!(read_stream(&objects, 999, 1).await.unwrap()[0].1, body);
}

#[tokio::test]
async fn no_damage_passes() {
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let root = FilePath::new("/data");
    let random = SeededRandom::new(3);
    let streams = some_streams(&random, 60, 30, &[10, 500, 70_000]);
    let whole = objects(Arc::new(disk.clone()), root).await;
    let summary = write(&whole, &streams).await.unwrap();
    let path = root.join(FILE);
    for _ in 0..400 {
        let (position, mask) = (random.below(summary.bytes), 1 << random.below(8));
        disk.flip(&path, position, mask);
        let damaged = objects(Arc::new(disk.clone()), root).await;
        let error = damaged.verify(ID.key).await.expect_err("a bit is wrong");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains(FILE), "{error}");
        // What is read all the same is right.
        for (stream, batches) in streams.iter().step_by(7) {
            if let Ok(read) = read_stream(&damaged, *stream, 100).await {
                assert_eq!(facts(&read), facts(batches));
            }
        }
        disk.flip(&path, position, mask);
    }
    objects(Arc::new(disk), root).await.verify(ID.key).await.unwrap();
}

#[tokio::test]
async fn what_is_no_object_is_named_or_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let here = objects(Arc::new(RealDisk), dir.path()).await;
    let streams = some_streams(&SeededRandom::new(4), 5, 5, &[100]);
    let summary = write(&here, &streams).await.unwrap();
    let path = dir.path().join(FILE);
    let file = |name: &str| path.with_file_name(name);
    let bytes = RealDisk.open(&path, OpenOptions::read()).unwrap().read_at(0, 1 << 20).await.unwrap();
    put(&file("notes.txt"), b"mine").await;
    put(&file("0000000000000007.objects"), &bytes).await;
    put(&file("0000000000000008.object"), &bytes).await;
    put(&file("0000000000000009.object"), &bytes[..bytes.len() - 1]).await;
    put(&file("000000000000000a.object"), b"").await;
    put(&file("000000000000000b.object"), &[0; 1_000]).await;
    let here = objects(Arc::new(RealDisk), dir.path()).await;
    assert_eq!(here.keys().len(), 5);
    assert_eq!(here.verify(ID.key).await.unwrap(), summary);
    for key in 8..=11 {
        let key = ObjectKey(key);
        let error = here.verify(key).await.expect_err("it is none, or another one");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{key}: {error}");
        assert!(here.batches(key, StreamId(1), StreamOffset(0), 1).await.is_err());
        here.remove(key).await.unwrap();
    }
    let error = here.verify(ObjectKey(12)).await.expect_err("there is none");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    here.remove(ObjectKey(12)).await.unwrap();
    here.remove(ID.key).await.unwrap();
    assert!(objects(Arc::new(RealDisk), dir.path()).await.keys().is_empty());
    assert!(RealDisk.exists(&file("notes.txt")) && RealDisk.exists(&file("0000000000000007.objects")));
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::new(Arc::new(RealDisk), dir.path().to_owned());
    let below: Path = "shards/3/objects".into();
    let here = Objects::open(Arc::new(store.clone()), below.clone(), ID.shard, 0).await.unwrap();
    let files = || RealDisk.read_dir(&dir.path().join("shards/3/objects")).unwrap().len();
    drop(here.begin(ID).await.unwrap());
    assert_eq!(files(), 0);
    // As after a crash.
    std::mem::forget(here.begin(ID).await.unwrap());
    assert_eq!(files(), 1);
    let again = Objects::open(Arc::new(store.clone()), below.clone(), ID.shard, 0).await.unwrap();
    assert!(again.keys().is_empty());
    store.remove_unfinished(&below).await.unwrap();
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn a_crash_leaves_all_of_an_object_or_none_of_it() {
    let root = FilePath::new("/data");
    let streams = some_streams(&SeededRandom::new(5), 40, 30, &[500, 40_000]);
    let mut finished = 0;
    for seed in 0..200 {
        let disk = SimDisk::new(seed, SimDiskOptions::default());
        let here = objects(Arc::new(disk.clone()), root).await;
        disk.crash_after(1 + seed % 24, || {});
        let written = write(&here, &streams).await;
        disk.crash();
        let after = objects(Arc::new(disk), root).await;
        match (written, &after.keys()[..]) {
            (Ok(summary), _) => {
                finished += 1;
                assert_eq!(after.verify(ID.key).await.unwrap(), summary, "seed {seed}");
            }
            (Err(_), []) => {}
            (Err(_), _) => drop(after.verify(ID.key).await.expect("it has its name only when it is whole")),
        }
    }
    assert!((1..200).contains(&finished), "{finished} of 200 were finished");
}

/// What others expect of an object store: the library's own suite, but for versions, which what never changes has none of.
#[tokio::test]
async fn a_directory_is_an_object_store() {
    use object_store::integration as suite;

    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(DiskStore::new(Arc::new(RealDisk), dir.path().to_owned()));
    suite::put_get_delete_list(&store).await;
    suite::list_uses_directories_correctly(&store).await;
    suite::list_with_delimiter(&store).await;
    suite::list_with_offset_exclusivity(&store).await;
    suite::rename_and_copy(&store).await;
    suite::copy_if_not_exists(&store).await;
    suite::copy_rename_nonexistent_object(&store).await;
    suite::stream_get(&store).await;
}

#[test]
fn a_file_of_the_format_has_these_sizes() {
    let trailer = format::Trailer {
        id: ID,
        from: LogIndex(1),
        through: LogIndex(2),
        streams: 43,
        batches: 50,
        blocks: 256,
        data_bytes: 1_000,
        runs_at: 1_064,
        pages_at: 1_104,
        root_crc: 1,
        index_digest: 2,
    };
    let pages = trailer.pages();
    assert_eq!((pages.directory, pages.summary, pages.blocks), (2, 1, 2));
    let size = trailer.root_at() + 8 + 128;
    assert_eq!(size, 1_104 + 5 * 4_096 + 8 + 128);
    assert_eq!(format::Trailer::decode(&trailer.encode(), size), Some(trailer));
    for wrong in [0, size - 1, size + 1, u64::MAX] {
        assert_eq!(format::Trailer::decode(&trailer.encode(), wrong), None);
    }
    assert_eq!(format::decode_header(&format::encode_header(&ID)), Some(ID));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_object(&bytes);
    }
}
