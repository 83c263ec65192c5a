//! A few short seeds and a whole one, each in a process of its own; `just sim-many` runs many of those.

use std::process::{Child, Command, Stdio};

fn start(words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Whether it passed; its last line.
fn end(program: Child) -> (bool, String) {
    let output = program.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().map_or_else(|| error.lines().take(5).collect(), str::to_owned);
    (output.status.success(), last)
}

fn sim(words: &[&str]) -> (bool, String) {
    end(start(words))
}

/// What the run came to, without the seed's number.
fn trace(line: &str) -> Option<&str> {
    line.split_once(" trace ")?.1.split_once(" nodes ").map(|(trace, _)| trace)
}

#[test]
fn a_seed_decides_everything() {
    let run = |seed| sim(&["run", seed, "--seconds", "10"]);
    let (passed, line) = run("1");
    assert!(passed, "{line}");
    assert_eq!(run("1").1, line);
    let (_, other) = sim(&["run", "2", "--calm", "--seconds", "1"]);
    assert!(trace(&line).is_some() && trace(&other).is_some(), "{line}\n{other}");
    assert_ne!(trace(&other), trace(&line));
}

#[test]
fn without_faults_everything_is_answered_and_there() {
    let (passed, line) = sim(&["run", "3", "--calm", "--seconds", "8"]);
    assert!(passed, "{line}");
    assert!(line.contains(" faults 0 "), "{line}");
}

#[test]
fn some_seeds_hold_under_faults() {
    for seed in ["4", "5"] {
        let (passed, line) = sim(&["run", seed, "--seconds", "20"]);
        assert!(passed, "{line}");
    }
}

/// At least five simulated minutes, 10,000 acknowledged operations and 20 faults: less than that fails.
#[test]
fn a_whole_seed_holds_and_repeats() {
    let again = start(&["run", "108"]);
    let (passed, line) = sim(&["run", "108"]);
    assert!(passed, "{line}");
    assert_eq!(end(again).1, line);
}
