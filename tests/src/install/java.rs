//! The official Java clients, tools and broker of one Kafka release, from Maven, and our client program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{once, recipe_of};
use crate::{places, process};

/// Where the jars and our compiled classes lie.
#[derive(Clone, Debug)]
pub struct Java {
    folder: PathBuf,
}

impl Java {
    pub fn classpath(&self) -> OsString {
        let mut path = self.folder.join("classes").into_os_string();
        path.push(":");
        path.push(self.folder.join("libs").join("*"));
        path
    }

    /// Runs a class of Kafka's or ours with a small heap.
    pub fn command(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        let log4j = places::client_sources().join("java/log4j2-client.properties");
        command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
        command.arg("-cp").arg(self.classpath()).arg(class);
        command
    }
}

/// Needs a JDK 17 and Maven.
pub fn installed() -> Result<Java> {
    let sources = places::client_sources().join("java");
    let recipe = recipe_of(&sources, &["pom.xml", "Check.java", "History.java"])?;
    let folder = once("java", &recipe, |folder| {
        let libs = folder.join("libs");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(sources.join("pom.xml"));
        maven.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", libs.display()));
        process::run(&mut maven, Duration::from_secs(900))?;
        let mut compiler = Command::new("javac");
        compiler.arg("-d").arg(folder.join("classes")).arg("-cp").arg(libs.join("*"));
        compiler.arg(sources.join("Check.java")).arg(sources.join("History.java"));
        process::run(&mut compiler, Duration::from_secs(120))?;
        Ok(())
    })?;
    Ok(Java { folder })
}
