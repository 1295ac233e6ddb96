//! `docs/load-testing.md`: its commands and keys exist, its scenarios are understood, and it leaves
//! nothing out.

use super::*;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/load-testing.md");
    fs::read_to_string(path).expect("the page")
}

/// The blocks of a kind.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let open = format!("```{kind}\n");
    let block = |rest: &str| rest.split("```").next().unwrap_or_default().to_owned();
    page.split(&open).skip(1).map(block).collect()
}

fn help(command: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    run_with(loadgen(dir.path()).args([command, "--help"]), "").ends_with(exit::OK).stdout
}

#[test]
fn every_command_exists_with_its_flags() {
    let page = page();
    let mut checked = 0;
    for line in blocks(&page, "text").iter().flat_map(|b| b.lines()) {
        let Some(rest) = line.strip_prefix("tollgate-loadgen ") else { continue };
        let command = rest.split(' ').next().unwrap_or_default();
        let help = help(command);
        for flag in rest.split_whitespace().filter(|w| w.starts_with("--")) {
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{line}"
            );
        }
        checked += 1;
    }
    assert!(checked > 10, "{checked} commands");
}

#[test]
fn every_flag_of_a_tenant_is_a_key_that_is_told() {
    let page = page();
    let help = help("run");
    let (_, load) = help.split_once("What each tenant does:").expect("a heading");
    let flags: Vec<_> = load
        .split_whitespace()
        .filter_map(|w| w.strip_prefix("--"))
        .filter(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        .collect();
    assert!(flags.len() > 15, "{flags:?}");
    for flag in flags {
        let key = flag.replace('-', "_").replace("allow_error", "allow_errors");
        assert!(page.contains(&format!("`{key}`")), "`{key}` is not told");
    }
}

#[test]
fn the_scenarios_of_the_page_are_understood() {
    let dir = tempfile::tempdir().expect("a directory");
    let blocks = blocks(&page(), "toml");
    assert_eq!(blocks.len(), 2);
    for mut text in blocks {
        if !text.contains("[[tenants]]") {
            text += "[[tenants]]\nname = \"a\"\ncerts = \"a\"\n[[tenants]]\nname = \"b\"\ncerts = \"b\"\n";
        }
        fs::write(dir.path().join("s.toml"), &text).expect("written");
        let mut c = loadgen(dir.path());
        run_with(c.args(["run", "s.toml", "--dry-run"]), "").ends_with(exit::OK);
    }
}

#[test]
fn every_shipped_scenario_is_told() {
    let page = page();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadgen/scenarios");
    for entry in fs::read_dir(shipped).expect("scenarios") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        if let Some(name) = name.strip_suffix(".toml") {
            assert!(page.contains(&format!("| `{name}` |")), "{name} is not told");
        }
    }
}
