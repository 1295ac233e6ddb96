use super::*;
use crate::scenario::{Against, Check, Figure, Operation, Pace, Sizes};

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
    assert_eq!((t.name.as_str(), t.batch_items.max(), t.pace), ("acme", 100, Pace::InFlight(64)));
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
    assert_eq!((s.server_name.as_str(), s.measured()), ("::1", Duration::from_millis(1_500)));
}

#[test]
fn a_rate_of_items_is_a_rate_of_batches() {
    let s = parse("[[tenants]]\ncerts = \"c\"\nbatch_items = 50\nitems_per_second = 1000")
        .expect("fine");
    assert_eq!(s.tenants[0].pace, Pace::PerSecond { rate: 20.0, in_flight_max: 256 });
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
    refused("batches_per_second = -1", "batches_per_second");
    refused("recipe = \"a\"\nrecipes = []", "recipe");
    refused("recipes = []", "weight");
    refused("check = \"same\"", "check");
    refused("allow_errors = [\"OOPS\"]", "OOPS");
    refused("payload = \"x\"\npayload_bytes = 1", "payload");
    refused("batch_items = \"0..5\"", "batch_items");
    refused("hold = \"1s\"", "hold");
    refused("connections_per_second = 5", "connections_per_second");
    refused("operation = \"connect\"\nitems_per_second = 5", "items_per_second");
    refused("operation = \"job\"\naudit_batches = 1000000", "audit_batches");
    refused("in_flight = 4\nramp_from = 5\nramp_over = \"1s\"", "ramp_from");
    refused("ramp_steps = 5", "ramp_over");
    refused("ramp_over = \"1m\"", "longer than the phase");
    refused("topic = \"t\"", "`topic`: only for operation = \"produce\"");
    refused("consumers = 1", "`consumers`");
    refused("operation = \"job\"\nkeep_topic = true", "`keep_topic`");
    refused("operation = \"connect\"\npartitions = 1", "`partitions`");
    refused("operation = \"produce\"\nkeep_jobs = true", "`keep_jobs`");
    refused("operation = \"produce\"\nhold = \"1s\"", "`hold`");
    refused("operation = \"produce\"\nconnections_per_second = 1", "`connections_per_second`");
    refused("operation = \"produce\"\nrecipe = \"echo\"", "`recipe`");
    refused("operation = \"produce\"\nrecipes = []", "`recipes`");
    refused("operation = \"produce\"\npayload = \"x\"", "`payload`");
    refused("operation = \"produce\"\ncheck = \"any\"", "`check`");
    refused("operation = \"produce\"\npriority = 3", "`priority`");
    refused("operation = \"produce\"\npayload_bytes = 7", "`payload_bytes`: at least 8");
    refused("operation = \"produce\"\npayload_bytes = \"8..99999999\"", "`payload_bytes`");
    refused("operation = \"produce\"\ntopic = \"No\"", "`topic`");
    refused("operation = \"produce\"\ntopic = \"a.dead\"", "dead letters");
    refused("operation = \"produce\"\npartitions = 0", "`partitions`: 0 is not 1 to 1024");
    refused("operation = \"produce\"\nconsumers = 2000", "`consumers`: 2000 is not 0 to 1000");
    refused("operation = \"produce\"\naudit_batches = 1", "`audit_batches`: only with consumers");
    refused("share = 0", "share");
    refused("priority = 8", "priority");
    refused("count = 2", "{n}");
}

#[test]
fn wrong_values_of_the_file_itself_name_their_key() {
    let tenants = "[[tenants]]\ncerts = \"a\"\n";
    let refused = |text: &str, part: &str| {
        let e = parse(&format!("{text}\n{tenants}")).expect_err("must be refused").to_string();
        assert!(e.contains(part), "{e:?} does not say {part:?}");
    };
    refused("rounds = 0", "`rounds`");
    refused("duration = \"0s\"", "`duration`");
    refused("drain = \"-1s\"", "`drain`");
    refused("p99_max_ms = 0.0", "`p99_max_ms`");
    refused("[[phases]]\nname = \"x\"\n[[phases]]\nname = \"x\"", "twice");
    refused("[[phases]]\nname = \"x\"\ntenants = [\"b\"]", "no tenant \"b\"");
    refused("[[phases]]\nname = \"x\"\nload = 0", "`load`");
    refused("[[goals]]\nfigure = \"p99\"\ntenant = \"b\"", "`goals.tenant`");
    refused("[[goals]]\nfigure = \"p99\"\nto_phase = \"b\"", "`goals.to_phase`");
    refused("[[goals]]\nfigure = \"jain\"\ntenant = \"a\"", "of all");
    refused("[[goals]]\nfigure = \"p99\"\nmax = nan", "`goals.max`");
    refused("[[goals]]\nfigure = \"p99\"\nmin = 2\nmax = 1", "`goals.min`");
    refused("[[goals]]\nfigure = \"accepted_p99\"", "told of tenants whose operation is");
    let goal = "[[goals]]\nfigure = \"delivered_p99\"";
    let e = parse(&format!("{tenants}operation = \"produce\"\nconsumers = 0\n{goal}"));
    let e = e.expect_err("nobody reads").to_string();
    assert!(e.contains("told of tenants that produce and have consumers"), "{e}");
}

