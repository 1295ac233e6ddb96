//! Which recipes there are: an immutable table, built and checked once, cheap to clone and to ask.
//!
//! Holds no state of what runs. To change the table, build another one.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use tollgate_protocol::{
    Extensions,
    describe::{self, Encoding, RecipeKind},
    id::{NameError, RecipeName},
    limits, truncate,
};

use super::{
    directory::Number,
    hooks::{Guarded, Hooks},
    recipe::{DynRecipe, Inline, Recipe, Spec},
    remote::Remote,
    slots::Group,
    validate::{self, Schema},
};

mod elsewhere;

pub(crate) use elsewhere::Elsewhere;

/// The recipes of a broker, and the hooks around them.
#[derive(Clone)]
pub struct Catalog(Arc<Table>);

struct Table {
    /// Sorted by name; an entry's `index` is its place here.
    entries: Box<[Arc<Entry>]>,
    by_name: HashMap<RecipeName, Arc<Entry>, RandomState>,
    hooks: Guarded,
}

impl Catalog {
    /// Starts an empty catalog.
    pub fn builder() -> CatalogBuilder {
        CatalogBuilder::default()
    }

    /// The recipe of a name; any text may be asked for.
    pub fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        self.0.by_name.get(name)
    }

    /// Every recipe, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Entry>> {
        self.0.entries.iter()
    }

    /// How many recipes there are; the indexes of the entries are below this.
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    pub(crate) fn hooks(&self) -> &Guarded {
        &self.0.hooks
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|e| &e.name);
        f.write_str("Catalog ")?;
        f.debug_set().entries(names).finish()
    }
}

/// One recipe of a [`Catalog`].
#[derive(Clone)]
pub struct Entry {
    pub(crate) name: RecipeName,
    /// Tells it from every other one there is. In the catalog: its place, dense from 0.
    pub(crate) index: u32,
    /// What it is counted under: its place among the names that metrics know.
    pub(crate) label: u32,
    /// Gives the index back; the catalog's are never given back.
    pub(super) _number: Option<Arc<Number>>,
    /// The usual size of a result, as far as was seen, in bytes.
    result_bytes: Arc<AtomicU32>,
    pub(crate) spec: Spec,
    pub(crate) kind: RecipeKind,
    /// The bound on what runs at once that it shares with other recipes.
    pub(crate) group: Option<Group>,
    /// The longest an attempt may run: the spec's, or its default.
    pub(crate) timeout: Duration,
    pub(crate) handler: Handler,
    /// The spec's schema, compiled.
    pub(crate) schema: Option<Arc<Schema>>,
    /// The spec's schema, as it is described to clients.
    schema_text: Option<Arc<str>>,
}

/// The code of a recipe.
#[derive(Clone)]
pub(crate) enum Handler {
    Inline(Arc<dyn Inline>),
    Recipe(Arc<dyn DynRecipe>),
    Remote(Arc<dyn Remote>),
}

impl Handler {
    /// Where its items are handed over, if they run elsewhere.
    pub(crate) fn remote(&self) -> Option<&Arc<dyn Remote>> {
        match self {
            Handler::Remote(remote) => Some(remote),
            _ => None,
        }
    }
}

impl Entry {
    /// The recipe's name.
    pub fn name(&self) -> &RecipeName {
        &self.name
    }

    /// Tells it from every other recipe there is now.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// What it promises and needs.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The longest an attempt may run.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether an item with such a payload blocks a core and therefore runs on the pool.
    pub fn runs_on_pool(&self, payload_len: usize) -> bool {
        self.spec.blocking || self.spec.inline_bytes_max.is_some_and(|max| payload_len > max)
    }

    /// Whether every payload that is not too long runs at once, on the task of its stream, or is
    /// handed over as it is.
    pub(crate) fn takes_alike(&self) -> bool {
        match self.handler {
            Handler::Inline(_) => {
                let here = !self.spec.blocking && self.spec.inline_bytes_max.is_none();
                here && self.schema.is_none()
            }
            Handler::Remote(_) => self.schema.is_none(),
            Handler::Recipe(_) => false,
        }
    }

    /// Whether checking such a payload takes too long for the stream's own task: it is parsed and
    /// held against a schema, and long; or the schema is not the operator's own and may cost
    /// anything.
    pub(crate) fn checks_on_pool(&self, payload_len: usize) -> bool {
        self.schema.is_some()
            && (payload_len > CHECKED_IN_PLACE_BYTES_MAX || self.handler.remote().is_some())
    }

    /// What an item reserves for its result before it starts: twice what results usually take.
    pub(crate) fn result_reserve(&self) -> usize {
        let usual = self.result_bytes.load(Relaxed) as usize;
        (2 * usual).clamp(RESULT_RESERVE_BYTES.0, RESULT_RESERVE_BYTES.1)
    }

