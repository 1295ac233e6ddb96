//! Who may import whom: the plan of the house as data, and the imports as they are.
//!
//! A path is followed when it begins with `crate` or with `super`; what a macro makes is not seen.

use super::source::{Source, code};

/// The crates, and which of ours each may depend on. `tests` may depend on all, nobody on it.
const CRATES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("certs", &["protocol"]),
    // The command line is a client; the library is not, see `LIBRARIES`.
    ("broker", &["protocol", "certs", "client"]),
    ("client", &["protocol", "certs"]),
    ("loadgen", &["protocol", "certs", "client"]),
    ("tests", &["protocol", "certs", "broker", "client", "loadgen"]),
];

/// What the bytes of the protocol must be understood without.
const NOT_IN_PROTOCOL: &[&str] = &["tokio", "quinn", "rustls", "socket2", "tracing", "tokio-util"];

/// The modules of the broker, and which of the others each may import. Edges never import each
/// other nor the store; services sit on the rules; the rules on nothing.
///
/// `broker` is the one that knows every part. Edges import it for what it hands them (`Services`).
const BROKER: &[(&str, &[&str])] = &[
    ("rules", &[]),
    ("clock", &[]),
    ("events", &[]),
    ("store", &["rules", "metrics"]),
    ("tenancy", &["rules", "store", "events"]),
    ("revocations", &["store", "events", "tenancy"]),
    ("workers", &["rules", "store", "batch", "events", "metrics", "tenancy"]),
    ("batch", &["rules", "store", "tenancy", "metrics"]),
    ("jobs", &["rules", "clock", "store", "tenancy", "batch", "events", "metrics"]),
    ("topics", &["rules", "clock", "store", "tenancy", "batch", "events", "metrics"]),
    // Recipes are what the engine runs.
    ("recipes", &["batch"]),
    ("upstream", &["rules", "batch", "metrics", "events"]),
    ("metrics", &[]),
    (
        "transport",
        &["broker", "config", "batch", "tenancy", "workers", "jobs", "topics", "metrics", "events"],
    ),
    (
        "http",
        &[
            "broker",
            "config",
            "batch",
            "tenancy",
            "revocations",
            "events",
            "workers",
            "jobs",
            "topics",
            "metrics",
        ],
    ),
    ("cli", &["broker", "config", "batch", "tenancy", "recipes", "lib"]),
    (
        "config",
        &[
            "batch",
            "tenancy",
            "transport",
            "http",
            "store",
            "workers",
            "jobs",
            "topics",
            "events",
            "metrics",
            "upstream",
        ],
    ),
];

/// These may import every part: the face, the checklist of the start, and the binary.
const EVERYTHING: &[&str] = &["lib", "broker", "main"];

/// Libraries, and the only places of a crate that may know them.
const LIBRARIES: &[(&str, &str, &[&str])] = &[
    // `doctor` makes a handshake of its own: it looks at what the client crate would refuse.
    ("broker", "quinn", &["transport", "cli"]),
    ("broker", "axum", &["http"]),
    ("broker", "clap", &["cli", "main"]),
    ("broker", "anyhow", &["cli", "main"]),
    // What only the command line has: embedders build without it.
    ("broker", "clap_complete", &["cli"]),
    ("broker", "console", &["cli"]),
    ("broker", "crossterm", &["cli"]),
    ("broker", "indicatif", &["cli"]),
    ("broker", "mimalloc", &["main"]),
    ("broker", "opentelemetry_otlp", &["cli"]),
    ("broker", "opentelemetry_sdk", &["cli"]),
    ("broker", "ratatui", &["cli"]),
    ("broker", "sd_notify", &["cli"]),
    ("broker", "tracing_subscriber", &["cli"]),
    ("broker", "redb", &["store"]),
    ("broker", "reqwest", &["upstream", "cli"]),
    ("broker", "prometheus_client", &["metrics"]),
    ("broker", "hdrhistogram", &["tenancy"]),
    ("broker", "opentelemetry", &["batch", "cli"]),
    ("broker", "tollgate_client", &["cli", "main"]),
    ("broker", "serde_json", &["http", "cli", "batch", "recipes", "upstream", "main"]),
];

/// What a decision must not know: it is told the time, and it does nothing.
const NOT_IN_RULES: &[&str] = &[
    "tokio::",
    "tracing::",
    "quinn::",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "Mutex",
    "async ",
];

