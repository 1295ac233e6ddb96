//! A broker's configuration in layers: the file, then variables, then flags.
//!
//! Every layer is judged by itself, so an error names the file, the variable or the flag at fault.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context;
use config::{Config as Layers, Environment, File, FileFormat, Map, Value, ValueKind};
use tollgate_broker::{Config, upstream};

use super::exit::Usage;

mod keys;

pub(super) use keys::differing;

/// Where the configuration comes from, and what overrides it.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The configuration file [default: tollgate.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Where to keep what outlives the process (data_dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen on, UDP; port 0 takes a free one (listen)
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The address to listen on for HTTP, TCP; port 0 takes a free one; `off` for none (http.listen)
    #[arg(long, value_name = "ADDR")]
    http: Option<HttpAt>,
    /// Threads for QUIC and the engine; 0 chooses (runtime.threads)
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// error, warn, info, debug, trace, or tracing's directives (log.level)
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// auto, text or json (log.format)
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other key, such as limits.frame_bytes_max=4194304; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Where HTTP listens.
#[derive(Debug, Clone, Copy)]
enum HttpAt {
    Off,
    Addr(SocketAddr),
}

impl FromStr for HttpAt {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "off" => Ok(HttpAt::Off),
            _ => s.parse().map(HttpAt::Addr).map_err(|e| format!("{e}: ADDR:PORT or off")),
        }
    }
}

/// One source of settings, and what it is called.
struct Layer {
    name: String,
    settings: Layers,
}

