//! Logging: lines for people by default, JSON on request, always to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The consensus library tells every step at `info`. It is heard when a filter names it.
const QUIET: &str = "openraft=error";

fn with_quiet_modules(filter: &str) -> String {
    // Of two directives for a module the later one holds.
    format!("{QUIET},{filter}")
}

/// Changes the level while the process runs.
#[derive(Debug, Clone)]
pub(crate) struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl LevelHandle {
    /// `filter` MUST have passed [`check_filter`].
    pub(crate) fn set(&self, filter: &str) {
        // Fails only when logging itself is gone.
        let _ = self.0.reload(EnvFilter::new(with_quiet_modules(filter)));
    }
}

/// Whether a text is a log filter; the reason when it is not.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    // A word that is no level would be taken for the name of a module, and silence everything else.
    for directive in filter.split(',').filter(|part| !part.contains('=')) {
        let level = directive.trim().parse::<tracing::level_filters::LevelFilter>();
        // Nothing at all would be read as the level of errors.
        if directive.trim().is_empty() || level.is_err() {
            return Err(format!(
                "{directive:?} is none of error, warn, info, debug, trace, off, and is no MODULE=LEVEL"
            ));
        }
    }
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// Starts logging. `filter` MUST have passed [`check_filter`].
pub(crate) fn start(filter: &str, json: bool) -> Result<LevelHandle, TryInitError> {
    let filter = EnvFilter::new(with_quiet_modules(filter));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(std::io::stderr);
        registry.with(lines).try_init()?;
    } else {
        let lines = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
        registry.with(lines).try_init()?;
    }
    Ok(LevelHandle(handle))
}

/// Panics become log lines like everything else, with the place; each ends only the task it is in.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("of unknown kind");
        let trace = std::backtrace::Backtrace::capture();
        tracing::error!(place, "a defect was met: panic: {text}");
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            tracing::error!("{trace}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_levels_of_modules() {
        for good in ["info", "off", "warn,kafka=debug", "kafka=trace"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["loud", "info,kafka", "kafka=loud", ""] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
