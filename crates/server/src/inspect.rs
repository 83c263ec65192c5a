//! `rosettamq log inspect`: what is in the files of a data directory, and `log verify`: whether all of it is what was written. They
//! take no lock and change nothing.
//!
//! Each fact is one line; those about entries, damage and the end have the form `name=value`, for other programs.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base::disk::{Disk, RealDisk};
use storage::data_dir::{log_dir, read_identity};
use storage::inspect::{EntryReport, Report, inspect};
use storage::verify::{FileKind, Verified, verify as verify_files};
use storage::{Damage, LogId, Vote};

use crate::client::Table;

/// Prints segments, shards and damage of a data directory, and each entry when asked to. Damage is a failure.
pub(crate) fn run(directory: &Path, entries: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(print(&RealDisk, directory, entries));
    match result {
        Err(error) if error.downcast_ref().is_some_and(is_closed_pipe) => Ok(()),
        result => result,
    }
}

/// Reads everything that has a checksum; prints what is damaged, and what was read. Damage is a failure.
pub(crate) fn verify(directory: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(Box::pin(print_verified(Arc::new(RealDisk), directory)));
    match result {
        Err(error) if error.downcast_ref().is_some_and(is_closed_pipe) => Ok(()),
        result => result,
    }
}

async fn print_verified(disk: Arc<dyn Disk>, directory: &Path) -> anyhow::Result<()> {
    let identity = read_identity(&*disk, directory).await?;
    identity.with_context(|| format!("{} is no data directory", directory.display()))?;
    let mut out = io::stdout();
    let report = inspect(&*disk, &log_dir(directory), &mut |_| {}).await;
    let report = report.with_context(|| format!("the log in {} cannot be read", directory.display()))?;
    let mut damaged = report.damage.len();
    for damage in &report.damage {
        write_damage(&mut out, damage)?;
    }
    let entries: u64 = report.segments.iter().map(|segment| segment.entries).sum();
    let bytes: u64 = report.segments.iter().map(|segment| segment.data_end).sum();
    let mut table = Table::new(&["FILES", "COUNT", "BYTES", "DAMAGED"]);
    let row = |name: &str, count: usize, bytes: u64, damaged: usize| {
        vec![name.to_owned(), count.to_string(), bytes.to_string(), damaged.to_string()]
    };
    table.row(row("log", report.segments.len(), bytes, damaged));
    let mut files: Vec<Verified> = Vec::new();
    let read = verify_files(&disk, directory, &mut |file| files.push(file.clone())).await;
    read.with_context(|| format!("not all files in {} can be read", directory.display()))?;
    for (name, kind) in [("indexes", FileKind::Index), ("objects", FileKind::Object)] {
        let of_kind = || files.iter().filter(|file| file.kind == kind);
        for file in of_kind().filter(|file| !file.is_whole) {
            writeln!(out, "damage file={} bytes={} shard={}", file.path.display(), file.bytes, file.shard)?;
        }
        let wrong = of_kind().filter(|file| !file.is_whole).count();
        damaged += wrong;
        table.row(row(name, of_kind().count(), of_kind().map(|file| file.bytes).sum(), wrong));
    }
    writeln!(out, "{}", table.render())?;
    writeln!(out, "{entries} entries of the log are whole")?;
    if damaged > 0 {
        bail!("{damaged} damaged files or ranges");
    }
    Ok(())
}

fn is_closed_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

async fn print(disk: &dyn Disk, directory: &Path, entries: bool) -> anyhow::Result<()> {
    let identity = read_identity(disk, directory).await?;
    let identity = identity.with_context(|| format!("{} is no data directory", directory.display()))?;
    let mut out = BufWriter::new(io::stdout());
    writeln!(out, "node {} of data directory {:032x}", identity.node_id, identity.uuid)?;
    let mut failed = Ok(());
    let mut on_entry = |entry: &EntryReport<'_>| {
        if entries && failed.is_ok() {
            failed = write_entry(&mut out, entry);
        }
    };
    let report = inspect(disk, &log_dir(directory), &mut on_entry)
        .await
        .with_context(|| format!("the log in {} cannot be read", directory.display()))?;
    failed?;
    write_report(&mut out, &report)?;
    out.flush()?;
    if !report.damage.is_empty() {
        bail!("{} damaged ranges", report.damage.len());
    }
    Ok(())
}

fn write_entry(out: &mut impl io::Write, entry: &EntryReport<'_>) -> io::Result<()> {
    let EntryReport { file, position, shard, meta } = entry;
    writeln!(
        out,
        "entry file={} position={position} shard={shard} index={} term={} kind={:?} bytes={}",
        file.display(),
        meta.id.index,
        meta.id.term,
        meta.kind,
        meta.payload_bytes
    )
}

fn write_report(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    let mut segments = Table::new(&["SEGMENT", "STATE", "BYTES", "USED", "ENTRIES", "PAYLOAD BYTES"]);
    for segment in &report.segments {
        let name = segment.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        segments.row(vec![
            name,
            format!("{:?}", segment.state).to_lowercase(),
            segment.bytes.to_string(),
            segment.data_end.to_string(),
            segment.entries.to_string(),
            segment.payload_bytes.to_string(),
        ]);
    }
    writeln!(out, "\n{}", segments.render())?;
    let mut shards = Table::new(&["SHARD", "PURGED", "COMMITTED", "LAST", "VOTE"]);
    for (shard, state) in &report.shards {
        shards.row(vec![
            shard.to_string(),
            show_id(state.purged),
            show_id(state.committed),
            show_id(state.last),
            show_vote(state.vote),
        ]);
    }
    writeln!(out, "{}", shards.render())?;
    for damage in &report.damage {
        write_damage(out, damage)?;
    }
    for (shard, lost) in &report.lost {
        for indexes in lost.iter().filter_map(|lost| lost.indexes.as_ref()) {
            writeln!(out, "given-up shard={shard} indexes={}..={}", indexes.start(), indexes.end())?;
        }
    }
    if let Some((file, position)) = &report.end {
        writeln!(out, "end file={} position={position}", file.display())?;
    }
    Ok(())
}

fn write_damage(out: &mut impl io::Write, damage: &Damage) -> io::Result<()> {
    write!(out, "damage file={} position={} bytes={}", damage.file.display(), damage.position, damage.bytes)?;
    if let Some(indexes) = &damage.indexes {
        write!(out, " indexes={}..={}", indexes.start(), indexes.end())?;
    }
    writeln!(out)
}

/// Term and index.
fn show_id(id: Option<LogId>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| format!("{}/{}", id.term, id.index))
}

fn show_vote(vote: Option<Vote>) -> String {
    vote.map_or_else(
        || "-".to_owned(),
        |vote| {
            let committed = if vote.committed { "" } else { ", not granted" };
            format!("node {} in term {}{committed}", vote.node_id, vote.term)
        },
    )
}
