//! A file, stream by stream.

use super::*;

#[tokio::test]
async fn a_file_is_listed_stream_by_stream() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let all = history(&store, 6, 3).await;
    let mut found = Vec::new();
    for file in store.files() {
        let (mut parts, mut page) = (Vec::new(), 0);
        while let Some(some) = store.streams_in(Source::File(file), page).await.unwrap() {
            assert!(some.len() == format::ENTRIES_PER_BLOCK || page == 2);
            parts.extend(some);
            page += 1;
        }
        assert!(parts.windows(2).all(|pair| pair[0].stream() < pair[1].stream()) && (119..=120).contains(&parts.len()));
        for part in &parts {
            let batches = store.batches_in(part, StreamOffset(0), usize::MAX).await.unwrap();
            assert_eq!(batches.len(), part.batches() as usize);
            assert_eq!(
                (batches[0].base_offset, batches[batches.len() - 1].next_offset()),
                (part.first_offset(), part.next_offset())
            );
            if part.stream() == STREAM {
                found.extend(batches);
            }
            let behind = store.batches_in(part, part.next_offset(), 1).await.unwrap();
            assert!(behind.is_empty());
        }
    }
    assert_eq!(found, all);
    assert!(store.streams_in(Source::File(FileNumber(99)), 0).await.is_err());
}
