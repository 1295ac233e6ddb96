//! Who is served next among tenants that wait: weighted deficit round robin over what things cost,
//! then priority within the tenant, then age.
//!
//! Deficit round robin is by Shreedhar and Varghese, "Efficient Fair Queueing using Deficit Round
//! Robin" (SIGCOMM 1995). It never runs anything and knows no bound on what waits: its callers do.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
};

/// How turns are cut.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    /// What a tenant of weight 1 may cost in one turn, in the unit of the costs. About the cost of
    /// one usual item: less costs rounds, more lets a tenant keep others waiting for longer.
    pub quantum: u64,
    /// After how long a waiting item rises by one priority, in nanoseconds.
    pub rise_ns: u64,
}

/// Where something waits, to take it out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id<K, C = ()> {
    key: K,
    class: C,
    level: u8,
    seq: u64,
}

impl<K, C> Id<K, C> {
    /// Where something waits of this tenant and class, and its place among those.
    pub fn at(key: K, class: C, (level, seq): (u8, u64)) -> Id<K, C> {
        Id { key, class, level, seq }
    }

    /// The place among what waits of its tenant and class.
    pub fn place(&self) -> (u8, u64) {
        (self.level, self.seq)
    }
}

/// Who comes, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Claim<K, C = ()> {
    /// The tenant.
    pub key: K,
    /// What decides whether it can run: all of one tenant and class can, or none.
    pub class: C,
    /// The tenant's share (0 counts as 1); holds for all that it has waiting.
    pub weight: u32,
    /// 0 to 7; 7 is first.
    pub priority: u8,
    /// What it is expected to cost, beside what all of its class do. 0 in all counts as 1.
    pub cost: u64,
}

/// What is next, and what its tenant was charged for it.
#[derive(Debug)]
pub struct Popped<K, T> {
    /// The tenant.
    pub key: K,
    /// What waited.
    pub item: T,
    /// What was charged.
    pub cost: u64,
    /// Whether nobody else waited: then nothing that it costs more, or less, is anybody's.
    pub alone: bool,
}

/// What waits, by tenant `K` and by the class `C` that decides what can run.
#[derive(Debug)]
pub struct Fair<K, T, C = ()> {
    turns: Turns,
    flows: HashMap<K, Flow<T, C>, foldhash::fast::RandomState>,
    /// Tenants with something waiting; the first has its turn.
    ring: VecDeque<K>,
    /// Tenants with nothing waiting that still owe for what was corrected.
    debtors: HashMap<K, Debt, foldhash::fast::RandomState>,
    /// At how many debtors the paid ones are looked for.
    sweep_at: usize,
    /// Rounds of the ring since the start, which debts are paid by.
    rounds: u64,
    /// Turns until the current round ends.
    round_left: usize,
    seq: u64,
    len: usize,
}

#[derive(Debug)]
struct Flow<T, C> {
    weight: u32,
    deficit: i64,
    /// Whether this turn's quantum was given.
    in_turn: bool,
    len: usize,
    /// Those with something waiting: few, and mostly one.
    classes: Vec<Class<T, C>>,
}

#[derive(Debug)]
struct Class<T, C> {
    class: C,
    len: usize,
    levels: [Level<T>; LEVELS],
}

/// What waits alike, in the order of its coming. Most of it leaves from the front; what is taken out
/// of the middle leaves a gap, until there are more gaps than entries.
#[derive(Debug)]
struct Level<T> {
    /// By sequence numbers, which rise. The first is never a gap.
    entries: VecDeque<(u64, Option<Entry<T>>)>,
    gaps: usize,
}

#[derive(Debug)]
struct Entry<T> {
    since: u64,
    cost: i64,
    item: T,
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    owed: i64,
    weight: u32,
    /// The round it was last written in.
    round: u64,
}

impl<K: Copy + Eq + Hash, T, C: Copy + Eq> Fair<K, T, C> {
    /// Nothing waits yet.
    pub fn new(turns: Turns) -> Self {
        Fair {
            turns: Turns {
                quantum: turns.quantum.clamp(1, COST_MAX as u64),
                rise_ns: turns.rise_ns.max(1),
            },
            flows: HashMap::default(),
            ring: VecDeque::new(),
            debtors: HashMap::default(),
            sweep_at: SWEEP_MIN,
            rounds: 0,
            round_left: 0,
            seq: 0,
            len: 0,
        }
    }

