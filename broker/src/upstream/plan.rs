//! An upstream's section, judged: what is left to go wrong are the files that it names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::Url;

use super::{
    config::{Breaker, Recipe, Upstream},
    error::{Problem, UpstreamError},
    files,
    headers::{self, Planned},
    template::Template,
};
use crate::{
    batch::{CatalogError, Retry, Spec},
    rules::breaker,
};

/// An upstream as it will be used.
#[derive(Debug)]
pub(super) struct Plan {
    pub name: Arc<str>,
    /// Scheme, host, port and path, without a slash at its end.
    pub base: String,
    pub is_https: bool,
    pub config: Upstream,
    pub headers: Vec<Planned>,
    pub recipes: Vec<PlannedRecipe>,
}

/// A recipe as it will be called.
#[derive(Debug)]
pub(super) struct PlannedRecipe {
    pub name: String,
    pub template: Template,
    pub headers: Vec<Planned>,
    pub config: Recipe,
}

/// Judges all upstreams.
///
/// # Errors
/// [`UpstreamError`], for the first that has a fault.
pub(super) fn plan(all: &BTreeMap<String, Upstream>) -> Result<Vec<Plan>, UpstreamError> {
    let count = all.len();
    if let Some(name) = all.keys().nth(UPSTREAMS_MAX) {
        return Err(Problem::TooMany { count, max: UPSTREAMS_MAX }.at(name, ""));
    }
    let plans = all.iter().map(|(name, upstream)| one(name, upstream));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    let mut names = BTreeMap::new();
    for (plan, recipe) in plans.iter().flat_map(|p| p.recipes.iter().map(move |r| (p, r))) {
        if names.insert(&recipe.name, ()).is_some()
            && let Ok(name) = tollgate_protocol::id::RecipeName::parse(&recipe.name)
        {
            let duplicate = Problem::Recipe(CatalogError::Duplicate { name });
            return Err(duplicate.at(&plan.name, ".recipes"));
        }
    }
    Ok(plans)
}

fn one(name: &str, upstream: &Upstream) -> Result<Plan, UpstreamError> {
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_name) {
        return Err(Problem::Name.at(name, ""));
    }
    let url = url(&upstream.url).map_err(|e| Problem::Url(e).at(name, ".url"))?;
    bounds(name, upstream)?;
    let is_https = url.scheme() == "https";
    if upstream.tls_certificate.is_some() != upstream.tls_key.is_some() {
        let pair = Problem::Pair("tls_certificate and tls_key are set together or not at all");
        return Err(pair.at(name, ""));
    }
    let uses_tls = upstream.tls_roots.is_some() || upstream.tls_certificate.is_some();
    if uses_tls && !is_https {
        return Err(Problem::Pair("tls_ keys need an https url").at(name, ""));
    }
    let headers = headers::plan(&upstream.headers)
        .map_err(|(header, problem)| problem.at(name, format!(".headers.{header}")))?;
    let recipes = upstream.recipes.iter().map(|(recipe, config)| planned(name, recipe, config));
    Ok(Plan {
        name: name.into(),
        base: url.as_str().trim_end_matches('/').to_owned(),
        is_https,
        config: upstream.clone(),
        headers,
        recipes: recipes.collect::<Result<_, _>>()?,
    })
}

fn url(text: &str) -> Result<Url, String> {
    if text.is_empty() {
        return Err("must be set: http:// or https://, and a host".to_owned());
    }
    if text.contains(['{', '}']) {
        return Err("a template such as {tenant} belongs into a recipe's path".into());
    }
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("must begin with http:// or https://, and name a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password: see `headers`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment: these belong to `path` of a recipe".to_owned());
    }
    Ok(url)
}

fn bounds(name: &str, u: &Upstream) -> Result<(), UpstreamError> {
    let b = &u.breaker;
    let mut all = vec![
        ("concurrency_max", u64::from(u.concurrency_max), 1, CONCURRENCY_MAX),
        ("connect_timeout_ms", u.connect_timeout_ms, 1, MINUTE_MS),
        ("pool_idle_max", u.pool_idle_max as u64, 0, CONCURRENCY_MAX),
        ("pool_idle_timeout_ms", u.pool_idle_timeout_ms, 1, 60 * MINUTE_MS),
        ("breaker.ratio_percent", b.ratio_percent.into(), 0, 100),
        ("breaker.requests_min", b.requests_min.into(), 1, 1_000_000),
        ("breaker.window_ms", b.window_ms, 2, 60 * MINUTE_MS),
        ("breaker.open_ms", b.open_ms, 1, 60 * MINUTE_MS),
        ("breaker.probes", b.probes.into(), 1, 1_000),
    ];
    all.extend(b.statuses.iter().map(|s| ("breaker.statuses", u64::from(*s), 400, 599)));
    for (key, value, min, max) in all {
        if !(min..=max).contains(&value) {
            return Err(Problem::OutOfRange { value, min, max }.at(name, format!(".{key}")));
        }
    }
    Ok(())
}

fn planned(name: &str, recipe: &str, config: &Recipe) -> Result<PlannedRecipe, UpstreamError> {
    let at = |key: &str| format!(".recipes.{recipe}{key}");
    let template =
        Template::parse(&config.path).map_err(|e| Problem::Path(e).at(name, at(".path")))?;
    let headers = headers::plan(&config.headers)
        .map_err(|(header, problem)| problem.at(name, at(&format!(".headers.{header}"))))?;
    if config.schema.is_some() && config.schema_file.is_some() {
        let pair = Problem::Pair("schema and schema_file exclude each other");
        return Err(pair.at(name, at("")));
    }
    if !config.method.has_body() && config.payload_bytes_max.is_some_and(|max| max > 0) {
        let pair = Problem::Pair("a GET or DELETE has no payload: payload_bytes_max is 0");
        return Err(pair.at(name, at("")));
    }
    let (template, headers, config) = (template, headers, config.clone());
    Ok(PlannedRecipe { name: recipe.to_owned(), template, headers, config })
}

