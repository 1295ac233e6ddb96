//! The file that lists tenants, in TOML.
//!
//! Every mistake is an error that says where it is and what is allowed; nothing is guessed, and a
//! file is taken as a whole or not at all.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use tollgate_protocol::id::{NameError, TenantId};

use super::{
    quotas::{Overrides, PROFILES, Quotas},
    settings::{Settings, State},
};
use crate::rules::quota::Policy;

/// Tenants as a file lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantsFile {
    /// What each is to be.
    pub tenants: BTreeMap<TenantId, Settings>,
    /// The profiles, those built in and those of the file.
    pub profiles: BTreeMap<String, Quotas>,
}

/// Why a file of tenants was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of the others, in a file.
    #[error("{}: {source}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<FileError>,
    },
    /// It is not TOML.
    #[error("not TOML: {0}")]
    Syntax(#[source] Box<toml::de::Error>),
    /// It has a table that means nothing.
    #[error("unknown table `{0}`; allowed are `profiles` and `tenants`")]
    Table(String),
    /// A key of a section is unknown, or its value is wrong.
    #[error("{section}: {problem}")]
    Section {
        /// Which, as the file has it.
        section: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// A tenant's id is not one.
    #[error("[tenants.{id:?}]: {problem}")]
    TenantId {
        /// The id.
        id: String,
        /// What is wrong, and what is allowed.
        problem: NameError,
    },
    /// A tenant has a profile that does not exist.
    #[error("[tenants.{tenant}]: unknown profile `{profile}`; there are {known}")]
    Profile {
        /// The tenant.
        tenant: TenantId,
        /// The profile.
        profile: String,
        /// Those that exist.
        known: String,
    },
}

impl TenantsFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`], which names the file.
    pub fn load(path: &Path) -> Result<TenantsFile, FileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        TenantsFile::parse(&text)
            .map_err(|e| FileError::In { path: path.to_owned(), source: Box::new(e) })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`FileError`] at the first mistake.
    pub fn parse(text: &str) -> Result<TenantsFile, FileError> {
        let mut top: toml::Table = text.parse().map_err(|e| FileError::Syntax(Box::new(e)))?;
        let profiles = profiles(sections(&mut top, "profiles")?)?;
        let tenants = sections(&mut top, "tenants")?
            .into_iter()
            .map(|(id, section)| tenant(&id, section, &profiles))
            .collect::<Result<_, _>>()?;
        match top.into_iter().next() {
            Some((table, _)) => Err(FileError::Table(table)),
            None => Ok(TenantsFile { tenants, profiles }),
        }
    }
}

/// The keys of `[tenants.<id>]`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TenantKeys {
    name: String,
    profile: String,
    policy: PolicyKey,
    concurrency: u32,
    weight: u32,
    workers: u32,
    state: StateKey,
    gateways: Vec<String>,
    metadata: BTreeMap<String, String>,
    quotas: toml::Table,
}

impl Default for TenantKeys {
    fn default() -> Self {
        let s = Settings::default();
        TenantKeys {
            name: s.name,
            profile: DEFAULT_PROFILE.to_owned(),
            policy: PolicyKey::Pace,
            concurrency: s.concurrency,
            weight: s.weight,
            workers: s.workers,
            state: StateKey::Active,
            gateways: s.gateways,
            metadata: s.metadata,
            quotas: toml::Table::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PolicyKey {
    Pace,
    Reject,
}

/// A tenant is deleted by leaving it out.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateKey {
    Active,
    Suspended,
}

fn tenant(
    id: &str,
    section: toml::Value,
    profiles: &BTreeMap<String, Quotas>,
) -> Result<(TenantId, Settings), FileError> {
    let id = TenantId::parse(id)
        .map_err(|problem| FileError::TenantId { id: id.to_owned(), problem })?;
    let name = format!("[tenants.{id}]");
    let keys: TenantKeys = keys(&name, section)?;
    let Some(profile) = profiles.get(&keys.profile) else {
        let known = profiles.keys().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ");
        return Err(FileError::Profile { tenant: id, profile: keys.profile, known });
    };
    bounded(&name, "name", keys.name.chars().count(), 0, NAME_CHARS_MAX)?;
    bounded(&name, "weight", keys.weight as usize, 1, WEIGHT_MAX)?;
    for gateway in &keys.gateways {
        bounded(&name, "a gateway's name", gateway.len(), 1, NAME_CHARS_MAX)?;
    }
    let overrides: Overrides =
        self::keys(&format!("[tenants.{id}.quotas]"), toml::Value::Table(keys.quotas))?;
    let settings = Settings {
        name: keys.name,
        state: match keys.state {
            StateKey::Active => State::Active,
            StateKey::Suspended => State::Suspended,
        },
        quotas: profile.with(&overrides),
        policy: match keys.policy {
            PolicyKey::Pace => Policy::Pace,
            PolicyKey::Reject => Policy::Reject,
        },
        concurrency: keys.concurrency,
        workers: keys.workers,
        weight: keys.weight,
        gateways: keys.gateways,
        metadata: keys.metadata,
    };
    Ok((id, settings))
}

/// The built-in profiles with what the file changes and adds.
fn profiles(sections: toml::Table) -> Result<BTreeMap<String, Quotas>, FileError> {
    let mut parts: BTreeMap<String, Overrides> =
        PROFILES.iter().map(|(name, part)| ((*name).to_owned(), *part)).collect();
    for (name, section) in sections {
        let part: Overrides = keys(&format!("[profiles.{name}]"), section)?;
        let before = parts.get(&name).copied().unwrap_or_default();
        parts.insert(name, before.with(&part));
    }
    let default = Quotas::DEFAULT.with(&parts[DEFAULT_PROFILE]);
    Ok(parts.into_iter().map(|(name, part)| (name, default.with(&part))).collect())
}

/// Takes a table of tables out of the file.
fn sections(top: &mut toml::Table, name: &str) -> Result<toml::Table, FileError> {
    match top.remove(name) {
        None => Ok(toml::Table::new()),
        Some(toml::Value::Table(sections)) => Ok(sections),
        Some(other) => {
            let problem = format!("expected a table, found {}", other.type_str());
            Err(FileError::Section { section: format!("[{name}]"), problem })
        }
    }
}

fn keys<T: DeserializeOwned>(section: &str, value: toml::Value) -> Result<T, FileError> {
    value.try_into().map_err(|e: toml::de::Error| FileError::Section {
        section: section.to_owned(),
        problem: e.to_string().trim_end().replace('\n', ", "),
    })
}

fn bounded(section: &str, what: &str, n: usize, min: usize, max: usize) -> Result<(), FileError> {
    if (min..=max).contains(&n) {
        return Ok(());
    }
    let unit = if what == "weight" { "is" } else { "has a length of" };
    let problem = format!("{what} {unit} {n}, allowed is {min} to {max}");
    Err(FileError::Section { section: section.to_owned(), problem })
}

const DEFAULT_PROFILE: &str = "default";
/// The longest name of a tenant or gateway, in characters.
const NAME_CHARS_MAX: usize = 255;
/// The largest share of a tenant.
const WEIGHT_MAX: usize = 1_000;
