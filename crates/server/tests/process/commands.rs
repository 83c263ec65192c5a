//! The broker as a process, and the commands of the first minutes on it.

use std::fmt::Write as _;

use crate::common::{Broker, Follower, run};
use rustix::process::Signal;

fn numbers(count: u32) -> String {
    (1..=count).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{number}");
        text
    })
}

#[test]
fn lines_come_back_in_order_also_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &[]);
    assert_eq!(broker.ok(&["topic", "create", "t"], ""), "t\n");
    let lines = numbers(50_000);
    assert_eq!(broker.ok(&["produce", "t", "-z", "lz4"], &lines), "");
    assert_eq!(broker.ok(&["consume", "t"], ""), lines);
    let log = broker.stop();
    assert!(log.contains("stopped"), "{log}");

    let broker = Broker::start(home.path(), &[]);
    assert_eq!(broker.ok(&["consume", "t"], ""), lines);
    broker.signal(Signal::KILL);
    let (code, _) = broker.wait();
    assert_eq!(code, None);

    let broker = Broker::start(home.path(), &[]);
    assert_eq!(broker.ok(&["consume", "t"], ""), lines);
    assert_eq!(broker.ok(&["consume", "t", "-n", "2", "--from", "10", "--print", "offset"], ""), "10\t11\n11\t12\n");
    broker.stop();
}

#[test]
fn keys_headers_and_null_values_survive() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &["--kafka-num-partitions", "1"]);
    let input = "a:1\nb:NULL\nplain\n";
    broker.ok(&["produce", "t", "-k", ":", "--null-marker", "NULL", "-H", "x=y"], input);
    let expected = "0\ta\tx=y\t1\n1\tb\tx=y\tnull\n2\tnull\tx=y\tplain\n";
    assert_eq!(broker.ok(&["consume", "t", "--print", "offset,key,headers"], ""), expected);
    broker.stop();
}

#[test]
fn a_group_goes_on_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &["--kafka-group-initial-rebalance-delay-ms", "0"]);
    broker.ok(&["topic", "create", "t", "-p", "2"], "");
    broker.ok(&["produce", "t", "-p", "0"], "1\n2\n3\n");
    assert_eq!(broker.ok(&["consume", "t", "-g", "g"], ""), "1\n2\n3\n");
    broker.ok(&["produce", "t", "-p", "0"], "4\n");
    assert_eq!(broker.ok(&["consume", "t", "-g", "g"], ""), "4\n");
    let page = broker.ok(&["group", "describe", "g"], "");
    assert!(page.contains("Empty"), "{page}");
    assert!(broker.ok(&["group", "list"], "").contains("g  "), "{page}");
    assert_eq!(broker.ok(&["group", "delete", "g"], ""), "g\n");
    let gone = broker.client(&["group", "delete", "g"], "");
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("GROUP_ID_NOT_FOUND"), "{}", gone.stderr);
    broker.stop();
}

#[test]
fn an_interrupt_or_sigterm_commits_what_was_printed_and_leaves_the_group() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &["--kafka-group-initial-rebalance-delay-ms", "0"]);
    broker.ok(&["topic", "create", "t"], "");
    broker.ok(&["produce", "t"], "1\n2\n");
    for (group, signal) in [("g", Signal::INT), ("h", Signal::TERM)] {
        let follower = Follower::start(&broker, &["consume", "t", "-g", group, "--follow"]);
        assert_eq!(follower.lines(2), ["1", "2"]);
        assert_eq!(follower.end_by(signal), (Some(0), String::new()));
        let page = broker.ok(&["group", "describe", group], "");
        assert!(page.contains("members   0"), "{page}");
        assert_eq!(broker.ok(&["consume", "t", "-g", group], ""), "");
    }
    broker.stop();
}

#[test]
fn whose_output_nobody_reads_any_more_leaves_the_group() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &["--kafka-group-initial-rebalance-delay-ms", "0"]);
    broker.ok(&["produce", "t"], "1\n2\n");
    let follower = Follower::start(&broker, &["consume", "t", "-g", "g", "--follow"]);
    assert_eq!(follower.lines(2), ["1", "2"]);
    let ended = follower.unread(|| drop(broker.ok(&["produce", "t"], "3\n")));
    assert_eq!(ended, (Some(0), String::new()));
    let page = broker.ok(&["group", "describe", "g"], "");
    assert!(page.contains("members   0"), "{page}");
    broker.stop();
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let home = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &[]);
    assert_eq!(broker.ok(&["topic", "create", "b", "a", "-p", "3", "-c", "max.message.bytes=2000000"], ""), "b\na\n");
    assert_eq!(broker.ok(&["topic", "list"], ""), "a\nb\n");
    let page = broker.ok(&["topic", "describe", "a"], "");
    assert!(page.contains("partitions  3") && page.contains("max.message.bytes = 2000000"), "{page}");
    let again = broker.client(&["topic", "create", "a"], "");
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("TOPIC_ALREADY_EXISTS"), "{}", again.stderr);
    broker.ok(&["topic", "create", "a", "--if-not-exists"], "");
    assert_eq!(broker.ok(&["topic", "delete", "a"], ""), "a\n");
    let gone = broker.client(&["topic", "delete", "a"], "");
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("does not exist"), "{}", gone.stderr);
    let missing = broker.client(&["consume", "a"], "");
    assert_eq!(missing.code, Some(1));
    broker.stop();
}

#[test]
fn a_second_process_on_the_same_directory_or_port_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let broker = Broker::start(home.path(), &[]);
    let second = run(&["--data-dir", home.path().to_str().unwrap(), "--kafka-listeners", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains(home.path().to_str().unwrap()), "{}", second.stderr);
    let second = run(&["--data-dir", other.path().to_str().unwrap(), "--kafka-listeners", &broker.address]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("another process listens there"), "{}", second.stderr);
    broker.stop();
}

#[test]
fn a_hangup_reads_the_file_again() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("r.toml");
    std::fs::write(&file, "log_level = 'info'\n").unwrap();
    let broker = Broker::start(&home.path().join("data"), &["--config", file.to_str().unwrap()]);
    std::fs::write(&file, "log_level = 'info'\nreserve_bytes = '1MiB'\n").unwrap();
    broker.signal(Signal::HUP);
    let broker = broker.until("read again");
    let log = broker.stop();
    assert!(log.contains("stopping"), "{log}");
}
