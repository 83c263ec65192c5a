//! No answer leaves before its data's fdatasync has returned, as the kernel saw it.

use std::collections::HashMap;
use std::fs;
use std::thread;

use anyhow::{Context, Result, ensure};
use tests::broker::{Peer, Settings};
use tests::install;
use tests::wire::requests::{self, PRODUCE, PRODUCE_VERSION, produce_answer, produce_body};
use tests::wire::{Batch, Connection};

/// One call of the traced program, with the times of entry and return.
#[derive(Debug)]
struct Call {
    name: String,
    /// What its first argument is, as strace names descriptors: a path or a socket with both addresses.
    target: String,
    entered: f64,
    returned: f64,
    result: i64,
}

const READS: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];
const ANSWERS: [&str; 5] = ["write", "writev", "sendto", "sendmsg", "sendfile"];
const LOG_WRITES: [&str; 5] = ["write", "pwrite64", "writev", "pwritev", "pwritev2"];
const SYNCS: [&str; 2] = ["fdatasync", "fsync"];

/// Requests from four connections at once, each with one in flight: for every answer there is a write to the log
/// that began after the request was read, and a sync of the log that began after that write and returned before
/// the answer was sent.
#[test]
fn no_answer_before_its_fdatasync_returned() -> Result<()> {
    let mut settings = Settings::new()?;
    if settings.peer != Peer::Rosettamq {
        return Ok(());
    }
    let Some(strace) = install::strace::installed()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace");
    let calls = [&READS[..], &ANSWERS[..], &LOG_WRITES[..], &SYNCS[..]].concat().join(",");
    let options = ["-f", "-q", "-ttt", "-T", "-yy", "-s", "0", "-e", "signal=none", "-e"];
    settings.wrapper = vec![strace.display().to_string()];
    settings.wrapper.extend(options.map(str::to_owned));
    settings.wrapper.extend([format!("trace={calls}"), "-o".to_owned(), trace.display().to_string()]);
    let mut broker = settings.start()?;
    ensure!(requests::create_topic(&mut Connection::open(broker.address())?, "t", 4, &[])? == 0, "creating a topic");

    let address = broker.address();
    let producers: Vec<_> = (0..4)
        .map(|partition| {
            thread::spawn(move || -> Result<(u16, usize)> {
                let mut connection = Connection::open(address)?;
                let body = produce_body("t", partition, -1, 10_000, &Batch::of(vec![vec![b'x'; 700]]).build());
                let rounds = 100;
                for _ in 0..rounds {
                    let answer = produce_answer(&connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
                    ensure!(answer.error == 0, "error {}", answer.error);
                }
                Ok((connection.local_port()?, rounds))
            })
        })
        .collect();
    let mut expected = Vec::new();
    for producer in producers {
        expected.push(producer.join().ok().context("a producer panicked")??);
    }
    broker.stop()?;

    let calls = parse(&fs::read_to_string(&trace)?);
    let data = broker.data().canonicalize()?.display().to_string();
    for (port, rounds) in expected {
        check(&calls, port, &data, rounds)?;
    }
    Ok(())
}

fn check(calls: &[Call], client: u16, data: &str, rounds: usize) -> Result<()> {
    let socket = format!(":{client}]");
    let on_socket = |call: &&Call| call.target.contains(&socket) && call.result > 0;
    let log: Vec<&Call> = calls.iter().filter(|call| call.target.starts_with(data)).collect();
    let mut answers = 0;
    let mut request_read = None;
    for call in calls.iter().filter(on_socket) {
        if READS.contains(&call.name.as_str()) {
            // The last bytes of the request that is open.
            request_read = Some(call.returned);
        } else if ANSWERS.contains(&call.name.as_str()) {
            let Some(read) = request_read.take() else { continue };
            answers += 1;
            let answered = call.entered;
            let durable = log.iter().filter(|write| LOG_WRITES.contains(&write.name.as_str())).any(|write| {
                write.entered >= read
                    && log.iter().any(|sync| {
                        SYNCS.contains(&sync.name.as_str())
                            && sync.result == 0
                            && sync.entered >= write.returned
                            && sync.returned <= answered
                    })
            });
            ensure!(
                durable,
                "answer {answers} to port {client} at {answered:.6}: nothing of {read:.6} was synced by then"
            );
        }
    }
    ensure!(answers >= rounds, "only {answers} of {rounds} answers were traced");
    Ok(())
}

/// Reads lines of `strace -f -ttt -T -yy`; a call that another interrupted is put together again.
fn parse(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, Call> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        // The pid may be padded by more than one space.
        let Some((pid, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        let Some((time, text)) = text.split_once(' ') else { continue };
        let Ok(time) = time.parse::<f64>() else { continue };
        if let Some(resumed) = text.strip_prefix("<... ") {
            if let (Some(mut call), Some((result, _))) = (open.remove(pid), ending(resumed)) {
                (call.returned, call.result) = (time, result);
                calls.push(call);
            }
            continue;
        }
        let Some((name, arguments)) = text.split_once('(') else { continue };
        let target = arguments.split_once('<').map_or("", |(_, named)| descriptor(named)).to_owned();
        let mut call = Call { name: name.to_owned(), target, entered: time, returned: time, result: -1 };
        if text.ends_with("<unfinished ...>") {
            open.insert(pid, call);
        } else if let Some((result, took)) = ending(text) {
            (call.returned, call.result) = (time + took, result);
            calls.push(call);
        }
    }
    calls.sort_by(|one, other| one.entered.total_cmp(&other.entered));
    calls
}

/// The name of a descriptor: up to the `>` that closes it, past the `->` inside a socket's.
fn descriptor(named: &str) -> &str {
    let mut from = 0;
    while let Some(found) = named[from..].find('>') {
        let at = from + found;
        if at == 0 || named.as_bytes()[at - 1] != b'-' {
            return &named[..at];
        }
        from = at + 1;
    }
    named
}

/// Result and duration at the end of a line: `= 5 <0.000012>`.
fn ending(line: &str) -> Option<(i64, f64)> {
    let (_, end) = line.rsplit_once(" = ")?;
    let result = end.split_whitespace().next()?.parse().ok()?;
    let took = end.rsplit_once('<').and_then(|(_, took)| took.trim_end_matches('>').parse().ok()).unwrap_or(0.0);
    Some((result, took))
}

#[test]
fn lines_of_strace_are_read() {
    let trace = "\
12 1.000000 recvfrom(9<TCP:[127.0.0.1:9092->127.0.0.1:4711]>, \"\"..., 100, 0, NULL, NULL) = 90 <0.000010>
13 1.000100 pwritev(5</data/log/1.seg>, [{iov_base=\"\"..., iov_len=100}], 1, 0) = 100 <0.000100>
14 1.000300 fdatasync(5</data/log/1.seg> <unfinished ...>
12 1.000350 recvfrom(9<TCP:[127.0.0.1:9092->127.0.0.1:4711]>, 0x1, 100, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.000010>
14 1.000400 <... fdatasync resumed>)  = 0 <0.000100>
12 1.000500 sendto(9<TCP:[127.0.0.1:9092->127.0.0.1:4711]>, \"\"..., 10, MSG_NOSIGNAL, NULL, 0) = 10 <0.000010>
";
    let calls = parse(trace);
    assert_eq!(calls.len(), 5);
    assert!(check(&calls, 4711, "/data", 1).is_ok());
    // An answer while the sync is still running.
    let early = trace.replace("12 1.000500 sendto", "12 1.000390 sendto");
    assert!(check(&parse(&early), 4711, "/data", 1).is_err());
}