/// The dependencies of a manifest that its crate may not have.
pub fn wrong_dependencies(manifest: &Source) -> Vec<String> {
    let member = manifest.path.trim_end_matches("/Cargo.toml");
    let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == member) else {
        return vec![format!("{}: a crate that the plan does not know", manifest.path)];
    };
    let toml: toml::Table = manifest.text.parse().expect("a manifest is TOML");
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let names = tables.iter().filter_map(|t| toml.get(*t)?.as_table()).flat_map(toml::Table::keys);
    let wrong = |name: &&String| match name.strip_prefix("tollgate-") {
        Some(ours) => !allowed.contains(&ours),
        None => member == "protocol" && NOT_IN_PROTOCOL.contains(&name.as_str()),
    };
    names.filter(wrong).map(|name| format!("{member} must not depend on {name}")).collect()
}

/// The imports of a file of the broker that the plan does not have.
pub fn wrong_imports_of_the_broker(source: &Source) -> Vec<String> {
    let module = modules(&source.path);
    let top = module.first().map_or("lib", String::as_str);
    if EVERYTHING.contains(&top) {
        return Vec::new();
    }
    let Some((_, allowed)) = BROKER.iter().find(|(name, _)| *name == top) else {
        return vec![format!("{}: a module that the plan does not know", source.path)];
    };
    let known = |name: &str| BROKER.iter().any(|(n, _)| *n == name) || EVERYTHING.contains(&name);
    let mut wrong: Vec<_> = imports(&source.text, module.len())
        .into_iter()
        .filter(|name| name != top && known(name) && !allowed.contains(&name.as_str()))
        .map(|name| format!("{}: {top} must not import {name}", source.path))
        .collect();
    if top == "rules" && !source.path.contains("tests") {
        let code = code(&source.text);
        let found = NOT_IN_RULES.iter().filter(|word| code.contains(**word));
        wrong.extend(found.map(|word| format!("{}: rules must not know `{word}`", source.path)));
    }
    wrong
}

/// Libraries that are used outside of the place that wraps them.
pub fn strayed_libraries(source: &Source) -> Vec<String> {
    let Some((member, _)) = source.path.split_once("/src/") else { return Vec::new() };
    let module = modules(&source.path);
    let top = module.first().map_or("lib", String::as_str);
    let code = code(&source.text);
    let strays = LIBRARIES.iter().filter(|(of, library, places)| {
        *of == member && !places.contains(&top) && uses(&code, library)
    });
    // Tests beside the code may look at JSON wherever they are.
    strays
        .filter(|(_, library, _)| *library != "serde_json" || !source.path.ends_with("tests.rs"))
        .map(|(_, library, places)| {
            format!("{}: {library} is used outside of {}", source.path, places.join(", "))
        })
        .collect()
}

/// Whether a path of this library stands in the code: `library::`, not `other_library::`.
fn uses(code: &str, library: &str) -> bool {
    code.match_indices(&format!("{library}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// The modules that a file is in, from the crate's root: `batch/run/start.rs` is batch, run, start.
fn modules(path: &str) -> Vec<String> {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    inside.split('/').filter(|m| *m != "lib").map(str::to_owned).collect()
}

/// The modules at the crate's root that a text imports; `depth` is how deep its own module is.
fn imports(text: &str, depth: usize) -> Vec<String> {
    let code = code(text);
    let mut found = Vec::new();
    let mut inline = Inline::default();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let word = rest.len() - rest.trim_start_matches(is_word).len();
        if word == 0 {
            let c = rest.chars().next().expect("there is more");
            inline.see(c);
            at += c.len_utf8();
            continue;
        }
        match &rest[..word] {
            "mod" => inline.opens(&rest[word..]),
            // `a::crate` and `a::super` do not exist: these begin a path.
            "crate" => firsts(&rest[word..], &mut found),
            "super" => {
                let (supers, tail) = supers(rest);
                if supers == depth + inline.depth() {
                    firsts(tail, &mut found);
                }
                at += rest.len() - tail.len();
                continue;
            }
            _ => {}
        }
        at += word;
    }
    found.retain(|name| !name.is_empty());
    found.sort_unstable();
    found.dedup();
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Counts `super::super` and gives what follows.
fn supers(mut rest: &str) -> (usize, &str) {
    let mut count = 0;
    while let Some(tail) = rest.strip_prefix("super") {
        count += 1;
        match tail.strip_prefix("::super") {
            Some(_) => rest = &tail["::".len()..],
            None => return (count, tail),
        }
    }
    (count, rest)
}

/// The first names after a path's beginning: `::a::b` has a, `::{a, b::{c}}` has a and b.
fn firsts(tail: &str, found: &mut Vec<String>) {
    let Some(tail) = tail.trim_start().strip_prefix("::") else { return };
    let name = |s: &str| s.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(group) = tail.trim_start().strip_prefix('{') else {
        found.push(name(tail));
        return;
    };
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                found.push(name(&group[begin..at]));
                begin = at + 1;
            }
            '}' => {
                found.push(name(&group[begin..at]));
                return;
            }
            _ => {}
        }
    }
}

