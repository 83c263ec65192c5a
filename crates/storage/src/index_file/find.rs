//! Finding batches by offset and by time.
//!
//! A file that is needed and not there is an error, never a gap that is passed over: the way back
//! ends early only where nothing older is asked for. Files point back, so every way ends.

use std::io;

use record::{BatchEntry, FileNumber, ObjectKey, StreamId, StreamOffset, TimestampMs};

use super::format::StreamEntry;
use super::{InPlace, IndexStore};
use crate::batch_run::ChunkEntry;

/// A file that has the stream, and what it says of it.
#[derive(Debug, Clone, Copy)]
struct Node {
    file: FileNumber,
    /// The object that has the place of the file, which is the first of those whose place it has.
    object: Option<ObjectKey>,
    entry: StreamEntry,
    /// What begins before is in a compacted object.
    floor: StreamOffset,
}

impl Node {
    fn first_offset(&self) -> StreamOffset {
        self.entry.first_offset.max(self.floor)
    }
}

impl IndexStore {
    /// Batches of `stream` from the one that holds `offset`, or the first behind it, on, in order,
    /// through the files up to and including `newest`: until there are `count_max`, or they have
    /// `bytes_max` together. Fewer only at the end.
    ///
    /// # Errors
    /// `InvalidData` when a file is damaged or does not have the stream, `NotFound` when one that is
    /// needed is missing.
    pub async fn batches(
        &self,
        newest: FileNumber,
        stream: StreamId,
        offset: StreamOffset,
        count_max: usize,
        bytes_max: u64,
    ) -> io::Result<Vec<BatchEntry>> {
        let mut found: Vec<BatchEntry> = Vec::new();
        let mut bytes = 0_u64;
        let newest = self.node(newest, stream).await?;
        let mut offset = offset;
        while found.len() < count_max && bytes < bytes_max && offset < newest.entry.next_offset {
            let node = self.node_at(newest, offset).await?;
            for chunk in self.chunks_from(node, offset).await? {
                let batches = self.node_chunk(node, &chunk).await?;
                for batch in batches.into_iter().filter(|batch| batch.next_offset() > offset) {
                    if found.len() == count_max || bytes >= bytes_max {
                        return Ok(found);
                    }
                    bytes = bytes.saturating_add(batch.total_bytes());
                    found.push(batch);
                }
            }
            assert!(node.entry.next_offset > offset, "every file brings the search forward");
            offset = node.entry.next_offset;
        }
        Ok(found)
    }

    /// The file with the batch that holds `offset`, which MUST be in a file up to and including `newest`.
    ///
    /// # Errors
    /// As [`Self::batches`].
    pub async fn file_of(&self, newest: FileNumber, stream: StreamId, offset: StreamOffset) -> io::Result<FileNumber> {
        let newest = self.node(newest, stream).await?;
        if newest.entry.next_offset <= offset {
            return Err(self.lacks(newest.file, stream));
        }
        self.node_at(newest, offset).await.map(|node| node.file)
    }

    /// The first batch at or behind `from` whose largest timestamp is at least `time`.
    ///
    /// # Errors
    /// As [`Self::batches`].
    pub async fn find_by_time(
        &self,
        newest: FileNumber,
        stream: StreamId,
        from: StreamOffset,
        time: TimestampMs,
    ) -> io::Result<Option<BatchEntry>> {
        let newest = self.node(newest, stream).await?;
        if newest.entry.running_max_timestamp < time {
            return Ok(None);
        }
        let mut node = newest;
        while node.first_offset() > from {
            let reaches = |older: &Node| older.entry.running_max_timestamp >= time;
            if let Some(far) = self.far(node).await?.filter(reaches) {
                node = far;
            } else if let Some(before) = self.before(node).await?.filter(reaches) {
                node = before;
            } else {
                break;
            }
        }
        // Before `node` everything is older. If it lies before `from`, look on from there.
        let mut offset = from.max(node.first_offset());
        while offset < newest.entry.next_offset {
            let node = self.node_at(newest, offset).await?;
            if node.entry.max_timestamp >= time
                && let Some(batch) = self.time_in(node, offset, time).await?
            {
                return Ok(Some(batch));
            }
            offset = node.entry.next_offset.max(StreamOffset(offset.0 + 1));
        }
        Ok(None)
    }

    /// The first batch at or behind `from` that has the largest timestamp of the sealed stream from
    /// there on; with `below` the next in that order behind the batch of that timestamp and base offset.
    ///
    /// # Errors
    /// As [`Self::batches`].
    pub async fn find_max_time(
        &self,
        newest: FileNumber,
        stream: StreamId,
        from: StreamOffset,
        below: Option<(TimestampMs, StreamOffset)>,
    ) -> io::Result<Option<BatchEntry>> {
        let node = self.node(newest, stream).await?;
        // Usually the largest of all is at or behind `from`.
        if below.is_none()
            && let Some(batch) = self.find_by_time(newest, stream, from, node.entry.running_max_timestamp).await?
        {
            return Ok(Some(batch));
        }
        let is_below = |batch: &BatchEntry| {
            below.is_none_or(|(time, offset)| (time, batch.base_offset) > (batch.max_timestamp, offset))
        };
        let mut largest: Option<BatchEntry> = None;
        let mut offset = from;
        while offset < node.entry.next_offset {
            let at = self.node_at(node, offset).await?;
            let time = largest.as_ref().map_or(TimestampMs(i64::MIN), |batch| batch.max_timestamp);
            if at.entry.max_timestamp > time {
                for chunk in self.chunks_from(at, offset).await? {
                    for batch in self.node_chunk(at, &chunk).await? {
                        let larger = largest.as_ref().is_none_or(|known| batch.max_timestamp > known.max_timestamp);
                        if larger && batch.next_offset() > offset && is_below(&batch) {
                            largest = Some(batch);
                        }
                    }
                }
            }
            offset = at.entry.next_offset.max(StreamOffset(offset.0 + 1));
        }
        Ok(largest)
    }

