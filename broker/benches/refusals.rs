//! What refusing costs, as against running: CPU of a broker process, of one run, in turns.
//!
//! ```sh
//! cargo bench -p tollgate-broker --bench refusals [-- --rounds 5 --seconds 2 --items 100]
//! ```
//!
//! With `--against BINARY` another build takes its turns in the same rounds.
//!
//! One connection a tenant, 64 batches in flight, 100 items (or `--items`) of 64 B each, over QUIC
//! with mutual TLS: what is measured is the whole of the broker's work, from the packet that brings
//! an item to the packet that takes its result away. The cells differ in the tenant's quotas alone,
//! and take turns; a cell's figure is divided by that of the cell that runs its items, of the same
//! round. Nothing is asserted but that each item got the answer that its cell is about.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tollgate_certs::Identity;
use tollgate_client::{BatchError, Client, Code, EventRef, wire::Request};
use tollgate_protocol::id::TenantId;

mod support;
use support::{Outcome, Server, arg, spread, text};

/// Batches under way at once.
const IN_FLIGHT: usize = 64;
/// Bytes of an item's payload.
const BYTES: usize = 64;

/// A tenant whose items all have the same fate.
struct Cell {
    name: &'static str,
    tenant: &'static str,
    /// How it differs from a tenant whose items run.
    settings: &'static str,
    recipe: &'static str,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The items run.
    Run,
    /// Each item is refused with this code, but for those of a second that a rate of 1 lets in.
    Item(Code),
    /// The batch is refused with this code.
    Batch(Code),
}

const CELLS: &[Cell] = &[
    Cell {
        name: "run: echo",
        tenant: "runs",
        settings: "--policy reject",
        recipe: "echo",
        fate: Fate::Run,
    },
    Cell {
        name: "run: sha256",
        tenant: "hashes",
        settings: "--policy reject",
        recipe: "sha256",
        fate: Fate::Run,
    },
    Cell {
        name: "items over a rate",
        tenant: "hasty",
        settings: "--policy reject --quota requests_per_second=1",
        recipe: "echo",
        fate: Fate::Item(Code::RateLimited),
    },
    Cell {
        name: "items over payload_bytes",
        tenant: "bulky",
        settings: "--policy reject --quota payload_bytes=63",
        recipe: "echo",
        fate: Fate::Item(Code::QuotaExceeded),
    },
    Cell {
        name: "whole batches",
        tenant: "greedy",
        settings: "--quota batches_in_flight=0",
        recipe: "echo",
        fate: Fate::Batch(Code::QuotaExceeded),
    },
];

/// A cell with its tenant on one broker, and what was measured of it so far.
struct Row<'a> {
    cell: &'a Cell,
    server: &'a Server,
    client: Client,
    ns: Vec<f64>,
    ratios: Vec<f64>,
}

fn main() -> Outcome<()> {
    let (rounds, seconds, items) =
        (arg("--rounds", 5)?, arg("--seconds", 2)?, arg("--items", 100)?);
    let mut servers = vec![("this build".to_owned(), Server::start(None, &[])?)];
    if let Some(other) = text("--against") {
        let server = Server::start(Some((&other).into()), &[])?;
        servers.push((other, server));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut rows = Vec::new();
        for cell in CELLS {
            for (_, server) in &servers {
                let client = tenant(server, cell).await?;
                rows.push(Row { cell, server, client, ns: vec![], ratios: vec![] });
            }
        }
        for round in 0..rounds {
            // Of each server: the first cell is what the others are divided by.
            let mut run = vec![None; servers.len()];
            for cell in rows.chunks_mut(servers.len()) {
                for turn in 0..servers.len() {
                    // Who comes first changes from round to round.
                    let at = if round % 2 == 0 { turn } else { servers.len() - 1 - turn };
                    let ns = measure(&cell[at], items, Duration::from_secs(seconds)).await?;
                    cell[at].ns.push(ns);
                    cell[at].ratios.push(ns / *run[at].get_or_insert(ns));
                }
            }
        }
        println!("CPU of the broker an item, {items} x {BYTES} B a batch; {rounds} x {seconds} s");
        for (at, (name, _)) in servers.iter().enumerate() {
            println!("{name:<26} {:>9} {:>30}", "ns", "÷ run: echo   (least to most)");
            for row in rows.iter().skip(at).step_by(servers.len()) {
                let (ns, ..) = spread(row.ns.clone());
                let (ratio, least, most) = spread(row.ratios.clone());
                let name = row.cell.name;
                println!("{name:<26} {ns:>9.0} {ratio:>12.3}   ({least:.3} to {most:.3})");
            }
        }
        for (name, server) in &servers {
            println!("{name}: {} MiB of memory", server.resident_kib()? >> 10);
        }
        Ok(())
    })
}

