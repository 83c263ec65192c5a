# What contributors and CI run. `just` alone lists it. Everything works with plain cargo too: see README.md.

set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list --unsorted

# All that must hold before a commit; changes nothing in the tree.
verify: fmt-check clippy tidy test doc

# Formats, applies clippy's suggestions, and writes generated pages anew.
fix:
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all
    cargo xtask docs
    cargo xtask tidy --shrink

fmt-check:
    cargo fmt --all --check

clippy:
    cargo clippy --locked --workspace --all-targets -- -D warnings

tidy:
    cargo xtask tidy

# Everything, or what ARGS name: `just test -p shard`, `just test --test kcat`.
test *ARGS:
    cargo xtask test {{ ARGS }}

doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --all-features

# A broker from this tree; ARGS are its flags.
run *ARGS:
    cargo run --release --bin rosettamq -- {{ ARGS }}

# The benchmarks of docs/performance.md; without ARGS it lists them.
bench *ARGS:
    cargo run --release --package benches -- {{ ARGS }}

# One target for some seconds; the targets are the files of fuzz/fuzz_targets.
fuzz TARGET SECONDS="300":
    cargo xtask fuzz {{ TARGET }} {{ SECONDS }}

fuzz-all SECONDS="300":
    cargo xtask fuzz-all {{ SECONDS }}

# One simulated cluster; shows what it logs, and writes its trace to target/sim.trace. ARGS are those of `sim run`.
sim SEED *ARGS:
    cargo run --release --package sim -- run {{ SEED }} --log warn,sim=info --trace target/sim.trace {{ ARGS }}

# COUNT simulated clusters, and what they covered. ARGS are those of `sim many`: `just sim-many 100 --first 900`.
sim-many COUNT *ARGS:
    cargo run --release --package sim -- many {{ COUNT }} {{ ARGS }}

# Faults planted in the code, each of which simulated clusters must find. ARGS are those of `sim planted`.
sim-planted *ARGS:
    cargo run --release --package sim --features planted -- planted {{ ARGS }}

# Faults on a cluster at work, for so many minutes; ARGS are NODES, SEED and kinds of faults. See docs/testing.md.
nemesis MINUTES="30" *ARGS:
    cargo run --release --package tests --bin nemesis -- {{ MINUTES }} {{ ARGS }}

# Client programs, tools and suites of others against three nodes of which one is restarted every so many seconds; ARGS are suites.
restarts SECONDS="30" *ARGS:
    cargo run --release --package tests --bin restarts -- {{ SECONDS }} {{ ARGS }}

# A rolling upgrade of three nodes under load, from the binary of an older build that knows clusters.
upgrade OLD_BINARY:
    cargo run --release --package tests --bin upgrade -- rolling {{ OLD_BINARY }}

# The same of a node that is alone, from any older build, which then grows to three.
upgrade-lone OLD_BINARY:
    cargo run --release --package tests --bin upgrade -- lone {{ OLD_BINARY }}

# What takes hours: all tests with the long ones among them, a thousand simulated clusters, then every fuzz target for an hour.
nightly:
    TEST_NIGHTLY=1 CRASH_SEEDS=10000 cargo xtask test
    just sim-many 1000
    just sim-planted
    just nemesis 30
    just nemesis 30 5
    cargo xtask fuzz-all 3600