    /// Adds something that waits since `now`, in nanoseconds.
    pub fn push(&mut self, claim: Claim<K, C>, now: u64, item: T) -> Id<K, C> {
        let Claim { key, class, priority, .. } = claim;
        let weight = claim.weight.clamp(1, WEIGHT_MAX);
        if !self.flows.contains_key(&key) {
            if let (Some(only), 1) = (self.ring.front(), self.ring.len())
                && let Some(flow) = self.flows.get_mut(only)
            {
                // What it saved up while it was alone it saved at nobody's cost.
                flow.deficit = flow.deficit.min(0);
            }
            let debt = self.debtors.remove(&key);
            let deficit = -debt.map_or(0, |d| self.owed(&d));
            self.flows.insert(key, Flow::new(weight, deficit));
            self.ring.push_back(key);
        }
        let level = priority.min(PRIORITY_MAX);
        let seq = self.seq;
        self.seq += 1;
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.weight = weight;
            let cost = i64::try_from(claim.cost).unwrap_or(COST_MAX).min(COST_MAX);
            flow.insert(class, level, seq, Entry { since: now, cost, item });
        }
        self.len += 1;
        Id { key, class, level, seq }
    }

    /// Takes what is next.
    pub fn pop(&mut self, now: u64) -> Option<(K, T)> {
        self.pop_where(now, |_, _| Some(0)).map(|popped| (popped.key, popped.item))
    }

    /// Takes the next of those that can run. `can_run` says what one of a tenant and class costs
    /// now beside its own cost, or that none can run: those keep their places, and a tenant none of
    /// whose classes can run saves up nothing meanwhile. It is asked once a tenant and class,
    /// however many wait.
    pub fn pop_where(
        &mut self,
        now: u64,
        mut can_run: impl FnMut(&K, &C) -> Option<u64>,
    ) -> Option<Popped<K, T>> {
        let mut visited = 0;
        // The fewest rounds after which someone visited can pay.
        let mut rounds_needed = i64::MAX;
        loop {
            let &key = self.ring.front()?;
            let quantum = self.turns.quantum;
            let rise_ns = self.turns.rise_ns;
            let flow = self.flows.get_mut(&key)?;
            match flow.best(now, rise_ns, |class| can_run(&key, class)) {
                None => flow.in_turn = false,
                Some(Best { class, level, seq, cost }) => {
                    let share = flow.share(quantum);
                    if !flow.in_turn {
                        flow.in_turn = true;
                        flow.deficit = flow.deficit.saturating_add(share);
                    }
                    let alone = self.ring.len() == 1;
                    if alone && flow.deficit < cost {
                        // Rounds pass with nobody else in them, until it can pay.
                        let short = cost.saturating_sub(flow.deficit);
                        let rounds = short / share + i64::from(short % share > 0);
                        flow.deficit = flow.deficit.saturating_add(share.saturating_mul(rounds));
                        self.rounds = self.rounds.saturating_add(rounds.unsigned_abs());
                    }
                    if flow.deficit >= cost {
                        flow.deficit -= cost;
                        let item = self.take(Id { key, class, level, seq })?;
                        return Some(Popped { key, item, cost: cost.unsigned_abs(), alone });
                    }
                    flow.in_turn = false;
                    let short = cost.saturating_sub(flow.deficit);
                    rounds_needed = rounds_needed.min(short / share + i64::from(short % share > 0));
                }
            }
            self.ring.rotate_left(1);
            self.end_turn();
            visited += 1;
            if visited == self.ring.len() {
                if rounds_needed == i64::MAX {
                    return None;
                }
                // Nobody could pay: all rounds but the last, in which someone can, pass at once.
                self.pass_rounds(now, rounds_needed - 1, &mut can_run);
                visited = 0;
                rounds_needed = i64::MAX;
            }
        }
    }

    /// Corrects what a tenant was charged, by what something cost more (or less) than expected.
    /// A debt outlives an empty queue as long as others wait.
    pub fn correct(&mut self, key: K, weight: u32, delta: i64) {
        let delta = delta.clamp(-COST_MAX, COST_MAX);
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.deficit = flow.deficit.saturating_sub(delta).clamp(-DEBT_MAX, DEBT_MAX);
            return;
        }
        if self.ring.is_empty() {
            return;
        }
        let before = self.debtors.get(&key).map_or(0, |d| self.owed(d));
        let owed = before.saturating_add(delta).min(DEBT_MAX);
        if owed > 0 {
            let weight = weight.clamp(1, WEIGHT_MAX);
            self.owe(key, Debt { owed, weight, round: self.rounds });
        } else {
            self.debtors.remove(&key);
        }
    }

    /// Takes something out of its place, if it still waits.
    pub fn remove(&mut self, id: Id<K, C>) -> Option<T> {
        self.take(id)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of a tenant wait.
    pub fn len_of(&self, key: &K) -> usize {
        self.flows.get(key).map_or(0, |f| f.len)
    }

    /// How many of a tenant wait that are of certain classes.
    pub fn len_of_where(&self, key: &K, mut counts: impl FnMut(&C) -> bool) -> usize {
        let of = |f: &Flow<T, C>| {
            f.classes.iter().filter(|c| counts(&c.class)).map(|c| c.len).sum::<usize>()
        };
        self.flows.get(key).map_or(0, of)
    }

    /// How many wait, by tenant and class.
    pub fn classes(&self) -> impl Iterator<Item = (&K, &C, usize)> {
        self.flows.iter().flat_map(|(key, f)| f.classes.iter().map(move |c| (key, &c.class, c.len)))
    }

    /// Takes out everything, in the order of its coming.
    pub fn drain(&mut self) -> impl Iterator<Item = (K, T)> + use<K, T, C> {
        let mut all = BTreeMap::new();
        for (key, flow) in self.flows.drain() {
            let levels = flow.classes.into_iter().flat_map(|c| c.levels);
            for (seq, entry) in levels.flat_map(|level| level.entries) {
                all.extend(entry.map(|entry| (seq, (key, entry.item))));
            }
        }
        (self.len, self.round_left, self.sweep_at) = (0, 0, SWEEP_MIN);
        self.ring.clear();
        self.debtors.clear();
        all.into_values()
    }

    fn take(&mut self, id: Id<K, C>) -> Option<T> {
        let flow = self.flows.get_mut(&id.key)?;
        let entry = flow.remove(&id.class, id.level, id.seq)?;
        self.len -= 1;
        if flow.len == 0 {
            self.retire(id.key);
        }
        Some(entry.item)
    }

    /// A tenant has nothing waiting any more: what it saved is lost, what it owes is kept.
    fn retire(&mut self, key: K) {
        let Some(flow) = self.flows.remove(&key) else { return };
        if self.ring.front() == Some(&key) {
            self.ring.pop_front();
            self.end_turn();
        } else {
            self.ring.retain(|k| *k != key);
        }
        if self.ring.is_empty() {
            // Nobody else waited for what was used.
            self.debtors.clear();
            self.sweep_at = SWEEP_MIN;
        } else if flow.deficit < 0 {
            let debt = Debt { owed: -flow.deficit, weight: flow.weight, round: self.rounds };
            self.owe(key, debt);
        }
    }

    fn owe(&mut self, key: K, debt: Debt) {
        self.debtors.insert(key, debt);
        if self.debtors.len() >= self.sweep_at {
            let (rounds, quantum) = (self.rounds, self.turns.quantum);
            self.debtors.retain(|_, d| d.left(rounds, quantum) > 0);
            self.sweep_at = SWEEP_MIN.max(2 * self.debtors.len());
        }
    }

    fn owed(&self, debt: &Debt) -> i64 {
        debt.left(self.rounds, self.turns.quantum)
    }

    fn end_turn(&mut self) {
        if self.round_left <= 1 {
            self.rounds += 1;
            self.round_left = self.ring.len();
        } else {
            self.round_left -= 1;
        }
    }

    fn pass_rounds(&mut self, now: u64, n: i64, mut can_run: impl FnMut(&K, &C) -> Option<u64>) {
        if n <= 0 {
            return;
        }
        let Turns { quantum, rise_ns } = self.turns;
        for (key, flow) in &mut self.flows {
            if flow.best(now, rise_ns, |class| can_run(key, class)).is_some() {
                let gain = flow.share(quantum).saturating_mul(n);
                flow.deficit = flow.deficit.saturating_add(gain);
            }
        }
        self.rounds = self.rounds.saturating_add(n.unsigned_abs());
    }
}

