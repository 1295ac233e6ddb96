//! Giving waiting calls to workers that have credit: tenants in fair turns, then priority, then age.

use std::sync::Arc;

use super::{
    Now, Workers,
    after::After,
    call::{Cell, Place},
    lease::{Dispatch, Lease, Outgoing},
    pools::Class,
    state::{Known, PoolId, SessionId, Sessions, State},
};
use crate::{
    batch::{Look, Slot},
    rules::fair::Popped,
};

impl Workers {
    /// Gives away what waits in every line.
    pub(super) fn dispatch_all(&self, state: &mut State, now: Now, after: &mut After) {
        state.dispatch_all(&mut self.0.slots.look(), now, after);
    }

    /// Gives away what waits in a line, as far as there is credit, and room in every bound.
    pub(super) fn dispatch(&self, state: &mut State, pool: PoolId, now: Now, after: &mut After) {
        state.dispatch(pool, &mut self.0.slots.look(), now, after);
    }

    /// Calls of a worker ended: their slots go back, and what waits for those or for its credit is
    /// given away.
    pub(super) fn went_on(
        &self,
        state: &mut State,
        session: SessionId,
        now: Now,
        after: &mut After,
    ) {
        state.enlist(session);
        let mut look = self.0.slots.look();
        let denied = look.give_back(after.slots.drain(..), &mut after.wakers);
        let pool = state.sessions.get(&session).and_then(|s| s.pool);
        match pool {
            // Any line may have been denied one.
            _ if denied => state.dispatch_all(&mut look, now, after),
            Some(pool) => state.dispatch(pool, &mut look, now, after),
            None => {}
        }
    }

    /// Gives a call away that has nobody before it; false if nobody can take it.
    pub(super) fn lend_now(
        &self,
        state: &mut State,
        cell: &Arc<Cell>,
        now: Now,
        after: &mut After,
    ) -> bool {
        let State { pools, recipes, sessions, .. } = state;
        let Some(known) = recipes.get_mut(&cell.recipe) else { return false };
        let Some(pool) = pools.get(&known.pool) else { return false };
        if pool.free == 0 || !pool.queue.is_empty() || !known.has_ready(sessions) {
            return false;
        }
        let Some(slot) = self.0.slots.look().try_take(cell.task.claim) else { return false };
        let Some((session, number)) = known.turn() else { return false };
        // What it would be charged in a line that is empty, and so owes and is owed nothing.
        let cost = cell.line().cost.saturating_add(known.mean_ns);
        state.lend(cell, (slot, cost), (session, number), now, after);
        true
    }
}

impl State {
    fn dispatch_all(&mut self, look: &mut Look<'_>, now: Now, after: &mut After) {
        let waiting = self.pools.iter().filter(|(_, p)| p.free > 0 && !p.queue.is_empty());
        let pools: Vec<PoolId> = waiting.map(|(id, _)| *id).collect();
        for pool in pools {
            self.dispatch(pool, look, now, after);
        }
    }

    fn dispatch(&mut self, pool: PoolId, look: &mut Look<'_>, now: Now, after: &mut After) {
        loop {
            let State { pools, recipes, sessions, .. } = self;
            let Some(pool) = pools.get_mut(&pool) else { return };
            if pool.free == 0 || pool.queue.is_empty() {
                return;
            }
            let can_run = |tenant: &u32, class: &Class| {
                let known = recipes.get_mut(&class.recipe)?;
                let can = known.has_ready(sessions) && look.has_room(&class.bounds(*tenant));
                can.then_some(known.mean_ns)
            };
            let popped = pool.queue.pop_where(now.ns, can_run);
            let Some(Popped { key: tenant, item: cell, cost }) = popped else { return };
            let slot = look.try_take(cell.task.claim);
            let slot = slot.expect("its class has room, and nobody took it under this look");
            let recipe = cell.recipe;
            let known = recipes.get_mut(&recipe).expect("its class can run, so it is known");
            let (session, number) = known.turn().expect("its class can run, so somebody is ready");
            self.lend(&cell, (slot, cost), (session, number), now, after);
            self.unblock(recipe, tenant, after);
        }
    }
}

impl Known {
    /// Whether a worker that serves it has credit: the next one, then. Those that have none leave
    /// the list on the way, once for each time they entered it.
    fn has_ready(&mut self, sessions: &mut Sessions) -> bool {
        while let Some((session, number)) = self.ready.front() {
            let serving = sessions.get_mut(session);
            if serving.as_ref().is_some_and(|s| s.free() > 0) {
                return true;
            }
            let listed = serving.and_then(|s| s.listed.get_mut(*number as usize));
            listed.into_iter().for_each(|listed| *listed = false);
            self.ready.pop_front();
        }
        false
    }

    /// The next worker's turn, and its number for this recipe there.
    fn turn(&mut self) -> Option<(SessionId, u32)> {
        let next = *self.ready.front()?;
        self.ready.rotate_left(1);
        Some(next)
    }
}

impl State {
    /// A worker may have credit again: it is one of those that are ready.
    pub(super) fn enlist(&mut self, session: SessionId) {
        let State { sessions, recipes, .. } = self;
        let Some(serving) = sessions.get_mut(&session).filter(|s| s.free() > 0) else { return };
        for (number, (recipe, listed)) in (0..).zip(serving.recipes.iter().zip(&mut serving.listed))
        {
            if !std::mem::replace(listed, true)
                && let Some(known) = recipes.get_mut(recipe)
            {
                known.ready.push_back((session, number));
            }
        }
    }

    fn lend(
        &mut self,
        cell: &Arc<Cell>,
        (slot, charged): (Slot, u64),
        (session, recipe): (SessionId, u32),
        now: Now,
        after: &mut After,
    ) {
        let Some(serving) = self.sessions.get_mut(&session) else { return };
        let attempt = cell.begins(now.at);
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
            since: now.at,
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
