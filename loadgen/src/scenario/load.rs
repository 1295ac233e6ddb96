//! What one tenant does, as it is written down: the same keys in a file and as flags.
//!
//! Every refusal names the key and what is allowed.

use std::{path::PathBuf, time::Duration};

use jiff::SignedDuration;
use serde::Deserialize;
use tollgate_client::Code;

use super::{BadScenario, Check, Operation, Pace, Payload, Ramp, Recipe, Sizes, Tenant, bad};

mod produce;

/// What a tenant does. As flags: one tenant, or several alike.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, clap::Args)]
#[command(next_help_heading = "What each tenant does")]
pub struct Load {
    /// What is done: `batch` (default), `job` (durable batches), `connect` (connections), `produce`
    /// (messages to a topic)
    #[arg(long, value_parser = operation)]
    #[serde(default, deserialize_with = "named_operation")]
    pub operation: Option<OperationName>,
    /// Recipe of the items [default: echo]
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// Several recipes instead, with their shares.
    #[arg(skip)]
    pub recipes: Option<Vec<RecipeFile>>,
    /// Bytes of payload of an item or message: 64, or evenly 16..4096, or by weights 64:9,65536:1 [default: 64]
    #[arg(long, value_name = "SIZES", value_parser = Sizes::parse)]
    pub payload_bytes: Option<Sizes>,
    /// The same text as payload of every item, instead of bytes that differ
    #[arg(long, value_name = "TEXT")]
    pub payload: Option<String>,
    /// What makes an answer right: echo, same, any [default: echo for `echo`, any otherwise]
    #[arg(long, value_parser = check)]
    pub check: Option<Check>,
    /// Items of a batch, or messages that are produced together, in the forms of --payload-bytes
    /// [default: 100]
    #[arg(long, value_name = "SIZES", value_parser = Sizes::parse)]
    pub batch_items: Option<Sizes>,
    /// Connections; for `connect`, sockets that connections share [default: 1]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Closed loop: operations under way at any time [default: 64]; with a rate, the most there
    /// may be
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,
    /// Open loop: items a second, whether or not earlier ones are answered
    #[arg(long, value_name = "RATE", group = "rate")]
    pub items_per_second: Option<f64>,
    /// Open loop: batches a second
    #[arg(long, value_name = "RATE", group = "rate")]
    pub batches_per_second: Option<f64>,
    /// Open loop, of `connect`: connections a second
    #[arg(long, value_name = "RATE", group = "rate")]
    pub connections_per_second: Option<f64>,
    /// Begin at this rate (or number in flight) and rise to the full one
    #[arg(long, value_name = "N", requires = "ramp_over")]
    pub ramp_from: Option<f64>,
    /// How long that takes, from when it is measured on
    #[arg(long, value_name = "TIME")]
    pub ramp_over: Option<SignedDuration>,
    /// In so many steps, the first at --ramp-from, the last at the full rate [default: evenly]
    #[arg(long, value_name = "N", requires = "ramp_over")]
    pub ramp_steps: Option<u32>,
    /// For `connect`: how long a connection is held open [default: 0s]
    #[arg(long, value_name = "TIME")]
    pub hold: Option<SignedDuration>,
    /// For `job`, and for `produce` without consumers: how many of the newest batches are read again
    /// at the end [default: 32]
    #[arg(long, value_name = "N")]
    pub audit_batches: Option<usize>,
    /// For `job`: leave the jobs with the broker
    #[arg(long)]
    #[serde(default)]
    pub keep_jobs: bool,
    /// For `produce`: the topic; it is made if it is not there [default: a name made for the run]
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// For `produce`: partitions of the topic [default: 1]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// For `produce`: members of the group that reads the topic meanwhile; 0: nobody does
    /// [default: 1]
    #[arg(long, value_name = "N")]
    pub consumers: Option<usize>,
    /// For `produce`: leave a topic that was made with the broker
    #[arg(long)]
    #[serde(default)]
    pub keep_topic: bool,
    /// Codes with which items may fail, such as RATE_LIMITED; any other fails the run
    #[arg(long = "allow-error", value_name = "CODE")]
    #[serde(default)]
    pub allow_errors: Vec<String>,
    /// Open loop: what was due and found no room in time does not fail the run
    #[arg(long)]
    #[serde(default)]
    pub allow_not_sent: bool,
    /// Priority of the batches, from 0 to 7
    #[arg(long, value_name = "N")]
    pub priority: Option<u8>,
    /// What it should get beside the others, for the goals `jain` and `share_error`.
    #[arg(skip)]
    pub share: Option<f64>,
}

