//! Listeners, advertised addresses, idle connections and the limit on connections.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::broker::{ExtraListener, Peer, Settings, free_port};
use tests::wire::Connection;
use tests::wire::requests::{self, METADATA};

/// E21: closed cleanly after `connections.max.idle.ms`, and not before.
#[test]
fn idle_connections_are_closed_e21() -> Result<()> {
    let mut settings = Settings::new()?;
    settings.connections_idle_ms = Some(1500);
    let mut broker = settings.start()?;
    let mut idle = Connection::open(broker.address())?;
    let mut busy = Connection::open(broker.address())?;
    idle.call(METADATA, 1, &[0, 0, 0, 0])?;
    let since = Instant::now();
    // The busy one asks more often than that, and lives.
    while since.elapsed() < Duration::from_secs(4) {
        busy.call(METADATA, 1, &[0, 0, 0, 0]).context("a connection in use was closed")?;
        std::thread::sleep(Duration::from_millis(200));
    }
    idle.expect_closed(Duration::from_secs(5)).context("an idle connection")?;
    // One that never asked anything too.
    let mut silent = Connection::open(broker.address())?;
    silent.expect_closed(Duration::from_secs(6)).context("a silent connection")?;
    broker.assert_healthy()
}

/// A connection that waits in a long poll is not idle.
#[test]
fn waiting_connections_are_not_idle_e21() -> Result<()> {
    let mut settings = Settings::new()?;
    if settings.peer == Peer::Kafka {
        // Kafka closes it: a muted channel counts as idle there.
        return Ok(());
    }
    settings.connections_idle_ms = Some(1000);
    let broker = settings.start()?;
    let mut connection = Connection::open(broker.address())?;
    ensure!(requests::create_topic(&mut connection, "t", 1, &[])? == 0);
    let body = requests::fetch_body("t", 0, 0, 3000, 1000);
    let answer = connection.call(requests::FETCH, requests::FETCH_VERSION, &body).context("a long poll was cut")?;
    ensure!(requests::fetch_answer(&answer)?.error == 0);
    Ok(())
}

#[test]
fn connections_beyond_the_limit_are_refused_and_make_room_again() -> Result<()> {
    let mut settings = Settings::new()?;
    if settings.peer == Peer::Kafka {
        // Kafka lets them wait instead.
        return Ok(());
    }
    settings.connections_max = Some(10);
    let mut broker = settings.start()?;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::open(broker.address())?;
        if connection.call(METADATA, 1, &[0, 0, 0, 0]).is_err() {
            break;
        }
        held.push(connection);
    }
    ensure!(held.len() >= 9, "only {} of 10 connections", held.len());
    let mut beyond = Connection::open(broker.address())?;
    beyond.set_limit(Duration::from_secs(5))?;
    ensure!(beyond.call(METADATA, 1, &[0, 0, 0, 0]).is_err(), "a connection beyond the limit was served");
    held.clear();
    tests::process::wait_until("room again", Duration::from_secs(10), || {
        let mut connection = Connection::open(broker.address())?;
        Ok(connection.call(METADATA, 1, &[0, 0, 0, 0]).is_ok())
    })?;
    broker.assert_healthy()
}

/// E11: Metadata answers for the listener that was asked.
#[test]
fn every_listener_advertises_its_own_address_e11() -> Result<()> {
    let mut settings = Settings::new()?;
    let (inner, outer) = (free_port()?, free_port()?);
    settings.listeners = vec![
        ExtraListener {
            name: "inner".to_owned(),
            address: format!("127.0.0.1:{inner}"),
            advertised: format!("inner.example:{inner}"),
        },
        ExtraListener {
            name: "outer".to_owned(),
            address: format!("127.0.0.1:{outer}"),
            advertised: "outer.example:29999".to_owned(),
        },
    ];
    let broker = settings.start()?;
    let first = requests::brokers(&mut Connection::open(broker.address())?)?;
    ensure!(first[0].1 == "127.0.0.1" && first[0].2 == i32::from(broker.port()), "{first:?}");
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let inside = requests::brokers(&mut Connection::open(at(inner))?)?;
    ensure!((inside[0].1.as_str(), inside[0].2) == ("inner.example", i32::from(inner)), "{inside:?}");
    let outside = requests::brokers(&mut Connection::open(at(outer))?)?;
    ensure!((outside[0].1.as_str(), outside[0].2) == ("outer.example", 29_999), "{outside:?}");
    ensure!(first[0].0 == outside[0].0 && first.len() == 1, "one broker under all names");
    Ok(())
}

#[test]
fn a_listener_may_be_ipv6() -> Result<()> {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        tests::toolchain::missing_is("a listener on IPv6", "an IPv6 loopback interface")?;
        return Ok(());
    }
    let mut settings = Settings::new()?;
    let port = free_port()?;
    let address = format!("[::1]:{port}");
    settings.listeners = vec![ExtraListener { name: "six".to_owned(), address: address.clone(), advertised: address }];
    let broker = settings.start()?;
    let there = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let brokers = requests::brokers(&mut Connection::open(there)?)?;
    ensure!(brokers[0].1.trim_matches(['[', ']']) == "::1" && brokers[0].2 == i32::from(port), "{brokers:?}");
    drop(broker);
    Ok(())
}
