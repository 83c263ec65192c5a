//! librdkafka's load tool and its own test programs, from the source inside the crate `rdkafka-sys`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::once;
use crate::process;

/// Of the crate; the library inside is 2.12.1.
const CRATE_VERSION: &str = "4.10.0";
const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// Where [`TOLERANCE`] goes.
const TOLERANCE_AFTER: &str = "\ntest_error_cb(rd_kafka_t *rk, int err, const char *reason, void *opaque) {\n";
const TOLERANCE: &str = r#"        const char *restarts = getenv("CHECK_RESTARTS");
        if (restarts && *restarts &&
            (err == RD_KAFKA_RESP_ERR__TRANSPORT ||
             err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)) {
                TEST_SAY("%s goes on after: %s: %s\n", rd_kafka_name(rk),
                         rd_kafka_err2str(err), reason);
                return;
        }
"#;

/// The built source tree.
#[derive(Clone, Debug)]
pub struct Librdkafka {
    source: PathBuf,
}

impl Librdkafka {
    /// The load tool.
    pub fn performance(&self) -> PathBuf {
        self.source.join("examples/rdkafka_performance")
    }

    /// The folder that the test programs run in.
    pub fn tests(&self) -> PathBuf {
        self.source.join("tests")
    }
}

/// The load tool. Needs cargo, a C compiler, make and zlib's headers.
pub fn installed() -> Result<Librdkafka> {
    let recipe = format!("rdkafka-sys {CRATE_VERSION}, load tool, 1");
    let folder = once("librdkafka", &recipe, |folder| {
        fetch(folder)?;
        let source = source_in(folder);
        // The crate's copies of the scripts are not executable. Without the libraries that a broker on the loopback
        // interface has no use for; lz4 and snappy are inside.
        let mut configure = Command::new("bash");
        configure.current_dir(&source).arg("./configure");
        configure.args(["--disable-ssl", "--disable-gssapi", "--disable-curl", "--disable-zstd"]);
        configure.args(["--disable-lz4-ext", "--enable-static"]);
        process::run(&mut configure, BUILD_LIMIT)?;
        make(&source, &["-C", "src", "librdkafka.a"])?;
        make(&source, &["-C", "examples", "rdkafka_performance"])
    })?;
    Ok(Librdkafka { source: source_in(&folder) })
}

/// The test programs too. Needs a C++ compiler beside what the load tool needs.
pub fn with_tests() -> Result<Librdkafka> {
    let recipe = format!("rdkafka-sys {CRATE_VERSION}, tests, 2\n{TOLERANCE}");
    let folder = once("librdkafka-tests", &recipe, |folder| {
        fetch(folder)?;
        let source = source_in(folder);
        let mut configure = Command::new("bash");
        configure.current_dir(&source).arg("./configure");
        // zstd stays, so that its compression is tried as well where the headers are.
        configure.args(["--disable-gssapi", "--disable-curl", "--disable-ssl", "--disable-lz4-ext"]);
        process::run(&mut configure, BUILD_LIMIT)?;
        tolerate(&source.join("tests/test.c"))?;
        make(&source, &["libs"])?;
        make(&source, &["-C", "tests", "test-runner"])
    })?;
    Ok(Librdkafka { source: source_in(&folder) })
}

/// While nodes are restarted a client is told that a connection broke. The suite's own code ends a test for any such
/// word, though the client goes on by itself: that the test passes is what counts then.
fn tolerate(test: &Path) -> Result<()> {
    let text = fs::read_to_string(test)?;
    let (before, after) = text.split_once(TOLERANCE_AFTER).context("the suite's callback for errors")?;
    fs::write(test, format!("{before}{TOLERANCE_AFTER}{TOLERANCE}{after}"))?;
    Ok(())
}

fn source_in(folder: &Path) -> PathBuf {
    folder.join("vendor/rdkafka-sys/librdkafka")
}

/// Lets cargo bring the crate's source: the registry's ordinary client checks its digest.
fn fetch(folder: &Path) -> Result<()> {
    let package = "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n";
    let manifest = format!("{package}\n[dependencies]\nrdkafka-sys = \"={CRATE_VERSION}\"\n");
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let mut vendor = Command::new("cargo");
    vendor.current_dir(folder).args(["vendor", "--quiet", "vendor"]);
    process::run(&mut vendor, BUILD_LIMIT)?;
    Ok(())
}

fn make(source: &Path, arguments: &[&str]) -> Result<()> {
    let mut make = Command::new("make");
    make.current_dir(source).arg("-j2").args(arguments);
    process::run(&mut make, BUILD_LIMIT)?;
    Ok(())
}