    /// Moves the usual size of a result an eighth of the way to the newest.
    pub(crate) fn learn_result(&self, bytes: usize) {
        let newest = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = self.result_bytes.load(Relaxed);
        // A lost update costs a little precision.
        self.result_bytes.store(before - before / 8 + newest / 8, Relaxed);
    }

    /// The recipe as it is described to clients.
    pub fn describe(&self) -> describe::Recipe<'_> {
        let s = &self.spec;
        describe::Recipe {
            name: self.name.as_str(),
            kind: self.kind,
            encoding: s.encoding,
            timeout_ms: ms(self.timeout),
            queue_timeout_ms: ms(s.queue_timeout),
            estimated_duration_ms: ms(s.estimated_duration),
            concurrency_max: s.concurrency_max.unwrap_or(0),
            blocking: s.blocking,
            idempotent: s.idempotent,
            attempts_max: s.retry.attempts_max,
            payload_bytes_max: s.payload_bytes_max as u64,
            result_bytes_max: s.result_bytes_max as u64,
            description: &s.description,
            schema: self.schema_text.as_deref(),
            extensions: Extensions::EMPTY,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("index", &self.index)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// Collects recipes; [`build`](Self::build) checks them all.
#[derive(Default)]
pub struct CatalogBuilder {
    recipes: Vec<(String, Spec, Handler)>,
    hooks: Option<Arc<dyn Hooks>>,
}

impl CatalogBuilder {
    /// Adds a recipe that answers at once.
    #[must_use]
    pub fn inline(mut self, name: &str, spec: Spec, recipe: impl Inline) -> Self {
        self.recipes.push((name.to_owned(), spec, Handler::Inline(Arc::new(recipe))));
        self
    }

    /// Adds a recipe that may wait.
    #[must_use]
    pub fn recipe(mut self, name: &str, spec: Spec, recipe: impl Recipe) -> Self {
        self.recipes.push((name.to_owned(), spec, Handler::Recipe(Arc::new(recipe))));
        self
    }

    /// Sets the hooks, in the place of any set before.
    #[must_use]
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// Checks every name and every spec, and compiles the schemas.
    ///
    /// # Errors
    /// [`CatalogError`], for the first recipe (in the order they were added) that has a fault.
    pub fn build(self) -> Result<Catalog, CatalogError> {
        let count = self.recipes.len();
        if count > RECIPES_MAX {
            return Err(CatalogError::TooMany { count });
        }
        let mut entries = Vec::with_capacity(count);
        for (name, spec, handler) in self.recipes {
            entries.push(entry(&name, spec, handler)?);
        }
        table(entries, Guarded::new(self.hooks))
    }
}

/// Puts entries in order, each with its place.
fn table(mut entries: Vec<Entry>, hooks: Guarded) -> Result<Catalog, CatalogError> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(CatalogError::Duplicate { name: pair[0].name.clone() });
    }
    let mut table = Vec::with_capacity(entries.len());
    for (index, mut entry) in (0_u32..).zip(entries) {
        (entry.index, entry.label) = (index, index);
        table.push(Arc::new(entry));
    }
    let by_name = table.iter().map(|e| (e.name.clone(), e.clone())).collect();
    Ok(Catalog(Arc::new(Table { entries: table.into(), by_name, hooks })))
}

impl fmt::Debug for CatalogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.recipes.iter().map(|(name, ..)| name);
        f.write_str("CatalogBuilder ")?;
        f.debug_list().entries(names).finish()
    }
}

