//! `tollgate demo`: a broker and its clients in one process, doing what is promised.
//!
//! Everything shown is done over QUIC under certificates, as any client would; and everything said
//! is checked: a promise that is not kept makes the demo fail.

use std::time::{Duration, Instant};

use super::{
    exit::Exit,
    format::{self, count},
    output::say,
};

mod cancel;
mod drain;
mod live;
mod neighbours;
mod operator;
mod partial;
mod refusal;
mod revoked;
mod show;
mod stage;

use self::{show::Show, stage::Stage};

/// What `demo` takes: nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts a broker on a free port of this machine, with a throwaway authority in a temporary directory
that is removed in the end, and runs batches for two tenants. Takes some 15 seconds. Ends with 1 if
anything was not as promised.")]
pub(super) struct Args {}

/// The demo ends by itself, whatever happens.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(_: &Args) -> anyhow::Result<Exit> {
    hush_the_panic_that_is_part_of_it();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let end = runtime.block_on(async {
        match tokio::time::timeout(LIMIT, play()).await {
            Ok(end) => end,
            Err(_) => anyhow::bail!("the demo has not come to its end in {LIMIT:?}"),
        }
    });
    runtime.shutdown_background();
    end
}

async fn play() -> anyhow::Result<Exit> {
    let began = Instant::now();
    let mut show = Show::new();
    let stage = Stage::build().await?;
    stage.introduce(&show)?;

    live::play(&stage, &mut show).await?;
    partial::play(&stage, &mut show).await?;
    neighbours::play(&stage, &mut show).await?;
    refusal::play(&stage, &mut show).await?;
    revoked::play(&stage, &mut show).await?;
    operator::play(&stage, &mut show).await?;
    cancel::play(&stage, &mut show).await?;
    drain::play(stage, &mut show).await?;

    let (kept, broken) = show.score();
    say!("")?;
    let took = format::duration(began.elapsed());
    let kept = count(kept.into(), "promise");
    if broken.is_empty() {
        say!("{kept} kept, in {took}. Next:")?;
        say!("")?;
        say!("  tollgate serve       a broker of your own; it says how to let a client in")?;
        say!("  tollgate --help      what else there is")?;
        return Ok(Exit::Ok);
    }
    say!("{kept} kept, {} broken, in {took}:", broken.len())?;
    for promise in broken {
        say!("  {promise}")?;
    }
    Ok(Exit::Failure)
}

/// One recipe panics because it is asked to; every other panic is still told.
fn hush_the_panic_that_is_part_of_it() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|at| at.file().ends_with("recipes/panic.rs")) {
            tell(panic);
        }
    }));
}