/// Makes a cell's tenant, and connects as it.
async fn tenant(server: &Server, cell: &Cell) -> Outcome<Client> {
    let roomy = "--quota requests_per_second=1000000000 --quota bytes_per_second=1000000000000 \
                 --quota batches_in_flight=100000";
    // A quota that is named twice is an error: the cell's own come later.
    server.operate(&format!("tenant create {} {roomy}", cell.tenant))?;
    server.operate(&format!("tenant update {} {}", cell.tenant, cell.settings))?;
    server.connect(&Identity::client(TenantId::parse(cell.tenant)?, None)?).await
}

/// CPU of the broker for an item that is offered, in nanoseconds.
async fn measure(row: &Row<'_>, items: u64, time: Duration) -> Outcome<f64> {
    let Row { cell, server, client, .. } = row;
    let (stop, batches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, stop, batches) = (client.clone(), stop.clone(), batches.clone());
        let (recipe, fate) = (cell.recipe, cell.fate);
        workers.spawn(async move {
            while !stop.load(Relaxed) {
                batch(&client, recipe, fate, items).await?;
                batches.fetch_add(1, Relaxed);
            }
            Ok::<_, String>(())
        });
    }
    // What is under way at both ends is as much.
    tokio::time::sleep(time / 4).await;
    let (cpu, done) = (server.cpu()?, batches.load(Relaxed));
    let began = Instant::now();
    while began.elapsed() < time && workers.len() == IN_FLIGHT {
        tokio::time::sleep(time / 8).await;
    }
    let (cpu, done) = (server.cpu()? - cpu, batches.load(Relaxed) - done);
    stop.store(true, Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(cpu.as_nanos() as f64 / (done * items).max(1) as f64)
}

/// One batch, and whether it had the fate that it should have.
async fn batch(client: &Client, recipe: &str, fate: Fate, items: u64) -> Result<(), String> {
    let said = |e: BatchError| e.to_string();
    let (mut tx, mut rx) = client.batch().open().await.map_err(said)?.split();
    let (mut results, mut right) = (0, 0);
    let expected = match fate {
        Fate::Run | Fate::Batch(_) => Code::Ok,
        Fate::Item(code) => code,
    };
    let read = rx.for_each(|event| {
        if let EventRef::Result(r) = event {
            results += 1;
            right += u64::from(r.code == expected.number());
        }
    });
    let send = async {
        let payload = [7; BYTES];
        for id in 0..items {
            tx.send_raw(&Request::new(id, recipe, &payload)).await?;
        }
        tx.finish().await
    };
    let (read, sent) = futures::join!(read, send);
    match (fate, read) {
        (Fate::Batch(code), Err(e)) if e.code() == Some(code) => Ok(()),
        (Fate::Run, Ok(())) if right == items => sent.map_err(said),
        // A rate of 1 lets one in a second.
        (Fate::Item(_), Ok(())) if results == items && right >= items - 2 => sent.map_err(said),
        (_, read) => Err(format!("{right} of {results} answers are right: {read:?}")),
    }
}
