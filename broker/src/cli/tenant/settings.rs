//! What can be set for a tenant, as flags, and as the document that the API takes.
//!
//! Names of quotas and profiles are not judged here: the broker knows which there are.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::cli::{exit::Usage, format::parse_amount};

/// What can be set for a tenant.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(super) struct Settings {
    /// Its name, for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Where its quotas start from; see `tollgate profile list`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A quota of its own, over the profile's; may be repeated. VALUE is a number, such as 1000 or
    /// 10MiB (k, m, g and t are short for KiB … TiB: 1k is 1024), 0 for none, or `unlimited`
    #[arg(long = "quota", value_name = "NAME=VALUE", value_parser = quota)]
    quotas: Vec<(String, Amount)>,
    /// What happens beyond a rate: the stream waits, or the item fails
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Items that run at once
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Items at once for its topic bindings, each
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Its share when tenants wait for the same thing, 1 to 1000
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// A gateway that may act for it, by name; may be repeated
    #[arg(long = "gateway", value_name = "NAME")]
    gateways: Vec<String>,
    /// Whatever is worth noting; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

/// What happens beyond a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    Pace,
    Reject,
}

/// A quota's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    AtMost(u64),
    Unlimited,
    /// The profile's.
    Inherit,
}

impl Amount {
    fn json(self) -> Value {
        match self {
            Amount::AtMost(n) => n.into(),
            Amount::Unlimited => json!(-1),
            Amount::Inherit => Value::Null,
        }
    }
}

impl Settings {
    /// The document: only what was given.
    ///
    /// # Errors
    /// [`Usage`], when something is given twice.
    pub(super) fn document(&self) -> anyhow::Result<Map<String, Value>> {
        let mut document = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            document.extend(value.map(|v| (name.to_owned(), v)));
        };
        let policy = self.policy.map(|p| match p {
            Policy::Pace => "pace",
            Policy::Reject => "reject",
        });
        let quotas = self.quotas.iter().map(|(name, amount)| (name, amount.json()));
        let metadata = self.metadata.iter().map(|(key, value)| (key, json!(value)));
        put("name", self.name.as_ref().map(|v| json!(v)));
        put("profile", self.profile.as_ref().map(|v| json!(v)));
        put("quotas", object("--quota", quotas)?);
        put("policy", policy.map(|v| json!(v)));
        put("concurrency", self.concurrency.map(Value::from));
        put("workers", self.workers.map(Value::from));
        put("weight", self.weight.map(Value::from));
        put("gateways", Some(&self.gateways).filter(|g| !g.is_empty()).map(|g| json!(g)));
        put("metadata", object("--metadata", metadata)?);
        Ok(document)
    }

    /// The first quota that is to be the profile's, if there is one.
    pub(super) fn inherited(&self) -> Option<&str> {
        let found = self.quotas.iter().find(|(_, amount)| *amount == Amount::Inherit);
        found.map(|(name, _)| name.as_str())
    }
}

/// Pairs as an object, or nothing when there are none.
fn object<'a>(
    flag: &str,
    pairs: impl Iterator<Item = (&'a String, Value)>,
) -> anyhow::Result<Option<Value>> {
    let mut object = Map::new();
    for (name, value) in pairs {
        if object.insert(name.clone(), value).is_some() {
            return Err(Usage::error(format!("{flag} {name} is given twice")));
        }
    }
    Ok(Some(object).filter(|o| !o.is_empty()).map(Value::Object))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn quota(text: &str) -> Result<(String, Amount), String> {
    let (name, value) = pair(text).map_err(|_| "expected NAME=VALUE".to_owned())?;
    let amount = match value.trim() {
        "unlimited" | "-1" => Amount::Unlimited,
        "inherit" => Amount::Inherit,
        number => Amount::AtMost(parse_amount(number).ok_or_else(|| {
            format!("`{number}` is none of: a number, as 1000 or 10MiB; 0; unlimited; inherit")
        })?),
    };
    Ok((name.trim().to_owned(), amount))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    fn document(args: &[&str]) -> anyhow::Result<Value> {
        let cli = Cli::try_parse_from(std::iter::once(&"x").chain(args))?;
        cli.settings.document().map(Value::Object)
    }

    #[track_caller]
    fn check(args: &[&str], expected: &Value) {
        assert_eq!(document(args).expect("good"), *expected, "{args:?}");
    }

    #[test]
    fn only_what_is_given_is_sent() {
        check(&[], &json!({}));
        check(&["--name", "", "--weight", "3"], &json!({"name": "", "weight": 3}));
        check(&["--policy", "reject"], &json!({"policy": "reject"}));
        check(&["--gateway", "a", "--gateway", "b"], &json!({"gateways": ["a", "b"]}));
        check(
            &["--metadata", "plan=gold=24", "--metadata", "x="],
            &json!({"metadata": {"plan": "gold=24", "x": ""}}),
        );
        check(
            &["--quota", "topics=unlimited", "--quota", "bytes_per_second=10MiB"],
            &json!({"quotas": {"topics": -1, "bytes_per_second": 10_485_760}}),
        );
        check(&["--quota", "topics=inherit"], &json!({"quotas": {"topics": null}}));
        check(&["--quota", "connections=0"], &json!({"quotas": {"connections": 0}}));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in
            ["topics", "topics=", "=3", "topics=many", "topics=-2", "topics=1.5", "topics=1x"]
        {
            assert!(document(&["--quota", bad]).is_err(), "{bad}");
        }
        assert!(document(&["--quota", "a=1", "--quota", "a=2"]).is_err(), "twice");
        assert!(document(&["--metadata", "x"]).is_err());
        assert!(document(&["--policy", "maybe"]).is_err());
        assert!(document(&["--quota", "a=99999999999TiB"]).is_err(), "too large");
    }
}