/// Modules written out within a file: `super` means one less inside of them.
#[derive(Default)]
struct Inline {
    braces: usize,
    /// At how many braces each of them began.
    began: Vec<usize>,
    next: bool,
}

impl Inline {
    fn depth(&self) -> usize {
        self.began.len()
    }

    fn opens(&mut self, after: &str) {
        let name = after.trim_start();
        self.next = name.trim_start_matches(is_word).trim_start().starts_with('{');
    }

    fn see(&mut self, c: char) {
        match c {
            '{' => {
                if std::mem::take(&mut self.next) {
                    self.began.push(self.braces);
                }
                self.braces += 1;
            }
            '}' => {
                self.braces = self.braces.saturating_sub(1);
                if self.began.last() == Some(&self.braces) {
                    self.began.pop();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, depth: usize, expected: &[&str]) {
        assert_eq!(imports(text, depth), expected, "{text}");
    }

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn imports_are_seen_in_every_spelling() {
        check("use crate::http;", 1, &["http"]);
        check(
            "use crate::{\n    batch::{Code, run::X},\n    tenancy,\n};",
            1,
            &["batch", "tenancy"],
        );
        check("fn f() { crate::http::go() }", 2, &["http"]);
        check("pub(crate) fn f() {}", 1, &[]);
        check("use super::http;", 1, &["http"]);
        check("use super::http;", 2, &[]);
        check("use super::super::{http, cli::x};", 2, &["cli", "http"]);
        check("mod tests { use super::http; }", 1, &[]);
        check("mod tests { use super::super::http; }\nuse super::cli;", 1, &["cli", "http"]);
        check("// crate::http\nlet a = \"crate::cli\";", 1, &[]);
    }

    #[test]
    fn a_wrong_import_is_found() {
        let wrong = |path, text| wrong_imports_of_the_broker(&source(path, text)).len();
        assert_eq!(wrong("broker/src/transport/stream.rs", "use crate::http::X;"), 1);
        assert_eq!(wrong("broker/src/transport/stream.rs", "use crate::batch::X;"), 0);
        assert_eq!(wrong("broker/src/tenancy/pace.rs", "use crate::{batch, rules};"), 1);
        assert_eq!(wrong("broker/src/rules/fair.rs", "use std::time::Instant;"), 0);
        assert_eq!(wrong("broker/src/rules/fair.rs", "let now = Instant::now();"), 1);
        assert_eq!(wrong("broker/src/mystery.rs", ""), 1);
        assert_eq!(wrong("broker/src/broker/dev_ca.rs", "use crate::transport;"), 0);
    }

    #[test]
    fn a_stray_library_is_found() {
        let strays = |path, text| strayed_libraries(&source(path, text)).len();
        assert_eq!(strays("broker/src/batch/run.rs", "use quinn::VarInt;"), 1);
        assert_eq!(strays("broker/src/batch/run.rs", "use my_quinn::VarInt; // quinn::x"), 0);
        assert_eq!(strays("broker/src/transport/stream.rs", "use quinn::VarInt;"), 0);
        assert_eq!(strays("client/src/link.rs", "use quinn::VarInt;"), 0);
    }

    #[test]
    fn a_wrong_dependency_is_found() {
        let wrong = |path, text| wrong_dependencies(&source(path, text)).len();
        let broker = "[dev-dependencies]\ntollgate-broker = { workspace = true }\n";
        assert_eq!(wrong("client/Cargo.toml", broker), 1);
        assert_eq!(wrong("tests/Cargo.toml", broker), 0);
        assert_eq!(wrong("protocol/Cargo.toml", "[dependencies]\ntokio = \"1\"\n"), 1);
        assert_eq!(wrong("new/Cargo.toml", ""), 1);
    }
}
