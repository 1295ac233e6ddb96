//! Which keys there are: those of the defaults.
//!
//! Serde would also refuse an unknown key, but without a word about the section it stands in.

use std::sync::LazyLock;

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;
use tollgate_broker::{
    Config,
    tenancy::{GatewayLimits, Overrides, Quotas},
    upstream::{Recipe, Upstream},
};

/// A key that does not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown key `{key}`; {section} has {known}")]
pub(super) struct UnknownKey {
    key: String,
    section: String,
    known: String,
}

/// Every key with its default; `null` where there is none.
static KNOWN: LazyLock<Json> = LazyLock::new(|| tree(&Config::default()));
static GATEWAY: LazyLock<Json> = LazyLock::new(|| tree(&GatewayLimits::default()));
static PROFILE: LazyLock<Json> = LazyLock::new(|| tree(&Overrides::all(&Quotas::DEFAULT)));

static UPSTREAM: LazyLock<Json> = LazyLock::new(|| tree(&Upstream::default()));
static RECIPE: LazyLock<Json> = LazyLock::new(|| tree(&Recipe::default()));
/// Whatever its reader makes of it.
static ANYTHING: Json = Json::Null;

/// What one entry has of a section whose keys are names that users choose.
fn named(section: &str) -> Option<&'static Json> {
    match section {
        "tenancy.gateways" => Some(&GATEWAY),
        "tenancy.profiles" => Some(&PROFILE),
        "upstreams" => Some(&UPSTREAM),
        _ => {
            let (_, below) = section.strip_prefix("upstreams.")?.split_once('.')?;
            match below {
                "recipes" => Some(&RECIPE),
                "headers" => Some(&ANYTHING),
                _ if below.starts_with("recipes.") && below.ends_with(".headers") => {
                    Some(&ANYTHING)
                }
                _ => None,
            }
        }
    }
}

/// Finds the keys that do not exist.
pub(super) fn unknown_in(found: &Map<String, Value>) -> Vec<UnknownKey> {
    let mut all = Vec::new();
    walk(found, &KNOWN, "", &mut all);
    all
}

/// The keys whose values differ, as paths.
pub(crate) fn differing(a: &Config, b: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    differ(&tree(a), &tree(b), "", &mut paths);
    paths
}

/// Every key, as a path.
#[cfg(test)]
pub(super) fn all() -> Vec<String> {
    fn leaves(known: &Json, path: &str, keys: &mut Vec<String>) {
        match known.as_object().filter(|_| named(path).is_none()) {
            Some(section) => section.iter().for_each(|(n, v)| leaves(v, &join(path, n), keys)),
            None if named(path).is_some() => {}
            None => keys.push(path.to_owned()),
        }
    }
    let mut keys = Vec::new();
    leaves(&KNOWN, "", &mut keys);
    keys
}

/// Every key of an upstream and of its recipes, by its last name.
#[cfg(test)]
pub(super) fn of_upstreams() -> Vec<String> {
    fn names(known: &Json) -> Vec<String> {
        let one = |(name, below): (&String, &Json)| match below {
            Json::Object(section) if !section.is_empty() => names(below),
            _ => vec![name.clone()],
        };
        known.as_object().into_iter().flatten().flat_map(one).collect()
    }
    let of_table = |name: &String| name != "recipes";
    names(&UPSTREAM).into_iter().chain(names(&RECIPE)).filter(of_table).collect()
}

fn tree<T: serde::Serialize>(settings: &T) -> Json {
    serde_json::to_value(settings).expect("settings are made of text, numbers and tables")
}

fn walk(found: &Map<String, Value>, known: &Json, path: &str, all: &mut Vec<UnknownKey>) {
    let mut names: Vec<_> = found.keys().collect();
    names.sort_unstable();
    for name in names {
        let key = join(path, name);
        let below = named(path).or_else(|| known.get(name));
        let Some(below) = below else {
            all.push(unknown(key, path, known));
            continue;
        };
        if let (ValueKind::Table(table), true) = (&found[name].kind, below.is_object()) {
            walk(table, below, &key, all);
        }
    }
}

fn unknown(key: String, path: &str, known: &Json) -> UnknownKey {
    let section = if path.is_empty() { "the top".to_owned() } else { format!("[{path}]") };
    let names = known.as_object().into_iter().flat_map(|o| o.keys());
    let known = names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    UnknownKey { key, section, known }
}

fn differ(a: &Json, b: &Json, path: &str, paths: &mut Vec<String>) {
    match (a, b) {
        (Json::Object(x), Json::Object(y)) => {
            let mut names: Vec<_> = x.keys().chain(y.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let of = |o: &serde_json::Map<String, Json>| o.get(name).cloned();
                differ(
                    &of(x).unwrap_or_default(),
                    &of(y).unwrap_or_default(),
                    &join(path, name),
                    paths,
                );
            }
        }
        _ if a != b => paths.push(path.to_owned()),
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
