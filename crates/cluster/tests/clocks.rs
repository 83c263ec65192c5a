//! A clock that jumps on one of three nodes: what that node tells clients, and gives to what it stores, is the others' time.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base::Env;
use base::time::{Duration, SimWallClock, now, sleep, timeout};
use cluster::{Cluster, Config};

const WAIT_MAX: Duration = Duration::from_secs(60);
const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;
/// Longer than from one comparison of the clocks to the next but one.
const LOOK_TIME: Duration = Duration::from_millis(1_200);

fn addresses() -> Vec<SocketAddr> {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    (0..3).map(|place| SocketAddr::from(([127, high | 64, low, place + 1], 9190))).collect()
}

async fn start(dir: &Path, place: usize, clock: &Arc<SimWallClock>) -> Cluster {
    let addresses = addresses();
    let config = Config {
        listen: Some(addresses[place]),
        join: addresses.iter().map(|address| (address.ip().to_string(), address.port())).collect(),
        shards: 1,
        segment_bytes: 4 << 20,
        reserve_bytes: 0,
        ..Config::new(dir.join(place.to_string()))
    };
    let env = Env { wall_clock: Arc::<SimWallClock>::clone(clock), ..Env::real() };
    timeout(WAIT_MAX, Cluster::start(env, config)).await.expect("in time").expect("started")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_between_two_looks_at_the_others_shows_nowhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let began = now();
    let clocks: Vec<_> = (0..3).map(|_| Arc::new(SimWallClock::new(START_MS))).collect();
    let starts = clocks.iter().enumerate().map(|(place, clock)| start(dir.path(), place, clock));
    let nodes = futures_util::future::join_all(starts).await;
    let time = nodes[0].environment().wall_clock;
    let off_ms = || {
        let since_ms = i64::try_from(began.elapsed().as_millis()).expect("a short test");
        (time.now_ms() - START_MS - since_ms).abs()
    };
    // It has the time of the others once it has heard of both.
    clocks[0].jump(HOUR_MS);
    let deadline = now() + WAIT_MAX;
    while off_ms() > 2_000 {
        assert!(now() < deadline, "it keeps a wrong clock");
        sleep(Duration::from_millis(20)).await;
    }
    for jump in [HOUR_MS, -2 * HOUR_MS, 8_760 * HOUR_MS, -8_760 * HOUR_MS] {
        clocks[0].jump(jump);
        let jumped = now();
        while jumped.elapsed() < LOOK_TIME {
            assert!(off_ms() < 4_000, "{} ms off after a jump by {jump} ms", off_ms());
            sleep(Duration::from_millis(5)).await;
        }
    }
    for node in &nodes {
        node.shutdown().await;
    }
}
