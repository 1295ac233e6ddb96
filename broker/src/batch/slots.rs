//! How many items run at once: the broker's, the tenants' and the recipes' bounds, exactly.
//!
//! Items that answer at once never come here. Who has to wait is served by weighted deficit round
//! robin over the tenants, then by priority, then by age. Never holds its lock while it wakes.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Waker,
    time::Instant,
};

use foldhash::HashMap;

use crate::rules::fair::{self, Fair, Turns};

/// Every slot counts as one: what an item costs in time is settled by the pool and the workers.
const TURNS: Turns = Turns { quantum: 1, rise_ns: 30_000_000_000 };

/// Which bounds an item counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub tenant: u32,
    pub tenant_max: u32,
    pub weight: u32,
    pub recipe: u32,
    pub recipe_max: Option<u32>,
    /// The bound that its recipe shares with others, if there is one.
    pub group: Option<Group>,
    pub priority: u8,
}

/// A bound that several recipes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub index: u32,
    pub max: u32,
}

/// The bounds shared by all batches. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Inner>);

struct Inner {
    base: Instant,
    state: Mutex<State>,
    /// Told when a slot came free that somebody outside of the line was denied.
    on_room: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.fmt(f)
    }
}

#[derive(Debug)]
struct State {
    counts: Counts,
    /// Whether a [`Look`] found no room since a slot last came free.
    denied: bool,
    waiting: Fair<u32, Waiting, Bounds>,
}

/// What runs now, and the broker's bound on it.
#[derive(Debug)]
struct Counts {
    max: u32,
    running: u32,
    tenants: HashMap<u32, u32>,
    recipes: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

/// Which bounds an item needs room in, beside the broker's: alike for all of a tenant and recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    tenant_max: u32,
    recipe: u32,
    recipe_max: Option<u32>,
    group: Option<Group>,
}

impl Claim {
    fn bounds(&self) -> Bounds {
        let Claim { tenant_max, recipe, recipe_max, group, .. } = *self;
        Bounds { tenant_max, recipe, recipe_max, group }
    }
}

#[derive(Debug)]
struct Waiting {
    claim: Claim,
    seq: u64,
    mailbox: Arc<Mailbox>,
}

impl Counts {
    fn has_room(&self, tenant: u32, c: &Bounds) -> bool {
        let below = |map: &HashMap<u32, u32>, key, max| map.get(&key).is_none_or(|n| *n < max);
        self.running < self.max
            && below(&self.tenants, tenant, c.tenant_max)
            && c.recipe_max.is_none_or(|max| below(&self.recipes, c.recipe, max))
            && c.group.is_none_or(|g| below(&self.groups, g.index, g.max))
    }

    /// How many more have room.
    fn room(&self, tenant: u32, c: &Bounds) -> u32 {
        let left = |map: &HashMap<u32, u32>, key, max: u32| {
            max.saturating_sub(map.get(&key).copied().unwrap_or(0))
        };
        let of_recipe = c.recipe_max.map_or(u32::MAX, |max| left(&self.recipes, c.recipe, max));
        let of_group = c.group.map_or(u32::MAX, |g| left(&self.groups, g.index, g.max));
        let of_tenant = left(&self.tenants, tenant, c.tenant_max);
        self.max.saturating_sub(self.running).min(of_tenant).min(of_recipe).min(of_group)
    }

    fn take(&mut self, c: &Claim, n: u32) {
        self.running += n;
        *self.tenants.entry(c.tenant).or_default() += n;
        *self.recipes.entry(c.recipe).or_default() += n;
        if let Some(group) = c.group {
            *self.groups.entry(group.index).or_default() += n;
        }
    }

    fn give_back(&mut self, c: &Claim, n: u32) {
        let less = |map: &mut HashMap<u32, u32>, key| {
            if let Some(now) = map.get_mut(&key) {
                *now -= n;
                if *now == 0 {
                    map.remove(&key);
                }
            }
        };
        self.running -= n;
        less(&mut self.tenants, c.tenant);
        less(&mut self.recipes, c.recipe);
        if let Some(group) = c.group {
            less(&mut self.groups, group.index);
        }
    }
}

impl State {
    /// Gives free slots to who waits; the mailboxes to wake.
    fn grant(&mut self, now: u64) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.counts.running < self.counts.max && !self.waiting.is_empty() {
            let counts = &self.counts;
            let fits = |tenant: &u32, b: &Bounds| counts.has_room(*tenant, b).then_some(0);
            let Some(fair::Popped { item: w, .. }) = self.waiting.pop_where(now, fits) else {
                break;
            };
            self.counts.take(&w.claim, 1);
            wakers.extend(w.mailbox.put(w.seq));
        }
        wakers
    }
}

