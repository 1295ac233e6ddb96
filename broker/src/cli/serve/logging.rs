//! Log lines: text on a terminal, JSON otherwise, on standard error.

use std::io::{self, IsTerminal};

use tollgate_broker::config::{Log, LogFormat};
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::cli::exit::Usage;

/// The log, whose level can be changed.
pub(super) struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logging {
    /// Starts logging as configured. Panics are log lines from here on.
    ///
    /// # Errors
    /// When the level is none.
    pub(super) fn start(config: &Log) -> anyhow::Result<Logging> {
        let (filter, handle) = reload::Layer::new(parse(&config.level)?);
        let terminal = io::stderr().is_terminal();
        let json = match config.format {
            LogFormat::Auto => !terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let registry = tracing_subscriber::registry().with(filter);
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        if json {
            registry.with(lines.json().flatten_event(true)).try_init()?;
        } else {
            let colours = terminal && std::env::var_os("NO_COLOR").is_none();
            registry.with(lines.with_ansi(colours)).try_init()?;
        }
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string);
            tracing::error!(location, message = panic.payload_as_str(), "a panic");
        }));
        Ok(Logging { filter: handle })
    }

    /// Changes the level.
    ///
    /// # Errors
    /// When it is none; the old one stays.
    pub(super) fn level(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.filter.reload(parse(level)?)?)
    }
}

fn parse(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).map_err(|e| Usage::error(format!("log.level: {e}")))
}
