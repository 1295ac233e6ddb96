//! The pages under docs/: their commands exist, their keys exist, and they leave nothing out. And the
//! examples of jobs and of topics in the README.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use tollgate_protocol::close::CloseCode;
use tollgate_tests::process::{Ran, Served, binary, run, run_with};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

const PAGES: [&str; 8] = [
    "best-practices.md",
    "troubleshooting.md",
    "http-api.md",
    "jobs.md",
    "load-testing.md",
    "topics.md",
    "upstreams.md",
    "workers.md",
];

/// What stands in backquotes, and the lines of blocks of text.
fn quoted(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(kind), None) => block = Some(kind == "text"),
            (Some(_), Some(_)) => block = None,
            (None, Some(true)) => found.push(line.to_owned()),
            (None, Some(false)) => {}
            (None, None) => found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned)),
        }
    }
    found
}

/// The words of a command line up to its first argument: the command.
fn command(line: &str) -> Option<Vec<&str>> {
    let words = line.strip_prefix("tollgate ")?.split_whitespace();
    let is_name =
        |w: &&str| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !w.starts_with('-');
    Some(words.take_while(is_name).collect())
}

#[test]
fn every_command_that_a_page_names_exists_with_its_flags() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut checked = BTreeSet::new();
    for line in PAGES.iter().flat_map(|name| quoted(&page(name))) {
        let Some(words) = command(&line) else { continue };
        // The first words that are a command; what follows them are values, such as an id.
        let help = (1..=words.len()).rev().map(|n| &words[..n]).find_map(|words| {
            let ran = run(dir.path(), words.iter().copied().chain(["--help"]));
            (ran.code == 0).then_some(ran.stdout)
        });
        let help = help.unwrap_or_else(|| panic!("`{line}` names no command"));
        let two_word = help.contains("<COMMAND>");
        assert!(!two_word || words.len() == 1, "`{line}`: there is no `{words:?}`");
        for flag in line.split_whitespace().filter(|w| w.starts_with("--")) {
            let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(help.contains(flag), "`{line}`: {words:?} takes no {flag}");
        }
        checked.insert(words.join(" "));
    }
    assert!(checked.len() > 15, "{checked:?}");
}

#[test]
fn every_key_that_a_page_names_exists() {
    let dir = tempfile::tempdir().expect("a directory");
    let print = run(dir.path(), ["config", "print", "--output", "json"]).ends_with(0).json();
    let sections: Vec<&String> = print.as_object().expect("sections").keys().collect();
    let mut checked = 0;
    for text in PAGES.iter().flat_map(|name| quoted(&page(name))) {
        let parts: Vec<&str> = text.split('.').collect();
        let is_key =
            |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let [section, rest @ ..] = &parts[..] else { continue };
        if rest.is_empty() || !parts.iter().all(is_key) || !sections.iter().any(|s| s == section) {
            continue;
        }
        let found = parts.iter().try_fold(&print, |at, part| at.get(part));
        assert!(found.is_some(), "there is no key `{text}`");
        checked += 1;
    }
    assert!(checked > 15, "keys were found: {checked}");
}

/// The first block of shell of a section of the README.
fn readme(section: &str) -> String {
    let readme = page("../README.md");
    let section = readme.split(&format!("## {section}\n")).nth(1).expect("the section");
    let block = section.split("```").nth(1).and_then(|b| b.strip_prefix("sh\n"));
    block.expect("a block").to_owned()
}

/// Runs a script as the README has it, beside a broker with the certificate of `acme`.
fn example(served: &Served, script: &str) -> Ran {
    let certs = served.issue(&["--tenant", "acme"]);
    fs::rename(served.dir.path().join(certs), served.dir.path().join("certs/acme")).expect("moved");
    let path = binary().parent().expect("a folder").display().to_string();
    let script = format!("set -eu; PATH=\"{path}:$PATH\"\n{script}");
    let mut bash = Command::new("bash");
    bash.current_dir(served.dir.path()).args(["-o", "pipefail", "-c", &script]);
    bash.env("TOLLGATE_ADDR", served.addr.to_string());
    bash.env("TOLLGATE_API", format!("http://{}", served.http()));
    run_with(&mut bash, "").ends_with(0)
}

#[test]
fn the_example_of_jobs_in_the_readme_runs() {
    if Command::new("jq").arg("--version").output().is_err() {
        println!("not tried: there is no jq here");
        return;
    }
    let block = readme("Hand over work that takes hours");
    assert!(block.contains("20000"), "it takes long: {block}");
    let served = Served::start(&[]);
    let ran = example(&served, &block.replace("20000", "200"));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.iter().any(|l| l.contains("\"ms\":200")), "the result: {lines:?}");
    assert!(lines.iter().any(|l| l.starts_with("1 job: 1 ")), "the list: {lines:?}");
}

#[test]
fn the_example_of_topics_in_the_readme_runs() {
    let block = readme("Keep events");
    let served = Served::start(&[]);
    let ran = example(&served, &block);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let shown = |text: &str| lines.iter().filter(|l| l.contains(text)).count();
    assert_eq!(shown("appended 2 messages"), 1, "{lines:?}");
    // Once without a group, once as its member.
    assert_eq!(shown("customer-7  {\"total\": 12}"), 2, "{lines:?}");
    assert_eq!(shown("customer-7  {\"total\": 30}"), 2, "{lines:?}");
    let lag: Vec<&str> =
        lines.iter().filter_map(|l| l.strip_prefix("lag")).map(str::trim).collect();
    assert_eq!(lag, ["0"], "{lines:?}");
    assert_eq!(shown("bound orders to sha256"), 1, "the binding: {lines:?}");
}

#[test]
fn every_close_code_is_explained() {
    let page = page("troubleshooting.md");
    for code in CloseCode::ALL {
        assert!(page.contains(&format!("| `{code}` |")), "{code} has no row");
    }
}

#[test]
fn links_lead_somewhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for name in PAGES {
        let page = page(name);
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.starts_with("https://") {
                continue;
            }
            let text = if file.is_empty() {
                page.clone()
            } else {
                assert!(docs.join(file).exists(), "{name}: {link}");
                fs::read_to_string(docs.join(file)).unwrap_or_default()
            };
            let heading = |l: &str| {
                let title = l.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                title.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>()
            };
            let mut headings = text.lines().filter(|l| l.starts_with('#'));
            assert!(anchor.is_empty() || headings.any(|l| heading(l) == anchor), "{name}: {link}");
        }
    }
}