/// What `operation` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationName {
    Batch,
    Job,
    Connect,
    Produce,
}

/// One of `recipes`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    name: String,
    #[serde(default = "one")]
    weight: u16,
    payload_bytes: Option<Sizes>,
    payload: Option<String>,
    check: Option<Check>,
}

fn one() -> u16 {
    1
}

impl Load {
    pub(super) fn parse(self, name: &str, certs: PathBuf) -> Result<Tenant, BadScenario> {
        let operation = self.operation()?;
        let batch_items = self.batch_items(&operation)?;
        let connections = within("connections", self.connections.unwrap_or(1) as u64, MANY)?;
        let recipes = match operation {
            Operation::Produce(_) => vec![self.message()?],
            _ => self.recipes()?,
        };
        let codes = self.allow_errors.iter().map(|name| {
            let problem =
                || format!("there is no code {name:?}; codes are names such as RATE_LIMITED");
            Code::from_name(name).ok_or_else(|| bad("allow_errors", problem()))
        });
        let share = self.share.unwrap_or(1.0);
        if !(share > 0.0 && share <= 1e6) {
            return Err(bad("share", format!("{share} is not above 0 and at most 1000000")));
        }
        if self.priority.is_some_and(|p| p > 7) {
            return Err(bad("priority", "0 to 7"));
        }
        let pace = self.pace(&operation, &batch_items)?;
        Ok(Tenant {
            name: name.to_owned(),
            certs,
            operation,
            connections: connections as usize,
            ramp: self.ramp(&pace, &batch_items)?,
            pace,
            batch_items,
            cycle: cycle(&recipes)?,
            recipes,
            allow_errors: codes.collect::<Result<_, _>>()?,
            allow_not_sent: self.allow_not_sent,
            priority: self.priority,
            share,
        })
    }

    fn operation(&self) -> Result<Operation, BadScenario> {
        let name = self.operation.unwrap_or(OperationName::Batch);
        let only = |key: &str, given: bool, of: OperationName, called: &str| {
            let strange = given && name != of;
            if strange { Err(bad(key, format!("only for operation = {called:?}"))) } else { Ok(()) }
        };
        only("hold", self.hold.is_some(), OperationName::Connect, "connect")?;
        if name != OperationName::Produce {
            only("audit_batches", self.audit_batches.is_some(), OperationName::Job, "job")?;
        }
        only("keep_jobs", self.keep_jobs, OperationName::Job, "job")?;
        for (key, given) in [
            ("topic", self.topic.is_some()),
            ("partitions", self.partitions.is_some()),
            ("consumers", self.consumers.is_some()),
            ("keep_topic", self.keep_topic),
        ] {
            only(key, given, OperationName::Produce, "produce")?;
        }
        let rate = self.connections_per_second.is_some();
        only("connections_per_second", rate, OperationName::Connect, "connect")?;
        Ok(match name {
            OperationName::Batch => Operation::Batch,
            OperationName::Job => Operation::Job { audit: self.audit()?, purge: !self.keep_jobs },
            OperationName::Connect => {
                let hold = self.hold.unwrap_or(SignedDuration::ZERO);
                let hold = Duration::try_from(hold).map_err(|_| bad("hold", "is negative"))?;
                Operation::Connect { hold }
            }
            OperationName::Produce => Operation::Produce(self.topic()?),
        })
    }

    fn audit(&self) -> Result<usize, BadScenario> {
        let audit = self.audit_batches.unwrap_or(32);
        if audit > AUDIT_MAX {
            return Err(bad("audit_batches", format!("{audit} is not 0 to {AUDIT_MAX}")));
        }
        Ok(audit)
    }

    fn batch_items(&self, operation: &Operation) -> Result<Sizes, BadScenario> {
        let connect = matches!(operation, Operation::Connect { .. });
        let items = match &self.batch_items {
            Some(_) if connect => {
                return Err(bad("batch_items", "a connection of operation = \"connect\" has none"));
            }
            Some(items) => items.clone(),
            None => Sizes::Fixed(if connect { 1 } else { 100 }),
        };
        within("batch_items", items.min(), BATCH_ITEMS_MAX)?;
        within("batch_items", items.max(), BATCH_ITEMS_MAX)?;
        Ok(items)
    }

