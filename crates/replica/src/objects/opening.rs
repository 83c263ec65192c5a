//! The inventory at a start: what lies here against what the state names.

use std::collections::BTreeSet;
use std::io;

use parking_lot::Mutex;
use record::{FileNumber, LogIndex, ObjectKey, StreamId};
use shard::{PlacedObject, Shard};
use storage::index_file::IndexStore;

use super::choice::STREAMS_PER_LOOK;
use super::here::Here;
use super::inner::{Inner, Placed};
use super::readers::Readers;

impl Here {
    /// Compares what lies here with a state that nobody reads yet.
    pub(crate) async fn open(index: IndexStore, shard: &Shard) -> Self {
        let mut here = Self { index, readers: Readers::default(), inner: Mutex::default() };
        let objects = here.index.objects().clone();
        let mut inner = Inner::default();
        let of_state = shard.all_objects();
        for object in of_state.iter().filter(|object| !here.has(object)) {
            here.miss(&mut inner, object, LogIndex(0));
        }
        for object in of_state.iter().filter(|object| here.has(object)) {
            if here.lacks_any(object, &inner.awaited_in(object)).await {
                here.miss(&mut inner, object, LogIndex(0));
            } else {
                here.place(&mut inner, object, LogIndex(0));
            }
        }
        let of_state: BTreeSet<ObjectKey> = of_state.iter().map(|object| object.key).collect();
        let mut others = Vec::new();
        for key in objects.keys().into_iter().filter(|key| !of_state.contains(key)) {
            match objects.origin(key).await {
                Ok((id, log)) => others.push((id, log)),
                // An entry that is still to be applied may name it, and what it has is brought then.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
                    inner.unnamed.insert(key);
                }
                // It may be whole, and needed: it is neither read nor removed before the next start.
                Err(error) => tracing::error!(shard = shard.id().0, object = %key, %error, "an object cannot be read"),
            }
        }
        // What replaced others before it was replaced itself goes before these.
        others.sort_unstable_by_key(|(id, _)| (std::cmp::Reverse(id.last.0 - id.first.0), id.key));
        for (id, log) in others {
            if inner.may_stand_in(&id) {
                here.read_in_place((id.stream, id.first), id.last, id.key);
                let (from, through, put_at) = (*log.start(), *log.end(), LogIndex(0));
                let is_gone = !inner
                    .missing
                    .values()
                    .any(|missing| missing.object.stream == id.stream && missing.object.overlaps(id.first, id.last));
                let placed = Placed { key: id.key, last: id.last, from, through, put_at, settling: None, is_gone };
                inner.placed.insert((id.stream, id.first), placed);
            } else {
                // An entry that is still to be applied may name it.
                inner.unnamed.insert(id.key);
            }
        }
        // What it replaced may be gone, when it was read before this start.
        let waiting = inner.missing.values().filter(|missing| here.has(&missing.object));
        let in_use = waiting.filter(|missing| !here.is_covered(&inner, &missing.object, shard));
        let in_use: Vec<PlacedObject> = in_use.map(|missing| missing.object.clone()).collect();
        for object in in_use {
            here.miss_no_more(&mut inner, object.spot());
            here.place(&mut inner, &object, LogIndex(0));
        }
        here.inner = Mutex::new(inner);
        here
    }

    /// Whether an object of all streams has nothing of some of these.
    async fn lacks_any(&self, object: &PlacedObject, streams: &[StreamId]) -> bool {
        if object.stream.is_some() {
            return false;
        }
        for stream in streams {
            // What cannot be looked up shows when it is read.
            if matches!(self.index.objects().stream(object.key, *stream).await, Ok(None)) {
                return true;
            }
        }
        false
    }

    /// Whether all that streams name of what is in the place of an object lies here in what it replaced.
    fn is_covered(&self, inner: &Inner, object: &PlacedObject, shard: &Shard) -> bool {
        let sources = self.sources_of(inner, object);
        let is_covered = |file: &FileNumber| sources.iter().any(|source| source.files().contains(file));
        let mut next = Some(0);
        while let Some(from) = next {
            let (named, behind) = shard.names_within(object.first, object.last, from, STREAMS_PER_LOOK);
            if !named.iter().all(is_covered) {
                return false;
            }
            next = behind;
        }
        true
    }
}
