//! Lines of standard input, in blocks of whole lines as they arrive.

use std::io::Read as _;

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// No broker takes a longer record.
const LINE_BYTES_MAX: usize = 128 << 20;
const READ_BYTES: usize = 256 << 10;
/// Blocks of lines that may wait for the broker.
const BLOCKS_MAX: usize = 16;

/// Reads standard input on a thread of its own, in blocks of whole lines.
pub(super) fn read_lines() -> anyhow::Result<mpsc::Receiver<anyhow::Result<Bytes>>> {
    let (sender, receiver) = mpsc::channel(BLOCKS_MAX);
    let reading = async move {
        if let Err(error) = read_blocks(&sender).await {
            // The receiver is gone only when nobody wants to know.
            let _ = sender.send(Err(error)).await;
        }
    };
    // The thread lives until the input or the process ends; nobody waits for it.
    drop(base::task::spawn_thread("input", reading).context("no thread for standard input")?);
    Ok(receiver)
}

async fn read_blocks(sender: &mpsc::Sender<anyhow::Result<Bytes>>) -> anyhow::Result<()> {
    let mut input = std::io::stdin();
    let mut buffer = BytesMut::new();
    loop {
        let filled = buffer.len();
        buffer.resize(filled + READ_BYTES, 0);
        let read = match input.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error).context("standard input cannot be read"),
            Ok(0) => {
                buffer.truncate(filled);
                if !buffer.is_empty() {
                    let _ = sender.send(Ok(buffer.freeze())).await;
                }
                return Ok(());
            }
            Ok(read) => read,
        };
        buffer.truncate(filled + read);
        let newest = &buffer[filled..];
        let Some(end) = newest.iter().rposition(|byte| *byte == b'\n') else {
            ensure!(
                buffer.len() <= LINE_BYTES_MAX,
                "a line is longer than {LINE_BYTES_MAX} bytes, the most that a record can hold"
            );
            continue;
        };
        let lines = buffer.split_to(filled + end + 1).freeze();
        if sender.send(Ok(lines)).await.is_err() {
            return Ok(());
        }
    }
}

/// The lines of a block without their line feeds.
pub(super) struct Lines(pub(super) Bytes);

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let line = self.0.split_to(end + 1);
                Some(line.slice(..end))
            }
            None => Some(std::mem::take(&mut self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_lines(block: &'static str, expected: &[&str]) {
        let lines: Vec<_> = Lines(Bytes::from_static(block.as_bytes())).collect();
        assert_eq!(lines, expected, "{block:?}");
    }

    #[test]
    fn lines_end_at_line_feeds_and_at_the_end() {
        check_lines("a\nb\n", &["a", "b"]);
        check_lines("a\n\nb", &["a", "", "b"]);
        check_lines("\n", &[""]);
        check_lines("a\r\n", &["a\r"]);
        check_lines("", &[]);
    }
}
