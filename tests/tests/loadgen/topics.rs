//! Topics: every message that is acknowledged is delivered, and what is not as it should be is found
//! out.

use super::{
    meanwhile::{Meanwhile, killed},
    *,
};

/// Topics that are with the broker.
fn topics(served: &Served) -> Vec<String> {
    let list = served.operate(&["topic", "list", "--tenant", "acme", "--output", "json"]);
    let list = list.ends_with(0).json();
    let names = list["items"].as_array().expect("topics").iter();
    names.map(|t| t["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn messages_are_acknowledged_and_delivered_and_the_topic_is_gone() {
    let served = Served::start(&[]);
    let flags = "--operation produce --batch-items 5 --in-flight 2 --connections 2 --partitions 3 \
                 --consumers 2 --payload-bytes 8:1,5000:1 --duration 1s --output json --out r";
    let report = short(&served, "run", flags).ends_with(exit::OK).json();
    let tenant = &report["phases"][0]["tenants"][0];
    let items = number(&tenant["items_succeeded"]);
    assert!(items > 0 && items == 5 * number(&tenant["operations"]), "{tenant}");
    assert_eq!(number(&tenant["item_latency"]["count"]), items);
    assert_eq!(number(&tenant["delivered_latency"]["count"]), items);
    assert!(number(&tenant["topic"]["delivered"]) >= items, "{tenant}");
    assert!(topics(&served).is_empty());
    let read = |name: &str| fs::read_to_string(served.dir.path().join(name)).expect("written");
    assert!(read("r/report.html").contains("messages delivered after"));
    assert!(read("r/run-tenant-acme-delivered.hgrm").contains("Percentile"));
}

#[test]
fn what_is_due_is_produced_and_goals_are_of_deliveries() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let text = format!(
        "duration = \"500ms\"\nwarm_up = \"0s\"\n[[tenants]]\ncerts = {acme:?}\n\
         operation = \"produce\"\nbatch_items = \"1..4\"\nbatches_per_second = 40\n\
         [[goals]]\nfigure = \"delivered_p50\"\nmin = 0.001\n\
         [[goals]]\nfigure = \"delivered_p99\"\nmax = 60000"
    );
    let report = scenario(&served, &text, "--output json").ends_with(exit::OK).json();
    assert_eq!(number(&report["total"]["operations"]), 20);
    assert!(report["goals"].as_array().expect("goals").iter().all(|g| g["met"] == true));
}

#[test]
fn a_topic_that_was_there_stays_and_so_does_one_that_is_to_stay() {
    let served = Served::start(&[]);
    let create = ["topic", "create", "orders", "--tenant", "acme", "--partitions", "2"];
    served.operate(&create).ends_with(0);
    let flags = "--operation produce --in-flight 1 --batch-items 2 --topic";
    says(&short(&served, "run", &format!("{flags} orders")).ends_with(exit::OK), &["delivered"]);
    // What the run before left is not this one's.
    short(&served, "run", &format!("{flags} orders --partitions 2")).ends_with(exit::OK);
    let other = short(&served, "run", &format!("{flags} orders --partitions 3"));
    says(&other.ends_with(exit::USAGE), &["`partitions`", "and has 2"]);
    short(&served, "run", &format!("{flags} stays --keep-topic")).ends_with(exit::OK);
    short(&served, "run", &format!("{flags} goes")).ends_with(exit::OK);
    assert_eq!(topics(&served), ["orders", "stays"]);
    let groups = served.operate(&["group", "list", "--tenant", "acme", "--output", "json"]);
    assert_eq!(groups.ends_with(0).json()["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn where_nobody_reads_the_newest_are_read_back() {
    let served = Served::start(&[]);
    let flags = "--operation produce --consumers 0 --audit-batches 3 --batch-items 5 --in-flight 2 \
                 --partitions 2 --duration 1s --output json";
    let report = short(&served, "run", flags).ends_with(exit::OK).json();
    let tenant = &report["phases"][0]["tenants"][0];
    assert!(tenant["delivered_latency"].is_null());
    assert_eq!(number(&tenant["topic"]["read_back"]), 15);
}

#[test]
fn the_highest_rate_is_found_by_deliveries_too() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let mut c = loadgen(served.dir.path());
    c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["find-max", "--certs", &acme]);
    let flags = "--operation produce --latency delivered --batch-items 5 --window 300ms --warm-up 0s \
                 --p99-max-ms 60000 --from 100 --to 200 --output json";
    let found = run_with(c.args(flags.split_whitespace()), "").ends_with(exit::OK).json();
    let nobody = "find-max --certs acme --latency delivered --p99-max-ms 5 --items-per-second 9";
    let untold = run_with(loadgen(served.dir.path()).args(nobody.split(' ')), "");
    says(&untold.ends_with(exit::USAGE), &["--latency delivered", "consumers"]);
    let few = "find-max --certs acme --p99-max-ms 5 --items-per-second 100 --batch-items 100 --window 999ms";
    let few = run_with(loadgen(served.dir.path()).args(few.split(' ')), "");
    says(&few.ends_with(exit::USAGE), &["not one operation is due"]);
    assert_eq!(found["max_items_per_s"].as_f64(), Some(200.0));
    assert!(number(&found["steps"][1]["count"]) >= 60, "{found}");
    assert!(topics(&served).is_empty());
}

#[test]
fn what_a_quota_refuses_ends_it_before_it_begins() {
    let served = Served::start(&[]);
    served.operate(&["tenant", "update", "acme", "--quota", "partitions=2"]).ends_with(0);
    let ran = short(&served, "run", "--operation produce --partitions 3").ends_with(exit::QUOTA);
    says(&ran, &["cannot make the topic"]);
    served.operate(&["tenant", "update", "acme", "--quota", "consumers=1"]).ends_with(0);
    short(&served, "run", "--operation produce --consumers 2").ends_with(exit::QUOTA);
    assert!(topics(&served).is_empty());
}

/// Load on a topic of which others know, until it is interrupted.
const OPEN: &str = "--operation produce --topic shared --partitions 2 --batch-items 5 --in-flight 2 \
                    --duration 1h --drain 5s";

#[test]
fn a_message_of_somebody_else_is_found_out() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let mut running = Meanwhile::start(&served, OPEN);
    served.run(&acme, &["produce", "shared", "--message", "a stranger"]).ends_with(0);
    running.tells(|line| !line.ends_with(" 0 errors"));
    let came = running.interrupt();
    assert_eq!((came.wrong("foreign"), came.wrong("lost")), (1, 0), "{:?}", came.told);
    came.failed("1 foreign");
}

