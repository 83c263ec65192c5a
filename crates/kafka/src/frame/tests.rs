//! Frames of all sizes and shapes, and memory when there is little.

use std::time::Duration;

use base::time::timeout;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

fn reader(bytes: usize) -> FrameReader {
    FrameReader::new(RequestMemory::new(bytes), 100 << 20)
}

/// The next whole request; none at the end.
async fn next(reader: &mut FrameReader, stream: &mut DuplexStream) -> Result<Option<Frame>, FrameError> {
    loop {
        match reader.next(stream).await? {
            Incoming::Request(frame) => return Ok(Some(frame)),
            Incoming::Begun => assert!(reader.is_mid_frame()),
            Incoming::End => return Ok(None),
        }
    }
}

async fn send(stream: &mut DuplexStream, body: &[u8]) {
    stream.write_all(&i32::try_from(body.len()).expect("small").to_be_bytes()).await.expect("open");
    stream.write_all(body).await.expect("open");
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from(index % 251).expect("below 256")).collect()
}

#[tokio::test]
async fn requests_of_all_sizes_come_as_they_were_sent() {
    let (mut client, mut server) = duplex(50_000);
    let sizes = [0, 1, 3, 100, SCRATCH_BYTES - 5, SCRATCH_BYTES - 4, SCRATCH_BYTES, 70_000, 3 << 20, 9 << 20, 7, 0];
    let writing = base::task::spawn("test", async move {
        for size in sizes {
            send(&mut client, &pattern(size)).await;
        }
    });
    let mut reader = reader(64 << 20);
    for size in sizes {
        let frame = next(&mut reader, &mut server).await.expect("well-formed").expect("there");
        assert!(frame.body == pattern(size), "{size}");
    }
    writing.await.expect("writes");
    assert!(next(&mut reader, &mut server).await.expect("ends well").is_none());
    assert_eq!(reader.memory.used(), 0);
}

#[tokio::test]
async fn requests_that_come_together_are_read_together() {
    let (mut client, mut server) = duplex(1 << 16);
    let mut bytes = Vec::new();
    for size in [5_usize, 0, 9] {
        bytes.extend(i32::try_from(size).expect("small").to_be_bytes());
        bytes.extend(pattern(size));
    }
    bytes.extend([0, 0]);
    client.write_all(&bytes).await.expect("open");
    let mut reader = reader(1 << 20);
    for size in [5, 0, 9] {
        assert_eq!(next(&mut reader, &mut server).await.expect("read").expect("there").body.len(), size);
    }
    assert!(reader.is_mid_frame());
    client.write_all(&[0, 1, b'x']).await.expect("open");
    assert_eq!(&next(&mut reader, &mut server).await.expect("read").expect("there").body[..], b"x");
    assert!(!reader.is_mid_frame() && reader.kept.rest.capacity() == 0 && reader.kept.whole.capacity() == 0);
}

#[tokio::test]
async fn each_of_many_requests_of_one_read_has_a_buffer_of_its_own() {
    let (mut client, mut server) = duplex(1 << 16);
    // A size that came in two reads, and more requests than are kept apart at once.
    client.write_all(&[0, 0]).await.expect("open");
    let mut reader = reader(1 << 20);
    assert!(timeout(Duration::from_millis(20), reader.next(&mut server)).await.is_err());
    let mut bytes = vec![0, 100];
    bytes.extend(pattern(100));
    for _ in 1..IN_FLIGHT_MAX + 20 {
        bytes.extend(100_i32.to_be_bytes());
        bytes.extend(pattern(100));
    }
    client.write_all(&bytes).await.expect("open");
    for _ in 0..IN_FLIGHT_MAX + 20 {
        let frame = next(&mut reader, &mut server).await.expect("read").expect("there");
        let (body, _hold) = frame.into_parts();
        assert!(body == pattern(100));
        let alone = body.try_into_mut().expect("nobody shares it");
        assert!(alone.capacity() < 200, "{}", alone.capacity());
    }
    assert!(!reader.is_mid_frame());
}

#[tokio::test]
async fn sizes_that_are_not_allowed_end_it() {
    for size in [-1_i32, i32::MIN, (100 << 20) + 1, i32::MAX] {
        let (mut client, mut server) = duplex(64);
        client.write_all(&size.to_be_bytes()).await.expect("open");
        assert!(matches!(next(&mut reader(1 << 20), &mut server).await, Err(FrameError::Size { .. })), "{size}");
    }
}

