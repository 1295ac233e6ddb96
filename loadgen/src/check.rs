//! Is it right? Every answer of a batch, and every message of a topic, against what was sent.
//!
//! The client crate judges the protocol too; this does not rely on it.

mod flow;

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Serialize;
use tollgate_client::wire::{Body, ItemResult};

pub use flow::{Flow, Told};

use crate::{
    pattern::Pattern,
    scenario::{Check, Operation, Payload, Recipe, Tenant},
};

/// Answers that must not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Items of an operation that ended well which have no result.
    pub missing: u64,
    /// Second results of an item; messages that were appended twice, or delivered again after they
    /// were committed.
    pub duplicate: u64,
    /// Results for what was not sent in the batch; messages of somebody else.
    pub foreign: u64,
    /// Successes with an answer that is not the right one, messages with other bytes.
    pub payload: u64,
    /// Operations in which the broker broke the protocol in another way; messages that came out of
    /// their order, or from another place than was acknowledged.
    pub protocol: u64,
    /// Jobs that were accepted and never seen to end, messages that were acknowledged and never
    /// delivered.
    pub lost: u64,
}

impl Wrong {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.missing + self.duplicate + self.foreign + self.payload + self.protocol + self.lost
    }

    pub fn add(&mut self, other: &Wrong) {
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.foreign += other.foreign;
        self.payload += other.payload;
        self.protocol += other.protocol;
        self.lost += other.lost;
    }
}

/// What is known of a tenant's right answers.
#[derive(Debug)]
pub struct Answers {
    pub pattern: Pattern,
    /// The first answer of each recipe.
    first: Vec<OnceLock<Bytes>>,
}

impl Answers {
    /// For a tenant; `seed` tells it from the others.
    pub fn new(tenant: &Tenant, seed: u64) -> Self {
        Answers {
            pattern: Pattern::new(seed, tenant.payload_max()),
            first: tenant.recipes.iter().map(|_| OnceLock::new()).collect(),
        }
    }

    fn is_right(&self, id: u64, at: usize, recipe: &Recipe, answer: &[u8]) -> bool {
        match (recipe.check, &recipe.payload) {
            (Check::Any, _) => true,
            (Check::Echo, Payload::Text(text)) => answer == text,
            (Check::Echo, bytes) => self.pattern.is_of(id, bytes.len_of(id), answer),
            (Check::Same, _) => {
                answer == self.first[at].get_or_init(|| Bytes::copy_from_slice(answer))
            }
        }
    }
}

/// Judges one batch.
#[derive(Debug)]
pub struct Batch<'a> {
    tenant: &'a Tenant,
    answers: &'a Answers,
    first: u64,
    items: u64,
    /// Which items have a result, and which are jobs: a bit an item.
    seen: Bits,
    jobs: Bits,
    /// Items that have a result.
    pub answered: u64,
    /// Items that succeeded.
    pub succeeded: u64,
    /// Numbers of the codes of those that failed.
    pub failed: Vec<(u16, u64)>,
    pub wrong: Wrong,
}

impl<'a> Batch<'a> {
    /// The batch of this number.
    pub fn new(tenant: &'a Tenant, answers: &'a Answers, number: u64) -> Self {
        let (first, items) = tenant.ids(number);
        let jobs = matches!(tenant.operation, Operation::Job { .. });
        Batch {
            tenant,
            answers,
            first,
            items,
            seen: Bits::new(items),
            jobs: Bits::new(if jobs { items } else { 0 }),
            answered: 0,
            succeeded: 0,
            failed: Vec::new(),
            wrong: Wrong::default(),
        }
    }

    /// Judges a result. True if it is the first of an item of this batch.
    #[inline]
    pub fn result(&mut self, r: &ItemResult<'_>) -> bool {
        let answer = match &r.body {
            Body::Payload(answer) => Some(&**answer),
            Body::Failure(_) => None,
        };
        self.end_of(r.id, r.code, answer)
    }

    /// Judges the end of an item: its code, and its answer. True if it is the first of an item of
    /// this batch.
    #[inline]
    pub fn end_of(&mut self, id: u64, code: u16, answer: Option<&[u8]>) -> bool {
        let at = id.wrapping_sub(self.first);
        if at >= self.items {
            self.wrong.foreign += 1;
            return false;
        }
        if !self.seen.set(at) {
            self.wrong.duplicate += 1;
            return false;
        }
        self.answered += 1;
        match answer {
            Some(answer) if code == 0 => {
                let (place, recipe) = self.tenant.recipe_of(id);
                self.succeeded += 1;
                self.wrong.payload += u64::from(!self.answers.is_right(id, place, recipe, answer));
                // A durable item that was done was accepted before.
                let unaccepted = !self.jobs.is_empty() && !self.jobs.has(at);
                self.wrong.protocol += u64::from(unaccepted);
            }
            // A success without an answer, or an answer with a failure's code.
            Some(_) => self.wrong.payload += 1,
            None => match self.failed.iter_mut().find(|(c, _)| *c == code) {
                Some((_, n)) => *n += 1,
                None => self.failed.push((code, 1)),
            },
        }
        true
    }

    /// Judges that an item was accepted as a job. True if it is the first time.
    pub fn accepted(&mut self, id: u64) -> bool {
        let at = id.wrapping_sub(self.first);
        if at >= self.items || self.jobs.is_empty() {
            self.wrong.foreign += 1;
            return false;
        }
        if !self.jobs.set(at) {
            self.wrong.duplicate += 1;
            return false;
        }
        true
    }

