//! Which ranges of the log are still wanted: kept in step with streams and staged batches as they come and go.

use std::sync::Arc;

use record::{FileNumber, StreamId};

use crate::assertion::{Broken, ensure};
use crate::commands::UploadId;
use crate::effects::{Effects, ObjectChange};
use crate::sealing::SealedIndex;
use crate::shard::Shard;
use crate::uploads::Upload;

impl Shard {
    /// Removes a stream and all that hangs on it; false if there is none.
    pub(crate) fn remove_stream(&mut self, id: StreamId, effects: &mut Effects) -> Result<bool, Broken> {
        let Some(first_producer) = self.streams.get(&id).map(|stream| stream.first_producer) else { return Ok(false) };
        let producers: Vec<u32> = self.producers.of_stream(first_producer).collect();
        for slot in producers {
            self.forget_producer(slot, id);
        }
        let Some(mut stream) = self.streams.remove(&id) else { return Ok(false) };
        if let Some(batches) = stream.batches.take() {
            ensure!(self.unsealed_batches >= batches.len(), "fewer batches are in memory than stream {id} has");
            self.unsealed_batches -= batches.len();
            ensure!(self.unsealed_bytes >= batches.bytes(), "fewer bytes are in memory than stream {id} has");
            self.unsealed_bytes -= batches.bytes();
            if let Some(capture) = &mut self.capture {
                capture.bury(id, *batches);
            }
        }
        self.transfers.remove(&id);
        for file in stream.all_files() {
            self.release_stream(file, effects)?;
        }
        let compacted = self.compacted.take_below(id, FileNumber(u32::MAX));
        effects.objects.extend(compacted.into_iter().map(ObjectChange::Gone));
        effects.deleted.push(id);
        Ok(true)
    }

    /// Forgets one producer of a stream.
    pub(crate) fn forget_producer(&mut self, slot: u32, stream: StreamId) {
        let Some(stream) = self.streams.slot(&stream) else { return };
        let Some(stream) = self.streams.derived_mut(stream) else { return };
        self.producers.forget(slot, &mut stream.first_producer);
    }

    /// One stream less has something in a sealed range, wherever that is now.
    pub(crate) fn release_stream(&mut self, file: FileNumber, effects: &mut Effects) -> Result<(), Broken> {
        let Some(first) = self.objects.of(file).map(|object| object.first) else {
            return self.release(file, effects, |range| &mut range.streams);
        };
        let slot = self.objects.table.slot(&first);
        let Some(object) = slot.and_then(|slot| self.objects.table.change(slot)) else { return Ok(()) };
        ensure!(object.streams > 0, "the object in the place of {file} is released more often than held");
        object.streams -= 1;
        if object.streams == 0 {
            effects.objects.extend(self.objects.remove(first).map(ObjectChange::Gone));
        }
        Ok(())
    }

    /// One stream or staged batch less wants a range; the range dies with the last one.
    fn release(
        &mut self,
        file: FileNumber,
        effects: &mut Effects,
        count: impl Fn(&mut crate::ranges::SealedRange) -> &mut u32,
    ) -> Result<(), Broken> {
        let slot = self.ranges.slot(&file);
        let range = slot.and_then(|slot| self.ranges.change(slot));
        let Some(range) = range else {
            return Err(Broken { what: format!("the sealed range {file} is released but not there") });
        };
        let count = count(range);
        ensure!(*count > 0, "the sealed range {file} is released more often than held");
        *count -= 1;
        if !range.live() {
            self.ranges.remove(&file);
            effects.dead_files.push(file);
        }
        Ok(())
    }

    /// Takes a staged batch out; its parts are no longer kept for it.
    pub(crate) fn take_upload(&mut self, id: UploadId, effects: &mut Effects) -> Result<Option<Upload>, Broken> {
        let Some(upload) = self.uploads.remove(&id) else { return Ok(None) };
        for file in &upload.files {
            self.release(*file, effects, |range| &mut range.uploads)?;
        }
        Ok(Some(upload))
    }

    /// The index file of a sealed range is durable on this node: its batches are no longer answered from memory. Local
    /// and without any effect on the state that replicas share. What is let go of is given back, to be dropped where
    /// nobody waits: it may be large.
    pub fn sealed_durable(&mut self, file: FileNumber) -> Vec<Arc<SealedIndex>> {
        if let Some((_, durable)) = self.sealing.iter_mut().find(|(sealed, _)| sealed.file == file) {
            *durable = true;
        }
        // In order, because files are searched from the newest durable one backwards.
        let durable = self.sealing.iter().take_while(|(_, durable)| *durable).count();
        self.sealing.drain(..durable).map(|(sealed, _)| sealed).collect()
    }
}