#[tokio::test]
async fn an_end_within_a_request_is_told_from_one_between() {
    let (mut client, mut server) = duplex(64);
    client.write_all(&[0, 0, 0, 9, 1]).await.expect("open");
    drop(client);
    let ended = next(&mut reader(1 << 20), &mut server).await;
    assert!(matches!(ended, Err(FrameError::Truncated { missing: 8 })));
}

#[tokio::test]
async fn a_promise_of_a_hundred_megabytes_holds_what_was_sent() {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(&(100_i32 << 20).to_be_bytes()).await.expect("open");
    client.write_all(&pattern(200_000)).await.expect("open");
    let mut reader = reader(64 << 20);
    let waited = timeout(Duration::from_millis(200), next(&mut reader, &mut server)).await;
    assert!(waited.is_err() && reader.is_mid_frame());
    assert!(reader.memory.used() <= 200_000 + 2 * FRAME_STEP_BYTES, "{}", reader.memory.used());
    assert!(reader.partial.as_ref().is_some_and(|partial| partial.buffer.capacity() <= FRAME_BUFFER_BYTES));
}

#[tokio::test]
async fn half_read_requests_do_not_block_each_other() {
    // Room for one and a half of these three.
    let memory = RequestMemory::new(2 * (3 << 20));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = duplex(64 << 10);
        tasks.push(base::task::spawn("test", async move { send(&mut client, &pattern(2 << 20)).await }));
        let mut reader = FrameReader::new(memory.clone(), 100 << 20);
        tasks.push(base::task::spawn("test", async move {
            let frame = next(&mut reader, &mut server).await.expect("read").expect("there");
            assert_eq!(frame.body.len(), 2 << 20);
        }));
    }
    for task in tasks {
        timeout(Duration::from_secs(20), task).await.expect("all end").expect("none fails");
    }
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn small_requests_pass_while_large_ones_hold_all_memory() {
    let memory = RequestMemory::new(1 << 20);
    let (mut stalled, mut stalled_end) = duplex(4 << 20);
    stalled.write_all(&(50_i32 << 20).to_be_bytes()).await.expect("open");
    stalled.write_all(&pattern(2 << 20)).await.expect("open");
    let mut large = FrameReader::new(memory.clone(), 100 << 20);
    assert!(timeout(Duration::from_millis(100), next(&mut large, &mut stalled_end)).await.is_err());
    assert!(memory.is_short());
    let (mut client, mut server) = duplex(1 << 16);
    send(&mut client, &pattern(1_000)).await;
    let mut small = FrameReader::new(memory.clone(), 100 << 20);
    let frame = timeout(Duration::from_secs(5), next(&mut small, &mut server)).await.expect("is not held up");
    assert_eq!(frame.expect("read").expect("there").body.len(), 1_000);
}

#[tokio::test]
async fn a_request_that_comes_in_parts_is_announced() {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(&[0, 0, 0, 9, 1]).await.expect("open");
    let mut reader = reader(1 << 20);
    assert!(matches!(reader.next(&mut server).await, Ok(Incoming::Begun)));
    assert!(timeout(Duration::from_millis(20), reader.next(&mut server)).await.is_err());
    assert!(reader.is_mid_frame() && !reader.is_starved());
    client.write_all(&[0; 8]).await.expect("open");
    assert!(matches!(reader.next(&mut server).await, Ok(Incoming::Request(_))));
}

#[tokio::test]
async fn what_is_heard_while_a_request_is_served_is_read_after_it() {
    let (mut client, mut server) = duplex(1 << 16);
    let mut reader = reader(1 << 20);
    assert!(timeout(Duration::from_millis(20), reader.listen(&mut server)).await.is_err());
    send(&mut client, &pattern(9)).await;
    assert!(reader.listen(&mut server).await.expect("open"));
    assert_eq!(reader.memory.used(), 0, "nothing is taken for what is not read yet");
    assert_eq!(next(&mut reader, &mut server).await.expect("read").expect("there").body.len(), 9);
    drop(client);
    assert!(!reader.listen(&mut server).await.expect("ends"));
}

#[tokio::test]
async fn a_request_that_waits_for_memory_is_not_late() {
    let memory = RequestMemory::new(64 << 10);
    let _all = memory.small.acquire(1 << 20).await;
    let (mut client, mut server) = duplex(1 << 16);
    send(&mut client, &pattern(9)).await;
    let mut reader = FrameReader::new(memory.clone(), 1 << 20);
    assert!(timeout(Duration::from_millis(20), reader.next(&mut server)).await.is_err());
    assert!(reader.is_starved());
}