impl Args {
    /// The configuration that these flags, this process's variables and the file make together.
    ///
    /// # Errors
    /// [`Usage`], naming what is wrong first and where it stands.
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        self.load_with(variables())
    }

    /// The same, to be judged further: with every mistake in a value.
    ///
    /// # Errors
    /// Every mistake in the layers, which leave nothing to be judged.
    pub(super) fn look(&self) -> Result<(Config, Vec<anyhow::Error>), Vec<anyhow::Error>> {
        let config = self.merge(variables())?;
        let mistakes = mistakes(&config);
        Ok((config, mistakes))
    }

    /// The file that is read, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.config {
            Some(path) => Some(path),
            None => Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()),
        }
    }

    fn load_with(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Config> {
        let first = |all: Vec<_>| all.into_iter().next().expect("there is a mistake");
        let config = self.merge(variables).map_err(first)?;
        match mistakes(&config).into_iter().next() {
            Some(mistake) => Err(mistake),
            None => Ok(config),
        }
    }

    /// Puts the layers together, each of which is judged by itself.
    fn merge(
        &self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, Vec<anyhow::Error>> {
        let layers = self.file().map(file).into_iter();
        let layers = layers.chain(variables_layers(variables)).chain(self.flags());
        let (mut good, mut wrong) = (Vec::new(), Vec::new());
        for layer in layers {
            match layer {
                Ok(layer) => match layer.judge() {
                    Ok(()) => good.push(layer),
                    Err(mistakes) => wrong.extend(mistakes),
                },
                Err(mistake) => wrong.push(mistake),
            }
        }
        if wrong.is_empty() {
            put_together(good).map_err(|mistake| vec![mistake])
        } else {
            Err(wrong)
        }
    }

    fn flags(&self) -> Vec<anyhow::Result<Layer>> {
        let path = |p: &PathBuf| p.display().to_string();
        let http = match self.http {
            None => [None, None],
            Some(HttpAt::Off) => [Some(("http.enabled", false.into())), None],
            Some(HttpAt::Addr(addr)) => [
                Some(("http.enabled", true.into())),
                Some(("http.listen", addr.to_string().into())),
            ],
        };
        let http = http.into_iter().flatten().map(|(key, value)| ("--http", key, Some(value)));
        let named: [(&str, &str, Option<ValueKind>); 5] = [
            ("--data-dir", "data_dir", self.data_dir.as_ref().map(|p| path(p).into())),
            ("--listen", "listen", self.listen.map(|a| a.to_string().into())),
            ("--threads", "runtime.threads", self.threads.map(|n| (n as u64).into())),
            ("--log-level", "log.level", self.log_level.clone().map(Into::into)),
            ("--log-format", "log.format", self.log_format.clone().map(Into::into)),
        ];
        let given = named
            .into_iter()
            .chain(http)
            .filter_map(|(flag, key, value)| Some((flag, key, value?)));
        let mut layers = given
            .map(|(flag, key, value)| {
                let settings = Layers::builder().set_override(key, Value::new(None, value))?;
                Ok(Layer { name: flag.to_owned(), settings: settings.build()? })
            })
            .collect::<Vec<_>>();
        layers.extend(self.set.iter().map(|pair| set(pair)));
        layers
    }
}

/// This process's variables, as far as they are text.
fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |(k, v): (std::ffi::OsString, std::ffi::OsString)| {
        Some((k.into_string().ok()?, v.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}

fn put_together(layers: Vec<Layer>) -> anyhow::Result<Config> {
    // As a process a broker has its HTTP API, unless it is told otherwise.
    let mut all = Layers::builder().set_default("http.enabled", true)?;
    for layer in layers {
        all = all.add_source(layer.settings);
    }
    let all = all.build().context("cannot put the configuration together")?;
    all.try_deserialize().map_err(|e| Usage::error(e.to_string()))
}

/// Values that cannot be honoured, one a section at most.
fn mistakes(config: &Config) -> Vec<anyhow::Error> {
    let sections = [
        config.limits.check().map_err(|e| e.to_string()),
        config.workers.check().map_err(|e| e.to_string()),
        config.jobs.check().map_err(|e| e.to_string()),
        config.topics.check().map_err(|e| e.to_string()),
        config.http.check().map_err(|e| e.to_string()),
        upstream::check(&config.upstreams).map_err(|e| e.to_string()),
    ];
    sections.into_iter().filter_map(Result::err).map(Usage::error).collect()
}

const DEFAULT_FILE: &str = "tollgate.toml";
const PREFIX: &str = "TOLLGATE_";

/// Variables of ours that are no keys: flags of commands.
const NOT_KEYS: &[&str] =
    &["CONFIG", "OUTPUT", "ADDR", "CERTS", "SERVER_NAME", "API", "CA", "TOKEN_FILE", "TENANT"];

impl Layer {
    /// Finds the keys that do not exist; when there are none, the first value of the wrong kind.
    fn judge(&self) -> Result<(), Vec<anyhow::Error>> {
        let found: Map<String, Value> =
            self.settings.clone().try_deserialize().map_err(|e| vec![self.wrong(&e)])?;
        let unknown = keys::unknown_in(&found);
        if !unknown.is_empty() {
            return Err(unknown.iter().map(|e| self.wrong(e)).collect());
        }
        let read = self.settings.clone().try_deserialize::<Config>();
        read.map(drop).map_err(|e| vec![self.wrong(&e)])
    }

    fn wrong(&self, why: &dyn std::fmt::Display) -> anyhow::Error {
        Usage::error(format!("{}: {why}", self.name))
    }
}

fn file(path: &Path) -> anyhow::Result<Layer> {
    let name = path.display().to_string();
    let wrong = |why: &dyn std::fmt::Display| Usage::error(format!("{name}: {why}"));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    toml::from_str::<toml::Table>(&text).map_err(|e| wrong(&e))?;
    let settings = Layers::builder().add_source(File::from_str(&text, FileFormat::Toml));
    Ok(Layer { settings: settings.build().map_err(|e| wrong(&e))?, name })
}

/// A layer for each variable that is a key, in the order of their names.
fn variables_layers(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<anyhow::Result<Layer>> {
    let mut ours: Vec<_> = variables.into_iter().filter(|(name, _)| is_key(name)).collect();
    ours.sort_unstable();
    let layer = |(name, value): (String, String)| {
        let source = Environment::with_prefix("TOLLGATE")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("tls.roots")
            .with_list_parse_key("tls.crls")
            .source(Some(HashMap::from([(name.clone(), value)])));
        let settings = Layers::builder().add_source(source).build();
        Ok(Layer { settings: settings.map_err(|e| Usage::error(format!("{name}: {e}")))?, name })
    };
    ours.into_iter().map(layer).collect()
}

/// Whether a variable sets a key. Kubernetes puts the addresses of a service called `tollgate`
/// into variables of our prefix: these are its own.
fn is_key(variable: &str) -> bool {
    let Some(key) = variable.strip_prefix(PREFIX) else { return false };
    let of_a_service = key == "PORT" || key.starts_with("PORT_") || key.starts_with("SERVICE_");
    !of_a_service && !NOT_KEYS.contains(&key)
}

/// Reads `--set key=value`: a value that is not TOML is a string.
fn set(pair: &str) -> anyhow::Result<Layer> {
    let name = format!("--set {pair}");
    let (key, value) =
        pair.split_once('=').ok_or_else(|| Usage::error(format!("{name}: not KEY=VALUE")))?;
    let (key, value) = (key.trim(), value.trim());
    let known = key.split('.').all(|k| !k.is_empty() && k.bytes().all(is_bare));
    if !known {
        return Err(Usage::error(format!("{name}: `{key}` is not a key")));
    }
    let as_it_is = format!("{key} = {value}");
    let text = match as_it_is.parse::<toml::Table>() {
        Ok(_) => as_it_is,
        Err(_) => format!("{key} = {}", toml::Value::from(value)),
    };
    let settings = Layers::builder().add_source(File::from_str(&text, FileFormat::Toml)).build();
    Ok(Layer { settings: settings.map_err(|e| Usage::error(format!("{name}: {e}")))?, name })
}

fn is_bare(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

#[cfg(test)]
mod tests;