impl Slots {
    /// At most `max` items at once in the whole broker.
    pub(crate) fn new(max: u32) -> Self {
        let counts = Counts {
            max,
            running: 0,
            tenants: HashMap::default(),
            recipes: HashMap::default(),
            groups: HashMap::default(),
        };
        let state = State { counts, denied: false, waiting: Fair::new(TURNS) };
        let (base, state) = (Instant::now(), Mutex::new(state));
        Slots(Arc::new(Inner { base, state, on_room: OnceLock::new() }))
    }

    /// Sets what is called, under no lock, when a slot came free after a [`Look`] found none. The
    /// first one set stays.
    pub(crate) fn on_room(&self, call: impl Fn() + Send + Sync + 'static) {
        // A second one would be a second scheduler, and there is one.
        let _ = self.0.on_room.set(Box::new(call));
    }

    /// Looks for room on behalf of a line of its own; nobody else takes or gives back a slot
    /// meanwhile.
    pub(crate) fn look(&self) -> Look<'_> {
        Look { slots: self, state: self.lock(), run: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.0.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A slot, if there is one now.
    pub(crate) fn try_take(&self, claim: Claim) -> Option<Slot> {
        let mut state = self.lock();
        if !state.counts.has_room(claim.tenant, &claim.bounds()) {
            return None;
        }
        state.counts.take(&claim, 1);
        drop(state);
        Some(Slot { slots: self.clone(), claim: Some(claim) })
    }

    /// Waits for a slot: `seq` is put into the mailbox once there is one, and must then be turned
    /// into a slot with [`Place::redeem`]. Dropping the place gives up the wait, or the slot.
    pub(crate) fn wait(&self, claim: Claim, seq: u64, mailbox: &Arc<Mailbox>) -> Place {
        let now = self.now();
        let waiting = Waiting { claim, seq, mailbox: mailbox.clone() };
        let mut state = self.lock();
        let Claim { tenant: key, weight, priority, .. } = claim;
        let line = fair::Claim { key, class: claim.bounds(), weight, priority, cost: 1 };
        let id = state.waiting.push(line, now, waiting);
        // A slot may have come free since `try_take` said no.
        let wakers = state.grant(now);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Place { slots: self.clone(), id: Some(id), claim }
    }

    fn release(&self, claim: &Claim) {
        let mut state = self.lock();
        state.counts.give_back(claim, 1);
        let wakers = if state.waiting.is_empty() { Vec::new() } else { state.grant(self.now()) };
        let denied = std::mem::take(&mut state.denied);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if denied && let Some(on_room) = self.0.on_room.get() {
            on_room();
        }
    }

    /// Items that run now, in the whole broker.
    pub(crate) fn running(&self) -> u32 {
        self.lock().counts.running
    }

    /// Items that run now, of each tenant that has any.
    pub(crate) fn running_by_tenant(&self) -> HashMap<u32, u64> {
        self.lock().counts.tenants.iter().map(|(tenant, n)| (*tenant, u64::from(*n))).collect()
    }

    /// Items that wait for a slot now, in the whole broker.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

/// The slots, while someone looks for what may run.
pub(crate) struct Look<'a> {
    slots: &'a Slots,
    state: MutexGuard<'a, State>,
    /// What was looked for last: mostly many look for the same, one after the other.
    run: Option<Alike>,
}

/// Slots under the same bounds, that are counted together.
#[derive(Debug)]
struct Alike {
    claim: Claim,
    /// How many there are room for.
    room: u32,
    /// How many of them were taken, which nobody has counted yet.
    taken: u32,
}

impl Look<'_> {
    /// Whether there is a slot; if not, [`Slots::on_room`] tells of the next that comes free.
    pub(crate) fn has_room(&mut self, claim: &Claim) -> bool {
        self.alike(claim).room > 0
    }

    /// A slot, if there is one.
    pub(crate) fn try_take(&mut self, claim: Claim) -> Option<Slot> {
        let alike = self.alike(&claim);
        alike.room = alike.room.checked_sub(1)?;
        alike.taken += 1;
        Some(Slot { slots: self.slots.clone(), claim: Some(claim) })
    }

