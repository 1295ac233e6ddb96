//! The file of tenants: what it says, and what it says when it is wrong.

use tollgate_protocol::id::TenantId;

use super::*;

const EXAMPLE: &str = r#"
[profiles.default]
requests_per_second = 7

[profiles.small]
connections = 2

[profiles.free]
topics = 11

[tenants.acme]
name = "Acme, Inc."
profile = "small"
policy = "reject"
concurrency = 16
weight = 4
workers = 5
state = "suspended"
gateways = ["edge"]
metadata = { tier = "gold" }

[tenants.acme.quotas]
bytes_per_second = 1048576
batch_items = -1

[tenants.zed]
profile = "free"

[tenants.plain]
"#;

fn parse(text: &str) -> TenantsFile {
    TenantsFile::parse(text).expect("a file without mistakes")
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let e = TenantsFile::parse(text).expect_err("a mistake").to_string();
    for part in parts {
        assert!(e.contains(part), "{e:?} does not say {part:?}");
    }
}

#[test]
fn a_file_says_what_tenants_are_to_be() {
    let file = parse(EXAMPLE);
    let of = |id: &str| &file.tenants[&TenantId::parse(id).expect("valid")];
    let acme = of("acme");
    assert_eq!(
        (acme.name.as_str(), acme.policy, acme.state),
        ("Acme, Inc.", Policy::Reject, State::Suspended)
    );
    assert_eq!((acme.concurrency, acme.weight, acme.workers), (16, 4, 5));
    assert_eq!(
        (acme.gateways.as_slice(), acme.metadata["tier"].as_str()),
        (&["edge".to_owned()][..], "gold")
    );
    let quotas = &acme.quotas;
    assert_eq!(quotas.bytes_per_second.bound(), Some(1 << 20), "its own");
    assert_eq!(quotas.batch_items, Limit::UNLIMITED);
    assert_eq!(quotas.connections.bound(), Some(2), "its profile's");
    assert_eq!(quotas.requests_per_second.bound(), Some(7), "the file's default's");
    assert_eq!(quotas.producers, Quotas::DEFAULT.producers, "the built-in default's");
    let zed = &of("zed").quotas;
    assert_eq!((zed.topics.bound(), zed.partitions.bound()), (Some(11), Some(50)));
    assert_eq!(*of("plain"), Settings { quotas: file.profiles["default"], ..Settings::default() });
}

#[test]
fn profiles_are_built_in() {
    let of = |name| Quotas::profile(name).expect("built in");
    assert_eq!(of("default"), Quotas::DEFAULT);
    assert_eq!(of("enterprise"), Quotas::UNLIMITED);
    assert_eq!(of("free").storage_bytes.bound(), Some(10 << 30));
    assert_eq!(of("free").consumer_groups, Quotas::DEFAULT.consumer_groups);
    assert_eq!(of("starter").bytes_per_second.bound(), Some(5 << 20));
    assert_eq!(of("starter").producers, Quotas::DEFAULT.producers);
    assert_eq!(of("pro").consumers.bound(), Some(500));
    assert_eq!(Quotas::profile("gold"), None);
    assert_eq!(parse("").profiles["pro"], of("pro"));
}

#[test]
fn names_of_quotas_are_their_keys() {
    assert_eq!(Quota::ALL.len(), 15);
    for &quota in Quota::ALL {
        assert_eq!(Quota::from_name(quota.name()), Some(quota));
        let text = format!("[tenants.a.quotas]\n{quota} = 12345\n");
        let file = parse(&text);
        let settings = file.tenants.values().next().expect("one tenant");
        assert_eq!(settings.quotas.get(quota).bound(), Some(12_345));
    }
    assert_eq!(Quota::from_name("streams"), None);
}

#[test]
fn mistakes_are_named_with_their_place_and_what_is_allowed() {
    refused("[tenants.acme]\npolcy = \"pace\"", &["[tenants.acme]", "`polcy`", "`policy`"]);
    refused(
        "[tenants.acme]\npolicy = \"fast\"",
        &["[tenants.acme]", "`fast`", "`pace`", "`reject`"],
    );
    refused("[tenants.acme]\nstate = \"deleted\"", &["[tenants.acme]", "`active`", "`suspended`"]);
    refused(
        "[tenants.acme.quotas]\nbytes = 1",
        &["[tenants.acme.quotas]", "`bytes`", "`bytes_per_second`"],
    );
    refused(
        "[tenants.acme.quotas]\ntopics = -2",
        &["[tenants.acme.quotas]", "-1 (unlimited)", "-2"],
    );
    refused("[tenants.acme.quotas]\ntopics = \"x\"", &["[tenants.acme.quotas]", "topics"]);
    refused(
        "[tenants.acme]\nprofile = \"gold\"",
        &["[tenants.acme]", "`gold`", "`default`", "`pro`"],
    );
    refused("[tenants.acme]\nweight = 0", &["[tenants.acme]", "weight is 0", "1 to 1000"]);
    refused("[tenants.acme]\nconcurrency = -1", &["[tenants.acme]", "concurrency"]);
    refused("[tenants.acme]\ngateways = [\"\"]", &["[tenants.acme]", "gateway"]);
    refused("[tenants.Acme]", &["Acme", "'A' at byte 0", "[a-z0-9]"]);
    refused("[tenants.\"a/b\"]", &["a/b", "'/' at byte 1"]);
    refused("[profiles.small]\nsize = 1", &["[profiles.small]", "`size`"]);
    refused("[tenant.acme]", &["`tenant`", "`tenants`"]);
    refused("tenants = 1", &["[tenants]", "table"]);
    refused("tenants.acme = 1", &["[tenants.acme]"]);
    refused("[tenants.acme]\n[tenants.acme]", &["TOML", "line 2"]);
}

#[test]
fn a_file_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tenants.toml");
    let missing = TenantsFile::load(&path).expect_err("there is none").to_string();
    assert!(missing.contains("tenants.toml"), "{missing}");
    std::fs::write(&path, "[tenants.acme]\nnam = 1").expect("writable");
    let wrong = TenantsFile::load(&path).expect_err("a mistake").to_string();
    assert!(wrong.contains("tenants.toml") && wrong.contains("`nam`"), "{wrong}");
    std::fs::write(&path, EXAMPLE).expect("writable");
    let config = Config { tenants_file: Some(path), ..Config::default() };
    assert_eq!(Registry::open(&config).expect("no mistakes").all().len(), 3);
}

#[test]
fn the_configuration_has_defaults_and_bounds() {
    let config: Config = toml::from_str("").expect("all defaults");
    assert_eq!(config, Config::default());
    let config: Config = toml::from_str(
        "window.buckets = 5\ntenant_in_flight_bytes = 1\n[gateways.edge]\nstreams = 3\n",
    )
    .expect("valid");
    assert_eq!(config.window, Window::new(5, 100).expect("valid"));
    assert_eq!((config.gateways["edge"].streams, config.gateways["edge"].connections), (3, 16));
    let text = toml::to_string(&config).expect("it can be written");
    assert_eq!(toml::from_str::<Config>(&text).expect("and read"), config);
    let e = toml::from_str::<Config>("window.buckets = 17").expect_err("too many").to_string();
    assert!(e.contains("1 to 16 buckets"), "{e}");
    assert!(toml::from_str::<Config>("windows = 1").is_err());
}
