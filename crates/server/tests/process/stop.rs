//! Signals to stop while an answer is on its way to someone who does not take it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::Broker;

/// More than the sockets between the two take.
const ANSWER_BYTES: usize = 32 << 20;

/// A broker that has a reader who took no more than the beginning of its answer.
fn drains(home: &Path) -> (Broker, TcpStream) {
    let broker = Broker::start(home, &["--kafka-num-partitions", "1", "--shutdown-timeout", "60s"]);
    let mut lines = String::new();
    for number in 0..ANSWER_BYTES / 1_024 {
        let _ = writeln!(lines, "{number:01023}");
    }
    broker.ok(&["produce", "t"], &lines);
    let mut reader = TcpStream::connect(&broker.address).unwrap();
    reader.write_all(&fetch()).unwrap();
    reader.read_exact(&mut [0; 4]).unwrap();
    (broker, reader)
}

/// Fetch version 4 of all that partition 0 of `t` has.
fn fetch() -> Vec<u8> {
    let bytes_max = i32::try_from(ANSWER_BYTES * 2).unwrap().to_be_bytes();
    let mut request = Vec::new();
    // Key, version, correlation id, client id; replica, wait, least bytes, most bytes, isolation.
    request.extend([0, 1, 0, 4, 0, 0, 0, 7, 0xff, 0xff]);
    request.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1]);
    request.extend(bytes_max);
    request.push(0);
    // One topic of one partition, from offset 0.
    request.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
    request.extend([0; 8]);
    request.extend(bytes_max);
    let length = u32::try_from(request.len()).unwrap().to_be_bytes();
    [&length[..], &request].concat()
}

#[test]
fn a_signal_that_is_sent_twice_lets_requests_in_flight_end() {
    let home = tempfile::tempdir().unwrap();
    let (broker, reader) = drains(home.path());
    broker.signal(Signal::TERM);
    let broker = broker.until("stopping");
    broker.signal(Signal::TERM);
    let broker = broker.until("counts as the same");
    broker.signal(Signal::INT);
    let broker = broker.until("counts as the same");
    drop(reader);
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn a_later_signal_stops_at_once() {
    let home = tempfile::tempdir().unwrap();
    let (broker, reader) = drains(home.path());
    let began = Instant::now();
    broker.signal(Signal::TERM);
    let mut broker = broker.until("stopping");
    while !broker.has_ended() {
        broker.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "the first repeats do not count");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("stopped at once by a second signal"), "{log}");
    drop(reader);
}
