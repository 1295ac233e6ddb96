//! Who works, what is known, what waits and what is leased: one structure under one lock.
//!
//! Everything here is bookkeeping that can not fail half-way; what it leads to is done by `After`.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::{Instant, SystemTime},
};

use foldhash::fast::RandomState;
use tollgate_protocol::id::RecipeName;

use super::{
    after::After,
    call::{Cell, Place},
    lease::{Lease, Outgoing},
    pools::{Pool, Queue},
};
use crate::batch::{Claim, Entry, Mailbox, Owner};

pub(super) type SessionId = u64;
pub(super) type RecipeId = u32;
pub(super) type PoolId = u32;
pub(super) type Sessions = HashMap<SessionId, Serving, RandomState>;

/// All of it.
#[derive(Default)]
pub(super) struct State {
    pub sessions: Sessions,
    pub recipes: HashMap<RecipeId, Known, RandomState>,
    pub names: HashMap<(Owner, RecipeName), RecipeId, RandomState>,
    pub pools: HashMap<PoolId, Pool, RandomState>,
    /// How many of a tenant may wait for a recipe.
    pub line_max: usize,
    next_session: SessionId,
    next_recipe: RecipeId,
    next_pool: PoolId,
    /// Answers that came too late, or a second time.
    pub late: u64,
    /// Leases whose worker was lost.
    pub lost: u64,
    /// Reports that came too often.
    pub reports_dropped: u64,
    pub dispatched: u64,
    /// Answers that somebody waited for: results, and errors.
    pub succeeded: u64,
    pub failed: u64,
}

/// A recipe that workers serve, or served a while ago.
pub(super) struct Known {
    pub owner: Owner,
    pub entry: Arc<Entry>,
    pub pool: PoolId,
    /// Who serves it, and its number there.
    pub serving: Vec<(SessionId, u32)>,
    /// All of those that have credit, the next first; and some that have none any more.
    pub ready: VecDeque<(SessionId, u32)>,
    /// The mean running time, in nanoseconds; 0 as long as none is known.
    pub mean_ns: u64,
    /// Batches that wait for room in the line, by tenant, the first of them first: how many items
    /// each would add.
    pub blocked: HashMap<u32, VecDeque<(Arc<Mailbox>, usize)>, RandomState>,
    /// When its last worker left.
    pub left: Option<Instant>,
}

/// A worker's stream.
pub(super) struct Serving {
    pub owner: Owner,
    pub identity: Arc<str>,
    pub tenant: Option<String>,
    pub connection: u64,
    pub since: SystemTime,
    pub recipes: Vec<RecipeId>,
    /// Whether it stands among those that are ready for each of them.
    pub listed: Vec<bool>,
    pub pool: Option<PoolId>,
    pub credit: u32,
    pub leases: HashMap<u64, Lease, RandomState>,
    pub next_lease: u64,
    pub draining: bool,
    pub outgoing: Vec<Outgoing>,
    pub waker: Option<Waker>,
    pub answered: u64,
    pub failed: u64,
}

impl Serving {
    /// Whether a lease of this number was ever given to it.
    pub(super) fn gave(&self, lease: u64) -> bool {
        (1..self.next_lease).contains(&lease)
    }

    /// Calls it could take now.
    pub(super) fn free(&self) -> u64 {
        if self.draining {
            return 0;
        }
        u64::from(self.credit).saturating_sub(self.leases.len() as u64)
    }
}

impl Known {
    /// There is room in line for more of this tenant. The batches that waited for it longest are told
    /// once a quarter of it is free, as many as that may be for; and all of them once half of it is,
    /// as those may have changed their minds. To tell all of each place would cost more than the calls.
    pub(super) fn unblock(
        &mut self,
        recipe: RecipeId,
        tenant: u32,
        queue: &Queue,
        line_max: usize,
        after: &mut After,
    ) {
        if self.blocked.is_empty() {
            return;
        }
        let Some(blocked) = self.blocked.get_mut(&tenant) else { return };
        let free = line_max.saturating_sub(waiting(queue, recipe, tenant));
        if free < line_max.div_ceil(4) {
            return;
        }
        let all = free >= line_max.div_ceil(2);
        let mut told = 0;
        while (all || told < free)
            && let Some((mailbox, wanted)) = blocked.pop_front()
        {
            told += wanted;
            after.mailboxes.push(mailbox);
        }
        if blocked.is_empty() {
            self.blocked.remove(&tenant);
        }
    }
}

/// How many of a tenant wait for a recipe.
fn waiting(queue: &Queue, recipe: RecipeId, tenant: u32) -> usize {
    queue.len_of_where(&tenant, |class| class.recipe == recipe)
}

impl State {
    /// Nobody works. So many of a tenant may wait for a recipe.
    pub(super) fn new(line_max: usize) -> Self {
        State { line_max, ..State::default() }
    }

    pub(super) fn enter(&mut self, serving: Serving) -> SessionId {
        self.next_session += 1;
        self.sessions.insert(self.next_session, serving);
        self.next_session
    }

    /// A new number for a recipe.
    pub(super) fn number(&mut self) -> RecipeId {
        self.next_recipe = self.next_recipe.wrapping_add(1);
        self.next_recipe
    }

    /// An empty line.
    pub(super) fn pool(&mut self) -> PoolId {
        self.next_pool = self.next_pool.wrapping_add(1);
        self.pools.insert(self.next_pool, Pool::default());
        self.next_pool
    }