    fn alike(&mut self, claim: &Claim) -> &mut Alike {
        let bounds = (claim.tenant, claim.bounds());
        let same = self.run.as_ref().is_some_and(|a| (a.claim.tenant, a.claim.bounds()) == bounds);
        if !same {
            self.count();
        }
        let state = &mut *self.state;
        let alike = self.run.get_or_insert_with(|| {
            let room = state.counts.room(claim.tenant, &bounds.1);
            Alike { claim: *claim, room, taken: 0 }
        });
        state.denied |= alike.room == 0;
        alike
    }

    /// Counts what was taken.
    fn count(&mut self) {
        if let Some(Alike { claim, taken, .. }) = self.run.take()
            && taken > 0
        {
            self.state.counts.take(&claim, taken);
        }
    }

    /// Takes slots back, and gives them to those in line: whom to wake goes to `wakers`. True when
    /// somebody outside of the line was denied one before, who is then for the caller to tell.
    pub(crate) fn give_back(
        &mut self,
        slots: impl IntoIterator<Item = Slot>,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        self.count();
        let mut claims = slots.into_iter().filter_map(|mut slot| slot.claim.take());
        let Some(mut claim) = claims.next() else { return false };
        let mut alike = 1;
        for next in claims {
            if next != claim {
                self.state.counts.give_back(&claim, alike);
                (claim, alike) = (next, 0);
            }
            alike += 1;
        }
        self.state.counts.give_back(&claim, alike);
        if !self.state.waiting.is_empty() {
            let now = self.slots.now();
            wakers.append(&mut self.state.grant(now));
        }
        std::mem::take(&mut self.state.denied)
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

/// The right to run one item; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    /// None once it was given back otherwise.
    claim: Option<Claim>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(claim) = &self.claim {
            self.slots.release(claim);
        }
    }
}

/// A place in the line for a slot.
#[derive(Debug)]
pub(crate) struct Place {
    slots: Slots,
    id: Option<fair::Id<u32, Bounds>>,
    claim: Claim,
}

impl Place {
    /// The slot that the mailbox announced.
    pub(crate) fn redeem(mut self) -> Slot {
        self.id = None;
        Slot { slots: self.slots.clone(), claim: Some(self.claim) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let still_waiting = self.slots.lock().waiting.remove(id).is_some();
        if !still_waiting {
            // It was granted and never redeemed.
            self.slots.release(&self.claim);
        }
    }
}

/// Where a batch learns which of its waiting items may start.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<Mail>);

#[derive(Debug, Default)]
struct Mail {
    granted: Vec<u64>,
    waker: Option<Waker>,
    /// Whether it was nudged, and has not used its turn.
    has_turn: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, seq: u64) -> Option<Waker> {
        let mut mail = self.lock();
        mail.granted.push(seq);
        mail.waker.take()
    }

