//! `tollgate serve`: a broker as a process.

use std::time::Duration;

use anyhow::Context;
use tollgate_broker::{Broker, Config, recipes};

use super::{exit::Exit, output::Output, settings};

pub(super) mod logging;
mod ready;
mod signals;
mod tenants;

use self::{logging::Logging, ready::Ready, tenants::FirstTenant};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    settings: settings::Args,
    /// Creates this tenant when it is missing, with a profile other than `default` if one is named;
    /// may be repeated
    #[arg(long = "tenant", value_name = "ID[=PROFILE]")]
    tenants: Vec<FirstTenant>,
}

const EXAMPLES: &str = "\
Examples:
  tollgate serve --tenant acme                      QUIC on 127.0.0.1:4433, HTTP on 127.0.0.1:8080,
                                                    everything in ./tollgate-data
  tollgate serve --listen 0.0.0.0:4433 --data-dir /var/lib/tollgate
  tollgate serve --listen 127.0.0.1:0 --output json | jq .listen
  TOLLGATE_LIMITS__FRAME_BYTES_MAX=4194304 tollgate serve --config tollgate.toml

With no certificates configured, a development authority is made in the data directory. Tenants are
kept there too: --tenant is for trials, and changes none that exists. `tollgate config print` shows
every key.

Signals:
  SIGTERM, SIGINT  drain: nothing new begins, what runs may finish; a second one stops at once
  SIGHUP           reload certificates, tokens, revocations, the profiles of tenants, the secrets
                   and certificates of upstreams, and the log level; what is wrong is refused, and
                   the old kept";

/// Events that the runtime takes between two looks at the sockets (61 is tokio's): the endpoint is
/// one task among those of many streams, and its packets should not wait for theirs.
const EVENT_INTERVAL: u32 = 31;

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let config = args.settings.load()?;
    let logging = Logging::start(&config.log, &config.telemetry)?;
    let threads = config.runtime.threads();
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime =
        runtime.worker_threads(threads).event_interval(EVENT_INTERVAL).enable_all().build()?;
    let exit = runtime.block_on(serve(args, config, &logging, output));
    // A recipe that blocks its thread does not keep the process.
    runtime.shutdown_background();
    logging.finish();
    exit
}

async fn serve(
    args: &Args,
    config: Config,
    logging: &Logging,
    output: Output,
) -> anyhow::Result<Exit> {
    // Before there is anything to lose: a signal from here on is heeded.
    let (mut end, mut hang_up) = signals::heed()?;
    let catalog = recipes::builtin().build().context("cannot build the catalog of recipes")?;
    let mut broker = Broker::start(config.clone(), catalog).await?;
    tenants::create_missing(broker.tenants(), &args.tenants).await?;
    tracing::info!(listen = %broker.local_addr(), threads = config.runtime.threads(), "ready");
    Ready::of(&broker, &config).print(output)?;
    signals::tell(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            () = end.next() => break,
            () = hang_up.next() => {
                signals::tell_reloading();
                reload(args, &config, &broker, logging).await;
                signals::tell(&[sd_notify::NotifyState::Ready]);
            }
            failed = broker.failed() => anyhow::bail!(failed),
        }
    }
    signals::tell(&[sd_notify::NotifyState::Stopping]);
    let limit = Duration::from_millis(config.limits.drain_timeout_ms);
    tracing::info!(limit_ms = config.limits.drain_timeout_ms, "draining");
    tokio::select! {
        () = broker.shutdown(limit) => {
            tracing::info!("drained");
            Ok(Exit::Ok)
        }
        () = end.next() => {
            tracing::warn!("a second signal: stopped before everything had finished");
            Ok(Exit::Failure)
        }
    }
}

/// Reloads what can be; what is wrong stays as it was.
async fn reload(args: &Args, running: &Config, broker: &Broker, logging: &Logging) {
    let mut config = match args.settings.load() {
        Ok(config) => config,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::error!(error, "the configuration is wrong: everything stays as it was");
            return;
        }
    };
    if let Err(error) = logging.level(&config.log.level) {
        tracing::error!(%error, "the log level stays as it was");
    }
    config.log.level.clone_from(&running.log.level);
    broker.tenants().set_profiles(&config.tenancy.profiles).await;
    config.tenancy.profiles.clone_from(&running.tenancy.profiles);
    let waiting = settings::differing(running, &config);
    if !waiting.is_empty() {
        tracing::warn!(keys = waiting.join(", "), "these keys change with the next start");
    }
    match broker.reload().await {
        Ok(()) => tracing::info!("certificates, revocations and profiles were reloaded"),
        Err(error) => tracing::error!(%error, "this stays as it was"),
    }
}
