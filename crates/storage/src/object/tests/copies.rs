//! An object is made once more from its index, block by block, and is the same bytes.

use super::*;

/// The index of an object, read as another node gets it.
async fn index_of(objects: &Objects, known: &ObjectSummary) -> Option<ObjectIndex> {
    let trailer_at = known.bytes - ObjectIndex::TRAILER_BYTES as u64;
    let trailer = objects.raw(known.id.key, trailer_at, u64::MAX).await.unwrap().unwrap();
    let place = ObjectIndex::place(known, &trailer)?;
    let tail = objects.raw(known.id.key, place.start, place.end - place.start).await.unwrap().unwrap();
    ObjectIndex::decode(known, tail)
}

/// The bodies of each block, as whoever has the batches finds them.
fn bodies_of(index: &ObjectIndex, streams: &Streams) -> Vec<Vec<Bytes>> {
    let mut blocks = vec![Vec::new(); index.blocks()];
    for ObjectBody { stream, batch } in index.bodies() {
        let (_, body) =
            streams[&stream.0].iter().find(|(entry, _)| entry.base_offset == batch.base_offset).expect("it has it");
        blocks[usize::try_from(batch.log_index.0).unwrap()].push(body.clone());
    }
    blocks
}

#[tokio::test]
async fn an_object_is_made_of_its_index_and_what_it_tells_of() {
    let cases: [(u64, u64, &[u64]); 3] = [(1, 1, &[1]), (200, 30, &[10, 500, 70_000]), (2, 5_000, &[90])];
    for (number, (streams, batches_max, sizes)) in cases.into_iter().enumerate() {
        let streams = some_streams(&SeededRandom::new(number as u64), streams, batches_max, sizes);
        let (disk, other) = (SimDisk::new(1, SimDiskOptions::default()), SimDisk::new(2, SimDiskOptions::default()));
        let (root, there) = (FilePath::new("/data"), objects(Arc::new(disk.clone()), FilePath::new("/data")).await);
        let known = write(&there, &streams).await.unwrap();
        let index = index_of(&there, &known).await.expect("it is whole");
        let blocks = bodies_of(&index, &streams);
        let here = objects(Arc::new(other.clone()), root).await;
        let mut copy = here.begin_copy(Arc::new(index)).await.unwrap();
        while let Some(wanted) = copy.wanted() {
            let bytes = blocks[wanted].concat();
            let place = copy.index().block(wanted).unwrap();
            let raw = there.raw(ID.key, place.start, place.end - place.start).await.unwrap().unwrap();
            assert_eq!(raw, bytes, "block {wanted}");
            let mut wrong = bytes.clone();
            wrong[bytes.len() / 2] ^= 1;
            assert!(!copy.block(&wrong).await.unwrap() && !copy.block(&bytes[1..]).await.unwrap());
            assert!(copy.block(&bytes).await.unwrap());
        }
        assert!(!here.contains(ID.key));
        assert_eq!(here.finish_copy(copy).await.unwrap(), known);
        assert_eq!(here.verify(ID.key).await.unwrap(), known);
        assert_eq!(disk.contents(&root.join(FILE)), other.contents(&root.join(FILE)), "case {number}");
    }
}

#[tokio::test]
async fn a_body_of_many_streams_is_asked_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let objects = objects(Arc::new(RealDisk), dir.path()).await;
    let streams = some_streams(&SeededRandom::new(6), 2, 1, &[900]);
    let (first, second) = (&streams[&1][0], &streams[&6][0]);
    let mut writer = objects.begin(ID).await.unwrap();
    writer.stream(start(1));
    let place = writer.batch(&first.0, std::slice::from_ref(&first.1)).await.unwrap();
    for stream in [2, 3] {
        writer.stream(start(stream));
        writer.refer(&first.0, place);
    }
    writer.stream(start(6));
    writer.batch(&second.0, std::slice::from_ref(&second.1)).await.unwrap();
    let known = objects.finish(writer).await.unwrap();
    let index = index_of(&objects, &known).await.unwrap();
    let asked: Vec<_> = index.bodies().map(|body| body.stream.0).collect();
    assert_eq!(asked, [1, 6]);
}

#[tokio::test]
async fn an_index_that_is_not_the_objects_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let objects = objects(Arc::new(RealDisk), dir.path()).await;
    let random = SeededRandom::new(7);
    let known = write(&objects, &some_streams(&random, 90, 20, &[100, 3_000])).await.unwrap();
    let trailer_at = known.bytes - ObjectIndex::TRAILER_BYTES as u64;
    let trailer = objects.raw(ID.key, trailer_at, u64::MAX).await.unwrap().unwrap();
    let place = ObjectIndex::place(&known, &trailer).expect("it is its trailer");
    let tail = objects.raw(ID.key, place.start, place.end - place.start).await.unwrap().unwrap();
    assert!(ObjectIndex::decode(&known, tail.clone()).is_some());
    for wrong in [
        ObjectSummary { id: ObjectId { key: ObjectKey(8), ..ID }, ..known },
        ObjectSummary { bytes: known.bytes + 1, ..known },
        ObjectSummary { index_digest: known.index_digest ^ 1, ..known },
    ] {
        assert!(ObjectIndex::decode(&wrong, tail.clone()).is_none() && ObjectIndex::place(&wrong, &trailer).is_none());
    }
    for _ in 0..300 {
        let mut damaged = tail.to_vec();
        let at = usize::try_from(random.below(damaged.len() as u64)).unwrap();
        damaged[at] ^= 1 << random.below(8);
        assert!(ObjectIndex::decode(&known, damaged.into()).is_none(), "byte {at}");
    }
    for len in [0, 1, ObjectIndex::TRAILER_BYTES - 1, ObjectIndex::TRAILER_BYTES, tail.len() - 1] {
        assert!(ObjectIndex::decode(&known, tail.slice(..len)).is_none(), "{len} bytes");
        assert!(ObjectIndex::decode(&known, tail.slice(tail.len() - len..)).is_none(), "the last {len} bytes");
    }
    assert_eq!(objects.raw(ObjectKey(9), 0, 10).await.unwrap(), None);
}