    /// Wakes the batch, for it to look again at what it could not place: it is its turn.
    pub(crate) fn nudge(&self) {
        let mut mail = self.lock();
        mail.has_turn = true;
        let waker = mail.waker.take();
        drop(mail);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Uses the turn up that a nudge has brought, if it has one.
    pub(crate) fn takes_turn(&self) -> bool {
        std::mem::take(&mut self.lock().has_turn)
    }

    /// Takes what was announced and asks to be woken at the next announcement.
    pub(crate) fn take(&self, waker: &Waker) -> Vec<u64> {
        let mut mail = self.lock();
        if !mail.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            mail.waker = Some(waker.clone());
        }
        std::mem::take(&mut mail.granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(tenant: u32, tenant_max: u32) -> Claim {
        Claim {
            tenant,
            tenant_max,
            weight: 1,
            recipe: 0,
            recipe_max: None,
            group: None,
            priority: 3,
        }
    }

    fn granted(m: &Mailbox) -> Vec<u64> {
        m.take(Waker::noop())
    }

    #[test]
    fn every_bound_holds_alone() {
        let slots = Slots::new(3);
        let a: Vec<_> = (0..2).map(|_| slots.try_take(claim(1, 2)).expect("room")).collect();
        assert!(slots.try_take(claim(1, 2)).is_none(), "the tenant's bound");
        let b = slots.try_take(claim(2, 2)).expect("room");
        assert!(slots.try_take(claim(3, 2)).is_none(), "the broker's bound");
        drop((a, b));
        assert_eq!(slots.running(), 0);
        let one = Claim { recipe: 7, recipe_max: Some(1), ..claim(1, 9) };
        let _held = slots.try_take(one).expect("room");
        assert!(slots.try_take(Claim { tenant: 2, ..one }).is_none(), "the recipe's bound");
    }

    #[test]
    fn recipes_of_a_group_share_its_bound() {
        let slots = Slots::new(9);
        let group = Some(Group { index: 4, max: 2 });
        let of = |tenant, recipe| Claim { recipe, group, ..claim(tenant, 9) };
        let held: Vec<_> = [1, 2].map(|r| slots.try_take(of(r, r)).expect("room")).into();
        assert!(slots.try_take(of(3, 3)).is_none(), "the group's bound");
        let other = Some(Group { index: 5, max: 1 });
        slots.try_take(Claim { group: other, ..of(3, 3) }).expect("another group has room");
        let mailbox = Arc::new(Mailbox::default());
        let place = slots.wait(of(3, 3), 7, &mailbox);
        assert!(granted(&mailbox).is_empty());
        drop(held);
        assert_eq!(granted(&mailbox), [7]);
        drop(place);
        assert!(slots.lock().counts.groups.is_empty(), "and nothing is left of it");
    }

    #[test]
    fn who_waits_is_granted_when_a_slot_comes_free_and_once() {
        let slots = Slots::new(1);
        let mailbox = Arc::new(Mailbox::default());
        let held = slots.try_take(claim(1, 9)).expect("room");
        let first = slots.wait(claim(1, 9), 10, &mailbox);
        let second = slots.wait(claim(2, 9), 20, &mailbox);
        assert!(granted(&mailbox).is_empty());
        drop(held);
        assert_eq!(granted(&mailbox), [10]);
        drop(first.redeem());
        assert_eq!(granted(&mailbox), [20]);
        drop(second);
        assert_eq!(
            (slots.running(), slots.waiting()),
            (0, 0),
            "a granted place gives its slot back"
        );
    }

    #[test]
    fn a_place_given_up_is_not_granted() {
        let slots = Slots::new(1);
        let mailbox = Arc::new(Mailbox::default());
        let held = slots.try_take(claim(1, 9)).expect("room");
        let gone = slots.wait(claim(1, 9), 10, &mailbox);
        let stays = slots.wait(claim(1, 9), 11, &mailbox);
        drop(gone);
        drop(held);
        assert_eq!(granted(&mailbox), [11]);
        drop(stays);
        assert_eq!((slots.running(), slots.waiting()), (0, 0));
    }

    #[test]
    fn who_was_denied_a_slot_is_told_of_the_next_that_comes_free() {
        let told = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = || told.load(std::sync::atomic::Ordering::Relaxed);
        let slots = Slots::new(2);
        let counter = told.clone();
        slots.on_room(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        let held = slots.try_take(claim(1, 1)).expect("room");
        drop(slots.try_take(claim(2, 1)).expect("room"));
        assert_eq!(count(), 0, "nobody asked");
        assert!(!slots.look().has_room(&claim(1, 1)));
        drop(held);
        assert_eq!(count(), 1);
        let taken = slots.look().try_take(claim(1, 1)).expect("room");
        assert_eq!(slots.running(), 1);
        drop(taken);
        assert_eq!((count(), slots.running()), (1, 0), "told once");
    }

    #[test]
    fn slots_given_back_in_a_look_go_to_who_waits_and_tell_of_who_was_denied() {
        let slots = Slots::new(3);
        let mailbox = Arc::new(Mailbox::default());
        let mut held: Vec<_> = (0..3).map(|_| slots.try_take(claim(1, 9)).expect("room")).collect();
        let place = slots.wait(claim(2, 9), 7, &mailbox);
        let mut look = slots.look();
        assert!(!look.has_room(&claim(3, 9)));
        let mut wakers = Vec::new();
        assert!(look.give_back(held.drain(..2), &mut wakers), "somebody was denied");
        assert!(look.has_room(&claim(3, 9)));
        assert!(!look.give_back(held.drain(..), &mut wakers), "told once");
        drop(look);
        assert_eq!(granted(&mailbox), [7]);
        assert_eq!(slots.running(), 1);
        drop(place.redeem());
        assert_eq!(slots.running(), 0);
    }

    #[test]
    fn an_item_that_can_not_run_does_not_block_the_one_behind_it() {
        let slots = Slots::new(2);
        let mailbox = Arc::new(Mailbox::default());
        let full = Claim { recipe: 1, recipe_max: Some(1), ..claim(1, 9) };
        let _a = slots.try_take(full).expect("room");
        let b = slots.try_take(claim(1, 9)).expect("room");
        let _blocked = slots.wait(full, 1, &mailbox);
        let _free = slots.wait(claim(1, 9), 2, &mailbox);
        drop(b);
        assert_eq!(granted(&mailbox), [2]);
    }
}
