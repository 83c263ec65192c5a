//! Changes: from what a client asks to the keys that are set and removed, or the reason why not, in Kafka's words.
//! All or nothing.

use std::collections::BTreeSet;

use super::ValueKind;
use super::api::{AlterConfigsError, Alteration, Operation, OperationKind};
use super::layers::Values;
use super::table::{Key, broker_key, is_dynamic, topic_key};
use super::value;

/// Whose keys are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Topic,
    Broker,
}

/// What no configuration can exceed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) batch_bytes_max: usize,
    /// Of a partition, where there are as many nodes.
    pub(crate) copies_max: usize,
}

impl Limits {
    /// What is acknowledged is on a majority of a partition's copies: so many where there are as many as there can be.
    fn in_sync_max(self) -> usize {
        self.copies_max / 2 + 1
    }
}

/// Keys to set and keys to remove.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) set: Vec<(String, String)>,
    pub(super) remove: Vec<String>,
}

/// The configuration that a new topic is created with.
pub(crate) fn check_new_topic(configs: &[(String, Option<String>)], limits: Limits) -> Result<Values, String> {
    let null: Vec<&str> = configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !null.is_empty() {
        return Err(format!("Null value not supported for topic configs: {}", null.join(",")));
    }
    let mut values = Values::new();
    for (name, value) in configs {
        let value = value.as_deref().unwrap_or_default();
        let key = topic_key(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        values.insert(name.clone(), check(key, value, limits)?);
    }
    check_together(&values)?;
    log_kept(values.keys());
    Ok(values)
}

/// What the alteration does to a resource whose keys are `current`.
pub(super) fn plan(
    kind: Kind,
    current: &Values,
    alteration: &Alteration,
    limits: Limits,
) -> Result<Change, AlterConfigsError> {
    let target = match alteration {
        Alteration::Replace(configs) => replaced(kind, configs, limits)?,
        Alteration::Incremental(operations) => changed(kind, current, operations, limits)?,
    };
    let together = check_together(&target);
    together.map_err(AlterConfigsError::InvalidConfig)?;
    let set: Vec<(String, String)> = target
        .iter()
        .filter(|(name, value)| current.get(*name) != Some(*value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    log_kept(set.iter().map(|(name, _)| name));
    let remove = current.keys().filter(|name| !target.contains_key(*name)).cloned().collect();
    Ok(Change { set, remove })
}

fn replaced(kind: Kind, configs: &[(String, Option<String>)], limits: Limits) -> Result<Values, AlterConfigsError> {
    no_duplicates(configs.iter().map(|(name, _)| name.as_str()))?;
    let mut target = Values::new();
    for (name, value) in configs {
        // Without a value the key falls back to what lies below.
        let Some(value) = value else { continue };
        let key = find(kind, name)?;
        target.insert(name.clone(), check_of(kind, key, value, limits)?);
    }
    Ok(target)
}

fn changed(
    kind: Kind,
    current: &Values,
    operations: &[Operation],
    limits: Limits,
) -> Result<Values, AlterConfigsError> {
    no_duplicates(operations.iter().map(|operation| operation.name.as_str()))?;
    let null: Vec<&str> = operations
        .iter()
        .filter(|operation| operation.kind != OperationKind::Delete && operation.value.is_none())
        .map(|operation| operation.name.as_str())
        .collect();
    if !null.is_empty() {
        return Err(AlterConfigsError::InvalidRequest(format!("Null value not supported for : {}", null.join(","))));
    }
    let mut target = current.clone();
    for operation in operations {
        let value = operation.value.as_deref().unwrap_or_default();
        let name = &operation.name;
        let value = match operation.kind {
            OperationKind::Delete => {
                target.remove(name);
                continue;
            }
            OperationKind::Set => value.to_owned(),
            OperationKind::Append | OperationKind::Subtract => edited(kind, current, operation, value)?,
        };
        let key = find(kind, name)?;
        target.insert(name.clone(), check_of(kind, key, &value, limits)?);
    }
    Ok(target)
}

/// The list after elements were added to it or taken from it.
fn edited(kind: Kind, current: &Values, operation: &Operation, value: &str) -> Result<String, AlterConfigsError> {
    let key = find(kind, &operation.name)?;
    let verb = if operation.kind == OperationKind::Append { "APPEND" } else { "SUBTRACT" };
    if key.kind != ValueKind::List {
        let why = format!("Can't {verb} to key {} because its type is not LIST.", key.name);
        return Err(AlterConfigsError::InvalidConfig(why));
    }
    let before = current.get(key.name).map(String::as_str).or(key.default).unwrap_or_default();
    let mut list: Vec<&str> = value::elements(before).collect();
    if operation.kind == OperationKind::Append {
        let known: BTreeSet<&str> = list.iter().copied().collect();
        list.extend(value::elements(value).filter(|element| !known.contains(element)));
    } else {
        let gone: BTreeSet<&str> = value::elements(value).collect();
        list.retain(|element| !gone.contains(element));
    }
    Ok(list.join(","))
}

fn no_duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), AlterConfigsError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(AlterConfigsError::InvalidRequest("Error due to duplicate config keys".to_owned()));
        }
    }
    Ok(())
}

