//! Commands as one would propose them who has looked into files that apply does not read.

use record::{BatchEntry, FileNumber};

use super::harness::Node;
use crate::Command;
use crate::commands::{PutCompacted, PutObject, Tick};

impl Node {
    /// The command as one would propose it who has looked into the files.
    pub(super) fn fit(&mut self, command: &Command) -> Command {
        let delete = match command {
            Command::DeleteRecords(delete) => delete,
            Command::PutObject(put) => return self.fit_object(put),
            Command::PutCompacted(put) => return self.fit_compacted(put),
            _ => return command.clone(),
        };
        let mut fitted = delete.clone();
        for front in &mut fitted.fronts {
            // What is appended in the same entry is not known yet.
            let next_offset = self.shard.stream(front.stream).map(|view| view.next_offset());
            front.before = front.before.min(next_offset.unwrap_or_default());
            let next_file = self.shard.scalars.next_file;
            (front.files, front.part_files) = (next_file, self.shard.parts_floor());
            let Some(view) = self.shard.stream(front.stream) else { continue };
            let stays = |batch: &BatchEntry| batch.next_offset() > front.before;
            for file in view.files().iter() {
                let sealed = self.files[&file].stream(front.stream).expect("the file has the stream");
                if sealed.batches().any(|batch| stays(&batch)) {
                    // What is in an object is in all of it.
                    let file = self.shard.object_of(file).map_or(file, |object| object.first);
                    front.files = front.files.min(file);
                }
            }
            for object in view.compacted().map(|compacted| &compacted.object) {
                // So is what is in a compacted one.
                let sealed = self.files.range(object.files()).filter_map(|(_, sealed)| sealed.stream(front.stream));
                if sealed.flat_map(|sealed| sealed.batches()).any(|batch| stays(&batch)) {
                    front.files = front.files.min(object.first);
                }
            }
            for batch in self.read(front.stream).iter().filter(|batch| stays(batch)) {
                let files = batch.earlier_extents().iter().filter_map(|extent| self.shard.range_of(extent.log_index));
                front.part_files = files.min().unwrap_or(next_file).min(front.part_files);
            }
        }
        self.deleted.extend(fitted.fronts.iter().map(|front| front.stream));
        fitted.into()
    }

    /// As one would propose it who has built the object: nothing that is in no range of it has a part in one.
    fn fit_object(&self, put: &PutObject) -> Command {
        let run = put.first..=put.last;
        let mut fitted = put.clone();
        fitted.parts.clear();
        let objects = self.shard.objects();
        let inside = objects.iter().filter(|object| run.contains(&object.first) && run.contains(&object.last));
        fitted.replaces = inside.map(|object| object.key).collect();
        for stream in self.shard.stream_ids() {
            let parts = self.shard.streams.get(&stream).and_then(|stream| stream.part_files.as_deref());
            if !parts.is_some_and(|parts| parts.iter().any(|file| run.contains(&file))) {
                continue;
            }
            let Some(view) = self.shard.stream(stream) else { return Tick {}.into() };
            fitted.parts.push(stream);
            for batch in self.read(stream) {
                let mut parts =
                    batch.earlier_extents().iter().filter_map(|extent| self.shard.range_of(extent.log_index));
                let has = |file: &FileNumber| {
                    self.files[file].stream(stream).is_some_and(|sealed| sealed.batches().any(|other| other == batch))
                };
                let is_inside = view.files().iter().filter(|file| run.contains(file)).any(|file| has(&file));
                let through = view.compacted_through().unwrap_or(FileNumber(0));
                let mut compacted = self.files.range(..=through).map(|(file, _)| file);
                if !is_inside && !compacted.any(has) && parts.any(|file| run.contains(&file)) {
                    return Tick {}.into();
                }
            }
        }
        fitted.into()
    }

    /// As one would propose it who has built the object: up to a range that the stream has something in.
    fn fit_compacted(&self, put: &PutCompacted) -> Command {
        let Some(view) = self.shard.stream(put.stream) else { return put.clone().into() };
        let older: Vec<_> = view.compacted().map(|compacted| &compacted.object).collect();
        let replaced: Vec<_> =
            older.iter().filter(|object| object.first >= put.first && object.last <= put.last).collect();
        let named = view.files().iter_within(put.first, put.last).last();
        let last = named.max(replaced.last().map(|object| object.last)).unwrap_or(put.last);
        let replaces = replaced.iter().map(|object| object.key).collect();
        // Of what is behind the object parts stay.
        let is_behind = |batch: &BatchEntry| {
            let mut within = self.files.range(..=last).filter_map(|(_, sealed)| sealed.stream(put.stream));
            !within.any(|sealed| sealed.batches().any(|other| other == *batch))
        };
        let behind: Vec<BatchEntry> = self.read(put.stream).into_iter().filter(is_behind).collect();
        let parts = behind.iter().flat_map(|batch| batch.earlier_extents());
        let ranges = parts.filter_map(|extent| self.shard.range_of(extent.log_index));
        let part_files = ranges.min().unwrap_or(self.shard.scalars.next_file).min(self.shard.parts_floor());
        PutCompacted { last, replaces, part_files, ..put.clone() }.into()
    }
}
