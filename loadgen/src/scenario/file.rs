//! A scenario as it is written down, in TOML or as flags, and what is wrong with it.
//!
//! Unknown keys are errors, and every refusal names the tenant and the key.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::SignedDuration;
use serde::Deserialize;
use tollgate_client::Code;

use super::{BadScenario, Check, Pace, Payload, Recipe, Scenario, Tenant};

/// The top of a file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// The broker, as `host:port`.
    pub addr: Option<String>,
    /// The name in its certificate; the host when left out.
    pub server_name: Option<String>,
    /// How long is measured, such as `10s`.
    pub duration: Option<SignedDuration>,
    /// How long load runs before that.
    pub warm_up: Option<SignedDuration>,
    /// How long what is under way may take after that.
    pub drain: Option<SignedDuration>,
    /// The p99 of batch latency that must not be passed.
    pub p99_max_ms: Option<f64>,
    /// Who sends.
    #[serde(default)]
    pub tenants: Vec<TenantFile>,
}

/// One `[[tenants]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantFile {
    /// What the report calls it; the directory's name when left out.
    pub name: Option<String>,
    /// Where `cert.pem`, `key.pem` and `ca.pem` are; relative to the file.
    pub certs: PathBuf,
    /// The rest.
    #[serde(flatten)]
    pub load: Load,
}

/// What a tenant sends. The same keys as flags, for one tenant or several alike.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, clap::Args)]
pub struct Load {
    /// Recipe of the items
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Several recipes instead, with their shares.
    #[arg(skip)]
    pub recipes: Option<Vec<RecipeFile>>,
    /// Bytes of payload of an item [default: 64]
    #[arg(long, value_name = "N")]
    pub payload_bytes: Option<usize>,
    /// The same text as payload of every item, instead of bytes that differ
    #[arg(long, value_name = "TEXT")]
    pub payload: Option<String>,
    /// What makes an answer right [default: echo for the recipe `echo`, any otherwise]
    #[arg(long, value_parser = check)]
    pub check: Option<Check>,
    /// Items of a batch [default: 100]
    #[arg(long, value_name = "N")]
    pub batch_items: Option<u64>,
    /// Connections [default: 1]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Closed loop: batches under way at any time [default: 64]; with a rate, the most there may be
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,
    /// Open loop: items a second, whether or not earlier ones are answered
    #[arg(long, value_name = "RATE", conflicts_with = "batches_per_second")]
    pub items_per_second: Option<f64>,
    /// Open loop: batches a second
    #[arg(long, value_name = "RATE")]
    pub batches_per_second: Option<f64>,
    /// Codes with which items may fail, such as RATE_LIMITED; any other fails the run
    #[arg(long = "allow-error", value_name = "CODE")]
    #[serde(default)]
    pub allow_errors: Vec<String>,
    /// Priority of the batches, from 0 to 7
    #[arg(long, value_name = "N")]
    pub priority: Option<u8>,
}

/// One of `recipes`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    name: String,
    #[serde(default = "one")]
    weight: u16,
    payload_bytes: Option<usize>,
    payload: Option<String>,
    check: Option<Check>,
}

fn one() -> u16 {
    1
}

/// What flags put in the place of a file's values.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub addr: Option<String>,
    pub server_name: Option<String>,
    pub duration: Option<SignedDuration>,
    pub warm_up: Option<SignedDuration>,
    pub drain: Option<SignedDuration>,
    pub p99_max_ms: Option<f64>,
}

impl ScenarioFile {
    /// Reads a file; directories in it are relative to its own.
    pub fn load(path: &Path) -> Result<Self, BadScenario> {
        let text = fs::read_to_string(path)
            .map_err(|source| BadScenario::Read { path: path.into(), source })?;
        let syntax = |e| BadScenario::Syntax { path: path.into(), source: Box::new(e) };
        let mut file: ScenarioFile = toml::from_str(&text).map_err(syntax)?;
        for tenant in &mut file.tenants {
            if let Some(dir) = path.parent() {
                tenant.certs = dir.join(&tenant.certs);
            }
        }
        Ok(file)
    }