fn find(kind: Kind, name: &str) -> Result<&'static Key, AlterConfigsError> {
    match kind {
        Kind::Topic => topic_key(name)
            .ok_or_else(|| AlterConfigsError::InvalidConfig(format!("Unknown topic config name: {name}"))),
        Kind::Broker => {
            let key = broker_key(name)
                .ok_or_else(|| AlterConfigsError::InvalidConfig(format!("Unknown broker config name: {name}")))?;
            if is_dynamic(name) {
                Ok(key)
            } else {
                Err(AlterConfigsError::InvalidRequest(format!("Cannot update these configs dynamically: [{name}]")))
            }
        }
    }
}

fn check_of(kind: Kind, key: &Key, value: &str, limits: Limits) -> Result<String, AlterConfigsError> {
    check(key, value, limits).map_err(|why| match kind {
        Kind::Topic => AlterConfigsError::InvalidConfig(why),
        Kind::Broker => AlterConfigsError::InvalidRequest(why),
    })
}

/// The canonical value, if it is one that this broker can honour.
fn check(key: &Key, value: &str, limits: Limits) -> Result<String, String> {
    let value = value::parse(key, value)?;
    let refused = |why: &str| Err(format!("Invalid value {value} for configuration {}: {why}", key.name));
    match key.name {
        "remote.storage.enable" if value == "true" => Err(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                .to_owned(),
        ),
        // One that is not reached now may be when nodes come: until then such batches are refused.
        "min.insync.replicas" if value.parse::<usize>().is_ok_and(|copies| copies > limits.in_sync_max()) => {
            refused(&format!(
                "Value must be no more than {}: a batch is acknowledged when a majority of its partition's replicas has \
                 it, of which there are {} at most, so that no batch could ever be acknowledged",
                limits.in_sync_max(),
                limits.copies_max
            ))
        }
        "max.message.bytes" | "message.max.bytes"
            if value.parse::<usize>().is_ok_and(|bytes| bytes > limits.batch_bytes_max) =>
        {
            refused(&format!("Value must be no more than {}, the limit of this node", limits.batch_bytes_max))
        }
        _ => Ok(value),
    }
}

/// Keys that exclude each other.
fn check_together(values: &Values) -> Result<(), String> {
    let number = |name: &str| values.get(name).and_then(|value| value.parse::<i64>().ok());
    let (min, max) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    match (min.unwrap_or(0), max.unwrap_or(i64::MAX)) {
        (min, max) if min > max => {
            Err(format!("conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"))
        }
        _ => Ok(()),
    }
}

