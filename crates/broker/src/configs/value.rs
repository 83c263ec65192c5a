//! Values: parsed by the key's type, checked by its bounds, and kept in one canonical form. The texts are Kafka's.

use std::collections::BTreeSet;

use super::ValueKind;
use super::table::{Check, Key};

/// The value in its canonical form, or why it is none, in words for the client.
pub(crate) fn parse(key: &Key, value: &str) -> Result<String, String> {
    match key.kind {
        ValueKind::Boolean => boolean(key, value),
        ValueKind::Int => integer(key, value, i64::from(i32::MIN), i64::from(i32::MAX), "INT"),
        ValueKind::Short => integer(key, value, i64::from(i16::MIN), i64::from(i16::MAX), "SHORT"),
        ValueKind::Long => integer(key, value, i64::MIN, i64::MAX, "LONG"),
        ValueKind::Double => double(key, value),
        ValueKind::List => list(key, value),
        ValueKind::String | ValueKind::Class | ValueKind::Password => string(key, value.trim()),
    }
}

/// The elements of a list; blank ones do not count.
pub(crate) fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|element| !element.is_empty())
}

fn invalid(key: &Key, value: &str, why: &str) -> String {
    format!("Invalid value {value} for configuration {}: {why}", key.name)
}

fn boolean(key: &Key, value: &str) -> Result<String, String> {
    let trimmed = value.trim();
    if trimmed.eq_ignore_ascii_case("true") {
        Ok("true".to_owned())
    } else if trimmed.eq_ignore_ascii_case("false") {
        Ok("false".to_owned())
    } else {
        Err(invalid(key, value, "Expected value to be either true or false"))
    }
}

fn integer(key: &Key, value: &str, min: i64, max: i64, kind: &str) -> Result<String, String> {
    let parsed = value.trim().parse::<i64>().ok().filter(|number| (min..=max).contains(number));
    let Some(number) = parsed else {
        return Err(invalid(key, value, &format!("Not a number of type {kind}")));
    };
    let wrong = match key.check {
        Check::AtLeast(least) if number < least => Some(format!("Value must be at least {least}")),
        Check::Between(least, _) if number < least => Some(format!("Value must be at least {least}")),
        Check::Between(_, most) if number > most => Some(format!("Value must be no more than {most}")),
        Check::BetweenOr(least, most, or) if number != or && !(least..=most).contains(&number) => {
            Some(format!("Value must be between {least} and {most} or equal to {or}"))
        }
        _ => None,
    };
    match wrong {
        Some(why) => Err(invalid(key, &number.to_string(), &why)),
        None => Ok(number.to_string()),
    }
}

fn double(key: &Key, value: &str) -> Result<String, String> {
    let trimmed = value.trim();
    let Some(number) = trimmed.parse::<f64>().ok().filter(|number| number.is_finite()) else {
        return Err(invalid(key, value, "Not a number of type DOUBLE"));
    };
    let shown = if number.fract() == 0.0 && number.abs() < 1e7 { format!("{number:.1}") } else { trimmed.to_owned() };
    match key.check {
        Check::Ratio if number < 0.0 => Err(invalid(key, &shown, "Value must be at least 0")),
        Check::Ratio if number > 1.0 => Err(invalid(key, &shown, "Value must be no more than 1")),
        _ => Ok(shown),
    }
}

fn string(key: &Key, value: &str) -> Result<String, String> {
    match key.check {
        Check::OneOf(allowed) if !allowed.contains(&value) => {
            Err(invalid(key, value, &format!("String must be one of: {}", allowed.join(", "))))
        }
        _ => Ok(value.to_owned()),
    }
}

fn list(key: &Key, value: &str) -> Result<String, String> {
    let mut parsed: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for element in elements(value) {
        if let Check::ListOf(allowed) = key.check
            && !allowed.contains(&element)
        {
            return Err(invalid(key, element, &format!("String must be one of: {}", allowed.join(", "))));
        }
        if seen.insert(element) {
            parsed.push(element);
        }
    }
    if matches!(key.check, Check::ThrottledReplicas) && parsed != ["*"] && !parsed.iter().all(|e| is_replica(e)) {
        let why = format!(
            "{} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            key.name
        );
        return Err(invalid(key, &format!("[{}]", parsed.join(", ")), &why));
    }
    Ok(parsed.join(","))
}

/// `partition:broker`
fn is_replica(element: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    element.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker))
}

#[cfg(test)]
mod tests {
    use super::super::table::topic_key;
    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<&str, &str>) {
        let key = topic_key(name).expect("the key exists");
        let expected = expected.map(str::to_owned).map_err(|why| {
            if why.starts_with("Invalid") {
                why.to_owned()
            } else {
                format!("Invalid value {value} for configuration {name}: {why}")
            }
        });
        assert_eq!(parse(key, value), expected);
    }

    #[test]
    fn a_long_list_costs_no_more_than_its_length() {
        let key = topic_key("leader.replication.throttled.replicas").expect("the key exists");
        let replicas: Vec<String> = (0..200_000).map(|broker| format!("0:{broker}")).collect();
        let once = replicas.join(",");
        assert_eq!(parse(key, &format!("{once},{once}")), Ok(once));
    }

    #[test]
    fn numbers_are_checked_as_kafka_does() {
        check("retention.ms", " 7 ", Ok("7"));
        check("retention.ms", "abc", Err("Not a number of type LONG"));
        check("retention.ms", "", Err("Not a number of type LONG"));
        check("retention.ms", "-5", Err("Value must be at least -1"));
        check("max.message.bytes", "-1", Err("Value must be at least 0"));
        check("max.message.bytes", "9999999999", Err("Not a number of type INT"));
        check("compression.gzip.level", "0", Err("Value must be between 1 and 9 or equal to -1"));
        check("compression.gzip.level", "-1", Ok("-1"));
        check("compression.lz4.level", "18", Err("Value must be no more than 17"));
        let why = "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1";
        check("min.cleanable.dirty.ratio", "2", Err(why));
        check("min.cleanable.dirty.ratio", "x", Err("Not a number of type DOUBLE"));
        check("min.cleanable.dirty.ratio", "NaN", Err("Not a number of type DOUBLE"));
        check("min.cleanable.dirty.ratio", "0.25", Ok("0.25"));
        check("retention.bytes", "-7", Ok("-7"));
    }

    #[test]
    fn words_and_lists_are_checked_as_kafka_does() {
        check("preallocate", "TRUE", Ok("true"));
        check("preallocate", "maybe", Err("Expected value to be either true or false"));
        check("message.timestamp.type", "X", Err("String must be one of: CreateTime, LogAppendTime"));
        check("cleanup.policy", "foo", Err("String must be one of: compact, delete"));
        check("cleanup.policy", "delete, compact", Ok("delete,compact"));
        check("cleanup.policy", "delete,delete", Ok("delete"));
        check("cleanup.policy", "", Ok(""));
        check("leader.replication.throttled.replicas", "*", Ok("*"));
        check("leader.replication.throttled.replicas", "0:1,1:1", Ok("0:1,1:1"));
        let key = topic_key("leader.replication.throttled.replicas").expect("the key exists");
        let why = parse(key, "zzz").expect_err("it is no list of replicas");
        assert!(why.starts_with("Invalid value [zzz] for configuration leader.replication"), "{why}");
    }
}
