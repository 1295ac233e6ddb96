use super::*;

fn parse(text: &str) -> Result<Scenario, BadScenario> {
    toml::from_str::<ScenarioFile>(text).expect("TOML").parse(Overrides::default())
}

#[track_caller]
fn refused(tenant: &str, part: &str) {
    let text = format!("[[tenants]]\ncerts = \"c/acme\"\n{tenant}");
    let e = parse(&text).expect_err("must be refused").to_string();
    assert!(e.contains(part) && e.contains("acme"), "{e:?} does not say {part:?}");
}

#[test]
fn what_is_left_out_is_the_first_workload() {
    let s = parse("[[tenants]]\ncerts = \"c/acme\"").expect("fine");
    let t = &s.tenants[0];
    assert_eq!((s.addr.as_str(), s.server_name.as_str()), ("127.0.0.1:4433", "127.0.0.1"));
    assert_eq!((t.name.as_str(), t.batch_items, t.pace), ("acme", 100, Pace::InFlight(64)));
    assert_eq!((t.recipe_of(7).1.check, t.payload_max()), (Check::Echo, 64));
}

#[test]
fn flags_go_before_the_file() {
    let file: ScenarioFile =
        toml::from_str("addr = \"[::1]:1\"\nduration = \"2m\"\n[[tenants]]\ncerts = \"x\"")
            .expect("TOML");
    let flags =
        Overrides { duration: Some(SignedDuration::from_millis(1_500)), ..Overrides::default() };
    let s = file.parse(flags).expect("fine");
    assert_eq!((s.server_name.as_str(), s.duration), ("::1", Duration::from_millis(1_500)));
}

#[test]
fn a_rate_of_items_is_a_rate_of_batches() {
    let s = parse("[[tenants]]\ncerts = \"c\"\nbatch_items = 50\nitems_per_second = 1000")
        .expect("fine");
    assert_eq!(s.tenants[0].pace, Pace::BatchesPerSecond { rate: 20.0, in_flight_max: 256 });
}

#[test]
fn recipes_are_spread_by_their_weights() {
    let s = parse(
        "[[tenants]]\ncerts = \"c\"\n\
         recipes = [{ name = \"echo\", weight = 3 }, { name = \"sha256\", payload = \"x\" }]",
    )
    .expect("fine");
    let t = &s.tenants[0];
    assert_eq!(t.cycle.iter().filter(|r| **r == 0).count(), 3);
    assert_eq!(t.cycle.len(), 4);
    assert_eq!(t.recipes[1].check, Check::Any);
}

#[test]
fn mistakes_name_the_tenant_and_the_key() {
    refused("in_flight = 0", "in_flight");
    refused("batch_items = 2000000", "batch_items");
    refused("items_per_second = 1\nbatches_per_second = 1", "items_per_second");
    refused("batches_per_second = -1", "rate");
    refused("recipe = \"a\"\nrecipes = []", "recipe");
    refused("recipes = []", "weight");
    refused("check = \"same\"", "check");
    refused("allow_errors = [\"OOPS\"]", "OOPS");
    refused("payload = \"x\"\npayload_bytes = 1", "payload");
}

#[test]
fn unknown_keys_and_namesakes_are_errors() {
    let twice = "[[tenants]]\ncerts = \"a/x\"\n[[tenants]]\ncerts = \"b/x\"";
    assert!(parse(twice).expect_err("twice").to_string().contains("\"x\""));
    assert!(toml::from_str::<ScenarioFile>("adr = \"x\"").is_err());
    let in_tenant = "[[tenants]]\ncerts = \"x\"\nbatch_item = 1";
    let e = toml::from_str::<ScenarioFile>(in_tenant).expect_err("unknown").to_string();
    assert!(e.contains("batch_item"), "{e}");
    assert!(parse("").expect_err("nobody").to_string().contains("--certs"));
}