    /// Checks everything. What flags say goes before what the file says.
    pub fn parse(self, flags: Overrides) -> Result<Scenario, BadScenario> {
        let addr = flags.addr.or(self.addr).unwrap_or_else(|| ADDR.into());
        let host = addr.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
        let host = host.ok_or_else(|| bad("addr", format!("{addr:?} is not host:port")))?;
        let server_name = flags.server_name.or(self.server_name).unwrap_or_else(|| host.to_owned());
        let time = |key, flag: Option<_>, file: Option<_>, default: u64| {
            let d: SignedDuration =
                flag.or(file).unwrap_or(SignedDuration::from_secs(default as i64));
            Duration::try_from(d).map_err(|_| bad(key, format!("{d:#} is negative")))
        };
        let duration = time("duration", flags.duration, self.duration, DURATION_SECS)?;
        if duration.is_zero() {
            return Err(bad("duration", "must be more than nothing"));
        }
        if self.tenants.is_empty() {
            return Err(bad("tenants", "nobody sends: give --certs or [[tenants]]"));
        }
        let tenants =
            self.tenants.into_iter().map(TenantFile::parse).collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = tenants.iter().find(|t| !seen.insert(&t.name)) {
            let problem = format!("{:?} is there twice: give each a name of its own", twice.name);
            return Err(bad("tenants.name", problem));
        }
        Ok(Scenario {
            addr: addr.clone(),
            server_name,
            duration,
            warm_up: time("warm_up", flags.warm_up, self.warm_up, WARM_UP_SECS)?,
            drain: time("drain", flags.drain, self.drain, DRAIN_SECS)?,
            p99_max_ms: flags.p99_max_ms.or(self.p99_max_ms),
            tenants,
        })
    }
}

impl TenantFile {
    fn parse(self) -> Result<Tenant, BadScenario> {
        let dir = self.certs.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = self.name.or(dir).unwrap_or_else(|| "tenant".into());
        self.load.parse(&name, self.certs).map_err(|e| match e {
            BadScenario::Value(problem) => {
                BadScenario::Value(format!("tenant {name:?}: {problem}"))
            }
            other => other,
        })
    }
}

impl Load {
    fn parse(self, name: &str, certs: PathBuf) -> Result<Tenant, BadScenario> {
        let batch_items = within("batch_items", self.batch_items.unwrap_or(100), BATCH_ITEMS_MAX)?;
        let connections = within("connections", self.connections.unwrap_or(1) as u64, MANY)?;
        let recipes = self.recipes()?;
        let codes = self.allow_errors.iter().map(|name| {
            Code::from_name(name)
                .ok_or_else(|| bad("allow_errors", format!("there is no code {name:?}")))
        });
        Ok(Tenant {
            name: name.to_owned(),
            certs,
            connections: connections as usize,
            batch_items,
            pace: self.pace(batch_items)?,
            cycle: cycle(&recipes)?,
            recipes,
            allow_errors: codes.collect::<Result<_, _>>()?,
            priority: self.priority,
        })
    }

    fn pace(&self, batch_items: u64) -> Result<Pace, BadScenario> {
        let in_flight = |default| {
            within("in_flight", self.in_flight.unwrap_or(default) as u64, MANY).map(|n| n as usize)
        };
        let rate = match (self.items_per_second, self.batches_per_second) {
            (None, None) => return Ok(Pace::InFlight(in_flight(64)?)),
            (Some(_), Some(_)) => {
                return Err(bad("items_per_second", "excludes batches_per_second"));
            }
            (Some(items), None) => items / batch_items as f64,
            (None, Some(batches)) => batches,
        };
        if !(rate > 0.0 && rate <= RATE_MAX) {
            return Err(bad("a rate", format!("must be above 0 and at most {RATE_MAX} batches/s")));
        }
        Ok(Pace::BatchesPerSecond { rate, in_flight_max: in_flight(IN_FLIGHT_OPEN)? })
    }

