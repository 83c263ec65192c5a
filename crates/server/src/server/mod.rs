//! The broker's life: start what is below in order, serve, and stop in the opposite order.
//!
//! Nothing listens before the cluster has recovered, so that the first answer is a true one. What was acknowledged is
//! on disk at any moment: stopping clean only saves clients a retry and the next start a replay.

mod listeners;
mod memory;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base::Env;
use base::task::JoinSet;
use base::time::{now, timeout};
use broker::Broker;
use cluster::Cluster;
use kafka::{Limits, Service};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::cli::Cli;
use crate::config::{self, explain, keys::Settings};
use crate::logging::{self, LevelHandle};
use crate::{FAILED, INVALID, client, complain, process};
use memory::Division;
use signals::{Request, Signals};

/// Threads that are still busy when all is stopped are left behind after this.
const RUNTIME_STOP: Duration = Duration::from_secs(2);

/// Runs the broker, or checks its configuration.
pub(crate) fn main(cli: &Cli) -> ExitCode {
    let configuration = match config::load(cli) {
        Ok(configuration) => configuration,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(INVALID);
        }
    };
    if cli.server.check {
        return match client::print(&explain::explain(&configuration)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(FAILED),
        };
    }
    match serve(cli, configuration.settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn serve(cli: &Cli, settings: Settings) -> anyhow::Result<()> {
    let level = logging::start(&settings.log_level, settings.log_format == "json")?;
    logging::log_panics();
    if let Err(error) = base::memory::disable_transparent_huge_pages() {
        warn!(%error, "transparent huge pages stay enabled; large buffers will cost more CPU");
    }
    let files_max = process::raise_open_files();
    if files_max.is_some_and(|max| max < settings.kafka_max_connections) {
        warn!(
            files_max,
            connections_max = settings.kafka_max_connections,
            "the limit on open files is below kafka.max.connections: raise it (ulimit -n, LimitNOFILE=)"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::try_from(settings.worker_threads)?)
        .thread_name("rosettamq")
        .enable_all()
        .build()
        .context("the threads cannot be started")?;
    let result = runtime.block_on(run(cli, settings, &level));
    runtime.shutdown_timeout(RUNTIME_STOP);
    result
}

async fn run(cli: &Cli, settings: Settings, level: &LevelHandle) -> anyhow::Result<()> {
    let started = now();
    let mut signals = Signals::listen()?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %settings.data_dir.display(),
        "starting"
    );
    let node = tokio::select! {
        node = Node::start(settings) => node?,
        () = signals.stop() => {
            info!("stopped before the start was complete");
            return Ok(());
        }
    };
    info!(
        node_id = node.cluster.node_id().0,
        start_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ready"
    );
    node.until_stopped(cli, level, &mut signals).await
}

/// Everything that runs.
struct Node {
    settings: Settings,
    cluster: Cluster,
    broker: Broker,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
}

impl Node {
    async fn start(settings: Settings) -> anyhow::Result<Self> {
        let env = Env::real();
        let division = Division::of(settings.memory_bytes_max);
        // A bad address must not cost a recovery first, and clients that connect early wait in the backlog.
        let bound = listeners::bind(&env, &settings.kafka_listeners).await?;
        let cluster = Cluster::start(env.clone(), cluster_config(&settings, &division)?)
            .await
            .with_context(|| format!("the data in {} cannot be opened", settings.data_dir.display()))?;
        let environment = broker::Environment { clock: env.wall_clock.clone(), random: env.random.clone() };
        let broker = Broker::start(environment, cluster.clone(), broker_config(&settings)?);
        let service = Service::new(&env, broker.clone(), limits(&settings, &division)?, division.requests);
        let (stop, stopping) = watch::channel(false);
        let mut serving = JoinSet::new();
        for listener in bound {
            let advertised = listener.advertised();
            info!(
                listener = listener.name(),
                protocol = "kafka",
                address = %listener.local_addr(),
                advertised = %config::listener::join(&advertised.host, advertised.port),
                "listening"
            );
            spawn_into(&mut serving, listener.serve(service.clone(), stopping.clone()));
        }
        Ok(Self { settings, cluster, broker, stop, serving })
    }

    async fn until_stopped(mut self, cli: &Cli, level: &LevelHandle, signals: &mut Signals) -> anyhow::Result<()> {
        let mut failure = self.cluster.failure();
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Reload => self.reload(cli, level),
                    Request::Stop(name) => {
                        info!(signal = name, "stopping");
                        break;
                    }
                },
                failed = failure.wait_for(Option::is_some) => {
                    let reason = failed.ok().and_then(|reason| reason.clone());
                    bail!("{}", reason.unwrap_or_else(|| "the cluster ended by itself".to_owned()));
                }
                Some(ended) = self.serving.join_next() => {
                    ended.context("a listener ended")?;
                    bail!("a listener ended by itself");
                }
            }
        }
        tokio::select! {
            () = self.stop() => info!("stopped"),
            () = signals.stop() => bail!("stopped at once by a second signal"),
            failed = failure.wait_for(Option::is_some) => {
                if let Ok(reason) = failed && let Some(reason) = reason.as_ref() {
                    bail!("{reason}");
                }
            }
        }
        Ok(())
    }

    /// Listeners first, so that nothing new comes in; the log last, so that all that came is in it.
    async fn stop(&mut self) {
        self.stop.send_replace(true);
        self.broker.shutdown().await;
        // The listeners bound their own draining; this is for one that does not.
        let limit = self.settings.shutdown_timeout + Duration::from_secs(1);
        let drained = timeout(limit, async { while self.serving.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            warn!("connections did not end within shutdown_timeout");
        }
        self.cluster.shutdown().await;
    }

    /// Reads the file again and applies what may change while running.
    fn reload(&mut self, cli: &Cli, level: &LevelHandle) {
        let configuration = match config::load(cli) {
            Ok(configuration) => configuration,
            Err(error) => {
                warn!("the configuration stays as it is: {error}");
                return;
            }
        };
        let new = configuration.settings;
        level.set(&new.log_level);
        for key in new.restart_needed(&self.settings) {
            warn!(key, "changed, but takes effect only after a restart");
        }
        self.settings.log_level = new.log_level;
        self.settings.shutdown_timeout = new.shutdown_timeout;
        info!("the configuration was read again");
    }
}

