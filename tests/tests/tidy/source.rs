//! The tree as it lies on the disk: sources, manifests, and what can be seen in a text alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of ours.
pub struct Source {
    /// From the root of the project, with `/`.
    pub path: String,
    pub text: String,
}

/// Everything that the rules are about.
pub struct Tree {
    /// Every `.rs` of the members of the workspace.
    pub sources: Vec<Source>,
    /// Their `Cargo.toml`s.
    pub manifests: Vec<Source>,
}

/// The root of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the project")
}

impl Tree {
    /// Reads the members that the workspace lists.
    pub fn read() -> Tree {
        let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
        let workspace: toml::Table = workspace.parse().expect("the workspace's manifest is TOML");
        let members = workspace["workspace"]["members"].as_array().expect("members");
        let mut tree = Tree { sources: Vec::new(), manifests: Vec::new() };
        for member in members.iter().filter_map(toml::Value::as_str) {
            tree.manifests.push(source(&root().join(member).join("Cargo.toml")));
            tree.walk(&root().join(member));
        }
        assert!(tree.sources.len() > 100, "the sources were found");
        tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    /// The sources below a folder.
    pub fn sources_in<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a Source> {
        self.sources.iter().filter(move |s| s.path.starts_with(&format!("{folder}/")))
    }

    fn walk(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()) {
            let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if entry.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    self.walk(&entry);
                }
            } else if name.ends_with(".rs") {
                self.sources.push(source(&entry));
            }
        }
    }
}

fn source(path: &PathBuf) -> Source {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let path = path.strip_prefix(root()).expect("below the root").display().to_string();
    Source { path, text }
}

/// What its author meant to come back to.
pub fn leftovers(source: &Source) -> Vec<String> {
    // Put together here, so that this file does not fail its own rule.
    let markers = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("HA", "CK"),
        concat!("<<", "<<<<<"),
    ];
    let lines = source.text.lines().enumerate();
    lines
        .flat_map(|(n, line)| {
            let found = markers.iter().filter(move |m| line.contains(**m));
            found.map(move |m| format!("{}:{}: `{m}` was left behind", source.path, n + 1))
        })
        .collect()
}

/// The length of a file without the tests at its end.
pub fn lines_before_tests(text: &str) -> usize {
    let tests = |line: &&str| line.starts_with("#[cfg(test)]");
    text.lines().take_while(|line| !tests(line)).count()
}

/// The text with comments, strings and characters blanked, so that what is left is code. Newlines
/// stay.
pub fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = skip(rest);
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skip].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    out
}

/// How many bytes of what begins here are no code.
fn skip(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |n| n + 2);
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            return rest[body..].find(&end).map_or(rest.len(), |n| body + n + end.len());
        }
        return 0;
    }
    if rest.starts_with('"') {
        return quoted(rest, b'"');
    }
    // A character, and not a lifetime: it closes within its next few bytes.
    if rest.starts_with("'\\") || rest.as_bytes().get(2) == Some(&b'\'') && rest.starts_with('\'') {
        return quoted(rest, b'\'');
    }
    0
}

fn quoted(rest: &str, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

#[test]
fn code_is_what_is_left_of_a_text() {
    let text = "let a = \"crate::http\"; // crate::cli\nlet b = '\"'; r#\"crate::x\"#; crate::y";
    let code = code(text);
    assert!(!code.contains("http") && !code.contains("cli") && !code.contains("crate::x"));
    assert!(code.contains("let b =") && code.ends_with("crate::y"));
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn a_marker_is_found() {
    let text = format!("fn f() {{\n    {}()\n}}\n", concat!("todo", "!"));
    let found = leftovers(&Source { path: "a.rs".into(), text });
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("a.rs:2:"), "{found:?}");
}
