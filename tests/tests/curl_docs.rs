//! The examples of docs/http-api.md, run as they stand: each answers with the status beside it, and
//! no route is without one.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use tollgate_tests::process::{Served, run_with};

/// The address that the page has.
const WRITTEN: &str = "http://127.0.0.1:8080";

/// Makes curl say its status where the test sees it, whatever becomes of the answer.
const PRELUDE: &str = "set -u; curl() { command curl -sS --noproxy '*' -w '%{stderr}status %{http_code}\\n' \"$@\"; }\n";

/// A block of shell: what is run, and the statuses that it is said to answer with.
struct Block {
    line: usize,
    script: String,
    statuses: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (n, line) in page.lines().enumerate() {
        match (&mut open, line) {
            (None, "```sh") => {
                open = Some(Block { line: n + 1, script: String::new(), statuses: Vec::new() });
            }
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => match line.strip_prefix("# ") {
                Some(status) => {
                    block.statuses.push(status.split(' ').next().unwrap_or_default().to_owned());
                }
                None => {
                    block.script.push_str(line);
                    block.script.push('\n');
                }
            },
            (None, _) => {}
        }
    }
    blocks
}

/// The method and the path of every curl in a script.
fn requests(script: &str) -> Vec<(String, String)> {
    let script = script.replace("\\\n", " ");
    let one = |text: &str| {
        let path = text.split(WRITTEN).nth(1)?;
        let path = path.split(|c: char| c.is_whitespace() || "'\"?".contains(c)).next()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let named = words.iter().position(|w| *w == "-X").and_then(|at| words.get(at + 1));
        let sends = words.iter().any(|w| *w == "-d" || w.starts_with("--data"));
        let method = named.copied().unwrap_or(if sends { "POST" } else { "GET" });
        Some((method.to_owned(), path.to_owned()))
    };
    script.split("curl ").skip(1).filter_map(one).collect()
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http-api.md");
    fs::read_to_string(path).expect("docs/http-api.md")
}

#[test]
fn every_example_answers_with_the_status_beside_it() {
    let served = Served::start(&[]);
    let blocks = blocks(&page());
    assert!(blocks.len() > 15, "the examples were found");
    for block in blocks {
        let script = block.script.replace(WRITTEN, &format!("http://{}", served.http()));
        let mut bash = Command::new("bash");
        bash.current_dir(served.dir.path()).args(["-c", &format!("{PRELUDE}{script}")]);
        let ran = run_with(&mut bash, "");
        let got: Vec<&str> =
            ran.stderr.lines().filter_map(|line| line.strip_prefix("status ")).collect();
        let at = format!("docs/http-api.md:{}\n{script}\n{}{}", block.line, ran.stdout, ran.stderr);
        assert_eq!(got, block.statuses, "{at}");
    }
}

#[test]
fn every_route_has_an_example_that_works() {
    let served = Served::start(&[]);
    let url = format!("http://{}/openapi.json", served.http());
    let document = run_with(Command::new("curl").args(["-sS", "--noproxy", "*", &url]), "")
        .ends_with(0)
        .json();
    let page = page();
    let examples: BTreeSet<(String, String)> =
        blocks(&page).iter().flat_map(|block| requests(&block.script)).collect();
    let fits = |template: &str, path: &str| {
        let (mut a, mut b) = (template.split('/'), path.split('/'));
        loop {
            match (a.next(), b.next()) {
                (None, None) => return true,
                (Some(t), Some(p)) if t == p || t.starts_with('{') && !p.is_empty() => {}
                _ => return false,
            }
        }
    };
    let mut without = Vec::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            let method = method.to_uppercase();
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
                continue;
            }
            let shown = examples.iter().any(|(m, path)| *m == method && fits(template, path));
            if !shown {
                without.push(format!("{method} {template}"));
            }
        }
    }
    assert!(without.is_empty(), "routes without an example: {without:?}");
}

#[test]
fn requests_are_read_from_a_script() {
    let script = "id=$(curl -X POST http://127.0.0.1:8080/a/b \\\n  -d '{}' | sed x)\n\
                  curl 'http://127.0.0.1:8080/c?d=1'\ncurl --data-binary @x http://127.0.0.1:8080/e\n";
    let expected = [("POST", "/a/b"), ("GET", "/c"), ("POST", "/e")];
    let expected = expected.map(|(m, p)| (m.to_owned(), p.to_owned()));
    assert_eq!(requests(script), expected);
}
