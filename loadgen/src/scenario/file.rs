//! A scenario as it is written down, in TOML or as flags, and what is wrong with it.
//!
//! Unknown keys are errors, and every refusal names the key, and whose it is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::SignedDuration;
use serde::Deserialize;

use super::{
    BadScenario, Goal, Load, Operation, Phase, Scenario, Tenant, Topic, bad, goal::GoalFile,
};

/// The top of a file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// The broker, as `host:port`.
    pub addr: Option<String>,
    /// The name in its certificate; the host when left out.
    pub server_name: Option<String>,
    /// How long is measured, such as `10s`, in each phase that does not say otherwise.
    pub duration: Option<SignedDuration>,
    /// How long load runs before that.
    pub warm_up: Option<SignedDuration>,
    /// How long what is under way may take after that.
    pub drain: Option<SignedDuration>,
    /// The p99 of latency that must not be passed.
    pub p99_max_ms: Option<f64>,
    /// How often the phases are gone through.
    pub rounds: Option<usize>,
    /// What follows on what; one phase with everybody when left out.
    #[serde(default)]
    pub phases: Vec<PhaseFile>,
    /// What is asked of the figures.
    #[serde(default)]
    pub goals: Vec<GoalFile>,
    /// Who sends.
    #[serde(default)]
    pub tenants: Vec<TenantFile>,
}

/// One `[[phases]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseFile {
    name: String,
    duration: Option<SignedDuration>,
    warm_up: Option<SignedDuration>,
    tenants: Option<Vec<String>>,
    load: Option<f64>,
}

/// One `[[tenants]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantFile {
    /// What the report calls it; the directory's name when left out.
    pub name: Option<String>,
    /// Where `cert.pem`, `key.pem` and `ca.pem` are; relative to the file.
    pub certs: PathBuf,
    /// So many tenants alike: `{n}` in `name` and `certs` is then 1, 2, 3 …
    pub count: Option<usize>,
    /// The rest.
    #[serde(flatten)]
    pub load: Load,
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
    pub rounds: Option<usize>,
}

impl ScenarioFile {
    /// Reads a file; directories in it are relative to its own.
    pub fn load(path: &Path, certs_root: Option<&Path>) -> Result<Self, BadScenario> {
        let text =
            fs::read_to_string(path).map_err(|why| BadScenario::Read { path: path.into(), why })?;
        let syntax = |e| BadScenario::Syntax { path: path.into(), why: Box::new(e) };
        let mut file: ScenarioFile = toml::from_str(&text).map_err(syntax)?;
        if let Some(dir) = certs_root.or(path.parent()) {
            file.tenants.iter_mut().for_each(|t| t.certs = dir.join(&t.certs));
        }
        Ok(file)
    }

    /// Checks everything. What flags say goes before what the file says.
    pub fn parse(self, flags: Overrides) -> Result<Scenario, BadScenario> {
        let addr = flags.addr.or(self.addr).unwrap_or_else(|| ADDR.into());
        let host = addr.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
        let host = host.ok_or_else(|| bad("addr", format!("{addr:?} is not host:port")))?;
        let server_name = flags.server_name.or(self.server_name).unwrap_or_else(|| host.to_owned());
        if self.tenants.is_empty() {
            return Err(bad("tenants", "nobody sends: give --certs or [[tenants]]"));
        }
        let mut tenants = Vec::new();
        for tenant in self.tenants {
            tenants.extend(tenant.parse()?);
        }
        if tenants.len() > TENANTS_MAX {
            return Err(bad("tenants", format!("{} are more than {TENANTS_MAX}", tenants.len())));
        }
        unique("tenants.name", tenants.iter().map(|t| &t.name))?;
        topics_apart(&tenants)?;
        let (duration, warm_up) =
            (flags.duration.or(self.duration), flags.warm_up.or(self.warm_up));
        let phases = phases(self.phases, duration, warm_up, flags.duration.is_some(), &tenants)?;
        let rounds = flags.rounds.or(self.rounds).unwrap_or(1);
        if !(1..=ROUNDS_MAX).contains(&rounds) {
            return Err(bad("rounds", format!("{rounds} is not 1 to {ROUNDS_MAX}")));
        }
        let cells = tenants.len() * phases.len() * rounds;
        if cells > CELLS_MAX {
            let problem = format!(
                "{} tenants × {} phases × {rounds} rounds are more than {CELLS_MAX} that are kept \
                 apart",
                tenants.len(),
                phases.len()
            );
            return Err(bad("rounds", problem));
        }
        let goals = self.goals.into_iter().map(|g| g.parse(&phases, &tenants));
        let mut goals = goals.collect::<Result<Vec<_>, _>>()?;
        if goals.is_empty() {
            goals = Goal::usual(&phases, &tenants);
        }
        let p99_max_ms = flags.p99_max_ms.or(self.p99_max_ms);
        if p99_max_ms.is_some_and(|ms| ms.is_nan() || ms <= 0.0) {
            return Err(bad("p99_max_ms", "must be above 0"));
        }
        Ok(Scenario {
            addr: addr.clone(),
            server_name,
            drain: time("drain", flags.drain.or(self.drain), DRAIN)?,
            p99_max_ms,
            rounds,
            phases,
            goals,
            tenants,
        })
    }
}

