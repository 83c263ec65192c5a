//! The layers of a broker's configuration, and what a key's value is through them.

use std::collections::BTreeMap;

use super::api::{Entry, Source, Synonym};
use super::table::{Key, broker_key, broker_keys, topic_keys};

/// Keys that were set in one layer.
pub(crate) type Values = BTreeMap<String, String>;

/// Everything below a topic's own keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'a> {
    /// Set on this node while it ran.
    pub(crate) node: &'a Values,
    /// Set for all nodes while they ran.
    pub(crate) all_nodes: &'a Values,
    /// From this node's configuration file.
    pub(crate) fixed: &'a Values,
}

impl<'a> Layers<'a> {
    /// The values of a broker's key, strongest first.
    fn broker_values(&self, key: &'a Key) -> impl Iterator<Item = (Source, &'a str)> {
        let of = |values: &'a Values, source| values.get(key.name).map(|value| (source, value.as_str()));
        of(self.node, Source::DynamicBroker)
            .into_iter()
            .chain(of(self.all_nodes, Source::DynamicDefaultBroker))
            .chain(of(self.fixed, Source::StaticBroker))
            .chain(key.default.map(|value| (Source::Default, value)))
    }

    /// A topic's key without the topic: by the broker's key, by older keys in larger units, or by default.
    fn below_topic(&self, key: &'static Key) -> Option<String> {
        let broker = key.broker_key.and_then(broker_key);
        if let Some((_, value)) = broker.and_then(|broker| self.broker_values(broker).next()) {
            return Some(value.to_owned());
        }
        let older = key.fallbacks.iter().find_map(|(name, factor)| {
            let value = self.fixed.get(*name)?.parse::<i64>().ok()?;
            // -1 means without limit in every unit.
            Some(if value < 0 { value } else { value.saturating_mul(*factor) }.to_string())
        });
        older.or_else(|| key.default.map(str::to_owned))
    }

    /// The value that holds for a topic.
    pub(crate) fn topic_value(&self, topic: &Values, key: &'static Key) -> Option<String> {
        topic.get(key.name).cloned().or_else(|| self.below_topic(key))
    }

    /// A topic's keys as they are shown.
    pub(crate) fn describe_topic(&self, topic: &Values) -> Vec<Entry> {
        topic_keys().iter().map(|key| self.topic_entry(topic, key)).collect()
    }

    fn topic_entry(&self, topic: &Values, key: &'static Key) -> Entry {
        let own = topic.get(key.name).map(|value| Synonym {
            name: key.name,
            value: Some(value.clone()),
            source: Source::DynamicTopic,
        });
        let broker = key.broker_key.and_then(broker_key);
        let inherited = broker.into_iter().flat_map(|broker| {
            self.broker_values(broker).map(|(source, value)| Synonym {
                name: broker.name,
                value: Some(value.to_owned()),
                source,
            })
        });
        let synonyms: Vec<Synonym> = own.into_iter().chain(inherited).collect();
        Entry {
            name: key.name,
            value: self.topic_value(topic, key),
            kind: key.kind,
            source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
            read_only: false,
            sensitive: key.sensitive(),
            synonyms,
            documentation: key.documentation,
        }
    }

    /// A node's keys as they are shown.
    pub(crate) fn describe_broker(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = broker_keys().map(|key| self.broker_entry(key)).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }

    /// What was set for all nodes while they ran, and nothing else.
    pub(crate) fn describe_all_nodes(&self) -> Vec<Entry> {
        let set = self.all_nodes.keys().filter_map(|name| broker_key(name));
        let no_values = Values::new();
        let only = Layers { node: &no_values, ..*self };
        set.map(|key| only.broker_entry(key)).collect()
    }

    fn broker_entry(&self, key: &'static Key) -> Entry {
        let shown = |value: &str| if key.sensitive() { None } else { Some(value.to_owned()) };
        let synonyms: Vec<Synonym> = self
            .broker_values(key)
            .map(|(source, value)| Synonym { name: key.name, value: shown(value), source })
            .collect();
        Entry {
            name: key.name,
            value: synonyms.first().and_then(|synonym| synonym.value.clone()),
            kind: key.kind,
            source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
            read_only: !super::table::is_dynamic(key.name),
            sensitive: key.sensitive(),
            synonyms,
            documentation: key.documentation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn topic_entry(topic: &Values, layers: Layers<'_>, name: &str) -> Entry {
        layers.describe_topic(topic).into_iter().find(|entry| entry.name == name).expect("the key exists")
    }

    #[test]
    fn a_topics_value_hides_those_of_the_layers_below() {
        let (node, all, fixed) = (
            values(&[("message.max.bytes", "3")]),
            values(&[("message.max.bytes", "4")]),
            values(&[("message.max.bytes", "5")]),
        );
        let layers = Layers { node: &node, all_nodes: &all, fixed: &fixed };
        let entry = topic_entry(&values(&[("max.message.bytes", "2")]), layers, "max.message.bytes");
        assert_eq!((entry.value.as_deref(), entry.source), (Some("2"), Source::DynamicTopic));
        let shown: Vec<_> = entry.synonyms.iter().map(|s| (s.name, s.value.as_deref(), s.source)).collect();
        assert_eq!(
            shown,
            [
                ("max.message.bytes", Some("2"), Source::DynamicTopic),
                ("message.max.bytes", Some("3"), Source::DynamicBroker),
                ("message.max.bytes", Some("4"), Source::DynamicDefaultBroker),
                ("message.max.bytes", Some("5"), Source::StaticBroker),
                ("message.max.bytes", Some("1048588"), Source::Default),
            ]
        );
        let inherited = topic_entry(&Values::new(), layers, "max.message.bytes");
        assert_eq!((inherited.value.as_deref(), inherited.source), (Some("3"), Source::DynamicBroker));
    }

    #[test]
    fn retention_in_hours_counts_if_it_is_all_there_is() {
        let none = Values::new();
        let fixed = values(&[("log.retention.hours", "2")]);
        let layers = Layers { node: &none, all_nodes: &none, fixed: &fixed };
        assert_eq!(topic_entry(&none, layers, "retention.ms").value.as_deref(), Some("7200000"));
        let layers = Layers { node: &none, all_nodes: &none, fixed: &none };
        assert_eq!(topic_entry(&none, layers, "retention.ms").value.as_deref(), Some("604800000"));
    }

    #[test]
    fn passwords_are_never_shown() {
        let none = Values::new();
        let fixed = values(&[("ssl.key.password", "hunter2")]);
        let entries = Layers { node: &none, all_nodes: &none, fixed: &fixed }.describe_broker();
        let entry = entries.iter().find(|entry| entry.name == "ssl.key.password").expect("the key exists");
        assert!(entry.sensitive);
        assert_eq!(entry.value, None);
        assert!(!format!("{entries:?}").contains("hunter2"));
    }

    #[test]
    fn the_default_of_all_nodes_shows_only_what_was_set() {
        let none = Values::new();
        let all = values(&[("log.retention.ms", "7")]);
        let layers = Layers { node: &none, all_nodes: &all, fixed: &none };
        let entries = layers.describe_all_nodes();
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].name, entries[0].source), ("log.retention.ms", Source::DynamicDefaultBroker));
    }
}
