//! The broker's life: start what is below in order, serve, and stop in the opposite order.
//!
//! Nothing listens before the cluster has recovered, so that the first answer is a true one. What was acknowledged is
//! on disk at any moment: stopping clean only saves clients a retry and the next start a replay.

mod below;
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
use kafka::Service;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::cli::Cli;
use crate::config::sources::Configuration;
use crate::config::{self, explain, keys::Settings};
use crate::logging::{self, LevelHandle};
use crate::{FAILED, INVALID, client, complain, process};
use below::{broker_config, cluster_config, limits};
use memory::Division;
use signals::{Request, Signals};

/// Open files that are no connections: segments, indexes, listeners.
const FILES_OF_ITS_OWN: u64 = 1_000;
/// How long a stop lets requests wait for other nodes.
const OTHERS_WAIT: Duration = Duration::from_secs(1);
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
    match serve(cli, &configuration) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn serve(cli: &Cli, configuration: &Configuration) -> anyhow::Result<()> {
    let mut settings = configuration.settings.clone();
    let level = logging::start(&settings.log_level, settings.log_format == "json")?;
    logging::log_panics();
    if let Err(error) = base::memory::disable_transparent_huge_pages() {
        warn!(%error, "transparent huge pages stay enabled; large buffers will cost more CPU");
    }
    let files_max = process::raise_open_files();
    let room = files_max.map_or(u64::MAX, |max| max.saturating_sub(FILES_OF_ITS_OWN).max(1));
    if settings.kafka_max_connections > room {
        warn!("kafka.max.connections is limited to {room} by the limit on open files: raise it (LimitNOFILE=)");
        settings.kafka_max_connections = room;
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
    loop {
        let node = tokio::select! {
            node = Node::start(settings.clone()) => node?,
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
        if node.until_stopped(cli, level, &mut signals).await? == Ended::Stopped {
            return Ok(());
        }
        info!("starting anew");
    }
}

/// Why the cluster cannot go on.
fn reason(told: Option<String>) -> String {
    told.unwrap_or_else(|| "the cluster ended by itself".to_owned())
}

/// How a node's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It is to stay so.
    Stopped,
    /// It closed its shards to join another cluster, and is to start anew.
    Anew,
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
        let listen = listeners::resolve_cluster(&env, &settings.cluster_listen).await?;
        let cluster = Cluster::start(env.clone(), cluster_config(&settings, &division, listen, &bound)?)
            .await
            .with_context(|| format!("the data in {} cannot be opened", settings.data_dir.display()))?;
        let config = broker_config(&settings, &division, &bound)?;
        let broker = Broker::start(cluster.environment(), cluster.clone(), config);
        let service = Service::new(&env, broker.clone(), limits(&settings, &division)?, division.requests);
        let mut failure = cluster.failure();
        tokio::select! {
            // A client that hears of a topic from another node asks for it here.
            () = cluster.caught_up() => {}
            failed = failure.wait_for(Option::is_some) => bail!("{}", reason(failed.ok().and_then(|reason| reason.clone()))),
        }
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
            serving.spawn(listener.serve(service.clone(), stopping.clone()));
        }
        Ok(Self { settings, cluster, broker, stop, serving })
    }

    async fn until_stopped(mut self, cli: &Cli, level: &LevelHandle, signals: &mut Signals) -> anyhow::Result<Ended> {
        let mut failure = self.cluster.failure();
        let mut starts_anew = self.cluster.starts_anew();
        let ended = loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Reload => self.reload(cli, level),
                    Request::Stop(name) => {
                        info!(signal = name, "stopping");
                        break Ended::Stopped;
                    }
                },
                anew = starts_anew.wait_for(|anew| *anew) => {
                    if anew.is_ok() {
                        break Ended::Anew;
                    }
                }
                failed = failure.wait_for(Option::is_some) => {
                    bail!("{}", reason(failed.ok().and_then(|reason| reason.clone())));
                }
                Some(ended) = self.serving.join_next() => {
                    ended.context("a listener ended")?;
                    bail!("a listener ended by itself");
                }
            }
        };
        tokio::select! {
            () = self.stop() => info!("stopped"),
            () = signals.stop_again() => bail!("stopped at once by a second signal"),
            failed = failure.wait_for(Option::is_some) => {
                if let Ok(reason) = failed && let Some(reason) = reason.as_ref() {
                    bail!("{reason}");
                }
            }
        }
        Ok(ended)
    }

    /// Leadership first, while clients are still told where it went; then the listeners, so that nothing new comes in; the
    /// log last, so that all that came is in it.
    async fn stop(&mut self) {
        self.cluster.hand_over().await;
        self.stop.send_replace(true);
        self.broker.shutdown().await;
        // The listeners bound their own draining; this is for one that does not.
        let limit = self.settings.shutdown_timeout + Duration::from_secs(1);
        let Self { cluster, serving, .. } = self;
        let draining = async {
            let done = timeout(OTHERS_WAIT, async { while serving.join_next().await.is_some() {} }).await;
            if done.is_err() {
                // Those may be gone who would have to acknowledge what is under way: who waits for it is told.
                cluster.wait_for_others_no_more().await;
                while serving.join_next().await.is_some() {}
            }
        };
        let drained = timeout(limit, draining).await;
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
        info!("the configuration was read again");
    }
}
