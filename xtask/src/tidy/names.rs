//! The functions and types that ARCHITECTURE.md names exist.

use std::collections::BTreeSet;

use super::Fault;
use crate::tree::File;

const PAGE: &str = "ARCHITECTURE.md";

pub(super) fn check(files: &[File]) -> Vec<Fault> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return vec![Fault(format!("{PAGE} is missing"))];
    };
    let code: Vec<&str> = files.iter().filter(|file| file.is_rust()).map(|file| file.text.as_str()).collect();
    let defined = definitions(&code);
    functions(&page.text)
        .into_iter()
        .filter(|name| !defined.contains(name))
        .map(|name| Fault(format!("{PAGE}: there is no function {name}")))
        .collect()
}

/// Names in code spans that end with a pair of parentheses; of `Type::name()` the last part.
fn functions(page: &str) -> BTreeSet<&str> {
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|span| span.strip_suffix("()"))
        .filter_map(|path| path.rsplit("::").next())
        .collect()
}

fn definitions<'a>(code: &[&'a str]) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for text in code {
        for (at, _) in text.match_indices("fn ") {
            let rest = &text[at + 3..];
            let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
            names.insert(&rest[..end]);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_spans_with_parentheses() {
        let page = "see `Shard::apply()` and `run()`, not `Shard` nor apply()";
        assert_eq!(functions(page), BTreeSet::from(["apply", "run"]));
        assert_eq!(definitions(&["pub fn apply(&self) {}\nasync fn run<T>() {}"]), BTreeSet::from(["apply", "run"]));
    }
}