    /// The batch ended well: every item must have its result.
    pub fn complete(&mut self) {
        self.wrong.missing += self.unanswered();
    }

    /// Items without a result.
    pub fn unanswered(&self) -> u64 {
        self.items - self.answered
    }

    /// Jobs that were accepted and have not ended.
    pub fn open_jobs(&self) -> u64 {
        self.jobs.without(&self.seen)
    }

    /// Which items were accepted as jobs and which have a result, to go on with later.
    pub fn into_record(self) -> (Bits, Bits) {
        (self.jobs, self.seen)
    }

    /// Goes on where another one of the same batch stopped.
    pub fn resume(&mut self, (jobs, seen): (Bits, Bits)) {
        (self.jobs, self.seen) = (jobs, seen);
    }
}

/// A bit an item.
#[derive(Debug, Clone, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    fn new(items: u64) -> Self {
        Bits(vec![0; items.div_ceil(64) as usize])
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if it was not set.
    #[inline]
    fn set(&mut self, at: u64) -> bool {
        let (word, bit) = (&mut self.0[(at / 64) as usize], 1 << (at % 64));
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    fn has(&self, at: u64) -> bool {
        self.0[(at / 64) as usize] & (1 << (at % 64)) != 0
    }

    /// How many are set here and not there.
    fn without(&self, other: &Bits) -> u64 {
        self.0.iter().zip(&other.0).map(|(a, b)| u64::from((a & !b).count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, ScenarioFile};

    fn tenant(load: &str) -> Tenant {
        let text = format!("[[tenants]]\ncerts = \"c\"\nbatch_items = 3\n{load}");
        let file: ScenarioFile = toml::from_str(&text).expect("TOML");
        file.parse(Overrides::default()).expect("fine").tenants.remove(0)
    }

    /// Results by id and payload, judged as the batch of the ids 30 to 32.
    fn judge(tenant: &Tenant, results: &[(u64, &[u8])]) -> Wrong {
        let answers = Answers::new(tenant, 1);
        let mut batch = Batch::new(tenant, &answers, 10);
        for (id, payload) in results {
            batch.result(&ok(*id, payload));
        }
        batch.complete();
        batch.wrong
    }

    fn ok(id: u64, payload: &[u8]) -> ItemResult<'_> {
        ItemResult {
            id,
            tenant: None,
            status: 200,
            code: 0,
            attempts: 1,
            queued_us: 0,
            duration_us: 0,
            number: Default::default(),
            metadata: tollgate_client::wire::Pairs::EMPTY,
            extensions: tollgate_protocol::Extensions::EMPTY,
            body: Body::Payload(payload),
        }
    }

    #[test]
    fn each_kind_of_wrong_is_told() {
        let tenant = tenant("payload_bytes = 20");
        let answers = Answers::new(&tenant, 1);
        let of = |id| {
            let mut p = Vec::new();
            answers.pattern.fill(id, 20, &mut p);
            p
        };
        let (a, b, c) = (of(30), of(31), of(32));
        assert_eq!(judge(&tenant, &[(31, &b), (30, &a), (32, &c)]), Wrong::default());
        let missing = Wrong { missing: 1, ..Wrong::default() };
        assert_eq!(judge(&tenant, &[(31, &b), (32, &c)]), missing);
        let twice = judge(&tenant, &[(30, &a), (30, &a), (31, &b), (32, &c)]);
        assert_eq!(twice, Wrong { duplicate: 1, ..Wrong::default() });
        let strangers = judge(&tenant, &[(29, &a), (30, &a), (31, &b), (32, &c), (33, &c)]);
        assert_eq!(strangers, Wrong { foreign: 2, ..Wrong::default() });
        let swapped = judge(&tenant, &[(30, &b), (31, &a), (32, &c[..19])]);
        assert_eq!(swapped, Wrong { payload: 3, ..Wrong::default() });
    }

    #[test]
    fn the_same_answer_is_asked_of_a_recipe_that_computes() {
        let tenant = tenant("recipe = \"sha256\"\npayload = \"x\"\ncheck = \"same\"");
        assert_eq!(judge(&tenant, &[(30, b"2d"), (31, b"2d"), (32, b"2d")]).payload, 0);
        assert_eq!(judge(&tenant, &[(30, b"2d"), (31, b"2e"), (32, b"2d")]).payload, 1);
    }

    #[test]
    fn a_job_is_accepted_once_and_ends_once() {
        let tenant = tenant("operation = \"job\"\npayload_bytes = 0");
        let answers = Answers::new(&tenant, 1);
        let mut batch = Batch::new(&tenant, &answers, 10);
        assert!(batch.accepted(30) && batch.accepted(31) && batch.accepted(32));
        assert!(!batch.accepted(31) && !batch.accepted(33));
        assert_eq!(batch.wrong, Wrong { duplicate: 1, foreign: 1, ..Wrong::default() });
        assert!(batch.result(&ok(31, b"")) && batch.end_of(30, 5, None));
        assert_eq!((batch.open_jobs(), batch.unanswered()), (1, 1));
        // Read again later: only what was open is news.
        let mut later = Batch::new(&tenant, &answers, 10);
        later.resume(batch.into_record());
        assert!(later.result(&ok(32, b"")) && later.open_jobs() == 0);
        // Done, and never accepted.
        let mut other = Batch::new(&tenant, &answers, 10);
        other.result(&ok(30, b""));
        assert_eq!(other.wrong.protocol, 1);
    }
}