/// Says in the log which keys are only kept, so that nobody relies on them.
fn log_kept<'a>(names: impl Iterator<Item = &'a String>) {
    let kept: Vec<&str> = names
        .map(String::as_str)
        .filter(|name| {
            let key = topic_key(name).or_else(|| super::table::topic_key_of(name));
            key.is_some_and(|key| !key.applied)
        })
        .collect();
    if !kept.is_empty() {
        tracing::warn!(keys = kept.join(","), "configuration keys are stored and shown but not applied yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { batch_bytes_max: 16 << 20, copies_max: 3 };

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn operation(kind: OperationKind, name: &str, value: &str) -> Operation {
        Operation { name: name.to_owned(), kind, value: Some(value.to_owned()) }
    }

    fn topic(current: &[(&str, &str)], operations: Vec<Operation>) -> Result<Change, AlterConfigsError> {
        plan(Kind::Topic, &values(current), &Alteration::Incremental(operations), LIMITS)
    }

    fn set(name: &str, value: &str) -> Change {
        Change { set: vec![(name.to_owned(), value.to_owned())], remove: Vec::new() }
    }

    #[test]
    fn set_and_delete_change_single_keys() {
        use OperationKind::{Delete, Set};
        assert_eq!(topic(&[], vec![operation(Set, "retention.ms", "5")]), Ok(set("retention.ms", "5")));
        let change = topic(
            &[("retention.ms", "5"), ("segment.ms", "6")],
            vec![Operation { name: "retention.ms".to_owned(), kind: Delete, value: None }],
        );
        assert_eq!(change, Ok(Change { set: Vec::new(), remove: vec!["retention.ms".to_owned()] }));
        let missing = topic(&[], vec![Operation { name: "unknown".to_owned(), kind: Delete, value: None }]);
        assert_eq!(missing, Ok(Change::default()), "a missing key is deleted already");
    }

    #[test]
    fn append_and_subtract_change_lists_only() {
        use OperationKind::{Append, Subtract};
        let throttled = "leader.replication.throttled.replicas";
        let appended = topic(&[(throttled, "0:1")], vec![operation(Append, throttled, "1:1,0:1")]);
        assert_eq!(appended, Ok(set(throttled, "0:1,1:1")));
        let subtracted = topic(&[(throttled, "0:1,1:1")], vec![operation(Subtract, throttled, "0:1")]);
        assert_eq!(subtracted, Ok(set(throttled, "1:1")));
        let policy = topic(&[], vec![operation(Append, "cleanup.policy", "delete")]);
        assert_eq!(policy, Ok(set("cleanup.policy", "delete")));
        let why = "Can't APPEND to key retention.ms because its type is not LIST.";
        let number = topic(&[], vec![operation(Append, "retention.ms", "5")]);
        assert_eq!(number, Err(AlterConfigsError::InvalidConfig(why.to_owned())));
    }

    #[test]
    fn cleanup_policies_are_kafkas() {
        for policy in ["compact", "compact,delete", ""] {
            let policy =
                topic(&[], vec![operation(OperationKind::Set, "cleanup.policy", policy)]).map(|change| change.set);
            assert!(policy.is_ok(), "{policy:?}");
        }
        let refused = topic(&[], vec![operation(OperationKind::Set, "cleanup.policy", "shred")]);
        assert!(matches!(refused, Err(AlterConfigsError::InvalidConfig(_))));
    }

    #[test]
    fn what_would_promise_more_than_there_is_is_refused() {
        use OperationKind::Set;
        let promises =
            [("remote.storage.enable", "true"), ("min.insync.replicas", "3"), ("max.message.bytes", "16777217")];
        for (name, value) in promises {
            assert!(topic(&[], vec![operation(Set, name, value)]).is_err(), "{name}");
        }
        // Nodes may come that it takes.
        for value in ["1", "2"] {
            assert!(topic(&[], vec![operation(Set, "min.insync.replicas", value)]).is_ok());
        }
    }

    #[test]
    fn a_request_that_names_a_key_twice_or_without_value_is_invalid() {
        use OperationKind::Set;
        let twice = topic(&[], vec![operation(Set, "retention.ms", "1"), operation(Set, "retention.ms", "2")]);
        assert_eq!(twice, Err(AlterConfigsError::InvalidRequest("Error due to duplicate config keys".to_owned())));
        let null = topic(&[], vec![Operation { name: "retention.ms".to_owned(), kind: Set, value: None }]);
        let why = "Null value not supported for : retention.ms";
        assert_eq!(null, Err(AlterConfigsError::InvalidRequest(why.to_owned())));
    }

    #[test]
    fn unknown_keys_are_named() {
        let unknown = topic(&[], vec![operation(OperationKind::Set, "zzz", "1")]);
        assert_eq!(unknown, Err(AlterConfigsError::InvalidConfig("Unknown topic config name: zzz".to_owned())));
    }

    #[test]
    fn lags_that_exclude_each_other_are_refused() {
        let both =
            topic(&[("min.compaction.lag.ms", "7")], vec![operation(OperationKind::Set, "max.compaction.lag.ms", "5")]);
        let why = "conflict topic config setting min.compaction.lag.ms (7) > max.compaction.lag.ms (5)";
        assert_eq!(both, Err(AlterConfigsError::InvalidConfig(why.to_owned())));
    }

    #[test]
    fn replacing_resets_what_is_not_named() {
        let change = plan(
            Kind::Topic,
            &values(&[("retention.ms", "5"), ("segment.ms", "6")]),
            &Alteration::Replace(vec![("segment.ms".to_owned(), Some("7".to_owned()))]),
            LIMITS,
        );
        assert_eq!(
            change,
            Ok(Change {
                set: vec![("segment.ms".to_owned(), "7".to_owned())],
                remove: vec!["retention.ms".to_owned()]
            })
        );
    }

    #[test]
    fn a_broker_takes_topic_defaults_while_it_runs_and_nothing_else() {
        let broker = |name: &str, value: &str| {
            let operations = vec![operation(OperationKind::Set, name, value)];
            plan(Kind::Broker, &Values::new(), &Alteration::Incremental(operations), LIMITS)
        };
        assert_eq!(broker("message.max.bytes", "2000000"), Ok(set("message.max.bytes", "2000000")));
        let why = "Cannot update these configs dynamically: [num.partitions]";
        assert_eq!(broker("num.partitions", "5"), Err(AlterConfigsError::InvalidRequest(why.to_owned())));
        let why = "Invalid value -1 for configuration message.max.bytes: Value must be at least 0";
        assert_eq!(broker("message.max.bytes", "-1"), Err(AlterConfigsError::InvalidRequest(why.to_owned())));
    }

    #[test]
    fn a_new_topics_configuration_is_checked_whole() {
        let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(check_new_topic(&[pair("retention.ms", Some(" 7"))], LIMITS), Ok(values(&[("retention.ms", "7")])));
        let why = "Null value not supported for topic configs: retention.ms";
        assert_eq!(check_new_topic(&[pair("retention.ms", None)], LIMITS), Err(why.to_owned()));
        assert_eq!(
            check_new_topic(&[pair("zzz", Some("x"))], LIMITS),
            Err("Unknown topic config name: zzz".to_owned())
        );
        let why = "Invalid value x for configuration retention.ms: Not a number of type LONG";
        assert_eq!(check_new_topic(&[pair("retention.ms", Some("x"))], LIMITS), Err(why.to_owned()));
    }
}
