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
pub(crate) struct Elsewhere(Entry);

impl Elsewhere {
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
    ) -> Result<Elsewhere, CatalogError> {
        let entry = entry(name, spec, Handler::Recipe(Arc::new(recipe)))?;
        Ok(Elsewhere(Entry { kind, group: Some(group), ..entry }))
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
    pub(crate) fn extended(&self, remotes: Vec<Elsewhere>) -> Result<Catalog, CatalogError> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::batch::{Context, Error, Inline, InlineContext, Reply};

    struct Here;

    impl Inline for Here {
        fn run(&self, _: &InlineContext<'_>, _: &[u8], _: &mut Reply) -> Result<(), Error> {
            Ok(())
        }
    }

    struct There;

    impl Recipe for There {
        async fn run(&self, _: Context, payload: Bytes) -> Result<Reply, Error> {
            Ok(payload.into())
        }
    }

    fn remote(name: &str) -> Result<Elsewhere, CatalogError> {
        let (spec, group) = (Spec::json(), Group { index: 0, max: 2 });
        Elsewhere::new(name, spec, RecipeKind::Upstream, group, There)
    }

    fn here() -> Catalog {
        let builder = Catalog::builder().inline("a", Spec::default(), Here);
        builder.inline("c", Spec::default(), Here).build().expect("a catalog")
    }

    #[test]
    fn a_remote_recipe_stands_in_its_place_and_before_one_of_its_name() {
        let remotes = ["b", "c"].map(|name| remote(name).expect("good"));
        let catalog = here().extended(remotes.into()).expect("a catalog");
        let shown: Vec<_> =
            catalog.iter().map(|e| (e.name.as_str(), e.index, e.kind, e.group)).collect();
        let group = Some(Group { index: 0, max: 2 });
        let expected = [
            ("a", 0, RecipeKind::Embedded, None),
            ("b", 1, RecipeKind::Upstream, group),
            ("c", 2, RecipeKind::Upstream, group),
        ];
        assert_eq!(shown, expected);
        assert_eq!(catalog.find("c").map(|e| e.describe().kind), Some(RecipeKind::Upstream));
    }

    #[test]
    fn a_remote_recipe_is_judged_as_any_other() {
        assert!(matches!(remote("Bad Name").err(), Some(CatalogError::Name { .. })));
        let twice = ["b", "b"].map(|name| remote(name).expect("good"));
        let refused = here().extended(twice.into());
        assert!(matches!(refused, Err(CatalogError::Duplicate { .. })));
    }
}