#[test]
fn messages_that_somebody_else_takes_are_lost() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let running = Meanwhile::start(&served, OPEN);
    let groups = served.operate(&["group", "list", "--tenant", "acme", "--output", "json"]);
    let groups = groups.ends_with(0).json();
    let group = groups["items"][0]["name"].as_str().expect("a group").to_owned();
    // It has one of the two partitions, and acknowledges what it is given.
    let taken = served.run(&acme, &["consume", "shared", "--group", &group, "--limit", "7"]);
    taken.ends_with(0);
    let came = running.interrupt();
    assert!(came.wrong("lost") >= 7, "{}: {:?}", came.report["total"], came.told);
    came.failed("messages lost");
}

#[test]
fn messages_that_are_not_there_any_more_are_lost() {
    let served = Served::start(&[]);
    let mut running = Meanwhile::start(&served, &format!("{OPEN} --consumers 0"));
    let delete = ["topic", "delete", "shared", "--tenant", "acme", "--yes"];
    served.operate(&delete).ends_with(0);
    running.tells(|line| !line.ends_with(" 0 errors"));
    let came = running.interrupt();
    assert!(came.wrong("lost") > 0, "{}: {:?}", came.report["total"], came.told);
    came.failed("NOT_FOUND");
}

#[test]
fn a_broker_that_is_killed_meanwhile_loses_no_message() {
    let flags = "--operation produce --partitions 2 --consumers 2 --batch-items 10 --in-flight 4 \
                 --duration 3s --drain 60s";
    let came = killed(flags, |_| {});
    came.is_good();
    let tenant = &came.report["phases"][0]["tenants"][0];
    assert!(number(&tenant["items_succeeded"]) > 0, "{tenant}");
}
