//! Giving waiting calls to workers that have credit: tenants in fair turns, then priority, then age.

use std::{sync::Arc, time::Instant};

use super::{
    Workers,
    after::After,
    call::{Cell, Place},
    lease::{Dispatch, Lease, Outgoing},
    pools::Class,
    state::{Known, PoolId, SessionId, State},
};
use crate::{
    batch::{Claim, Slot},
    rules::fair::Popped,
};

impl Workers {
    /// Gives away what waits in every line.
    pub(super) fn dispatch_all(&self, state: &mut State, after: &mut After) {
        let waiting = state.pools.iter().filter(|(_, p)| p.free > 0 && !p.queue.is_empty());
        let pools: Vec<PoolId> = waiting.map(|(id, _)| *id).collect();
        for pool in pools {
            self.dispatch(state, pool, after);
        }
    }

    /// Gives away what waits in a line, as far as there is credit, and room in every bound.
    pub(super) fn dispatch(&self, state: &mut State, pool: PoolId, after: &mut After) {
        let now_ns = self.now_ns();
        loop {
            let State { pools, recipes, sessions, .. } = state;
            let Some(pool) = pools.get_mut(&pool) else { return };
            if pool.free == 0 || pool.queue.is_empty() {
                return;
            }
            let mut look = self.0.slots.look();
            let can_run = |tenant: &u32, class: &Class| {
                let known = recipes.get(&class.recipe)?;
                let has_free = |(session, _): &(SessionId, u32)| {
                    sessions.get(session).is_some_and(|s| s.free() > 0)
                };
                let can = known.serving.iter().any(has_free)
                    && look.has_room(&bounds(*tenant, class, known));
                can.then_some(known.mean_ns)
            };
            let popped = pool.queue.pop_where(now_ns, can_run);
            let Some(Popped { key: tenant, item: cell, cost }) = popped else { return };
            // Its own claim: the recipe's bound may have been another when it stood in line.
            let slot = look.try_take(cell.task.claim);
            drop(look);
            let Some(slot) = slot else {
                state.push(&cell);
                return;
            };
            let recipe = cell.recipe;
            let Some((session, number)) = state.choose(recipe) else {
                after.slots.push(slot);
                state.push(&cell);
                return;
            };
            state.lend(&cell, (slot, cost), session, number, after);
            state.unblock(recipe, tenant, after);
        }
    }
}

impl State {
    /// Who of those that serve a recipe and have credit is next: one after the other.
    fn choose(&mut self, recipe: u32) -> Option<(SessionId, u32)> {
        let State { recipes, sessions, .. } = self;
        let known = recipes.get_mut(&recipe)?;
        let count = known.serving.len();
        for step in 0..count {
            let at = (known.next + step) % count;
            let (session, number) = known.serving[at];
            if sessions.get(&session).is_some_and(|s| s.free() > 0) {
                known.next = (at + 1) % count;
                return Some((session, number));
            }
        }
        None
    }

    fn lend(
        &mut self,
        cell: &Arc<Cell>,
        (slot, charged): (Slot, u64),
        session: SessionId,
        recipe: u32,
        after: &mut After,
    ) {
        let Some(serving) = self.sessions.get_mut(&session) else { return };
        let now = Instant::now();
        let attempt = cell.begins(now);
        let number = serving.next_lease;
        serving.next_lease += 1;
        let lease = Lease {
            cell: Some(cell.clone()),
            slot: Some(slot),
            recipe: cell.recipe,
            tenant: cell.task.claim.tenant,
            weight: cell.task.claim.weight,
            charged,
            attempt,
            since: now,
            reported: None,
            held: None,
        };
        serving.leases.insert(number, lease);
        cell.moves(Place::Leased(session, number));
        if let Some(begun) = cell.task.once.as_ref().and_then(|once| once.begun.clone()) {
            after.begun.push(begun);
        }
        let dispatch = Dispatch { cell: cell.clone(), lease: number, recipe, attempt };
        serving.outgoing.push(Outgoing::Dispatch(dispatch));
        after.wakers.extend(serving.waker.take());
        if let Some(pool) = serving.pool.and_then(|pool| self.pools.get_mut(&pool)) {
            pool.free = pool.free.saturating_sub(1);
        }
        self.dispatched += 1;
    }
}

/// What a class of items counts against.
fn bounds(tenant: u32, class: &Class, known: &Known) -> Claim {
    Claim {
        tenant,
        tenant_max: class.tenant_max,
        weight: 1,
        recipe: known.entry.index(),
        recipe_max: known.entry.spec().concurrency_max,
        group: None,
        priority: 0,
    }
}
