//! The versions in `Cargo.lock`, against the oldest that are safe to stand on.

/// Below these there are holes that have been published, or faults that we have met.
const AT_LEAST: &[(&str, [u64; 3])] = &[
    ("bytes", [1, 11, 1]),
    ("crossbeam-channel", [0, 5, 15]),
    ("h2", [0, 4, 16]),
    ("quinn-proto", [0, 11, 16]),
    ("ring", [0, 17, 12]),
    ("rustls", [0, 23, 43]),
    ("rustls-webpki", [0, 103, 13]),
    ("tokio", [1, 44, 2]),
    ("tokio-postgres", [0, 7, 18]),
    ("tracing-subscriber", [0, 3, 20]),
];

/// Not to be used at all: abandoned, or holed.
const NEVER: &[&str] = &["bincode", "openssl", "rustls-pemfile", "serde_yml", "chrono"];

/// Without these the broker would not be what it is; their absence means that nothing was read.
const ALWAYS: &[&str] = &["bytes", "quinn-proto", "rustls", "rustls-webpki", "tokio"];

/// Every package with its version.
pub fn packages(lock: &str) -> Vec<(String, String)> {
    let lock: toml::Table = lock.parse().expect("Cargo.lock is TOML");
    let text = |p: &toml::Value, key: &str| p[key].as_str().expect("text").to_owned();
    let packages = lock["package"].as_array().expect("packages");
    packages.iter().map(|p| (text(p, "name"), text(p, "version"))).collect()
}

/// What is too old, or should not be there.
pub fn too_old(lock: &str) -> Vec<String> {
    let packages = packages(lock);
    let mut wrong = Vec::new();
    for (name, version) in &packages {
        if NEVER.contains(&name.as_str()) {
            wrong.push(format!("{name} {version} is not to be used"));
        }
        let least = AT_LEAST.iter().find(|(n, _)| n == name);
        if let Some((_, least)) = least.filter(|(_, least)| numbers(version) < *least) {
            wrong.push(format!("{name} {version} is older than {least:?}"));
        }
    }
    for name in ALWAYS.iter().filter(|name| !packages.iter().any(|(n, _)| n == *name)) {
        wrong.push(format!("{name} is missing"));
    }
    wrong
}

fn numbers(version: &str) -> [u64; 3] {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = plain.split('.').map(|n| n.parse().expect("a number"));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[test]
fn an_old_version_is_found() {
    let package =
        |name: &str, v: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{v}\"\n");
    let mut lock: String = ALWAYS.iter().map(|name| package(name, "99.0.0")).collect();
    assert!(too_old(&lock).is_empty(), "{:?}", too_old(&lock));
    lock += &package("h2", "0.4.9");
    lock += &package("bincode", "2.0.0");
    lock += &package("ring", "0.17.12");
    assert_eq!(
        too_old(&lock),
        ["h2 0.4.9 is older than [0, 4, 16]", "bincode 2.0.0 is not to be used"]
    );
    assert_eq!(too_old("package = []").len(), ALWAYS.len());
}
