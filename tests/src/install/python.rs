//! Python's two Kafka clients in a virtual environment, with kafka-python's own tests from its source archive.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{once, recipe_of};
use crate::{places, process};

const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// A virtual environment with both clients.
#[derive(Clone, Debug)]
pub struct Python {
    folder: PathBuf,
}

impl Python {
    pub fn command(&self) -> Command {
        Command::new(self.folder.join("venv/bin/python"))
    }

    /// The unpacked source archive of kafka-python; its integration tests are in `test/integration`.
    pub fn kafka_python_source(&self) -> PathBuf {
        self.folder.join("kafka-python")
    }
}

/// Needs Python 3 with `venv`.
pub fn installed() -> Result<Python> {
    let sources = places::client_sources().join("python");
    let requirements = sources.join("requirements.txt");
    let recipe = recipe_of(&sources, &["requirements.txt", "kafka_python_service.py"])?;
    let folder = once("python", &recipe, |folder| {
        let venv = folder.join("venv");
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&venv), INSTALL_LIMIT)?;
        let pip = |arguments: &[&str]| {
            let mut pip = Command::new(venv.join("bin/python"));
            pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments);
            pip
        };
        process::run(pip(&["install", "-r"]).arg(&requirements), INSTALL_LIMIT)?;
        // The tests are only in the source archive, of the same version.
        let version =
            recipe.lines().find(|line| line.starts_with("kafka-python==")).context("kafka-python's version")?;
        let archives = folder.join("archives");
        let mut download = pip(&["download", "--no-deps", "--no-binary", "kafka-python", version, "-d"]);
        process::run(download.arg(&archives), INSTALL_LIMIT)?;
        let archive = fs::read_dir(&archives)?.next().context("no archive of kafka-python")??.path();
        let unpacked = folder.join("kafka-python");
        fs::create_dir_all(&unpacked)?;
        let mut tar = Command::new("tar");
        tar.arg("xf").arg(&archive).args(["--strip-components=1", "-C"]).arg(&unpacked);
        process::run(&mut tar, INSTALL_LIMIT)?;
        // The archive leaves out what makes its tests a package, and a module that they import.
        fs::write(unpacked.join("test/__init__.py"), "")?;
        fs::copy(sources.join("kafka_python_service.py"), unpacked.join("test/service.py"))?;
        Ok(())
    })?;
    Ok(Python { folder })
}
