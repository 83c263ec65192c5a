//! Index files of what was sealed.

use std::io;

use shard::SealedIndex;
use storage::index_file::SealedStream;

use crate::core::Core;

impl Core {
    pub(crate) async fn write_index_file(&self, sealed: &SealedIndex) -> io::Result<()> {
        let streams = sealed
            .streams()
            .iter()
            .map(|part| SealedStream {
                stream: part.stream,
                previous: part.previous,
                oldest: part.oldest,
                batches: part.batches().collect(),
            })
            .collect();
        self.index.write(sealed.file, sealed.from..=sealed.through, streams).await
    }
}