    fn pace(&self, operation: &Operation, items: &Sizes) -> Result<Pace, BadScenario> {
        let in_flight = |default| {
            within("in_flight", self.in_flight.unwrap_or(default) as u64, MANY).map(|n| n as usize)
        };
        let connect = matches!(operation, Operation::Connect { .. });
        let rates = [
            ("items_per_second", self.items_per_second.map(|r| r / items.mean())),
            ("batches_per_second", self.batches_per_second),
            ("connections_per_second", self.connections_per_second),
        ];
        let given: Vec<_> = rates.iter().filter_map(|(key, r)| r.map(|r| (*key, r))).collect();
        let (key, rate) = match given[..] {
            [] => return Ok(Pace::InFlight(in_flight(64)?)),
            [(key, _)] if connect && key != "connections_per_second" => {
                return Err(bad(key, "operation = \"connect\" takes connections_per_second"));
            }
            [one] => one,
            [(key, _), (other, _), ..] => return Err(bad(key, format!("excludes {other}"))),
        };
        if !(rate > 0.0 && rate <= RATE_MAX) {
            let problem = format!("must be above 0 and at most {RATE_MAX} operations/s");
            return Err(bad(key, problem));
        }
        let room = if connect { CONNECTIONS_OPEN } else { IN_FLIGHT_OPEN };
        Ok(Pace::PerSecond { rate, in_flight_max: in_flight(room)? })
    }

    fn ramp(&self, pace: &Pace, items: &Sizes) -> Result<Option<Ramp>, BadScenario> {
        let Some(over) = self.ramp_over else {
            return match (self.ramp_from, self.ramp_steps) {
                (None, None) => Ok(None),
                _ => Err(bad("ramp_over", "how long the ramp takes, such as \"30s\", is missing")),
            };
        };
        let over = Duration::try_from(over).unwrap_or_default();
        if over.is_zero() {
            return Err(bad("ramp_over", "must be more than nothing"));
        }
        let per_operation = if self.items_per_second.is_some() { items.mean() } else { 1.0 };
        let from = self.ramp_from.unwrap_or(0.0) / per_operation;
        let closed = matches!(pace, Pace::InFlight(_));
        if !(0.0..=RATE_MAX).contains(&from) || closed && from > pace.full() {
            let problem = "0 to what it leads to, in its unit (a rate may also fall)";
            return Err(bad("ramp_from", problem));
        }
        let steps = self.ramp_steps.unwrap_or(0);
        if steps == 1 || steps > STEPS_MAX {
            let problem = format!("{steps} is not 2 to {STEPS_MAX}, or 0 to rise evenly");
            return Err(bad("ramp_steps", problem));
        }
        Ok(Some(Ramp { from, over, steps }))
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
            (self.payload_bytes.clone(), self.payload.clone())
        };
        let payload = match (bytes, text) {
            (Some(_), Some(_)) => return Err(bad("payload", "excludes payload_bytes")),
            (_, Some(text)) => Payload::Text(text.into()),
            (bytes, None) => Payload::Bytes(bytes.unwrap_or(Sizes::Fixed(64))),
        };
        if payload.max() > PAYLOAD_MAX {
            return Err(bad("payload_bytes", format!("at most {PAYLOAD_MAX}")));
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

fn operation(name: &str) -> Result<OperationName, String> {
    match name {
        "batch" => Ok(OperationName::Batch),
        "job" => Ok(OperationName::Job),
        "connect" => Ok(OperationName::Connect),
        "produce" => Ok(OperationName::Produce),
        _ => Err(format!("`operation`: {name:?} is none of `batch`, `job`, `connect`, `produce`")),
    }
}

fn named_operation<'de, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Option<OperationName>, D::Error> {
    operation(&String::deserialize(d)?).map(Some).map_err(serde::de::Error::custom)
}

fn within(key: &str, n: u64, max: u64) -> Result<u64, BadScenario> {
    if (1..=max).contains(&n) { Ok(n) } else { Err(bad(key, format!("{n} is not 1 to {max}"))) }
}

/// What the protocol allows at most.
const BATCH_ITEMS_MAX: u64 = 1_000_000;
/// What the protocol allows a frame to have.
const PAYLOAD_MAX: usize = 16 << 20;
/// Connections of a tenant, and its operations under way: what one process can hold.
const MANY: u64 = 100_000;
/// Batches under way in an open loop, unless said otherwise: what a connection carries.
const IN_FLIGHT_OPEN: usize = 256;
/// Connections open at once in an open loop, unless said otherwise.
const CONNECTIONS_OPEN: usize = 10_000;
/// Operations a second of one tenant.
const RATE_MAX: f64 = 1_000_000.0;
const WEIGHTS_MAX: i64 = 10_000;
/// Batches that are read again.
const AUDIT_MAX: usize = 100_000;
/// Steps of a ramp.
const STEPS_MAX: u32 = 1_000;
