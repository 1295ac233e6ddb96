//! Recipes whose code is elsewhere, added to a catalog that is built.
//!
//! Knows nothing of how they are reached: each brings code that waits for its answer.

use std::sync::Arc;

use tollgate_protocol::describe::RecipeKind;

use super::{Catalog, CatalogError, Entry, Handler, RECIPES_MAX, entry, table};
use crate::batch::{
    recipe::{Recipe, Spec},
    slots::Group,
};

/// A recipe whose code is elsewhere.
pub(crate) struct Remote(Entry);

impl Remote {
    /// Checks name and spec.
    ///
    /// # Errors
    /// [`CatalogError`], as for any recipe.
    pub(crate) fn new(
        name: &str,
        spec: Spec,
        kind: RecipeKind,
        group: Group,
        recipe: impl Recipe,
    ) -> Result<Remote, CatalogError> {
        let entry = entry(name, spec, Handler::Recipe(Arc::new(recipe)))?;
        Ok(Remote(Entry { kind, group: Some(group), ..entry }))
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name.as_str()
    }
}

impl Catalog {
    /// This catalog and these recipes, which go before recipes of the same name.
    ///
    /// # Errors
    /// [`CatalogError`] when there are too many, or two of them have one name.
    pub(crate) fn extended(&self, remotes: Vec<Remote>) -> Result<Catalog, CatalogError> {
        let is_kept = |e: &&Arc<Entry>| remotes.iter().all(|r| r.0.name != e.name);
        let mut entries: Vec<Entry> =
            self.iter().filter(is_kept).map(|e| Entry::clone(e)).collect();
        entries.extend(remotes.into_iter().map(|r| r.0));
        let count = entries.len();
        if count > RECIPES_MAX {
            return Err(CatalogError::TooMany { count });
        }
        table(entries, self.hooks().clone())
    }
}
