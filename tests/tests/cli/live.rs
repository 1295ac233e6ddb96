//! `tollgate top`, `events`, `connection` and `revocation`: what goes on at a broker.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::Value;
use tollgate_client::{Client, ClientCredentials, Request};
use tollgate_tests::{
    SOON,
    process::{Served, binary, run_with},
};

use super::{exit, says};

/// A client of the broker that stays connected.
async fn connected(served: &Served, certs: &str) -> Client {
    let credentials =
        ClientCredentials::load_dir(&served.dir.path().join(certs)).expect("readable");
    Client::connect(served.addr, "localhost", credentials).await.expect("let in")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_is_listed() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme", "--name", "laptop"]);
    let client = connected(&served, &acme).await;
    let table = served.operate(&["connection", "list"]).ends_with(exit::OK).stdout;
    assert!(table.contains("spiffe://tollgate.local/tenant/acme/client/laptop"), "{table}");
    let of = |tenant: &str| {
        let args = ["connection", "list", "--tenant", tenant, "--output", "json"];
        let page = served.operate(&args).ends_with(exit::OK).json();
        page["items"].as_array().expect("items").len()
    };
    assert_eq!((of("acme"), of("other")), (1, 0));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_turns_away_and_can_be_taken_back() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme", "--name", "laptop"]);
    let echo = ["batch", "run", "--recipe", "echo", "--payload", "x"];
    served.run(&acme, &echo).ends_with(exit::OK);
    let cert = format!("{acme}/cert.pem");
    let add = ["revocation", "add", "--cert", &cert, "--reason", "stolen", "--output", "json"];
    let added = served.operate(&add).ends_with(exit::OK).json();
    served.run(&acme, &echo).ends_with(exit::UNAUTHORISED);
    let line: Value = serde_json::from_str(&served.logs("was turned away")).expect("JSON");
    assert_eq!(line["reason"], "the certificate is on the deny list", "{line}");
    assert_eq!(line["identity"], "spiffe://tollgate.local/tenant/acme/client/laptop", "{line}");
    assert!(line["serial"].is_string(), "{line}");
    let table = served.operate(&["revocation", "list"]).ends_with(exit::OK).stdout;
    assert!(table.contains("stolen") && table.contains("serial "), "{table}");
    let id = added["id"].as_str().map_or_else(|| added["id"].to_string(), str::to_owned);
    served.operate(&["revocation", "remove", &id]).ends_with(exit::OK);
    served.run(&acme, &echo).ends_with(exit::OK);

    let gone = served.operate(&["revocation", "remove", &id]).ends_with(exit::FAILURE);
    says(&gone, &["NOT_FOUND"]);
    for (args, code) in [
        (&["revocation", "add"][..], exit::USAGE),
        (&["revocation", "add", "--serial", "1", "--spiffe-id", "spiffe://a/b"], exit::USAGE),
        (&["revocation", "add", "--serial", "nonsense"], exit::USAGE),
        (&["revocation", "add", "--spiffe-id", "nonsense"], exit::USAGE),
        (&["revocation", "add", "--cert", "missing.pem"], exit::FAILURE),
    ] {
        served.operate(args).ends_with(code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_again_and_as_they_happen() {
    let served = Served::start(&[]);
    served.operate(&["tenant", "create", "globex"]).ends_with(exit::OK);
    served.operate(&["tenant", "suspend", "globex"]).ends_with(exit::OK);
    let args = ["events", "--since", "0", "--tenant", "globex", "--output", "json"];
    let ran = served.operate(&[&args[..], &["--count", "2"]].concat()).ends_with(exit::OK);
    let kinds: Vec<Value> = ran.json_lines().iter().map(|e| e["kind"].clone()).collect();
    assert_eq!(kinds, ["tenant_created", "tenant_suspended"]);
    let only = ["events", "--since", "0", "--kind", "tenant_suspended", "--count", "1"];
    let line = served.operate(&only).ends_with(exit::OK).stdout;
    assert!(line.contains("tenant_suspended") && line.contains("globex"), "{line}");
    let wrong = served.operate(&["events", "--kind", "nosuch"]).ends_with(exit::USAGE);
    says(&wrong, &["nosuch", "tenant_created", "quota_warning"]);
    // What happens from now on.
    let mut follower = served.operator();
    follower.args(["events", "--kind", "tenant_activated", "--count", "1"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let begun = Instant::now();
    // The follower may not be there yet: whatever it missed is done again.
    while follower.try_wait().expect("a child").is_none() {
        assert!(begun.elapsed() < SOON * 3, "the follower sees nothing");
        served.operate(&["tenant", "suspend", "globex"]).ends_with(exit::OK);
        served.operate(&["tenant", "activate", "globex"]).ends_with(exit::OK);
    }
    let told = follower.wait_with_output().expect("its output").stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("tenant_activated") && told.contains("globex"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_who_loads_the_broker() {
    let served = Served::start(&[]);
    served.operate(&["tenant", "create", "quiet"]).ends_with(exit::OK);
    let acme = served.issue(&["--tenant", "acme"]);
    let client = connected(&served, &acme).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stop = std::sync::Arc::new(stop);
    let load = {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let result = client
                    .execute([Request::new("echo", "x"), Request::new("fail", "{}")])
                    .await
                    .expect("a batch");
                assert_eq!(result.len(), 2);
            }
        })
    };
    let args = ["top", "--interval", "200ms", "--output", "json", "--count", "2"];
    let objects = served.operate(&args).ends_with(exit::OK).json_lines();
    assert_eq!(objects.len(), 2);
    let first = &objects[1]["tenants"][0];
    assert_eq!(first["tenant_id"], "acme", "the busiest comes first");
    assert!(first["items_per_second"].as_f64().is_some_and(|n| n > 0.0), "{first}");
    assert!(first["failures_per_second"].as_f64().is_some_and(|n| n > 0.0), "{first}");
    assert_eq!(first["connections"], 1);
    let table = served.operate(&["top", "--once", "--interval", "200ms"]).ends_with(exit::OK);
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert!(lines[0].contains("tenants") && lines[1].contains("ITEMS/S"), "{lines:?}");
    assert!(lines[2].starts_with("acme") && lines[3].starts_with("quiet"), "{lines:?}");
    let filtered = ["top", "--once", "--interval", "10ms", "--tenant", "qui"];
    let filtered = served.operate(&filtered).ends_with(exit::OK).stdout;
    assert!(filtered.contains("quiet") && !filtered.contains("acme"), "{filtered}");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    load.await.expect("the load ended");
    client.close().await;
}

#[test]
fn the_live_view_takes_a_terminal_and_gives_it_back() {
    let served = Served::start(&[]);
    // `script` gives it a terminal of its own; keys come through its standard input.
    let top = format!("stty rows 24 cols 120; exec {} top", binary().display());
    let mut script = Command::new("script");
    script.args(["-qec", &top, "/dev/null"]).current_dir(served.dir.path());
    script.env("TERM", "xterm-256color").env("TOLLGATE_API", format!("http://{}", served.http()));
    let ran = run_with(&mut script, "q").ends_with(exit::OK);
    for part in ["tollgate top", "ITEMS/S", "acme", "\u{1b}[?1049h", "\u{1b}[?1049l"] {
        assert!(ran.stdout.contains(part), "{:?} has no {part:?}", ran.stdout);
    }
}
