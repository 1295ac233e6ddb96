//! The rules of the house, as tests: who may import whom, how a module opens, what may not be left
//! behind, and the versions that we stand on.
//!
//! Reads the tree as text and runs nothing of it. Each rule shows that it can fail: it is given a
//! text that breaks it.

#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/lock.rs"]
mod lock;
#[path = "tidy/source.rs"]
mod source;

use source::Tree;

/// From this length on a file is noted; it may be two chapters.
const NOTED_LINES: usize = 450;
/// At this length the tests fail: a file that grew here holds a second noun.
const FORBIDDEN_LINES: usize = 600;

#[test]
fn crates_depend_only_on_those_below_them() {
    let tree = Tree::read();
    let wrong: Vec<String> = tree.manifests.iter().flat_map(edges::wrong_dependencies).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_of_the_broker_import_only_what_the_plan_allows() {
    let tree = Tree::read();
    let wrong: Vec<String> =
        tree.sources_in("broker/src").flat_map(edges::wrong_imports_of_the_broker).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_where_they_are_wrapped() {
    let tree = Tree::read();
    let wrong: Vec<String> = tree.sources.iter().flat_map(edges::strayed_libraries).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_opens_with_what_it_does() {
    // `foo/tests.rs` is introduced by `foo.rs`, whose tests they are.
    let wants = |path: &str| !path.ends_with("/tests.rs");
    let wrong: Vec<_> = Tree::read()
        .sources
        .into_iter()
        .filter(|s| wants(&s.path) && !s.text.starts_with("//!"))
        .map(|s| format!("{} does not open with `//!`: what it does, what it never does", s.path))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_behind() {
    let wrong: Vec<String> = Tree::read().sources.iter().flat_map(source::leftovers).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_chapters() {
    let mut wrong = Vec::new();
    for source in Tree::read().sources {
        // What is not compiled into anything that ships may list its cases at length.
        let ships = !source.path.contains("/tests/") && !source.path.ends_with("tests.rs");
        let lines = source::lines_before_tests(&source.text);
        if ships && lines > FORBIDDEN_LINES {
            wrong.push(format!("{} has {lines} lines, allowed are {FORBIDDEN_LINES}", source.path));
        } else if lines > NOTED_LINES {
            println!("note: {} has {lines} lines", source.path);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_dependency_is_older_than_what_we_stand_on() {
    let lock = std::fs::read_to_string(source::root().join("Cargo.lock")).expect("Cargo.lock");
    let wrong = lock::too_old(&lock);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_is_one_tls_provider_and_one_tls() {
    let lock = std::fs::read_to_string(source::root().join("Cargo.lock")).expect("Cargo.lock");
    let packages = lock::packages(&lock);
    let versions = |name: &str| packages.iter().filter(|(n, _)| n == name).count();
    assert_eq!(versions("rustls"), 1, "one rustls");
    assert_eq!(versions("openssl"), 0, "no OpenSSL");
    assert_eq!(versions("quinn-proto"), 1, "one QUIC");
}
