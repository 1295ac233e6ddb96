//! `tollgate worker`, and where else workers show: `recipe list`, `top`, `events`.

use std::path::Path;

use tollgate_client::ClientCredentials;
use tollgate_protocol::{
    ClientFrame,
    work::{RecipeSpec, WorkOpen},
};
use tollgate_tests::{process::Served, raw, worker::RawWorker};

use super::exit;

/// A worker of a broker that is a process, with a certificate that the command line has issued.
async fn works(served: &Served, certs: &str, recipes: &[&str]) -> RawWorker {
    let credentials =
        ClientCredentials::load_dir(&served.dir.path().join(certs)).expect("readable");
    let raw = raw::connect(served.addr, &credentials).await;
    let mut stream = raw.stream().await;
    stream.frame(&ClientFrame::Work(WorkOpen::new(4))).await;
    let mut worker = RawWorker { raw, stream };
    for name in recipes {
        worker.register(RecipeSpec::new(name)).await;
    }
    worker
}

/// Makes a recipe of the platform's known that nobody serves any more.
pub(super) fn comes_and_goes(served: &Served, recipe: &str) {
    let certs = served.issue(&["--role", "platform-worker", "--name", "gone"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let worker = works(served, &certs, &[recipe]).await;
        let forget = || served.operate(&["recipe", "forget", recipe]);
        assert!(forget().ends_with(exit::FAILURE).stderr.contains("drain them first"));
        worker.raw.conn.close(0u32.into(), b"");
        let listed = || served.operate(&["worker", "list"]).ends_with(exit::OK).stdout;
        while !listed().starts_with("0 workers") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_shown_wherever_they_matter() {
    let served = Served::start(&[]);
    let none = served.operate(&["worker", "list"]).ends_with(exit::OK).stdout;
    assert!(none.starts_with("0 workers, 0 of 0 calls taken, 0 items waiting"), "{none}");
    let acme = served.issue(&["--tenant", "acme"]);
    let platform = served.issue(&["--role", "platform-worker", "--name", "resize-1"]);
    let own = served.issue(&["--role", "worker", "--tenant", "acme", "--name", "w1"]);
    let platform = works(&served, &platform, &["resize", "ocr"]).await;
    let _own = works(&served, &own, &["invoice"]).await;

    let table = served.operate(&["worker", "list"]).ends_with(exit::OK).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("2 workers, 0 of 8 calls taken"), "{table}");
    assert!(lines[1].starts_with("ID") && lines[1].contains("RECIPES"), "{table}");
    assert!(lines[2].contains("/worker/resize-1") && lines[2].ends_with("resize ocr"), "{table}");
    assert!(lines[3].contains("/tenant/acme/worker/w1"), "{table}");
    for (args, expected) in [
        (&["--tenant", "acme"][..], "/tenant/acme/worker/w1"),
        (&["--recipe", "ocr"], "/worker/resize-1"),
    ] {
        let args = [&["worker", "list", "--output", "json"], args].concat();
        let page = served.operate(&args).ends_with(exit::OK).json();
        let items = page["items"].as_array().expect("items");
        assert_eq!(items.len(), 1, "{page}");
        assert!(items[0]["identity"].as_str().is_some_and(|i| i.ends_with(expected)), "{page}");
        assert_eq!(page["total"]["workers"], 2, "{page}");
    }

    let recipes = served.run(&acme, &["recipe", "list"]).ends_with(exit::OK).stdout;
    let row = |name: &str| {
        let line = recipes.lines().find(|l| l.starts_with(name)).expect("a row");
        line.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((row("resize").as_str(), row("sha256").as_str()), ("worker 1", "embedded -"));
    let show = ["recipe", "show", "invoice", "--output", "json"];
    assert_eq!(served.run(&acme, &show).ends_with(exit::OK).json()["workers"], 1);

    let once = ["top", "--once", "--interval", "10ms"];
    let top = served.operate(&once).ends_with(exit::OK).stdout;
    assert!(top.lines().nth(1).is_some_and(|l| l.starts_with("2 workers, 0 of 8")), "{top}");
    let top = [&once[..], &["--output", "json"]].concat();
    let top = served.operate(&top).ends_with(exit::OK).json();
    assert_eq!((&top["workers"]["connected"], &top["workers"]["credit"]), (&2.into(), &8.into()));

    drop(platform);
    let args = ["events", "--since", "0", "--kind", "worker_joined", "--kind", "worker_left"];
    let events =
        served.operate(&[&args[..], &["--count", "3"]].concat()).ends_with(exit::OK).stdout;
    let left = events.lines().last().expect("three lines");
    for part in
        ["worker_left", "worker=1", "identity=spiffe://tollgate.local/worker/resize-1", "lost=0"]
    {
        assert!(left.contains(part), "{events}");
    }
    let of_acme = events.lines().find(|l| l.contains("worker/w1")).expect("its own");
    assert!(of_acme.contains("worker_joined       acme  "), "{events}");
    let recipes = served.run(&acme, &["recipe", "list"]).ends_with(exit::OK).stdout;
    let resize = recipes.lines().find(|l| l.starts_with("resize")).expect("it stays known");
    assert!(resize.split_whitespace().nth(2) == Some("0"), "{recipes}");
    assert!(Path::new(served.dir.path()).join("data").exists());
}
