//! What is counted of items and batches: by recipe, added a lap at a time.
//!
//! Whoever runs items keeps laps of its own and folds them in now and then: an item costs no atomic
//! and no lock.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tollgate_protocol::{
    Code,
    batch::{Ended, Scope},
};

use super::duration::{self, Durations};

/// Counts of items and batches, shared by all batches.
#[derive(Debug)]
pub(crate) struct Items {
    /// By their labels.
    recipes: Box<[OnceLock<Box<Recipe>>]>,
    /// All other recipes, and items for which none was found.
    other: Recipe,
    none: Recipe,
    opened: AtomicU64,
    ended: [AtomicU64; HOWS],
    refusals: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

/// What is counted of one recipe's items.
#[derive(Debug)]
pub(super) struct Recipe {
    pub name: Box<str>,
    pub started: AtomicU64,
    pub succeeded: AtomicU64,
    failed: [AtomicU64; Code::ALL.len()],
    pub running: Durations,
    pub queued: Durations,
}

/// What one batch has counted of one recipe's items since it last told.
#[derive(Debug, Default)]
pub(crate) struct Lap {
    pub started: u32,
    pub succeeded: u32,
    /// Few batches see more than two or three different codes.
    pub failed: Vec<(Code, u32)>,
    pub running: duration::Lap,
    pub queued: duration::Lap,
}

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// With its summary.
    Ended(Ended),
    /// As a whole, with an error.
    Failed,
    /// Its client, or its reader, was gone.
    Lost,
}

impl How {
    const ALL: [How; HOWS] = [
        How::Ended(Ended::Sealed),
        How::Ended(Ended::Cancelled),
        How::Ended(Ended::DeadlineExceeded),
        How::Ended(Ended::FailFast),
        How::Ended(Ended::Cut),
        How::Ended(Ended::SealedByBroker),
        How::Ended(Ended::Draining),
        How::Failed,
        How::Lost,
    ];

    /// The name, in metrics and in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            How::Ended(Ended::Sealed) => "sealed",
            How::Ended(Ended::Cancelled) => "cancelled",
            How::Ended(Ended::DeadlineExceeded) => "deadline_exceeded",
            How::Ended(Ended::FailFast) => "fail_fast",
            How::Ended(Ended::Cut) => "cut",
            How::Ended(Ended::SealedByBroker) => "sealed_by_broker",
            How::Ended(Ended::Draining) => "draining",
            How::Failed => "failed",
            How::Lost => "lost",
        }
    }

    fn place(self) -> usize {
        match self {
            How::Ended(ended) => ended as usize,
            How::Failed => HOWS - 2,
            How::Lost => HOWS - 1,
        }
    }
}

impl Lap {
    pub(crate) fn is_empty(&self) -> bool {
        self.started == 0 && self.succeeded == 0 && self.failed.is_empty()
    }

    /// Counts a failure.
    pub(crate) fn failed(&mut self, code: Code) {
        match self.failed.iter_mut().find(|f| f.0 == code) {
            Some(f) => f.1 += 1,
            None => self.failed.push((code, 1)),
        }
    }
}