impl PlannedRecipe {
    /// What the recipe promises and needs; reads the file of its schema.
    pub(super) fn spec(&self) -> Result<Spec, Problem> {
        let c = &self.config;
        let ms = Duration::from_millis;
        let schema = match &c.schema_file {
            None => c.schema.clone(),
            Some(path) => {
                let text = files::read(path)?;
                let schema = serde_json::from_slice(&text);
                Some(schema.map_err(|e| files::content(path, &e.to_string()))?)
            }
        };
        let spec = Spec::default();
        let payload_bytes_max = match c.method.has_body() {
            true => c.payload_bytes_max.unwrap_or(spec.payload_bytes_max),
            false => 0,
        };
        Ok(Spec {
            encoding: c.encoding.into(),
            timeout: c.timeout_ms.map(ms),
            queue_timeout: ms(c.queue_timeout_ms),
            estimated_duration: ms(c.estimated_duration_ms),
            concurrency_max: c.concurrency_max,
            retry: Retry {
                attempts_max: c.retry.attempts_max,
                first: ms(c.retry.first_ms),
                factor: c.retry.factor,
                cap: ms(c.retry.cap_ms),
            },
            idempotent: c.idempotent,
            payload_bytes_max,
            result_bytes_max: c.result_bytes_max,
            schema,
            description: c.description.clone(),
            ..spec
        })
    }
}

impl Breaker {
    /// As the rule takes it.
    pub(super) fn settings(&self) -> breaker::Settings {
        const NS_PER_MS: u64 = 1_000_000;
        breaker::Settings {
            failures: self.failures,
            ratio_percent: self.ratio_percent,
            requests_min: self.requests_min,
            window_ns: self.window_ms * NS_PER_MS,
            open_ns: self.open_ms * NS_PER_MS,
            probes: self.probes,
        }
    }
}

/// Upstreams of one broker: each has a label in the metrics, and connections of its own.
const UPSTREAMS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 63;
const CONCURRENCY_MAX: u64 = 65_536;
const MINUTE_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(url: &str) -> Upstream {
        Upstream { url: url.into(), ..Upstream::default() }
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Upstream), parts: &[&str]) {
        let mut one = upstream("https://reports.example/v2");
        one.recipes.insert("r".into(), Recipe::default());
        change(&mut one);
        let e = plan(&BTreeMap::from([("reports".to_owned(), one)])).expect_err("must be refused");
        for part in parts {
            assert!(e.to_string().contains(part), "{e} does not say {part:?}");
        }
    }

    #[test]
    fn a_good_section_is_planned() {
        let mut one = upstream("https://reports.example:8443/v2/");
        one.recipes.insert("report.render".into(), Recipe::default());
        let plans = plan(&BTreeMap::from([("reports-2".to_owned(), one)])).expect("good");
        assert_eq!(plans[0].base, "https://reports.example:8443/v2");
        assert!(plans[0].is_https);
        let spec = plans[0].recipes[0].spec().expect("no file");
        assert_eq!(spec, Spec { encoding: Spec::json().encoding, ..Spec::default() });
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let urls = [
            "",
            "reports.example",
            "ftp://a",
            "http://",
            "http://u:p@h",
            "http://h/?a",
            "http://h/#a",
        ];
        refused(|u| u.url = "http://h/{tenant}".into(), &["upstreams.reports.url: ", "path"]);
        for url in urls {
            refused(|u| u.url = url.into(), &["upstreams.reports.url: "]);
        }
        refused(
            |u| u.concurrency_max = 0,
            &["upstreams.reports.concurrency_max: is 0", "1 to 65536"],
        );
        refused(|u| u.breaker.ratio_percent = 101, &["breaker.ratio_percent: is 101"]);
        refused(|u| u.breaker.statuses = vec![200], &["breaker.statuses: is 200"]);
        refused(|u| u.tls_key = Some("k".into()), &["tls_certificate and tls_key"]);
        refused(
            |u| (u.url, u.tls_roots) = ("http://h".into(), Some("ca.pem".into())),
            &["need an https url"],
        );
        let recipe = |change: fn(&mut Recipe)| {
            move |u: &mut Upstream| change(u.recipes.get_mut("r").expect("there"))
        };
        refused(recipe(|r| r.path = "/{x}".into()), &["reports.recipes.r.path: there is no {x}"]);
        let both = recipe(|r| {
            (r.schema, r.schema_file) = (Some(true.into()), Some("s.json".into()));
        });
        refused(both, &["reports.recipes.r: schema and schema_file"]);
        let get = recipe(|r| {
            (r.method, r.payload_bytes_max) = (super::super::config::Method::Get, Some(9));
        });
        refused(get, &["reports.recipes.r: a GET or DELETE"]);
        let name = BTreeMap::from([("Reports".to_owned(), upstream("http://h"))]);
        assert!(plan(&name).expect_err("refused").to_string().contains("lower-case"));
        let many = (0..=UPSTREAMS_MAX).map(|n| (format!("u{n}"), upstream("http://h"))).collect();
        assert!(plan(&many).expect_err("refused").to_string().contains("257 upstreams"));
    }

    #[test]
    fn two_upstreams_have_no_recipe_in_common() {
        let mut one = upstream("http://h");
        one.recipes.insert("r".into(), Recipe::default());
        let two = BTreeMap::from([("a".to_owned(), one.clone()), ("b".to_owned(), one)]);
        let e = plan(&two).expect_err("refused").to_string();
        assert_eq!(e, "upstreams.b.recipes: recipe r is registered twice");
    }
}