#[expect(clippy::disallowed_methods, reason = "a set of tasks spawns by itself")]
fn spawn_into(tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(task);
}

fn cluster_config(settings: &Settings, division: &Division) -> anyhow::Result<cluster::Config> {
    let mut config = cluster::Config::new(settings.data_dir.clone());
    config.shards = usize::try_from(settings.shards)?;
    config.segment_bytes = settings.segment_bytes;
    config.reserve_bytes = settings.reserve_bytes;
    config.log_memory_bytes = division.log_tail;
    config.queue_bytes_max = division.queues;
    config.producer_expiration_ms = i64::try_from(settings.kafka_producer_id_expiration.as_millis())?;
    Ok(config)
}

fn broker_config(settings: &Settings) -> anyhow::Result<broker::Config> {
    let milliseconds = |duration: Duration| i32::try_from(duration.as_millis());
    Ok(broker::Config {
        memory_bytes_max: settings.memory_bytes_max,
        num_partitions: i32::try_from(settings.kafka_num_partitions)?,
        auto_create_topics: settings.kafka_auto_create_topics,
        delete_topics: settings.kafka_delete_topics,
        message_bytes_max: i32::try_from(settings.kafka_message_max_bytes)?,
        group_initial_rebalance_delay_ms: milliseconds(settings.kafka_group_initial_rebalance_delay)?,
        group_min_session_timeout_ms: milliseconds(settings.kafka_group_min_session_timeout)?,
        group_max_session_timeout_ms: milliseconds(settings.kafka_group_max_session_timeout)?,
        group_size_max: i32::try_from(settings.kafka_group_max_size)?,
        offset_metadata_bytes_max: i32::try_from(settings.kafka_offset_metadata_max_bytes)?,
        producer_id_expiration_ms: milliseconds(settings.kafka_producer_id_expiration)?,
        fetch_bytes_max: i32::try_from(settings.kafka_fetch_max_bytes)?,
        connections_max: u32::try_from(settings.kafka_max_connections)?,
        connections_idle_ms_max: i64::try_from(settings.kafka_connections_max_idle.as_millis())?,
        ..broker::Config::default()
    })
}

fn limits(settings: &Settings, division: &Division) -> anyhow::Result<Limits> {
    let wanted = usize::try_from(settings.kafka_socket_request_max_bytes)?;
    let granted = wanted.min(division.requests);
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
