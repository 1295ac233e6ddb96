//! `tollgate tenant` and `profile`: what an operator does with tenants.

use serde_json::{Value, json};
use tollgate_tests::process::{Ran, Served};

use super::{exit, nobody, says};

fn tenant(served: &Served, args: &[&str]) -> Ran {
    served.operate(&[&["tenant"], args].concat())
}

fn json_of(served: &Served, args: &[&str]) -> Value {
    tenant(served, &[args, &["--output", "json"]].concat()).ends_with(exit::OK).json()
}

#[test]
fn a_tenant_lives_from_its_creation_to_its_end() {
    let served = Served::start(&[]);
    let create = ["create", "globex", "--name", "Globex", "--profile", "pro", "--weight", "2"];
    let more = ["--quota", "requests_per_second=1000", "--quota", "topics=unlimited"];
    let noted = ["--gateway", "edge", "--metadata", "plan=gold"];
    let created = json_of(&served, &[&create[..], &more, &noted].concat());
    assert_eq!(created["state"], "Active");
    assert_eq!(created["overrides"], json!({"requests_per_second": 1000, "topics": -1}));
    assert_eq!(created["gateways"], json!(["edge"]));

    // It is let in.
    let certs = served.issue(&["--tenant", "globex"]);
    let echo = ["batch", "run", "--recipe", "echo", "--payload", "x"];
    served.run(&certs, &echo).ends_with(exit::OK);

    let shown = tenant(&served, &["show", "globex"]).ends_with(exit::OK).stdout;
    for part in ["plan=gold", "1000/s", "unlimited", "the tenant", "profile pro"] {
        assert!(shown.contains(part), "{shown} has no {part:?}");
    }
    let update = ["update", "globex", "--quota", "topics=inherit", "--metadata", "seats=7"];
    let updated = json_of(&served, &[&update[..], &["--unset-metadata", "plan"]].concat());
    assert_eq!(updated["overrides"], json!({"requests_per_second": 1000}));
    assert_eq!(updated["metadata"], json!({"seats": "7"}));
    assert_eq!(updated["revision"].as_u64(), created["revision"].as_u64().map(|n| n + 1));
    assert_eq!(json_of(&served, &["update", "globex", "--no-gateways"])["gateways"], json!([]));

    let usage = tenant(&served, &["usage", "globex"]).ends_with(exit::OK).stdout;
    assert!(usage.contains("requests_per_second") && usage.contains("1000/s"), "{usage}");
    let stats = json_of(&served, &["stats", "globex"]);
    assert_eq!(stats["items_succeeded"], 1);
    let stats = tenant(&served, &["stats", "globex"]).ends_with(exit::OK).stdout;
    assert!(stats.contains("latency p99"), "{stats}");

    // Suspended it is turned away, and activated let in again.
    let told = tenant(&served, &["suspend", "globex"]).ends_with(exit::OK).stdout;
    assert!(told.starts_with("suspended globex"), "{told}");
    says(&served.run(&certs, &echo).ends_with(exit::UNAUTHORISED), &["TENANT_SUSPENDED"]);
    tenant(&served, &["activate", "globex"]).ends_with(exit::OK);
    served.run(&certs, &echo).ends_with(exit::OK);

    // There is no terminal to ask on.
    let unasked = tenant(&served, &["delete", "globex", "--force"]).ends_with(exit::USAGE);
    says(&unasked, &["nothing was deleted", "--yes"]);
    let refused = tenant(&served, &["delete", "globex", "--yes"]).ends_with(exit::FAILURE);
    says(&refused, &["CONFLICT"]);
    tenant(&served, &["delete", "globex", "--force", "--yes"]).ends_with(exit::OK);
    says(&tenant(&served, &["show", "globex"]).ends_with(exit::FAILURE), &["NOT_FOUND"]);
}

