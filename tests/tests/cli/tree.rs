//! Every command that there is: each teaches, and each that prints data prints JSON when asked.

use std::path::Path;

use tollgate_tests::process::{Served, run};

use super::{directory, exit};

/// Commands that print no data, or that never end, and so are shown elsewhere.
const NO_DATA: &[&str] = &["demo", "serve", "completions"];

/// Every other one, with arguments with which it works beside a broker that has the tenant acme,
/// and a certificate of it in certs/acme.
const DATA: &[(&str, &str)] = &[
    ("batch run", "--recipe echo --payload x --durable"),
    ("job list", "--tenant acme"),
    ("job show", "{job} --tenant acme"),
    ("job watch", "{job} --tenant acme"),
    ("job cancel", "--all --yes --tenant acme"),
    ("job replay", "--state dead,failed --yes --tenant acme"),
    ("job purge", "{job} --tenant acme"),
    ("topic create", "t --tenant acme"),
    ("topic list", "--tenant acme"),
    ("topic show", "t --tenant acme"),
    ("topic update", "t --retain-for 1h --tenant acme"),
    ("produce", "t --message x"),
    ("consume", "t --group g --from earliest --until-end"),
    ("group list", "--tenant acme"),
    ("group show", "t g --tenant acme"),
    ("group reset", "t g --to earliest --tenant acme"),
    ("group delete", "t g --yes --tenant acme"),
    ("binding create", "t b --recipe echo --tenant acme"),
    ("binding list", "--tenant acme"),
    ("binding show", "t b --tenant acme"),
    ("binding delete", "t b --yes --tenant acme"),
    ("topic delete", "t --yes --tenant acme"),
    ("recipe list", ""),
    ("recipe show", "echo"),
    ("recipe forget", "left"),
    ("tenant create", "globex"),
    ("tenant list", ""),
    ("tenant show", "globex"),
    ("tenant update", "globex --weight 2"),
    ("tenant suspend", "globex"),
    ("tenant activate", "globex"),
    ("tenant usage", "globex"),
    ("tenant stats", "globex"),
    ("tenant delete", "globex --force --yes"),
    ("profile list", ""),
    ("connection list", ""),
    ("worker list", ""),
    ("revocation add", "--serial 4f1d0a6b"),
    ("revocation list", ""),
    ("revocation remove", "{revocation}"),
    ("events", "--since 0 --count 1"),
    ("top", "--once --interval 10ms"),
    ("cert init", "--dir ca"),
    ("cert server", "--ca ca --name localhost --out certs/broker"),
    ("cert issue", "--ca ca --tenant other --out certs/other"),
    ("cert inspect", "certs/other/cert.pem"),
    ("cert revoke", "--ca ca --cert certs/other/cert.pem"),
    ("config check", ""),
    ("config print", ""),
    ("doctor", "{addr}"),
];

/// The commands that a help text lists, apart from `help` itself.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    let names = lines.filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Every command that has none below it.
fn leaves(dir: &Path, path: &[String], found: &mut Vec<String>) {
    let help = run(dir, path.iter().map(String::as_str).chain(["--help"]));
    let help = help.ends_with(exit::OK).stdout;
    let below = listed(&help);
    if below.is_empty() {
        assert!(help.contains("Example") || path == ["demo"], "{path:?} has no example: {help}");
        assert!(help.contains("--output"), "{path:?} takes no --output");
        found.push(path.join(" "));
    }
    for name in below {
        leaves(dir, &[path, &[name]].concat(), found);
    }
}

#[test]
fn every_command_teaches_and_is_known_here() {
    let dir = directory();
    let mut found = Vec::new();
    leaves(dir.path(), &[], &mut found);
    let mut known: Vec<&str> =
        DATA.iter().map(|(name, _)| *name).chain(NO_DATA.iter().copied()).collect();
    found.sort_unstable();
    known.sort_unstable();
    assert_eq!(found, known, "every command is shown to print JSON, or said to print no data");
}

#[test]
fn completions_know_every_command() {
    let dir = directory();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(dir.path(), ["completions", shell]).ends_with(exit::OK).stdout;
        for (command, _) in DATA {
            for word in command.split(' ') {
                assert!(script.contains(word), "the script for {shell} has no {word}");
            }
        }
        assert!(script.contains("if-revision"), "flags are completed in {shell}");
    }
}

#[test]
fn every_command_that_prints_data_prints_json() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    super::worker::comes_and_goes(&served, "left");
    let (mut revocation, mut job) = (String::new(), String::new());
    for (command, args) in DATA {
        let args = args.replace("{addr}", &served.addr.to_string());
        let args = args.replace("{revocation}", &revocation).replace("{job}", &job);
        let words = command.split(' ').chain(args.split_whitespace());
        let words: Vec<&str> = words.chain(["--output", "json"]).collect();
        let ran = served.run(&acme, &words).ends_with(exit::OK);
        // One document, or one a line where data streams.
        let documents = serde_json::Deserializer::from_str(&ran.stdout);
        let documents: Result<Vec<serde_json::Value>, _> = documents.into_iter().collect();
        let documents = documents.unwrap_or_else(|e| panic!("{command}: {e}: {}", ran.stdout));
        assert!(!documents.is_empty(), "{command} printed nothing");
        if *command == "job list" {
            job = documents[0]["items"][0]["id"].as_str().expect("a job").to_owned();
        }
        if *command == "revocation add" {
            let id = &documents[0]["id"];
            revocation = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        }
    }
}
