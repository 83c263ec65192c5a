//! Settings as the crates below want them: their types, units and parts of the memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use cluster::NodeAddress;
use kafka::{Limits, Listener};
use tracing::warn;

use super::memory::Division;
use crate::config::keys::Settings;
use crate::config::listener::join;

/// As many segments of free space as a disk that becomes full should have: see `DiskState` of the storage.
const RESERVE_SEGMENTS_MIN: u64 = 4;

pub(super) fn cluster_config(
    settings: &Settings,
    division: &Division,
    listen: Option<SocketAddr>,
    bound: &[Listener],
) -> anyhow::Result<cluster::Config> {
    let mut config = cluster::Config::new(settings.data_dir.clone());
    config.listen = listen;
    config.advertised = settings.cluster_listen.first().map(|spec| match &spec.advertised {
        Some(advertised) => (advertised.host.clone(), advertised.port.unwrap_or(0)),
        None => (spec.host.clone(), 0),
    });
    config.join.clone_from(&settings.cluster_join);
    config.catch_up_bytes_per_second = Some(settings.cluster_catch_up).filter(|rate| *rate > 0);
    config.rack = (settings.cluster_rack != "none").then(|| settings.cluster_rack.clone());
    for listener in bound {
        let advertised = listener.advertised();
        let address =
            NodeAddress { listener: listener.name().to_owned(), host: advertised.host.clone(), port: advertised.port };
        // A host with several addresses has several sockets of one name, and one advertised address.
        if !config.addresses.iter().any(|known| known.listener == address.listener) {
            config.addresses.push(address);
        }
    }
    config.shards = usize::try_from(settings.shards)?;
    config.segment_bytes = settings.segment_bytes;
    config.log_hot_bytes = settings.log_hot_bytes;
    config.compaction_memory_bytes = settings.compaction_memory_bytes;
    config.object_bytes_per_second = Some(settings.compaction_bytes_per_second).filter(|rate| *rate > 0);
    config.scrub_bytes_per_second = Some(settings.scrub_bytes_per_second).filter(|rate| *rate > 0);
    config.scrub_interval = settings.scrub_interval;
    config.reserve_bytes = settings.reserve_bytes;
    if (1..RESERVE_SEGMENTS_MIN * settings.segment_bytes).contains(&settings.reserve_bytes) {
        let (reserve_bytes, segment_bytes) = (settings.reserve_bytes, settings.segment_bytes);
        warn!(
            reserve_bytes,
            segment_bytes,
            "reserve_bytes is less than four segments: a disk that becomes full may refuse all at once what it should in turn"
        );
    }
    config.producers_per_shard_max = u32::try_from(settings.producers_per_shard_max)?;
    config.log_memory_bytes = division.log_tail;
    config.read_cache_bytes = division.read_cache;
    config.queue_bytes_max = division.queues;
    config.producer_expiration_ms = i64::try_from(settings.kafka_producer_id_expiration.as_millis())?;
    Ok(config)
}

pub(super) fn broker_config(
    settings: &Settings,
    division: &Division,
    bound: &[Listener],
) -> anyhow::Result<broker::Config> {
    let milliseconds = |duration: Duration| i32::try_from(duration.as_millis());
    Ok(broker::Config {
        memory_bytes_max: (division.requests + division.responses) as u64,
        batch_bytes_max: usize::try_from(settings.message_bytes_max)?,
        num_partitions: i32::try_from(settings.kafka_num_partitions)?,
        auto_create_topics: settings.kafka_auto_create_topics,
        delete_topics: settings.kafka_delete_topics,
        message_bytes_max: i32::try_from(settings.kafka_message_max_bytes)?,
        group_initial_rebalance_delay_ms: milliseconds(settings.kafka_group_initial_rebalance_delay)?,
        group_min_session_timeout_ms: milliseconds(settings.kafka_group_min_session_timeout)?,
        group_max_session_timeout_ms: milliseconds(settings.kafka_group_max_session_timeout)?,
        group_size_max: i32::try_from(settings.kafka_group_max_size)?,
        group_memory_bytes_max: division.groups,
        group_offset_bytes_max: division.offsets,
        offset_metadata_bytes_max: i32::try_from(settings.kafka_offset_metadata_max_bytes)?,
        producer_id_expiration_ms: milliseconds(settings.kafka_producer_id_expiration)?,
        fetch_bytes_max: i32::try_from(settings.kafka_fetch_max_bytes)?,
        connections_max: u32::try_from(settings.kafka_max_connections)?,
        connections_idle_ms_max: i64::try_from(settings.kafka_connections_max_idle.as_millis())?,
        retention_ms: settings.kafka_retention,
        retention_bytes: settings.kafka_retention_bytes,
        retention_check_interval: settings.kafka_retention_check,
        compaction_interval: settings.kafka_cleaner_backoff,
        compaction_memory_bytes: settings.compaction_memory_bytes,
        static_keys: static_keys(settings, division, bound),
        ..broker::Config::default()
    })
}

