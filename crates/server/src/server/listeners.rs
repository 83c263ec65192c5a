//! Binding listeners: all addresses of a host name, or an error that says what to change.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use base::Env;
use kafka::{Advertised, Listener, ListenerConfig};
use tracing::warn;

use crate::config::listener::ListenerSpec;

/// Takes the addresses of all listeners; none is served yet.
pub(super) async fn bind(env: &Env, specs: &[ListenerSpec]) -> anyhow::Result<Vec<Listener>> {
    let mut bound = Vec::with_capacity(specs.len());
    for spec in specs {
        bind_one(env, spec, &mut bound).await?;
    }
    Ok(bound)
}

/// The address of the listener for nodes, of which there is at most one: the first of its host's.
pub(super) async fn resolve_cluster(env: &Env, specs: &[ListenerSpec]) -> anyhow::Result<Option<SocketAddr>> {
    let Some(spec) = specs.first() else { return Ok(None) };
    let resolved = env.network.resolve(&spec.host, spec.port).await;
    let addresses = resolved.with_context(|| format!("cluster.listen: the host {} cannot be resolved", spec.host))?;
    Ok(addresses.into_iter().next())
}

/// `localhost` may be 127.0.0.1 and ::1: clients that try either must get through.
async fn bind_one(env: &Env, spec: &ListenerSpec, bound: &mut Vec<Listener>) -> anyhow::Result<()> {
    let mut addresses = env
        .network
        .resolve(&spec.host, spec.port)
        .await
        .with_context(|| format!("listener {}: the host {} cannot be resolved", spec.name, spec.host))?;
    addresses.sort_unstable();
    addresses.dedup();
    if spec.port == 0 {
        // Each address would get a port of its own, and only one can be advertised.
        addresses.truncate(1);
    }
    let before = bound.len();
    let mut refused = None;
    for address in addresses {
        let config = ListenerConfig { name: spec.name.clone(), address, advertised: Some(advertised(spec)) };
        match Listener::bind(env, config).await {
            Ok(listener) => bound.push(listener),
            Err(error) => {
                if let Some((address, error)) = refused.replace((address, error)) {
                    warn!(listener = spec.name, %address, %error, "cannot listen on one of the host's addresses");
                }
            }
        }
    }
    let Some((address, error)) = refused else {
        return Ok(());
    };
    if bound.len() > before && error.kind() == std::io::ErrorKind::AddrNotAvailable {
        warn!(listener = spec.name, %address, %error, "cannot listen on one of the host's addresses");
        return Ok(());
    }
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another process listens there: stop it, or set kafka.listeners",
        std::io::ErrorKind::AddrNotAvailable => "; no network interface has that address",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        _ => "",
    };
    bail!("listener {} cannot listen on {address}: {error}{hint}", spec.name)
}

fn advertised(spec: &ListenerSpec) -> Advertised {
    match &spec.advertised {
        Some(advertised) => Advertised { host: advertised.host.clone(), port: advertised.port.unwrap_or(0) },
        None => Advertised { host: spec.host.clone(), port: 0 },
    }
}