/// Why a catalog can not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A name does not follow the grammar.
    #[error("recipe {name:?}: {problem}")]
    Name {
        /// The name, cut when it is long.
        name: String,
        /// What is wrong with it.
        problem: NameError,
    },
    /// Two recipes have one name.
    #[error("recipe {name} is registered twice")]
    Duplicate {
        /// The name.
        name: RecipeName,
    },
    /// A spec has a schema, but its payload is not JSON.
    #[error("recipe {name} has a schema, which needs the encoding Json, not {encoding:?}")]
    SchemaNeedsJson {
        /// The recipe.
        name: RecipeName,
        /// Its encoding.
        encoding: Encoding,
    },
    /// A schema is not a JSON Schema, or refers to something outside itself.
    #[error("recipe {name} has an invalid schema, at {at:?}: {problem}")]
    Schema {
        /// The recipe.
        name: RecipeName,
        /// Where in the schema, as a JSON pointer.
        at: String,
        /// What is wrong there.
        problem: String,
    },
    /// A number in a spec is outside its bounds.
    #[error("recipe {name}: {field} is {value}, must be from {min} to {max}")]
    OutOfRange {
        /// The recipe.
        name: RecipeName,
        /// Which number, with its unit.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// The factor of a retry policy is not a number from 1 on.
    #[error("recipe {name}: retry.factor must be a finite number of at least 1")]
    RetryFactor {
        /// The recipe.
        name: RecipeName,
    },
    /// More recipes than a catalog may have.
    #[error("{count} recipes, at most {RECIPES_MAX} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// Checks the name and the spec of a recipe and compiles its schema.
pub(crate) fn entry(name: &str, spec: Spec, handler: Handler) -> Result<Entry, CatalogError> {
    let name = RecipeName::parse(name).map_err(|problem| CatalogError::Name {
        name: truncate(name, limits::RECIPE_NAME_BYTES_MAX).to_owned(),
        problem,
    })?;
    let timeout = spec.timeout();
    check_bounds(&name, &spec, timeout)?;
    let (schema_text, schema) = compile_schema(&name, &spec)?.unzip();
    let result_bytes = Arc::default();
    let (schema_text, schema) = (schema_text.map(Into::into), schema.map(Arc::new));
    let kind = match &handler {
        Handler::Inline(_) | Handler::Recipe(_) => RecipeKind::Embedded,
        Handler::Remote(_) => RecipeKind::Worker,
    };
    Ok(Entry {
        name,
        index: 0,
        label: 0,
        _number: None,
        result_bytes,
        spec,
        kind,
        group: None,
        timeout,
        handler,
        schema,
        schema_text,
    })
}

fn check_bounds(name: &RecipeName, s: &Spec, timeout: Duration) -> Result<(), CatalogError> {
    let frame = limits::FRAME_BYTES_HARD_MAX as u64;
    let bounds = [
        ("timeout in ms", ms(timeout), 1, DURATION_MS_MAX),
        ("queue_timeout in ms", ms(s.queue_timeout), 1, DURATION_MS_MAX),
        ("estimated_duration in ms", ms(s.estimated_duration), 0, DURATION_MS_MAX),
        ("concurrency_max", s.concurrency_max.map_or(1, u64::from), 1, u64::from(u32::MAX)),
        ("retry.attempts_max", s.retry.attempts_max.into(), 1, ATTEMPTS_MAX),
        ("retry.first in ms", ms(s.retry.first), 0, DURATION_MS_MAX),
        ("retry.cap in ms", ms(s.retry.cap), 0, DURATION_MS_MAX),
        ("payload_bytes_max", s.payload_bytes_max as u64, 0, frame),
        ("result_bytes_max", s.result_bytes_max as u64, 0, limits::RESULT_PAYLOAD_BYTES_MAX as u64),
        ("description in bytes", s.description.len() as u64, 0, DESCRIPTION_BYTES_MAX),
    ];
    for (field, value, min, max) in bounds {
        if !(min..=max).contains(&value) {
            return Err(CatalogError::OutOfRange { name: name.clone(), field, value, min, max });
        }
    }
    if !(s.retry.factor.is_finite() && s.retry.factor >= 1.0) {
        return Err(CatalogError::RetryFactor { name: name.clone() });
    }
    Ok(())
}

fn compile_schema(
    name: &RecipeName,
    spec: &Spec,
) -> Result<Option<(Box<str>, Schema)>, CatalogError> {
    let Some(schema) = &spec.schema else { return Ok(None) };
    if spec.encoding != Encoding::Json {
        return Err(CatalogError::SchemaNeedsJson { name: name.clone(), encoding: spec.encoding });
    }
    let text = schema.to_string().into_boxed_str();
    if text.len() > limits::SCHEMA_BYTES_MAX {
        return Err(CatalogError::OutOfRange {
            name: name.clone(),
            field: "schema in bytes",
            value: text.len() as u64,
            min: 0,
            max: limits::SCHEMA_BYTES_MAX as u64,
        });
    }
    let compiled = Schema::compile(schema).map_err(|e| CatalogError::Schema {
        name: name.clone(),
        at: validate::pointer(&e),
        problem: validate::message(&e),
    })?;
    Ok(Some((text, compiled)))
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// The most recipes a catalog may have: all of them are described in one answer.
pub const RECIPES_MAX: usize = 4_096;
/// The longest duration in a spec, in milliseconds: 30 days.
const DURATION_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;
/// The most attempts of a job.
const ATTEMPTS_MAX: u64 = 1_000;
/// Longer payloads are held against a schema on the pool: some 100 µs.
const CHECKED_IN_PLACE_BYTES_MAX: usize = 16 << 10;
/// The least and the most that an item reserves for its result.
const RESULT_RESERVE_BYTES: (usize, usize) = (1 << 10, 64 << 10);
const DESCRIPTION_BYTES_MAX: u64 = limits::DESCRIPTION_BYTES_MAX as u64;

#[cfg(test)]
mod tests;