pub(super) fn limits(settings: &Settings, division: &Division) -> anyhow::Result<Limits> {
    let wanted = settings.kafka_socket_request_max_bytes;
    let granted = request_bytes_max(settings, division);
    if granted < wanted {
        warn!(
            wanted,
            granted, "kafka.socket.request.max.bytes is limited to the part of memory_bytes_max that requests share"
        );
    }
    Ok(Limits {
        request_bytes_max: u32::try_from(granted)?,
        idle_max: settings.kafka_connections_max_idle,
        connections_per_ip_max: u32::try_from(settings.kafka_max_connections_per_ip)?,
        fetch_sessions_max: usize::try_from(settings.kafka_fetch_sessions)?,
        drain_max: settings.shutdown_timeout,
        ..Limits::default()
    })
}

/// The largest request that is taken.
fn request_bytes_max(settings: &Settings, division: &Division) -> u64 {
    settings.kafka_socket_request_max_bytes.min(division.requests as u64)
}

/// What Kafka's tools show of this broker's configuration beside the keys that the broker knows by itself.
fn static_keys(settings: &Settings, division: &Division, bound: &[Listener]) -> BTreeMap<String, String> {
    let list = |show: &dyn Fn(&Listener) -> String| bound.iter().map(show).collect::<Vec<_>>().join(",");
    let listeners = list(&|listener| format!("{}://{}", listener.name(), listener.local_addr()));
    let advertised = list(&|listener| {
        let advertised = listener.advertised();
        format!("{}://{}", listener.name(), join(&advertised.host, advertised.port))
    });
    let protocols = list(&|listener| format!("{}:PLAINTEXT", listener.name()));
    BTreeMap::from([
        ("listeners".to_owned(), listeners),
        ("advertised.listeners".to_owned(), advertised),
        ("listener.security.protocol.map".to_owned(), protocols),
        ("log.dirs".to_owned(), settings.data_dir.display().to_string()),
        ("socket.request.max.bytes".to_owned(), request_bytes_max(settings, division).to_string()),
        ("max.connections.per.ip".to_owned(), settings.kafka_max_connections_per_ip.to_string()),
        ("max.incremental.fetch.session.cache.slots".to_owned(), settings.kafka_fetch_sessions.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sources::{Configuration, Inputs};
    use crate::machine::Machine;

    #[test]
    fn the_largest_request_is_shown_as_it_is_in_force() {
        for (memory_bytes, expected) in [(1 << 28, 32 << 20), (16 << 30, 100 << 20)] {
            let machine = Machine { cores: 2, memory_bytes };
            let settings = Configuration::resolve(&Inputs::default(), &machine).unwrap().settings;
            let division = Division::of(settings.memory_bytes_max);
            let keys = static_keys(&settings, &division, &[]);
            assert_eq!(keys["socket.request.max.bytes"], expected.to_string());
            let granted = limits(&settings, &division).unwrap().request_bytes_max;
            assert_eq!(granted, expected);
        }
    }
}
