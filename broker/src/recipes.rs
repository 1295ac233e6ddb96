//! The recipes that come with the broker, for trying and testing: seven, each one file.
//!
//! None reaches for a file or a socket, none keeps anything from one item to the next, and what each
//! allocates is in proportion to its payload.

use crate::batch::{Catalog, CatalogBuilder};

mod csv_profile;
mod delay;
mod echo;
mod fail;
mod json_validate;
mod panic;
mod sha256;

/// A catalog to be, with the built-in recipes.
pub fn builtin() -> CatalogBuilder {
    register(Catalog::builder())
}

/// Adds the built-in recipes: `csv.profile`, `delay`, `echo`, `fail`, `json.validate`, `panic` and
/// `sha256`.
#[must_use]
pub fn register(builder: CatalogBuilder) -> CatalogBuilder {
    builder
        .inline("csv.profile", csv_profile::spec(), csv_profile::CsvProfile)
        .recipe("delay", delay::spec(), delay::Delay)
        .inline("echo", echo::spec(), echo::Echo)
        .inline("fail", fail::spec(), fail::Fail)
        .inline("json.validate", json_validate::spec(), json_validate::JsonValidate)
        .inline("panic", panic::spec(), panic::Panic)
        .inline("sha256", sha256::spec(), sha256::Sha256)
}

#[cfg(test)]
mod tests;
