//! Many tenants: how long a start takes that restores them, what they cost in memory, and how long
//! it takes to find one.
//!
//! ```sh
//! cargo bench -p tollgate-broker --bench registry                # 100,000
//! TOLLGATE_LONG=1 cargo bench -p tollgate-broker --bench registry # a million
//! ```
//!
//! The tenants are made by one process and restored by another, so that its memory is theirs.

use std::{
    error::Error,
    hint::black_box,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use futures::{StreamExt, stream};
use tollgate_broker::{
    Config,
    store::Store,
    tenancy::{Filter, NewTenant, Registry, Settings},
};
use tollgate_protocol::id::TenantId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Changes under way at once while the tenants are made: what one commit gathers.
const AT_ONCE: usize = 256;
/// How many are looked up.
const LOOK_UPS: usize = 1_000_000;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Cargo adds flags of its own, such as --bench.
    if let (Some("restore"), Some(dir)) = (args.next().as_deref(), args.next()) {
        return runtime.block_on(restore(&PathBuf::from(dir)));
    }
    let n = if std::env::var_os("TOLLGATE_LONG").is_some() { 1_000_000 } else { 100_000 };
    let dir = tempfile::tempdir()?;
    runtime.block_on(make(dir.path(), n))?;
    drop(runtime);
    let restored =
        Command::new(std::env::current_exe()?).arg("restore").arg(dir.path()).status()?;
    if restored.success() { Ok(()) } else { Err("the second process failed".into()) }
}

async fn open(dir: &Path) -> Outcome<(Store, Registry)> {
    let mut config = Config::default();
    config.tenancy.tenants_max = 10_000_000;
    let store = Store::open(Some(dir), &config.store)?;
    let fence = store.system().claim().await?;
    let events = tollgate_broker::events::Events::default();
    let registry = Registry::open(&config.tenancy, store.clone(), fence, events).await?;
    Ok((store, registry))
}

/// Creates them through the registry, each kept on its own.
async fn make(dir: &Path, n: usize) -> Outcome<()> {
    let (_store, registry) = open(dir).await?;
    let begun = Instant::now();
    let new = |at: usize| NewTenant {
        id: TenantId::parse(&id(at)).ok(),
        settings: Settings { name: format!("Customer number {at}"), ..Settings::default() },
    };
    let mut all = stream::iter(0..n).map(|at| registry.create(new(at))).buffer_unordered(AT_ONCE);
    while let Some(created) = all.next().await {
        created?;
    }
    let took = begun.elapsed();
    println!("create   {n} tenants, {AT_ONCE} at once: {took:.1?}, {:.0}/s", per_second(n, took));
    Ok(())
}

async fn restore(dir: &Path) -> Outcome<()> {
    let before = resident()?;
    let begun = Instant::now();
    let (_store, registry) = open(dir).await?;
    let took = begun.elapsed();
    let n = registry.len();
    let grown = resident()?.saturating_sub(before);
    println!("restore  {n} tenants: {took:.2?}, {:.0}/s", per_second(n, took));
    println!("memory   {} MiB, {} B a tenant", grown >> 20, grown / n.max(1));

    // Ids in an order that no cache expects.
    let ids: Vec<_> = (0..LOOK_UPS).map(|at| id(at.wrapping_mul(7_919_999) % n)).collect();
    let begun = Instant::now();
    let found = ids.iter().filter(|id| black_box(registry.get(id)).is_some()).count();
    assert_eq!(found, ids.len(), "all of them are there");
    println!("look up  {} ns", begun.elapsed().as_nanos() / LOOK_UPS as u128);

    let begun = Instant::now();
    let (mut after, mut pages, mut seen) = (None, 0_u32, 0);
    loop {
        let page = registry.page(after.as_ref(), 1_000, Filter::default());
        let Some(last) = page.last() else { break };
        (after, pages, seen) = (Some(last.id().clone()), pages + 1, seen + page.len());
    }
    assert_eq!(seen, n, "each is listed once");
    println!("list     {:.1?} a page of 1,000", begun.elapsed() / pages.max(1));

    let begun = Instant::now();
    registry.update(&id(n / 2), None, |s| s.weight = 2).await?;
    println!("change   {:.2?}", begun.elapsed());
    Ok(())
}

fn id(at: usize) -> String {
    format!("customer-{at:08x}")
}

fn per_second(n: usize, took: std::time::Duration) -> f64 {
    n as f64 / took.as_secs_f64()
}

/// Bytes of memory of this process that are in use.
fn resident() -> Outcome<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * 4_096)
}