fn phases(
    files: Vec<PhaseFile>,
    duration: Option<SignedDuration>,
    warm_up: Option<SignedDuration>,
    duration_by_flag: bool,
    tenants: &[Tenant],
) -> Result<Vec<Phase>, BadScenario> {
    let nothing =
        PhaseFile { name: "run".into(), duration: None, warm_up: None, tenants: None, load: None };
    let files = if files.is_empty() { vec![nothing] } else { files };
    if files.len() > PHASES_MAX {
        return Err(bad("phases", format!("{} are more than {PHASES_MAX}", files.len())));
    }
    unique("phases.name", files.iter().map(|p| &p.name))?;
    let one = |file: PhaseFile| {
        let in_phase = |e: BadScenario| match e {
            BadScenario::Value(problem) => {
                BadScenario::Value(format!("phase {:?}: {problem}", file.name))
            }
            other => other,
        };
        let load = file.load.unwrap_or(1.0);
        if !(load > 0.0 && load <= 1_000.0) {
            return Err(in_phase(bad("load", format!("{load} is not above 0 and at most 1000"))));
        }
        // A flag is for all of them.
        let own = if duration_by_flag { None } else { file.duration };
        let duration = time("duration", own.or(duration), DURATION).map_err(in_phase)?;
        if duration.is_zero() {
            return Err(in_phase(bad("duration", "must be more than nothing")));
        }
        let place = |name: &String| {
            let found = tenants.iter().position(|t| t.name == *name);
            found.ok_or_else(|| in_phase(bad("tenants", format!("there is no tenant {name:?}"))))
        };
        let takes_part = match &file.tenants {
            None => (0..tenants.len()).collect(),
            Some(names) => names.iter().map(place).collect::<Result<Vec<_>, _>>()?,
        };
        if takes_part.is_empty() {
            return Err(in_phase(bad("tenants", "nobody sends")));
        }
        let late = |t: &&usize| tenants[**t].ramp.is_some_and(|r| r.over > duration);
        if let Some(late) = takes_part.iter().find(late) {
            let problem = format!("tenant {:?}: is longer than the phase", tenants[*late].name);
            return Err(in_phase(bad("ramp_over", problem)));
        }
        Ok(Phase {
            warm_up: time("warm_up", file.warm_up.or(warm_up), WARM_UP).map_err(in_phase)?,
            duration,
            tenants: takes_part,
            load,
            name: file.name.clone(),
        })
    };
    files.into_iter().map(one).collect()
}

impl TenantFile {
    fn parse(self) -> Result<Vec<Tenant>, BadScenario> {
        let dir = self.certs.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = self.name.or(dir).unwrap_or_else(|| "tenant".into());
        let of = |problem: BadScenario, name: &str| match problem {
            BadScenario::Value(p) => BadScenario::Value(format!("tenant {name:?}: {p}")),
            other => other,
        };
        let Some(count) = self.count else {
            return Ok(vec![self.load.parse(&name, self.certs).map_err(|e| of(e, &name))?]);
        };
        if !(1..=TENANTS_MAX).contains(&count) {
            return Err(of(bad("count", format!("{count} is not 1 to {TENANTS_MAX}")), &name));
        }
        if count > 1 && !name.contains(PLACE) {
            let problem = format!("needs a `name` with {PLACE} in it, to tell them apart");
            return Err(of(bad("count", problem), &name));
        }
        let certs = self.certs.to_string_lossy().into_owned();
        let one = |n: usize| {
            let n = n.to_string();
            let (name, certs) = (name.replace(PLACE, &n), certs.replace(PLACE, &n));
            self.load.clone().parse(&name, certs.into()).map_err(|e| of(e, &name))
        };
        (1..=count).map(one).collect()
    }
}

/// Whoever shares a topic would find the other's messages in it.
fn topics_apart(tenants: &[Tenant]) -> Result<(), BadScenario> {
    let mut seen = BTreeSet::new();
    for tenant in tenants {
        let Operation::Produce(Topic { name: Some(topic), .. }) = &tenant.operation else {
            continue;
        };
        if !seen.insert((&tenant.certs, topic)) {
            let problem = format!("{topic:?} is there twice with the same `certs`");
            return Err(bad("topic", problem));
        }
    }
    Ok(())
}

fn time(
    key: &str,
    given: Option<SignedDuration>,
    default: Duration,
) -> Result<Duration, BadScenario> {
    let Some(given) = given else { return Ok(default) };
    let allowed = Duration::try_from(given).ok().filter(|d| *d <= TIME_MAX);
    allowed.ok_or_else(|| bad(key, format!("{given:#} is not between nothing and 7 days")))
}

fn unique<'a>(key: &str, names: impl Iterator<Item = &'a String>) -> Result<(), BadScenario> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            let problem = format!("{name:?} is not 1 to {NAME_MAX} printable bytes");
            return Err(bad(key, problem));
        }
        if name == EVERYBODY {
            let problem = format!("{name:?} is what the sum of all is called");
            return Err(bad(key, problem));
        }
        if !seen.insert(name) {
            let problem = format!("{name:?} is there twice: give each a name of its own");
            return Err(bad(key, problem));
        }
    }
    Ok(())
}

/// What reports call all tenants together.
const EVERYBODY: &str = "all";
const ADDR: &str = "127.0.0.1:4433";
const DURATION: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_secs(30);
const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// What stands for the number of one of several tenants.
const PLACE: &str = "{n}";
const NAME_MAX: usize = 100;
const TENANTS_MAX: usize = 10_000;
const PHASES_MAX: usize = 100;
const ROUNDS_MAX: usize = 1_000;
/// Tenants × phases × rounds, each with histograms of its own: some 100 KiB each.
const CELLS_MAX: usize = 20_000;

#[cfg(test)]
mod tests;