impl Items {
    pub(super) fn new<'a>(recipes: impl Iterator<Item = &'a str>) -> Self {
        let mut named: Box<[OnceLock<Box<Recipe>>]> =
            (0..RECIPE_LABELS_MAX).map(|_| OnceLock::new()).collect();
        for (label, name) in named.iter_mut().zip(recipes) {
            *label = OnceLock::from(Box::new(Recipe::new(name)));
        }
        Items {
            recipes: named,
            other: Recipe::new(OTHER),
            none: Recipe::new(NONE),
            opened: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; HOWS],
            refusals: Mutex::default(),
        }
    }

    /// A batch was admitted.
    pub(crate) fn batch_opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    /// A batch that was admitted is over.
    pub(crate) fn batch_ended(&self, how: How) {
        self.ended[how.place()].fetch_add(1, Relaxed);
    }

    /// A quota refused something this often.
    pub(crate) fn refused(&self, quota: &'static str, scope: Scope, times: u64) {
        let scope = match scope {
            Scope::Tenant => "tenant",
            Scope::Gateway => "gateway",
            Scope::Broker => "broker",
        };
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry((quota, scope)).or_default() += times;
    }

    /// What a recipe that comes later is counted under: its own name while there are labels left.
    pub(crate) fn label(&self, name: &str) -> u32 {
        let is = |label: &OnceLock<Box<Recipe>>| {
            *label.get_or_init(|| Box::new(Recipe::new(name))).name == *name
        };
        (0..).zip(&self.recipes).find(|(_, label)| is(label)).map_or(OTHER_LABEL, |(at, _)| at)
    }

    /// Adds what a batch counted of a recipe (by its label; none: there was none), and empties the
    /// lap.
    pub(crate) fn fold(&self, recipe: Option<u32>, lap: &mut Lap) {
        let recipe = match recipe {
            None => &self.none,
            Some(label) => match self.recipes.get(label as usize).and_then(OnceLock::get) {
                Some(recipe) => recipe,
                None => &self.other,
            },
        };
        for (count, lap) in
            [(&recipe.started, &mut lap.started), (&recipe.succeeded, &mut lap.succeeded)]
        {
            count.fetch_add(u64::from(std::mem::take(lap)), Relaxed);
        }
        for (code, n) in lap.failed.drain(..) {
            recipe.failed[usize::from(code.number())].fetch_add(u64::from(n), Relaxed);
        }
        recipe.running.fold(&mut lap.running);
        recipe.queued.fold(&mut lap.queued);
    }

    /// The recipes of which anything was counted.
    pub(super) fn recipes(&self) -> impl Iterator<Item = &Recipe> + Clone {
        let all = self.recipes.iter().filter_map(OnceLock::get).map(Box::as_ref);
        all.chain([&self.other, &self.none])
            .filter(|r| r.started.load(Relaxed) > 0 || r.failures().next().is_some())
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    pub(super) fn ended(&self) -> [(&'static str, u64); HOWS] {
        How::ALL.map(|how| (how.name(), self.ended[how.place()].load(Relaxed)))
    }

    pub(super) fn refusals(&self) -> Vec<(&'static str, &'static str, u64)> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().map(|((quota, scope), n)| (*quota, *scope, *n)).collect()
    }
}

impl Recipe {
    fn new(name: &str) -> Self {
        Recipe {
            name: name.into(),
            started: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: [const { AtomicU64::new(0) }; Code::ALL.len()],
            running: Durations::default(),
            queued: Durations::default(),
        }
    }

    /// How often each code was counted, of those that were.
    pub(super) fn failures(&self) -> impl Iterator<Item = (Code, u64)> {
        let counts = Code::ALL.iter().zip(&self.failed);
        counts.map(|(code, n)| (*code, n.load(Relaxed))).filter(|(_, n)| *n > 0)
    }

    /// Items that were answered.
    pub(super) fn answered(&self) -> u64 {
        self.succeeded.load(Relaxed) + self.failures().map(|f| f.1).sum::<u64>()
    }
}

/// Recipes that have a label of their own: a catalog may hold thousands.
const RECIPE_LABELS_MAX: usize = 100;
/// What is counted with all other recipes.
pub(crate) const OTHER_LABEL: u32 = u32::MAX;
/// No recipe can be called so.
const OTHER: &str = "(other)";
const NONE: &str = "(none)";
const HOWS: usize = Ended::ALL.len() + 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_place() {
        for (at, how) in How::ALL.into_iter().enumerate() {
            assert_eq!(how.place(), at, "{how:?}");
        }
        let items = Items::new(["echo"].into_iter());
        items.batch_ended(How::Ended(Ended::Draining));
        items.batch_ended(How::Lost);
        let counted: Vec<_> = items.ended().into_iter().filter(|e| e.1 > 0).collect();
        assert_eq!(counted, [("draining", 1), ("lost", 1)]);
    }

    #[test]
    fn recipes_beyond_the_labels_are_counted_together() {
        let names: Vec<String> = (0..150).map(|i| format!("r{i}")).collect();
        let items = Items::new(names.iter().map(String::as_str));
        for index in [0, 99, 100, 149] {
            items.fold(Some(index), &mut Lap { started: 1, ..Lap::default() });
        }
        let mut lap = Lap::default();
        lap.failed(Code::RecipeNotFound);
        lap.failed(Code::RecipeNotFound);
        items.fold(None, &mut lap);
        let counted: Vec<_> =
            items.recipes().map(|r| (&*r.name, r.started.load(Relaxed), r.answered())).collect();
        let expected = [("r0", 1, 0), ("r99", 1, 0), ("(other)", 2, 0), ("(none)", 0, 2)];
        assert_eq!(counted, expected);
    }
}