    /// Whether anyone serves a recipe.
    pub(super) fn is_served(&self, recipe: RecipeId) -> bool {
        self.recipes.get(&recipe).is_some_and(|known| !known.serving.is_empty())
    }

    /// How many of so many more may stand in line. A batch that may not put all of them there is
    /// nudged once that changed; those that wait for that go before those that do not.
    pub(super) fn room(
        &mut self,
        recipe: RecipeId,
        claim: &Claim,
        wanted: usize,
        mailbox: &Arc<Mailbox>,
    ) -> usize {
        let Some(known) = self.recipes.get_mut(&recipe) else { return wanted };
        let Some(pool) = self.pools.get(&known.pool) else { return wanted };
        let waiting = waiting(&pool.queue, recipe, claim.tenant);
        // With nobody in line nobody would tell those that wait for room.
        let nobody_waits = waiting == 0 || !known.blocked.contains_key(&claim.tenant);
        let has_turn = mailbox.takes_turn() || nobody_waits;
        let free = self.line_max.saturating_sub(waiting);
        let room = if has_turn { free.min(wanted) } else { 0 };
        if room < wanted {
            let blocked = known.blocked.entry(claim.tenant).or_default();
            if !blocked.iter().any(|(m, _)| Arc::ptr_eq(m, mailbox)) {
                if blocked.len() >= MANY && blocked.len().is_power_of_two() {
                    // Batches that are gone are nobody's.
                    blocked.retain(|(m, _)| Arc::strong_count(m) > 1);
                }
                blocked.push_back((mailbox.clone(), wanted - room));
            }
        }
        room
    }

    /// Puts a call in line: that of a recipe which is known.
    pub(super) fn push(&mut self, cell: &Arc<Cell>) {
        let pool = self.recipes.get(&cell.recipe).map(|known| known.pool);
        let Some(pool) = pool.and_then(|pool| self.pools.get_mut(&pool)) else { return };
        let id = pool.queue.push(cell.line(), cell.queued_at, cell.clone());
        cell.moves(Place::InLine(id.place()));
    }

    pub(super) fn unblock(&mut self, recipe: RecipeId, tenant: u32, after: &mut After) {
        let State { recipes, pools, line_max, .. } = self;
        let Some(known) = recipes.get_mut(&recipe) else { return };
        let Some(pool) = pools.get(&known.pool) else { return };
        known.unblock(recipe, tenant, &pool.queue, *line_max, after);
    }

    /// Nobody wants a call any more.
    pub(super) fn give_up(&mut self, cell: &Cell, after: &mut After) {
        match cell.place() {
            Place::Nowhere => return,
            Place::InLine(place) => {
                let pool = self.recipes.get(&cell.recipe).map(|known| known.pool);
                let pool = pool.and_then(|pool| self.pools.get_mut(&pool));
                after.cells.extend(pool.and_then(|pool| pool.queue.remove(cell.id(place))));
                self.unblock(cell.recipe, cell.task.common.claim.tenant, after);
            }
            Place::Leased(session, number) => {
                if let Some(serving) = self.sessions.get_mut(&session)
                    && let Some(lease) = serving.leases.get_mut(&number)
                {
                    after.cells.extend(lease.cell.take());
                    after.slots.extend(lease.slot.take());
                    serving.outgoing.push(Outgoing::Cancel(number));
                    after.wakers.extend(serving.waker.take());
                }
            }
        }
        cell.moves(Place::Nowhere);
    }

    /// Makes two lines one; the answer is the one that stays.
    pub(super) fn merge(&mut self, a: PoolId, b: PoolId) -> PoolId {
        if a == b {
            return a;
        }
        let waiting = |state: &State, pool| state.pools.get(&pool).map_or(0, |p| p.queue.len());
        // The shorter one moves.
        let (stays, goes) = if waiting(self, a) >= waiting(self, b) { (a, b) } else { (b, a) };
        let Some(mut moved) = self.pools.remove(&goes) else { return stays };
        for recipe in &moved.recipes {
            if let Some(known) = self.recipes.get_mut(recipe) {
                known.pool = stays;
            }
        }
        for session in &moved.sessions {
            if let Some(serving) = self.sessions.get_mut(session) {
                serving.pool = Some(stays);
            }
        }
        if let Some(pool) = self.pools.get_mut(&stays) {
            pool.recipes.append(&mut moved.recipes);
            pool.sessions.append(&mut moved.sessions);
            pool.free += moved.free;
        }
        for (_, cell) in moved.queue.drain() {
            self.push(&cell);
        }
        stays
    }

    /// A recipe that nobody serves any more gets a line of its own, so that what waits for it is in
    /// nobody's way.
    pub(super) fn set_apart(&mut self, recipe: RecipeId) {
        let Some(old) = self.recipes.get(&recipe).map(|known| known.pool) else { return };
        let alone = self.pools.get(&old).is_none_or(|p| p.recipes.len() == 1);
        if alone {
            return;
        }
        let new = self.pool();
        if let Some(known) = self.recipes.get_mut(&recipe) {
            known.pool = new;
        }
        if let Some(pool) = self.pools.get_mut(&new) {
            pool.recipes.push(recipe);
        }
        let Some(pool) = self.pools.get_mut(&old) else { return };
        pool.recipes.retain(|r| *r != recipe);
        let all: Vec<_> = pool.queue.drain().collect();
        for (_, cell) in all {
            self.push(&cell);
        }
    }
}

/// Batches that wait for room in a line before those are looked for that are gone.
const MANY: usize = 32;
