//! Lines in front of workers: recipes that share workers share one, so that turns are fair over all
//! that contend for the same hands.

use std::sync::Arc;

use super::{
    call::Cell,
    state::{RecipeId, SessionId},
};
use crate::{
    batch::Claim,
    rules::fair::{Fair, Turns},
};

/// What can run alike: the items of a tenant for one recipe, under the same bounds. Those of an item
/// are of when it came: the recipe's, and the number that it counts under, may be others by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub recipe: RecipeId,
    tenant_max: u32,
    index: u32,
    index_max: Option<u32>,
}

impl Class {
    pub(super) fn of(recipe: RecipeId, claim: &Claim) -> Self {
        let Claim { tenant_max, recipe: index, recipe_max: index_max, .. } = *claim;
        Class { recipe, tenant_max, index, index_max }
    }

    /// What each of a tenant's items counts against.
    pub(super) fn bounds(&self, tenant: u32) -> Claim {
        Claim {
            tenant,
            tenant_max: self.tenant_max,
            weight: 1,
            recipe: self.index,
            recipe_max: self.index_max,
            group: None,
            priority: 0,
        }
    }
}

/// Calls that wait, by tenant.
pub(super) type Queue = Fair<u32, Arc<Cell>, Class>;

/// The line of some recipes that are connected by the workers that serve them.
pub(super) struct Pool {
    pub queue: Queue,
    pub recipes: Vec<RecipeId>,
    pub sessions: Vec<SessionId>,
    /// Calls that its workers could take now.
    pub free: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { queue: Fair::new(TURNS), recipes: Vec::new(), sessions: Vec::new(), free: 0 }
    }
}

/// What a call costs, in nanoseconds: worker time, bytes, and a fixed part for its handling.
pub(super) fn cost(running_ns: u64, bytes: usize) -> u64 {
    running_ns.saturating_add(NS_A_BYTE * bytes as u64).saturating_add(FIXED_NS)
}

/// Moves a mean an eighth of the way to the newest; 0 is a mean of nothing.
pub(super) fn learn(mean: u64, newest: u64) -> u64 {
    if mean == 0 { newest.max(1) } else { (mean - mean / 8 + newest / 8).max(1) }
}

/// A turn is a millisecond of worker time; who waits 30 s rises by one priority.
const TURNS: Turns = Turns { quantum: 1_000_000, rise_ns: 30_000_000_000 };
/// A gigabyte a second through the broker.
const NS_A_BYTE: u64 = 1;
const FIXED_NS: u64 = 5_000;