    fn recipes(&self) -> Result<Vec<Recipe>, BadScenario> {
        let single = || {
            let name = self.recipe.clone().unwrap_or_else(|| "echo".into());
            vec![RecipeFile { name, weight: 1, payload_bytes: None, payload: None, check: None }]
        };
        if self.recipe.is_some() && self.recipes.is_some() {
            return Err(bad("recipe", "excludes recipes"));
        }
        let list = self.recipes.clone().unwrap_or_else(single);
        list.into_iter().map(|r| self.recipe(r)).collect()
    }

    fn recipe(&self, r: RecipeFile) -> Result<Recipe, BadScenario> {
        // What the recipe says itself goes before what its tenant says.
        let own = r.payload_bytes.is_some() || r.payload.is_some();
        let (bytes, text) = if own {
            (r.payload_bytes, r.payload)
        } else {
            (self.payload_bytes, self.payload.clone())
        };
        let payload = match (bytes, text) {
            (Some(_), Some(_)) => return Err(bad("payload", "excludes payload_bytes")),
            (_, Some(text)) => Payload::Text(text.into()),
            (bytes, None) => Payload::Bytes(bytes.unwrap_or(64)),
        };
        if payload.len() > PAYLOAD_MAX {
            return Err(bad("payload", format!("at most {PAYLOAD_MAX} bytes")));
        }
        let default = if r.name == "echo" { Check::Echo } else { Check::Any };
        let check = r.check.or(self.check).unwrap_or(default);
        if check == Check::Same && matches!(payload, Payload::Bytes(_)) {
            let problem = "`same` needs a `payload` that is the same in every item";
            return Err(bad("check", problem));
        }
        Ok(Recipe { name: r.name, weight: r.weight, payload, check })
    }
}

/// Spreads recipes evenly over a cycle by their weights: smooth weighted round robin.
fn cycle(recipes: &[Recipe]) -> Result<Vec<u16>, BadScenario> {
    let total: i64 = recipes.iter().map(|r| i64::from(r.weight)).sum();
    if recipes.iter().any(|r| r.weight == 0) || !(1..=WEIGHTS_MAX).contains(&total) {
        let problem = format!("at least 1 each, at most {WEIGHTS_MAX} together");
        return Err(bad("recipes.weight", problem));
    }
    let mut credit = vec![0; recipes.len()];
    let mut cycle = Vec::with_capacity(total as usize);
    for _ in 0..total {
        credit.iter_mut().zip(recipes).for_each(|(c, r)| *c += i64::from(r.weight));
        let (next, _) = credit.iter().enumerate().rev().max_by_key(|(_, c)| **c).unwrap_or((0, &0));
        credit[next] -= total;
        cycle.push(next as u16);
    }
    Ok(cycle)
}

fn check(name: &str) -> Result<Check, String> {
    match name {
        "echo" => Ok(Check::Echo),
        "same" => Ok(Check::Same),
        "any" => Ok(Check::Any),
        _ => Err("one of `echo`, `same`, `any`".into()),
    }
}

fn within(key: &str, n: u64, max: u64) -> Result<u64, BadScenario> {
    if (1..=max).contains(&n) { Ok(n) } else { Err(bad(key, format!("{n} is not 1 to {max}"))) }
}

fn bad(key: &str, problem: impl std::fmt::Display) -> BadScenario {
    BadScenario::Value(format!("`{key}`: {problem}"))
}

const ADDR: &str = "127.0.0.1:4433";
const DURATION_SECS: u64 = 10;
const WARM_UP_SECS: u64 = 1;
const DRAIN_SECS: u64 = 30;
/// What the protocol allows at most.
const BATCH_ITEMS_MAX: u64 = 1_000_000;
/// What the protocol allows a frame to have.
const PAYLOAD_MAX: usize = 16 << 20;
/// Connections of a tenant, and its batches under way: what one process can hold.
const MANY: u64 = 100_000;
/// Batches under way in an open loop, unless said otherwise: what a connection carries.
const IN_FLIGHT_OPEN: usize = 256;
const RATE_MAX: f64 = 1_000_000.0;
const WEIGHTS_MAX: i64 = 10_000;

#[cfg(test)]
mod tests;
