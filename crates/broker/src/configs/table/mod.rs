//! The table of all keys: what Kafka 4.3 knows, under its names, with its types, defaults and bounds.

mod broker;
mod key;
mod topic;

pub(crate) use key::{Check, Key};

/// The key of a topic.
pub(crate) fn topic_key(name: &str) -> Option<&'static Key> {
    topic::KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|index| &topic::KEYS[index])
}

/// All keys of a topic, by name.
pub(crate) fn topic_keys() -> &'static [Key] {
    topic::KEYS
}

/// The key of a broker.
pub(crate) fn broker_key(name: &str) -> Option<&'static Key> {
    broker_keys().find(|key| key.name == name)
}

/// All keys of a broker.
pub(crate) fn broker_keys() -> impl Iterator<Item = &'static Key> {
    broker::KEYS.iter().copied().flatten()
}

/// A broker's key can be changed while it runs if it is the default of a topic's key.
pub(crate) fn is_dynamic(name: &str) -> bool {
    topic::KEYS.iter().any(|key| key.broker_key == Some(name))
}

/// The topic's key whose default the broker's key is.
pub(crate) fn topic_key_of(broker_key: &str) -> Option<&'static Key> {
    topic::KEYS.iter().find(|key| key.broker_key == Some(broker_key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::configs::value;

    #[test]
    fn the_table_has_every_key_that_kafka_shows_once() {
        assert_eq!(topic_keys().len(), 33);
        assert_eq!(broker_keys().count(), 340);
        let names: BTreeSet<&str> = broker_keys().map(|key| key.name).collect();
        assert_eq!(names.len(), 340);
        assert!(topic_keys().is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn every_default_is_a_valid_value_in_its_canonical_form() {
        for key in topic_keys().iter().chain(broker_keys()) {
            assert!(!key.documentation.is_empty(), "{}", key.name);
            // Kafka's own default of broker.id, among others, lies outside of what can be set.
            if let Some(default) = key.default {
                assert_eq!(value::parse(key, default).as_deref(), Ok(default), "{}", key.name);
            }
        }
    }

    #[test]
    fn the_default_of_a_topic_key_is_that_of_its_broker_key() {
        for key in topic_keys() {
            if let Some(broker) = key.broker_key {
                let broker = broker_key(broker).expect("the broker's key is in the table");
                assert!(broker.default.is_none() || broker.default == key.default, "{}", key.name);
                assert!(is_dynamic(broker.name));
            }
        }
    }
}