/// The next of a tenant.
struct Best<C> {
    class: C,
    level: u8,
    seq: u64,
    cost: i64,
}

impl<T, C: Copy + Eq> Flow<T, C> {
    fn new(weight: u32, deficit: i64) -> Self {
        Flow { weight, deficit, in_turn: false, len: 0, classes: Vec::new() }
    }

    fn insert(&mut self, class: C, level: u8, seq: u64, entry: Entry<T>) {
        self.len += 1;
        let at = self.classes.iter().position(|c| c.class == class).unwrap_or_else(|| {
            self.classes.push(Class { class, len: 0, levels: Default::default() });
            self.classes.len() - 1
        });
        self.classes[at].len += 1;
        self.classes[at].levels[usize::from(level)].insert(seq, entry);
    }

    fn remove(&mut self, class: &C, level: u8, seq: u64) -> Option<Entry<T>> {
        let at = self.classes.iter().position(|c| c.class == *class)?;
        let entry = self.classes[at].levels[usize::from(level)].remove(seq)?;
        self.len -= 1;
        self.classes[at].len -= 1;
        if self.classes[at].len == 0 {
            self.classes.swap_remove(at);
        }
        Some(entry)
    }

    fn share(&self, quantum: u64) -> i64 {
        share(self.weight, quantum)
    }

