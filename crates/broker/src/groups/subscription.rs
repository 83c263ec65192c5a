//! A look into the metadata of consumers: which topics a subscription names. Everything else in it stays opaque.
//!
//! ```text
//!  version i16 | topics: count i32, then each length i16, name | user data: length i32, bytes | ...
//! ```

/// The protocol type of Kafka's own consumers.
pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// Whether the subscription names the topic; `None` if the bytes are no subscription.
pub(crate) fn names(mut metadata: &[u8], topic: &str) -> Option<bool> {
    let version = i16::from_be_bytes(take(&mut metadata, 2)?.try_into().ok()?);
    if version < 0 {
        return None;
    }
    let count = i32::from_be_bytes(take(&mut metadata, 4)?.try_into().ok()?);
    for _ in 0..u32::try_from(count).ok()? {
        let length = i16::from_be_bytes(take(&mut metadata, 2)?.try_into().ok()?);
        let name = take(&mut metadata, usize::try_from(length).ok()?)?;
        if name == topic.as_bytes() {
            return Some(true);
        }
    }
    Some(false)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(topics: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend(i32::try_from(topics.len()).expect("few topics").to_be_bytes());
        for topic in topics {
            bytes.extend(i16::try_from(topic.len()).expect("a short name").to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    #[test]
    fn a_subscription_names_its_topics_only() {
        let bytes = subscription(&["a", "orders"]);
        assert_eq!(names(&bytes, "orders"), Some(true));
        assert_eq!(names(&bytes, "order"), Some(false));
        assert_eq!(names(&subscription(&[]), "a"), Some(false));
    }

    #[test]
    fn bytes_that_are_no_subscription_name_nothing_and_do_not_panic() {
        for bytes in [&[][..], &[0], &[0, 1, 0xff, 0xff, 0xff, 0xff], &[0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 1], &[0xff; 9]]
        {
            assert_eq!(names(bytes, "a"), None);
        }
    }
}