    /// What `file`, which is said to have the stream, knows of it.
    async fn node(&self, file: FileNumber, stream: StreamId) -> io::Result<Node> {
        self.find_node(file, stream).await?.ok_or_else(|| self.lacks(file, stream))
    }

    /// As [`Self::node`]; none where an object that has the place of the file has nothing of the stream: its front is gone so
    /// far.
    async fn find_node(&self, file: FileNumber, stream: StreamId) -> io::Result<Option<Node>> {
        if let Some(place) = self.object_at(file, stream) {
            let InPlace { first, key, .. } = place;
            let Some((entry, floor)) = self.entry_in(place, stream).await? else {
                return if self.is_awaited(file, stream) { Err(self.missing(file)) } else { Ok(None) };
            };
            return Ok(Some(Node { file: first, object: Some(key), entry: entry.index, floor }));
        }
        if !self.contains(file) {
            return Err(self.missing(file));
        }
        let entry = self.entry(file, stream).await?.ok_or_else(|| self.lacks(file, stream))?;
        Ok(Some(Node { file, object: None, entry, floor: StreamOffset(0) }))
    }

    async fn node_chunks(&self, node: Node) -> io::Result<Vec<ChunkEntry>> {
        match node.object {
            Some(key) => self.objects().chunks(key, node.entry.run()).await,
            None => self.chunks(node.file, &node.entry).await,
        }
    }

    async fn node_chunk(&self, node: Node, chunk: &ChunkEntry) -> io::Result<Vec<BatchEntry>> {
        let mut batches = match node.object {
            Some(key) => self.objects().chunk(key, node.entry.run_at, chunk).await?,
            None => return self.chunk(node.file, &node.entry, chunk).await,
        };
        batches.retain(|batch| batch.base_offset >= node.floor);
        Ok(batches)
    }

    /// The file before `node` that has the stream, if there is one.
    async fn before(&self, node: Node) -> io::Result<Option<Node>> {
        match node.entry.previous {
            0 => Ok(None),
            file if file >= node.file.0 => Err(self.damaged(node.file)),
            file => self.find_node(FileNumber(file), node.entry.stream).await,
        }
    }

    /// The file that `node` points to over others, if it is there: the way through those leads as far.
    async fn far(&self, node: Node) -> io::Result<Option<Node>> {
        let file = FileNumber(node.entry.jump);
        if file >= node.file {
            return Err(self.damaged(node.file));
        }
        if file.0 == 0 || !self.is_here(file, node.entry.stream) {
            return Ok(None);
        }
        match self.find_node(file, node.entry.stream).await {
            // It went meanwhile, with all that was in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_here(file, node.entry.stream) => Ok(None),
            // What lies in another file is found without it.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            node => node,
        }
    }

    /// The oldest file that ends behind `offset`; `newest` MUST.
    async fn node_at(&self, newest: Node, offset: StreamOffset) -> io::Result<Node> {
        assert!(newest.entry.next_offset > offset, "the offset is in some file or before all");
        let mut node = newest;
        while offset < node.first_offset() {
            let reaches = |older: &Node| older.entry.next_offset > offset;
            if let Some(far) = self.far(node).await?.filter(reaches) {
                node = far;
            } else if let Some(before) = self.before(node).await?.filter(reaches) {
                node = before;
            } else {
                break;
            }
        }
        Ok(node)
    }

    /// The chunks of a run from the one that holds `offset` on.
    async fn chunks_from(&self, node: Node, offset: StreamOffset) -> io::Result<Vec<ChunkEntry>> {
        let mut chunks = self.node_chunks(node).await?;
        let skip = chunks.partition_point(|chunk| chunk.first_offset <= offset).saturating_sub(1);
        chunks.drain(..skip);
        Ok(chunks)
    }

    async fn time_in(&self, node: Node, offset: StreamOffset, time: TimestampMs) -> io::Result<Option<BatchEntry>> {
        for chunk in self.chunks_from(node, offset).await? {
            // What a chunk's mark counts may lie in a chunk before `offset`: it only rules out.
            if chunk.running_max_timestamp < time {
                continue;
            }
            let batches = self.node_chunk(node, &chunk).await?;
            let wanted = |batch: &BatchEntry| batch.next_offset() > offset && batch.max_timestamp >= time;
            if let Some(batch) = batches.into_iter().find(wanted) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
