//! Every module begins with a page that says what it keeps true.

use super::Fault;
use crate::tree::File;

pub(super) fn check(files: &[File]) -> Vec<Fault> {
    files
        .iter()
        .filter(|file| file.is_rust() && !has_page(&file.text))
        .map(|file| Fault(format!("{}: the first line is not a //! page", file.path)))
        .collect()
}

fn has_page(text: &str) -> bool {
    text.lines().next().and_then(|line| line.strip_prefix("//! ")).is_some_and(|page| page.trim().len() >= 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_sentence_on_the_first_line() {
        assert!(has_page("//! Keeps promises.\nuse x;"));
        assert!(!has_page("use x;"));
        assert!(!has_page("//!\n"));
        assert!(!has_page(""));
    }
}
