//! Quotas: their names, the profiles they come in, and what the configuration makes of these.

use super::*;

fn profiles(text: &str) -> Profiles {
    let config: Config = toml::from_str(text).expect("a configuration without mistakes");
    Profiles::new(&config.profiles)
}

#[test]
fn profiles_are_built_in() {
    let all = Profiles::default();
    let of = |name| *all.get(name).expect("built in");
    assert_eq!(of("default"), Quotas::DEFAULT);
    assert_eq!(of("enterprise"), Quotas::UNLIMITED);
    assert_eq!(of("free").storage_bytes.bound(), Some(10 << 30));
    assert_eq!(of("free").consumer_groups, Quotas::DEFAULT.consumer_groups);
    assert_eq!(of("starter").bytes_per_second.bound(), Some(5 << 20));
    assert_eq!(of("starter").producers, Quotas::DEFAULT.producers);
    assert_eq!(of("pro").consumers.bound(), Some(500));
    assert_eq!(all.get("gold"), None);
    let names: Vec<_> = all.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["default", "enterprise", "free", "pro", "starter"]);
    assert_eq!(Quotas::profile("pro"), Some(of("pro")));
}

#[test]
fn the_configuration_changes_profiles_and_adds_others() {
    let all = profiles(
        "[profiles.default]\nrequests_per_second = 7\n[profiles.small]\nconnections = 2\n\
         [profiles.free]\ntopics = 11\n",
    );
    let of = |name| *all.get(name).expect("there is one");
    assert_eq!(of("small").connections.bound(), Some(2), "its own");
    assert_eq!(of("small").requests_per_second.bound(), Some(7), "the changed default's");
    assert_eq!(of("small").producers, Quotas::DEFAULT.producers, "the built-in default's");
    assert_eq!((of("free").topics.bound(), of("free").partitions.bound()), (Some(11), Some(50)));
}

#[test]
fn names_of_quotas_are_their_keys() {
    assert_eq!(Quota::ALL.len(), 15);
    for &quota in Quota::ALL {
        assert_eq!(Quota::from_name(quota.name()), Some(quota));
        let all = profiles(&format!("[profiles.a]\n{quota} = 12345\n"));
        assert_eq!(all.get("a").expect("there is one").get(quota).bound(), Some(12_345));
    }
    assert_eq!(Quota::from_name("streams"), None);
}

#[test]
fn mistakes_in_profiles_are_named_with_what_is_allowed() {
    let refused = |text: &str, parts: &[&str]| {
        let e = toml::from_str::<Config>(text).expect_err("a mistake").to_string();
        assert!(parts.iter().all(|part| e.contains(part)), "{e:?} does not say {parts:?}");
    };
    refused("[profiles.a]\nbytes = 1", &["`bytes`", "`bytes_per_second`"]);
    refused("[profiles.a]\ntopics = -2", &["-1 (unlimited)", "-2"]);
    refused("[profiles.a]\ntopics = \"x\"", &["topics"]);
}

#[test]
fn the_configuration_has_defaults_and_bounds() {
    let config: Config = toml::from_str("").expect("all defaults");
    assert_eq!(config, Config::default());
    let config: Config = toml::from_str(
        "window.buckets = 5\ntenant_in_flight_bytes = 1\n[gateways.edge]\nstreams = 3\n\
         [profiles.small]\ntopics = -1\n",
    )
    .expect("valid");
    assert_eq!(config.window, Window::new(5, 100).expect("valid"));
    assert_eq!((config.gateways["edge"].streams, config.gateways["edge"].connections), (3, 16));
    let text = toml::to_string(&config).expect("it can be written");
    assert_eq!(toml::from_str::<Config>(&text).expect("and read"), config);
    let e = toml::from_str::<Config>("window.buckets = 13").expect_err("too many").to_string();
    assert!(e.contains("1 to 12 buckets"), "{e}");
    assert!(toml::from_str::<Config>("windows = 1").is_err());
}
