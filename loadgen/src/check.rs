//! Is it right? Every answer of a batch, against what was sent.
//!
//! The client crate judges the protocol too; this does not rely on it.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Serialize;
use tollgate_client::wire::{Body, ItemResult};

use crate::{
    pattern::Pattern,
    scenario::{Check, Payload, Recipe, Tenant},
};

/// Answers that must not be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Items of a batch that ended well which have no result.
    pub missing: u64,
    /// Second results of an item.
    pub duplicate: u64,
    /// Results for what was not sent in the batch.
    pub foreign: u64,
    /// Successes with an answer that is not the right one.
    pub payload: u64,
    /// Batches in which the broker broke the protocol in another way.
    pub protocol: u64,
}

impl Wrong {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.missing + self.duplicate + self.foreign + self.payload + self.protocol
    }

    pub fn add(&mut self, other: &Wrong) {
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.foreign += other.foreign;
        self.payload += other.payload;
        self.protocol += other.protocol;
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
            (Check::Echo, Payload::Bytes(len)) => self.pattern.is_of(id, *len, answer),
            (Check::Echo, Payload::Text(text)) => answer == text,
            (Check::Same, _) => {
                answer == self.first[at].get_or_init(|| Bytes::copy_from_slice(answer))
            }
        }
    }
}

/// Judges one batch, whose ids begin at `first`.
#[derive(Debug)]
pub struct Batch<'a> {
    tenant: &'a Tenant,
    answers: &'a Answers,
    first: u64,
    /// A bit an item.
    seen: Vec<u64>,
    /// Items that have a result.
    pub answered: u64,
    /// Items that succeeded.
    pub succeeded: u64,
    /// Numbers of the codes of those that failed.
    pub failed: Vec<(u16, u64)>,
    pub wrong: Wrong,
}

impl<'a> Batch<'a> {
    pub fn new(tenant: &'a Tenant, answers: &'a Answers, first: u64) -> Self {
        Batch {
            tenant,
            answers,
            first,
            seen: vec![0; tenant.batch_items.div_ceil(64) as usize],
            answered: 0,
            succeeded: 0,
            failed: Vec::new(),
            wrong: Wrong::default(),
        }
    }

    /// Judges a result. True if it is the first of an item of this batch.
    #[inline]
    pub fn result(&mut self, r: &ItemResult<'_>) -> bool {
        let at = r.id.wrapping_sub(self.first);
        if at >= self.tenant.batch_items {
            self.wrong.foreign += 1;
            return false;
        }
        let (word, bit) = ((at / 64) as usize, 1 << (at % 64));
        if self.seen[word] & bit != 0 {
            self.wrong.duplicate += 1;
            return false;
        }
        self.seen[word] |= bit;
        self.answered += 1;
        match &r.body {
            Body::Payload(answer) if r.code == 0 => {
                let (at, recipe) = self.tenant.recipe_of(r.id);
                self.succeeded += 1;
                self.wrong.payload += u64::from(!self.answers.is_right(r.id, at, recipe, answer));
            }
            // A success without an answer, or an answer with a failure's code.
            Body::Payload(_) => self.wrong.payload += 1,
            Body::Failure(_) => match self.failed.iter_mut().find(|(code, _)| *code == r.code) {
                Some((_, n)) => *n += 1,
                None => self.failed.push((r.code, 1)),
            },
        }
        true
    }

    /// The batch ended well: every item must have its result.
    pub fn complete(&mut self) {
        self.wrong.missing += self.unanswered();
    }

    /// Items without a result.
    pub fn unanswered(&self) -> u64 {
        self.tenant.batch_items - self.answered
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
        let mut batch = Batch::new(tenant, &answers, 30);
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
}