#[test]
fn tenants_are_listed_in_pages() {
    let served = Served::start(&[]);
    for id in ["t1", "t2", "t3", "t4"] {
        tenant(&served, &["create", id, "--profile", "free"]).ends_with(exit::OK);
    }
    tenant(&served, &["suspend", "t3"]).ends_with(exit::OK);
    let ids = |args: &[&str]| {
        let page = json_of(&served, &[&["list", "--profile", "free"], args].concat());
        let ids = page["items"].as_array().expect("items").iter();
        (ids.map(|t| t["id"].clone()).collect::<Vec<_>>(), page["next_cursor"].clone())
    };
    assert_eq!(ids(&[]), (vec![json!("t1"), json!("t2"), json!("t3"), json!("t4")], Value::Null));
    let (first, next) = ids(&["--limit", "3"]);
    assert_eq!(first.len(), 3);
    let (rest, end) = ids(&["--limit", "3", "--cursor", next.as_str().expect("there is more")]);
    assert_eq!((rest, end), (vec![json!("t4")], Value::Null));
    assert_eq!(ids(&["--all"]).0.len(), 4);
    assert_eq!(ids(&["--state", "suspended"]).0, [json!("t3")]);
    let short = tenant(&served, &["list", "--limit", "1"]).ends_with(exit::OK);
    says(&short, &["there are more", "--cursor"]);
    assert!(short.stdout.contains("PROFILE"), "{}", short.stdout);
}

#[test]
fn what_is_wrong_is_told_and_ends_with_its_code() {
    let served = Served::start(&[]);
    tenant(&served, &["create", "globex"]).ends_with(exit::OK);
    // The command line can tell by itself.
    for args in [
        &["create", "x", "--quota", "topics"][..],
        &["create", "x", "--quota", "topics=many"],
        &["create", "x", "--quota", "topics=inherit"],
        &["create", "x", "--policy", "maybe"],
        &["update", "globex"],
        &["update", "globex", "--weight", "-1"],
        &["list", "--limit", "0"],
    ] {
        tenant(&served, args).ends_with(exit::USAGE);
    }
    // Only the broker can.
    for (args, part) in [
        (&["create", "Not An Id"][..], "id"),
        (&["create", "x", "--profile", "nothing"], "profile"),
        (&["create", "x", "--quota", "toppics=1"], "toppics"),
        (&["update", "globex", "--weight", "4000"], "weight"),
    ] {
        says(&tenant(&served, args).ends_with(exit::USAGE), &["VALIDATION_ERROR", part]);
    }
    says(&tenant(&served, &["create", "globex"]).ends_with(exit::FAILURE), &["CONFLICT"]);
    let late = ["update", "globex", "--weight", "2", "--if-revision", "99"];
    tenant(&served, &late).ends_with(exit::FAILURE);
    for args in [
        &["show", "nobody"][..],
        &["update", "nobody", "--weight", "2"],
        &["suspend", "nobody"],
        &["activate", "nobody"],
        &["delete", "nobody", "--force", "--yes"],
        &["usage", "nobody"],
        &["stats", "nobody"],
        &["show", "../usage"],
    ] {
        says(&tenant(&served, args).ends_with(exit::FAILURE), &["NOT_FOUND"]);
    }
    // For programs the problem is there as the broker told it.
    let ran = tenant(&served, &["show", "nobody", "--output", "json"]).ends_with(exit::FAILURE);
    let error: Value = serde_json::from_str(&ran.stderr).expect("an error is JSON too");
    assert_eq!(error["exit_code"], 1);
    assert_eq!(error["problem"]["code"], "NOT_FOUND");
}

#[test]
fn an_api_that_is_not_there_ends_with_4() {
    let served = Served::start(&[]);
    let nobody = nobody();
    for command in [
        &["tenant", "list"][..],
        &["profile", "list"],
        &["connection", "list"],
        &["revocation", "list"],
        &["events"],
        &["top", "--once"],
    ] {
        let ran = served.operate(&[command, &["--api", &nobody]].concat());
        says(&ran.ends_with(exit::UNREACHABLE), &[&nobody, "cannot reach"]);
    }
    served.operate(&["tenant", "list", "--api", "ftp://x"]).ends_with(exit::USAGE);
}

#[test]
fn profiles_are_shown_side_by_side() {
    let served = Served::start(&[]);
    let table = served.operate(&["profile", "list"]).ends_with(exit::OK).stdout;
    let header = table.lines().next().expect("a header");
    for name in ["default", "free", "starter", "pro", "enterprise"] {
        assert!(header.contains(name), "{header}");
    }
    let row = table.lines().find(|l| l.starts_with("requests_per_second")).expect("a row");
    assert!(row.contains("50000/s") && row.contains("unlimited"), "{row}");
}
