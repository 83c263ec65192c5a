//! Words that do not belong in the tree: unfinished work, places on one machine, tests that do not run.

use super::Fault;
use crate::tree::File;

/// Text that no file may hold, and what is wrong with it.
const EVERYWHERE: [(&str, &str); 6] = [
    ("/home/", "a path of one machine"),
    ("/root/", "a path of one machine"),
    ("FIXME", "work that is not done"),
    ("XXX", "work that is not done"),
    ("TODO", "work that is not done"),
    ("<<<<<<< ", "a merge that is not done"),
];

/// Text that no Rust file may hold.
const IN_RUST: [(&str, &str); 5] = [
    ("todo!(", "work that is not done"),
    ("unimplemented!(", "work that is not done"),
    ("dbg!(", "left from debugging"),
    ("#[ignore", "a test that does not run proves nothing"),
    ("#![allow(", "use #[expect(.., reason)] where it is needed"),
];

/// Kept by machines, or made of examples of what is banned.
const EXEMPT: [&str; 4] = ["Cargo.lock", "fuzz/Cargo.lock", "LICENSE", "xtask/src/tidy/words.rs"];

pub(super) fn check(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| !EXEMPT.contains(&file.path.as_str())) {
        let rust = if file.is_rust() { &IN_RUST[..] } else { &[] };
        for (number, line) in file.text.lines().enumerate() {
            for (word, why) in EVERYWHERE.iter().chain(rust) {
                if holds(line, word) {
                    faults.push(Fault(format!("{}:{}: {word:?}: {why}", file.path, number + 1)));
                }
            }
        }
    }
    faults
}

/// A word in capitals counts only by itself: a name or a code in base 64 may hold its letters.
fn holds(line: &str, word: &str) -> bool {
    let by_itself = word.bytes().all(|byte| byte.is_ascii_uppercase());
    line.match_indices(word).any(|(at, _)| {
        let joins = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let bytes = line.as_bytes();
        !by_itself || !(at > 0 && joins(bytes.get(at - 1)) || joins(bytes.get(at + word.len())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&[File { path: path.to_owned(), text: text.to_owned() }]).len()
    }

    #[test]
    fn banned_words_are_found_with_their_lines() {
        assert_eq!(count("a.md", "fine\nTODO: this"), 1);
        assert_eq!(count("a.rs", "fn f() { todo!() }"), 1);
        assert_eq!(count("a.md", "the macro todo!() is banned"), 0);
        assert_eq!(count("a.rs", "const MASTODON: u8 = 0; // aTODOb"), 0);
        assert_eq!(count("a.sh", "cd /root/x"), 1);
        assert_eq!(count("Cargo.lock", "TODO"), 0);
    }
}
