//! Small files of text that end with a line that says whether they are whole: `crc32c HEX`, of all that stands before it.

use std::fmt::Write as _;

const KEY: &str = "crc32c ";

/// The text, with its last line.
pub(super) fn sealed(mut text: String) -> String {
    let checksum = record::crc32c(text.as_bytes());
    writeln!(text, "{KEY}{checksum:08x}").expect("writing to a string succeeds");
    text
}

/// The lines before the last one, if it is right.
pub(super) fn opened(text: &str) -> Option<&str> {
    let (before, sum) = text.strip_suffix('\n')?.rsplit_once(KEY)?;
    (sum.len() == 8 && u32::from_str_radix(sum, 16).ok()? == record::crc32c(before.as_bytes())).then_some(before)
}

/// Whether the text has such a line.
pub(super) fn is_sealed(text: &str) -> bool {
    text.lines().last().is_some_and(|last| last.starts_with(KEY))
}

/// As [`opened`]; all of a text that has no such line, as earlier versions wrote it. Who reads it MUST refuse lines that it does not
/// know, of which one that was to be the last may be.
pub(super) fn opened_or_plain(text: &str) -> Option<&str> {
    if is_sealed(text) { opened(text) } else { Some(text) }
}
