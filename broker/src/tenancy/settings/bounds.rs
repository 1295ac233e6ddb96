//! How far settings may go. Every mistake names its field and what is allowed.

use super::{Settings, State};

/// A setting that is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BadSetting {
    /// Which, as files and programs call it.
    pub field: &'static str,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

impl BadSetting {
    pub(in crate::tenancy) fn new(field: &'static str, problem: impl Into<String>) -> BadSetting {
        BadSetting { field, problem: problem.into() }
    }
}

impl Settings {
    /// Looks for the first setting that is out of bounds. Whether there is such a profile is the
    /// registry's to know.
    pub(in crate::tenancy) fn check(&self) -> Result<(), BadSetting> {
        length("name", &self.name, 0, NAME_CHARS_MAX)?;
        if self.state == State::Deleted {
            return Err(BadSetting::new("state", "a tenant is deleted, not set to be so"));
        }
        number("concurrency", self.concurrency, 0, CONCURRENCY_MAX)?;
        number("workers", self.workers, 0, WORKERS_MAX)?;
        number("weight", self.weight, 1, WEIGHT_MAX)?;
        count("gateways", self.gateways.len(), GATEWAYS_MAX)?;
        for (at, gateway) in self.gateways.iter().enumerate() {
            length("gateways", gateway, 1, NAME_CHARS_MAX)?;
            if self.gateways[..at].contains(gateway) {
                return Err(BadSetting::new("gateways", format!("{gateway:?} is there twice")));
            }
        }
        count("metadata", self.metadata.len(), METADATA_MAX)?;
        for (key, value) in &self.metadata {
            length("metadata", key, 1, METADATA_KEY_CHARS_MAX)?;
            if value.len() > METADATA_VALUE_BYTES_MAX {
                let len = value.len();
                let problem = format!(
                    "the value of {key:?} has {len} bytes, allowed are {METADATA_VALUE_BYTES_MAX}"
                );
                return Err(BadSetting::new("metadata", problem));
            }
        }
        Ok(())
    }
}

/// Names are shown to people and written into logs: nothing in them steers a terminal.
fn length(field: &'static str, text: &str, min: usize, max: usize) -> Result<(), BadSetting> {
    let chars = text.chars().count();
    if !(min..=max).contains(&chars) {
        let problem = format!("{chars} characters long, allowed are {min} to {max}");
        return Err(BadSetting::new(field, problem));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(BadSetting::new(field, format!("has the control character {c:?}"))),
        None => Ok(()),
    }
}

fn number(field: &'static str, n: u32, min: u32, max: u32) -> Result<(), BadSetting> {
    if (min..=max).contains(&n) {
        return Ok(());
    }
    Err(BadSetting::new(field, format!("{n} is out of bounds, allowed are {min} to {max}")))
}

fn count(field: &'static str, n: usize, max: usize) -> Result<(), BadSetting> {
    if n <= max {
        return Ok(());
    }
    Err(BadSetting::new(field, format!("there are {n}, allowed are {max}")))
}

/// The longest name of a tenant or gateway, in characters.
const NAME_CHARS_MAX: usize = 255;
/// Items of one tenant at once; the broker's own bound is far below.
const CONCURRENCY_MAX: u32 = 1_000_000;
/// Items of one binding at once.
const WORKERS_MAX: u32 = 10_000;
/// The largest share of a tenant.
const WEIGHT_MAX: u32 = 1_000;
/// Gateways that one tenant may list.
const GATEWAYS_MAX: usize = 256;
/// Notes on one tenant, and their sizes.
const METADATA_MAX: usize = 64;
const METADATA_KEY_CHARS_MAX: usize = 128;
const METADATA_VALUE_BYTES_MAX: usize = 1_024;
