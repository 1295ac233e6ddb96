//! Giving waiting calls to workers that have credit: tenants in fair turns, then priority, then age.

use std::sync::Arc;

use super::{
    Now, Workers,
    after::After,
    call::{Cell, unknown},
    lease::{Dispatch, Lease, Outgoing},
    pools::Class,
    state::{Known, PoolId, RecipeId, Serving, SessionId, Sessions, State},
};
use crate::{
    batch::{Claim, Look, Slot, Task},
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

    /// Puts calls of a recipe in line, and gives away what can be taken at once.
    pub(super) fn queue(
        &self,
        state: &mut State,
        recipe: RecipeId,
        cells: Vec<Arc<Cell>>,
        now: Now,
        after: &mut After,
    ) {
        let Some(tenant) = cells.first().map(|cell| cell.task.common.claim.tenant) else { return };
        let mut cells = cells.into_iter();
        let mut look = self.0.slots.look();
        let Some(pool) = state.lend_first(recipe, &mut cells, &mut look, now, after) else {
            for cell in cells {
                let returned = cell.ends(Err(unknown()), now.at, false, None);
                after.ends(cell, returned);
            }
            return;
        };
        if cells.len() > 0 {
            cells.for_each(|cell| state.push(&cell));
            state.dispatch(pool, &mut look, now, after);
        }
        // Those that waited for room may have more of it than before: nothing of this is in line.
        state.unblock(recipe, tenant, after);
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

    /// Gives away calls that have nobody before them, as far as somebody can take them. The line of
    /// the recipe, if it is known.
    fn lend_first(
        &mut self,
        recipe: RecipeId,
        cells: &mut std::vec::IntoIter<Arc<Cell>>,
        look: &mut Look<'_>,
        now: Now,
        after: &mut After,
    ) -> Option<PoolId> {
        let State { pools, recipes, sessions, dispatched, .. } = self;
        let known = recipes.get_mut(&recipe)?;
        let pool = pools.get_mut(&known.pool)?;
        while pool.free > 0
            && pool.queue.is_empty()
            && let Some(cell) = cells.as_slice().first()
            && known.has_ready(sessions)
            && let Some(slot) = look.try_take(cell.task.common.claim)
            && let Some(cell) = cells.next()
            && let Some((session, number)) = known.turn()
            && let Some(serving) = sessions.get_mut(&session)
        {
            serving.lend(cell, (slot, None), (session, number), now, after);
            pool.free -= 1;
            *dispatched += 1;
        }
        Some(known.pool)
    }

    fn dispatch(&mut self, id: PoolId, look: &mut Look<'_>, now: Now, after: &mut After) {
        loop {
            let State { pools, recipes, sessions, dispatched, line_max, .. } = self;
            let Some(pool) = pools.get_mut(&id) else { return };
            if pool.free == 0 || pool.queue.is_empty() {
                return;
            }
            let can_run = |tenant: &u32, class: &Class| {
                let known = recipes.get_mut(&class.recipe)?;
                let can = known.has_ready(sessions) && look.has_room(&class.bounds(*tenant));
                can.then_some(known.mean_ns)
            };
            let popped = pool.queue.pop_where(now.ns, can_run);
            let Some(Popped { key: tenant, item: cell, cost, alone }) = popped else { return };
            let slot = look.try_take(cell.task.common.claim);
            let slot = slot.expect("its class has room, and nobody took it under this look");
            let recipe = cell.recipe;
            let known = recipes.get_mut(&recipe).expect("its class can run, so it is known");
            let (session, number) = known.turn().expect("its class can run, so somebody is ready");
            let Some(serving) = sessions.get_mut(&session) else { return };
            // It has waited: its batch may not know that it begins.
            let Task { timeout, ref common, .. } = cell.task;
            after.wakers.extend(common.returns.begins(now.at + timeout));
            let charged = (!alone).then_some(cost);
            serving.lend(cell, (slot, charged), (session, number), now, after);
            pool.free -= 1;
            *dispatched += 1;
            known.unblock(recipe, tenant, &pool.queue, *line_max, after);
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
}

impl Serving {
    /// Gives the worker a call, which it has credit for.
    fn lend(
        &mut self,
        cell: Arc<Cell>,
        (slot, charged): (Slot, Option<u64>),
        (session, recipe): (SessionId, u32),
        now: Now,
        after: &mut After,
    ) {
        let number = self.next_lease;
        self.next_lease += 1;
        let attempt = cell.begins(session, number, now.at);
        if let Some(begun) = cell.task.common.once.as_ref().and_then(|once| once.begun.clone()) {
            after.begun.push(begun);
        }
        let Claim { tenant, weight, .. } = cell.task.common.claim;
        let dispatch = Dispatch { cell: cell.clone(), lease: number, recipe, attempt };
        self.outgoing.push(Outgoing::Dispatch(dispatch));
        let lease = Lease {
            recipe: cell.recipe,
            cell: Some(cell),
            slot: Some(slot),
            tenant,
            weight,
            attempt,
            charged,
            since_ns: now.ns,
            reported: None,
        };
        self.leases.insert(number, lease);
        after.wakers.extend(self.waker.take());
    }
}