    /// The next that can run. Within a level the oldest is first whatever has risen, so each level
    /// of a class offers one.
    fn best(
        &self,
        now: u64,
        rise_ns: u64,
        mut can_run: impl FnMut(&C) -> Option<u64>,
    ) -> Option<Best<C>> {
        let mut best: Option<(u8, Best<C>)> = None;
        for class in &self.classes {
            let Some(each) = can_run(&class.class) else { continue };
            let each = i64::try_from(each).unwrap_or(COST_MAX).min(COST_MAX);
            for level in (0..=PRIORITY_MAX).rev() {
                let levels = &class.levels[usize::from(level)];
                let Some((seq, entry)) = levels.first() else { continue };
                let risen = now.saturating_sub(entry.since) / rise_ns;
                let rank =
                    u64::from(level).saturating_add(risen).min(u64::from(PRIORITY_MAX)) as u8;
                let behind = best.as_ref().is_some_and(|(top, b)| (rank, b.seq) <= (*top, seq));
                if !behind {
                    let cost = (entry.cost + each).clamp(1, COST_MAX);
                    best = Some((rank, Best { class: class.class, level, seq, cost }));
                }
            }
        }
        best.map(|(_, best)| best)
    }
}

impl<T> Default for Level<T> {
    fn default() -> Self {
        Level { entries: VecDeque::new(), gaps: 0 }
    }
}

impl<T> Level<T> {
    /// Adds the newest.
    fn insert(&mut self, seq: u64, entry: Entry<T>) {
        self.entries.push_back((seq, Some(entry)));
    }

    fn first(&self) -> Option<(u64, &Entry<T>)> {
        let (seq, entry) = self.entries.front()?;
        Some((*seq, entry.as_ref()?))
    }

    fn remove(&mut self, seq: u64) -> Option<Entry<T>> {
        let at = match self.entries.front() {
            Some((first, _)) if *first == seq => 0,
            _ => self.entries.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?,
        };
        let entry = self.entries.get_mut(at)?.1.take()?;
        self.gaps += 1;
        while self.entries.front().is_some_and(|(_, entry)| entry.is_none()) {
            self.entries.pop_front();
            self.gaps -= 1;
        }
        if 2 * self.gaps > self.entries.len() {
            self.entries.retain(|(_, entry)| entry.is_some());
            self.gaps = 0;
        }
        Some(entry)
    }
}

impl Debt {
    /// What is still owed after the rounds since, each of which would have brought a share.
    fn left(&self, rounds: u64, quantum: u64) -> i64 {
        let since = i64::try_from(rounds.saturating_sub(self.round)).unwrap_or(i64::MAX);
        self.owed.saturating_sub(share(self.weight, quantum).saturating_mul(since)).max(0)
    }
}

fn share(weight: u32, quantum: u64) -> i64 {
    let quantum = i64::try_from(quantum).unwrap_or(COST_MAX);
    i64::from(weight).saturating_mul(quantum)
}

const PRIORITY_MAX: u8 = 7;
const LEVELS: usize = PRIORITY_MAX as usize + 1;
/// What one thing may cost; more is taken for this.
const COST_MAX: i64 = 1 << 48;
/// What a tenant may owe: beyond it a correction is forgiven, or it would wait for ever.
const DEBT_MAX: i64 = 1 << 52;
/// The largest share of a tenant.
const WEIGHT_MAX: u32 = 1_000;
/// Debtors that are kept before the paid ones are looked for.
const SWEEP_MIN: usize = 64;
