//! The lines of one participant.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Event, History, Outcome, Reader, Record, Send, Writer};

/// Adds a participant. The last line may be torn, of a process that was ended.
pub(super) fn read_file(history: &mut History, path: &Path, with_readers: bool) -> Result<()> {
    let mut lines = BufReader::new(File::open(path)?).lines();
    let Some(first) = lines.next() else { return Ok(()) };
    let Ok(head) = serde_json::from_str::<Value>(&first?) else { return Ok(()) };
    let name = head["participant"].as_str().context("a first line without a participant")?.to_owned();
    let mut next = || -> Result<Option<Value>> {
        // A line that is cut off is the last one.
        let Some(line) = lines.next().transpose()? else { return Ok(None) };
        Ok(serde_json::from_str(&line).ok())
    };
    match head["role"].as_str() {
        Some("writer") => {
            let mut writer = WriterLines::new(history.name(&name));
            while let Some(line) = next()? {
                writer.take(&line)?;
            }
            history.writers.push(writer.writer);
        }
        Some("reader") if !with_readers => {}
        Some("reader") => {
            let group = head["group"].as_str().map(str::to_owned);
            let mut reader = Reader { name, group, events: Vec::new() };
            while let Some(line) = next()? {
                reader.events.push(event(history, &line)?);
            }
            history.readers.push(reader);
        }
        role => bail!("role {role:?}"),
    }
    Ok(())
}

fn integer<T: TryFrom<i64>>(value: &Value) -> Result<T> {
    let number = value.as_i64().with_context(|| format!("{value} is not a whole number"))?;
    T::try_from(number).map_err(|_| anyhow::anyhow!("{number} is out of range"))
}

fn error_of(line: &Value) -> String {
    line["error"].as_str().unwrap_or_default().to_owned()
}

struct WriterLines {
    writer: Writer,
    places: HashMap<u32, usize>,
}

impl WriterLines {
    fn new(id: u32) -> Self {
        Self { writer: Writer { id, sends: Vec::new(), fatal: None }, places: HashMap::new() }
    }

    fn take(&mut self, line: &Value) -> Result<()> {
        let at: u64 = integer(&line["t"])?;
        let kind = line["type"].as_str().context("a line without a type")?;
        if kind == "fatal" {
            self.writer.fatal = Some(error_of(line));
            return Ok(());
        }
        let number: u32 = integer(&line["number"])?;
        if kind == "invoke" {
            let send = Send {
                partition: integer(&line["partition"])?,
                number,
                began_ms: at,
                ended_ms: None,
                outcome: Outcome::Unknown("no answer".to_owned()),
            };
            self.places.insert(number, self.writer.sends.len());
            self.writer.sends.push(send);
            return Ok(());
        }
        let place = self.places.get(&number).with_context(|| format!("an outcome of {number}, which was not sent"))?;
        let send = &mut self.writer.sends[*place];
        send.ended_ms = Some(at);
        send.outcome = match kind {
            "ok" => Outcome::Acked(line["offset"].as_i64().filter(|offset| *offset >= 0)),
            "fail" => Outcome::Refused(error_of(line)),
            "info" => Outcome::Unknown(error_of(line)),
            other => bail!("type {other:?}"),
        };
        Ok(())
    }
}

fn event(history: &mut History, line: &Value) -> Result<Event> {
    let at_ms = integer(&line["t"])?;
    let function = line["f"].as_str().context("a line without a function")?;
    Ok(match (function, line["type"].as_str()) {
        ("poll", Some("ok")) => {
            let records = line["records"].as_array().context("a poll without records")?;
            let records = records
                .iter()
                .map(|record| {
                    let text = record[1].as_str().context("a record without a value")?;
                    Ok(Record { offset: integer(&record[0])?, value: history.identity(text) })
                })
                .collect::<Result<_>>()?;
            Event::Polled { at_ms, partition: integer(&line["partition"])?, records }
        }
        ("poll", Some("fail")) => {
            Event::Reset { at_ms, partition: integer(&line["partition"])?, error: error_of(line) }
        }
        ("assign", _) => {
            let partitions = line["partitions"].as_array().context("an assignment without partitions")?;
            Event::Assigned { at_ms, partitions: partitions.iter().map(integer).collect::<Result<_>>()? }
        }
        ("commit", Some("ok")) => Event::Committed { at_ms, offsets: offsets(line)? },
        ("committed", Some("ok")) => Event::Looked { began_ms: integer(&line["began"])?, offsets: offsets(line)? },
        (_, Some("info")) => Event::Trouble { at_ms, error: error_of(line) },
        (function, kind) => bail!("function {function:?} of type {kind:?}"),
    })
}

fn offsets(line: &Value) -> Result<Vec<(i32, i64)>> {
    let offsets = line["offsets"].as_array().context("a commit without offsets")?;
    offsets.iter().map(|pair| Ok((integer(&pair[0])?, integer(&pair[1])?))).collect()
}