#[test]
fn a_tenant_may_do_anything_at_its_own_pace() {
    let s = parse(
        "[[tenants]]\nname = \"t{n}\"\ncerts = \"c/{n}\"\ncount = 3\noperation = \"job\"\n\
         batch_items = \"1..9\"\nitems_per_second = 50\nramp_from = 10\nramp_over = \"5s\"\n\
         [[tenants]]\ncerts = \"storm\"\noperation = \"connect\"\nhold = \"2s\"\n\
         connections_per_second = 7\npayload_bytes = \"1..2\"",
    )
    .expect("fine");
    let names: Vec<_> = s.tenants.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["t1", "t2", "t3", "storm"]);
    let (job, storm) = (&s.tenants[2], &s.tenants[3]);
    assert!(job.certs.ends_with("c/3"));
    assert_eq!(job.operation, Operation::Job { audit: 32, purge: true });
    // Five items a batch, in the mean.
    assert_eq!((job.pace.full(), job.ramp.expect("a ramp").from), (10.0, 2.0));
    assert_eq!(storm.operation, Operation::Connect { hold: Duration::from_secs(2) });
    assert_eq!((storm.pace.full(), &storm.batch_items), (7.0, &Sizes::Fixed(1)));
}

#[test]
fn a_topic_is_read_by_one_consumer_unless_the_scenario_says_otherwise() {
    let topic = |keys: &str| {
        let text = format!("[[tenants]]\ncerts = \"c\"\noperation = \"produce\"\n{keys}");
        match parse(&text).expect("fine").tenants.remove(0).operation {
            Operation::Produce(topic) => topic,
            other => panic!("{other:?}"),
        }
    };
    let usual = topic("");
    assert_eq!((usual.name, usual.partitions, usual.consumers), (None, None, 1));
    let other = topic(
        "topic = \"orders\"\npartitions = 4\nconsumers = 0\naudit_batches = 5\nkeep_topic = true",
    );
    assert_eq!((other.name.as_deref(), other.partitions), (Some("orders"), Some(4)));
    assert_eq!((other.consumers, other.audit, other.keep), (0, 5, true));
}

#[test]
fn two_may_not_produce_to_one_topic_of_one_tenant() {
    let tenant = |certs: &str, name: &str| {
        format!(
            "[[tenants]]\ncerts = {certs:?}\nname = {name:?}\noperation = \"produce\"\n\
             topic = \"t\"\n"
        )
    };
    let of_two = format!("{}{}", tenant("a", "a"), tenant("b", "b"));
    assert_eq!(parse(&of_two).expect("of two tenants").tenants.len(), 2);
    let of_one = format!("{}{}", tenant("a", "a"), tenant("a", "b"));
    let e = parse(&of_one).expect_err("of one").to_string();
    assert!(e.contains("`topic`: \"t\" is there twice"), "{e}");
}

#[test]
fn every_later_phase_is_put_beside_the_first_unless_goals_say_otherwise() {
    let text = "rounds = 3\n[[phases]]\nname = \"alone\"\ntenants = [\"b\"]\n\
                [[phases]]\nname = \"beside\"\n[[tenants]]\ncerts = \"a\"\n\
                [[tenants]]\ncerts = \"b\"\n";
    let s = parse(text).expect("fine");
    let names: Vec<_> = s.goals.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(
        names,
        ["b: p50 beside ÷ alone", "b: p99 beside ÷ alone", "b: succeeded_per_s beside ÷ alone"]
    );
    let goal = "[[goals]]\ntenant = \"b\"\nfigure = \"p99.9\"\nphase = \"beside\"\n\
                to_value = 2\nmax = 1.1";
    let s = parse(&format!("{text}{goal}")).expect("fine");
    let g = &s.goals[0];
    assert_eq!(
        (g.figure, g.to, g.max, s.goals.len()),
        (Figure::P999, Against::Value(2.0), Some(1.1), 1)
    );
    let e = parse(&format!("{text}{}", goal.replace("beside", "later"))).expect_err("no phase");
    assert!(e.to_string().contains("\"alone\", \"beside\""), "{e}");
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
