//! Topic names: Kafka's rules and its words for breaking them.

/// The longest name: it must still fit a file name with a partition number behind it.
const BYTES_MAX: usize = 249;
/// Of names with more separators not every variant is looked for.
const SEPARATORS_MAX: usize = 6;

/// Whether a topic may have this name; the text says why not.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let why = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.chars().count() > BYTES_MAX {
        format!("the length of '{name}' is longer than the max allowed length {BYTES_MAX}")
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(format!("Topic name is invalid: {why}"))
}

/// What is the same of two names that differ only in '.' and '_', which metrics cannot tell apart.
pub(crate) fn folded(name: &str) -> String {
    name.replace('.', "_")
}

/// All names that collide with this one, or `None` if they are too many to list.
pub(crate) fn colliding(name: &str) -> Option<Vec<String>> {
    let separators: Vec<usize> =
        name.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'.' | b'_')).map(|(at, _)| at).collect();
    if separators.len() > SEPARATORS_MAX {
        return None;
    }
    let variants = (0..1_u32 << separators.len()).map(|bits| {
        let replaced = name.bytes().enumerate().map(|(at, byte)| match separators.iter().position(|s| *s == at) {
            Some(bit) if bits >> bit & 1 == 0 => '.',
            Some(_) => '_',
            None => char::from(byte),
        });
        replaced.collect::<String>()
    });
    Some(variants.filter(|variant| variant != name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kafka_does() {
        for good in ["a", "a.b", "a_b", "a-b", "__consumer_offsets", "A9", &"a".repeat(249)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let refused = [
            ("", "Topic name is invalid: the empty string is not allowed"),
            (".", "Topic name is invalid: '.' is not allowed"),
            ("..", "Topic name is invalid: '..' is not allowed"),
            (
                "a b",
                "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
            ),
        ];
        for (name, why) in refused {
            assert_eq!(check(name), Err(why.to_owned()));
        }
        for bad in ["a/b", "ä", "a\0", &"a".repeat(250)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_differ_in_dots_and_underscores_collide() {
        assert_eq!(folded("a.b"), folded("a_b"));
        assert_ne!(folded("a.b"), folded("a-b"));
        assert_eq!(colliding("ab"), Some(vec![]));
        let mut found = colliding("a.b_c").expect("few enough");
        found.sort();
        assert_eq!(found, ["a.b.c", "a_b.c", "a_b_c"]);
        assert!(found.iter().all(|name| folded(name) == folded("a.b_c")));
        assert_eq!(colliding(&"a.".repeat(9)), None);
    }
}
