//! What quotas cost: a check, a permit, a refusal, and a tenant's memory.
//!
//! ```sh
//! cargo bench -p tollgate-broker --bench quota
//! ```
//!
//! Medians of several rounds, in nanoseconds. Nothing is asserted: machines differ.

use std::{
    hint::black_box,
    iter::{once, repeat_n},
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_broker::tenancy::{
    Config, Cost, Limit, NewTenant, Overrides, Policy, Quota, Registry, Settings, Tenant,
};

/// Rounds that a median is taken of.
const ROUNDS: usize = 15;
/// Repetitions of a round.
const TIMES: u64 = 1_000_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let registry = Registry::in_memory(&Config::default());
    let tenant = |id: &str, overrides: Overrides, policy| {
        let settings = Settings { overrides, policy, ..Settings::default() };
        runtime.block_on(registry.create_named(id, settings)).expect("a tenant")
    };
    let far = Some(Limit::at_most(1 << 60));
    let roomy = Overrides {
        requests_per_second: far,
        bytes_per_second: far,
        messages_per_second: far,
        ..Overrides::NOTHING
    };
    let busy = tenant("busy", roomy, Policy::Pace);
    checks(&busy);
    let little = Overrides { requests_per_second: Some(Limit::at_most(1)), ..Overrides::NOTHING };
    refusals(&tenant("reject", little, Policy::Reject), &tenant("pace", little, Policy::Pace));
    drop(registry);
    let many = std::env::var("TENANTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    runtime.block_on(memory(many));
}

fn checks(busy: &Arc<Tenant>) {
    let t0 = Instant::now();
    row("one item (request and bytes)", 1, |n| {
        // A clock that goes on as it does under load: a bucket now and then.
        busy.charge(t0 + Duration::from_nanos(100 * n), once(64)).admitted
    });
    row("an item of a handful of 64", 64, |n| {
        busy.charge(t0 + Duration::from_nanos(6_400 * n), repeat_n(64, 64)).admitted
    });
    row("a message of a handful of 64", 64, |n| {
        let costs = repeat_n(Cost::one(64), 64);
        busy.charge_messages(t0 + Duration::from_nanos(6_400 * n), costs).admitted
    });
    row("bytes out", 1, |n| busy.take_out(t0 + Duration::from_nanos(100 * n), 64).0);
    row("a permit, taken and given back", 1, |_| busy.batch().is_ok());
    row("a reading of the clock, to compare", 1, |_| Instant::now());
}

fn refusals(reject: &Arc<Tenant>, pace: &Arc<Tenant>) {
    let t0 = Instant::now();
    for (name, tenant) in [("refused, policy reject", reject), ("told to wait, policy pace", pace)]
    {
        assert_eq!(tenant.charge(t0, once(64)).admitted, 1);
        row(name, 1, |_| tenant.charge(t0, once(64)).stop.is_some());
    }
    let held: Vec<_> = std::iter::from_fn(|| reject.batch().ok()).collect();
    row("a permit that there is not", 1, |_| reject.batch().is_err());
    drop(held);
}

/// What tenants cost that are there and do nothing, and that once did something.
async fn memory(many: usize) {
    let registry = Registry::in_memory(&Config { tenants_max: many, ..Config::default() });
    let before = resident();
    for _ in 0..many {
        registry.create(NewTenant::default()).await.expect("room");
    }
    let idle = resident();
    let mut at = None;
    loop {
        let page = registry.page(at.as_ref(), 1_000, tollgate_broker::tenancy::Filter::default());
        let Some(last) = page.last() else { break };
        at = Some(last.id().clone());
        for tenant in &page {
            tenant.charge(Instant::now(), once(1));
            assert_eq!(tenant.used(Quota::Connections, Instant::now()), 0);
        }
    }
    let used = resident();
    let each = |bytes: usize| bytes / many.max(1);
    println!("{many} tenants: {} B each, registered", each(idle.saturating_sub(before)));
    println!(
        "{many} tenants: {} B each, after their first item",
        each(used.saturating_sub(before))
    );
}

/// Prints what one of `unit` things of a repetition costs.
fn row<T>(name: &str, unit: u64, mut run: impl FnMut(u64) -> T) {
    let times = TIMES / unit;
    let mut n = 0;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..times {
                n += 1;
                black_box(run(n));
            }
            began.elapsed().as_nanos() as f64 / (times * unit) as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let (least, median, most) = (rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
    println!("{name:<36} {median:>7.1} ns   ({least:.1} to {most:.1})");
}

/// Memory of this process that is in use now, in bytes; 0 where the system does not say.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
