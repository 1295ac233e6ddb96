//! What a tenant may use, exactly to the limit and one over, over real QUIC.

#[path = "quotas/counts.rs"]
mod counts;
#[path = "quotas/gateways.rs"]
mod gateways;
#[path = "quotas/held.rs"]
mod held;
#[path = "quotas/pace.rs"]
mod pace;
#[path = "quotas/race.rs"]
mod race;
#[path = "quotas/rates.rs"]
mod rates;

use tollgate_broker::{
    Config,
    tenancy::{Limit, Overrides, Quotas, Settings, Window},
};
use tollgate_tests::Rig;

/// A window of 12 minutes, so that a rate is a count that no test outlives: `per_second` allows
/// [`WINDOW_S`] times as much.
fn endless(config: &mut Config) {
    config.tenancy.window = Window::new(12, 60_000).expect("a window");
}

/// How long such a window is, in seconds.
const WINDOW_S: u64 = 720;

/// Changes a tenant's quotas.
async fn limit(rig: &Rig, tenant: &str, change: impl FnOnce(&mut Quotas)) {
    let tenants = rig.broker.tenants();
    let mut quotas = tenants.get(tenant).expect("there is one").quotas();
    change(&mut quotas);
    let own = |s: &mut Settings| s.overrides = Overrides::all(&quotas);
    tenants.update(tenant, None, own).await.expect("there is one");
}

fn at_most(n: u64) -> Limit {
    Limit::at_most(n)
}
