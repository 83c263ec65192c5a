//! librdkafka's load tool and its own test programs, from the source inside the crate `rdkafka-sys`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::once;
use crate::process;

/// Of the crate; the library inside is 2.12.1.
const CRATE_VERSION: &str = "4.10.0";
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

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
    let recipe = format!("rdkafka-sys {CRATE_VERSION}, tests, 1");
    let folder = once("librdkafka-tests", &recipe, |folder| {
        fetch(folder)?;
        let source = source_in(folder);
        let mut configure = Command::new("bash");
        configure.current_dir(&source).arg("./configure");
        // zstd stays, so that its compression is tried as well where the headers are.
        configure.args(["--disable-gssapi", "--disable-curl", "--disable-ssl", "--disable-lz4-ext"]);
        process::run(&mut configure, BUILD_LIMIT)?;
        make(&source, &["libs"])?;
        make(&source, &["-C", "tests", "test-runner"])
    })?;
    Ok(Librdkafka { source: source_in(&folder) })
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
