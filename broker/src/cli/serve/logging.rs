//! Log lines, text on a terminal and JSON otherwise, on standard error; and traces to a collector.

use std::io::{self, IsTerminal};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tollgate_broker::config::{Log, LogFormat, Telemetry};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::filter_fn, layer::SubscriberExt, reload,
    util::SubscriberInitExt,
};

use crate::cli::exit::Usage;

/// The log, whose level can be changed, and the way to the collector.
pub(in crate::cli) struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    traces: Option<SdkTracerProvider>,
}

impl Logging {
    /// Starts logging as configured. Panics are log lines from here on.
    ///
    /// # Errors
    /// When the level is none, or the collector's address.
    pub(super) fn start(config: &Log, telemetry: &Telemetry) -> anyhow::Result<Logging> {
        let (filter, handle) = reload::Layer::new(parse(&config.level)?);
        let terminal = io::stderr().is_terminal();
        let json = match config.format {
            LogFormat::Auto => !terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let lines = if json {
            lines.json().flatten_event(true).boxed()
        } else {
            let colours = terminal && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colours).boxed()
        };
        let traces = traces(telemetry)?;
        let spans = traces.as_ref().map(|provider| {
            // What it would add of its own costs time, and tells nothing of a batch.
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_context_activation(false)
                .with_filter(filter_fn(is_traced))
        });
        tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init()?;
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string);
            tracing::error!(location, message = panic.payload_as_str(), "a panic");
        }));
        Ok(Logging { filter: handle, traces })
    }

    /// Changes the level.
    ///
    /// # Errors
    /// When it is none; the old one stays.
    pub(super) fn level(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.filter.reload(parse(level)?)?)
    }

    /// Sends what was not sent yet. Blocks for as long as the collector takes, some seconds at most;
    /// outside of a runtime.
    pub(super) fn finish(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Batches and recipes, whatever the level of the log is, and what went wrong in them.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    if metadata.is_span() {
        let ours = metadata.target().starts_with("tollgate");
        return ours && matches!(metadata.name(), "batch" | "recipe");
    }
    *metadata.level() <= Level::WARN
}

fn traces(config: &Telemetry) -> anyhow::Result<Option<SdkTracerProvider>> {
    let Telemetry { otlp_endpoint, otlp_sample_ratio, service_name } = config;
    if otlp_endpoint.is_empty() {
        return Ok(None);
    }
    if !(0.0..=1.0).contains(otlp_sample_ratio) {
        return Err(Usage::error("telemetry.otlp_sample_ratio: a number from 0.0 to 1.0"));
    }
    // The exporter's HTTP client takes the process's provider. Another one is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(otlp_endpoint)
        .build()
        .map_err(|e| Usage::error(format!("telemetry.otlp_endpoint: {e}")))?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(*otlp_sample_ratio)));
    let resource = Resource::builder().with_service_name(service_name.clone()).build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// Judges both without starting anything.
pub(in crate::cli) fn check(config: &Log, telemetry: &Telemetry) -> Vec<anyhow::Error> {
    [parse(&config.level).err(), traces(telemetry).err()].into_iter().flatten().collect()
}

/// Reads a level or directives. A word alone that is no level would be taken for a module, of which
/// everything is then logged, and of everything else nothing.
fn parse(level: &str) -> anyhow::Result<EnvFilter> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let words = level.split(',').map(str::trim).filter(|word| !word.is_empty());
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    for word in words {
        let names = word.contains(['=', '[', ':']) || word.parse::<u8>().is_ok_and(|n| n <= 5);
        if !names && !is_level(word) {
            let levels = LEVELS.join(", ");
            return Err(Usage::error(format!(
                "log.level: `{word}` is no level ({levels}); a module has one as in `{word}=debug`"
            )));
        }
    }
    EnvFilter::try_new(level).map_err(|e| Usage::error(format!("log.level: {e}")))
}
