//! What is wrong, on either side: wrong answers, and wrong scenarios.

use tollgate_broker::batch::{Catalog, InlineContext, Reply, Spec, typed};
use tollgate_certs::IssueOptions;
use tollgate_tests::{Rig, client_identity};

use super::*;

/// Runs it against a broker within the test.
async fn beside(rig: &Rig, flags: &str) -> Ran {
    let issued = rig.issue(&client_identity("acme"), &IssueOptions::default());
    let dir = rig.path("acme-certs");
    fs::create_dir_all(&dir).expect("a directory");
    for (name, pem) in [
        ("cert.pem", &issued.certificate_pem),
        ("key.pem", &issued.key_pem),
        ("ca.pem", &issued.ca_pem),
    ] {
        fs::write(dir.join(name), &**pem).expect("written");
    }
    let mut c = loadgen(rig.dir.path());
    c.args(["run", "--certs", "acme-certs", "--addr", &rig.addr().to_string()]);
    c.args("--duration 300ms --warm-up 0s --batch-items 4 --in-flight 1".split(' '));
    c.args(flags.split_whitespace());
    let ran = tokio::task::spawn_blocking(move || run_with(&mut c, ""));
    ran.await.expect("it ran")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_that_lies_now_and_then_is_found_out() {
    let lie = |_: &InlineContext<'_>, payload: &[u8], out: &mut Reply| {
        out.extend_from_slice(payload);
        // One in a few, by what the item carries: an id's first byte.
        if payload[0].is_multiple_of(5) {
            out.extend_from_slice(b"!");
        }
        Ok(())
    };
    let catalog = Catalog::builder()
        .inline("echo", Spec::default(), typed::inline_bytes(lie))
        .build()
        .expect("a catalog");
    let rig = Rig::with_catalog(catalog, |_| {}).await;
    let ran = beside(&rig, "--output json").await.ends_with(exit::FAILURE);
    let report = ran.json();
    let items = number(&report["total"]["items_succeeded"]);
    let wrong = number(&report["total"]["wrong"]["payload"]);
    assert!(wrong >= items / 6 && wrong < items / 2 + 2, "{wrong} of {items}");
    says(&ran, &["wrong answers", "with a wrong payload"]);
    // As jobs too: when they are answered, and when they are read again.
    let jobs = beside(&rig, "--operation job --output json").await.ends_with(exit::FAILURE).json();
    let total = &jobs["phases"][0]["total"];
    assert!(number(&total["wrong"]["payload"]) > 0, "{total}");
    assert!(
        number(&jobs["total"]["wrong"]["payload"]) > number(&total["wrong"]["payload"]),
        "the audit sees it again"
    );
}

#[test]
fn mistakes_name_the_key_and_what_is_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |text: &str, parts: &[&str]| {
        fs::write(dir.path().join("s.toml"), text).expect("written");
        let ran = run_with(loadgen(dir.path()).args(["run", "s.toml", "--dry-run"]), "");
        says(&ran.ends_with(exit::USAGE), parts);
    };
    let tenant = "[[tenants]]\ncerts = \"a\"\n";
    check(&format!("{tenant}batch_item = 1"), &["s.toml", "batch_item"]);
    check(&format!("{tenant}name = \"all\""), &["`tenants.name`", "the sum of all"]);
    check(&format!("{tenant}batch_items = 0"), &["tenant \"a\"", "`batch_items`", "1 to 1000000"]);
    check(&format!("{tenant}payload_bytes = \"9..1\""), &["begins above its end"]);
    check(&format!("{tenant}payload_bytes = -1"), &["negative"]);
    check(&format!("{tenant}payload_bytes = true"), &["16..4096"]);
    check(&format!("{tenant}operation = \"topic\""), &["`operation`", "`connect`"]);
    check(&format!("duration = \"soon\"\n{tenant}"), &["s.toml", "duration"]);
    check(&format!("{tenant}\n[[goals]]\nfigure = \"p98\""), &["figure", "p99"]);
    check(&format!("{tenant}\n[[phases]]\nname = \"x\"\nrate = 1"), &["rate", "load"]);
    // Before anybody is connected to.
    fs::write(dir.path().join("taken"), "").expect("written");
    let nowhere = ["run", "--certs", "a", "--out", "taken"];
    let nowhere = run_with(loadgen(dir.path()).args(nowhere), "");
    says(&nowhere.ends_with(exit::USAGE), &["--out", "taken"]);
    let missing = run_with(loadgen(dir.path()).args(["run", "none.toml"]), "");
    let missing = missing.ends_with(exit::USAGE);
    says(&missing, &["cannot read none.toml"]);
    assert_eq!(missing.stderr.matches("os error").count(), 1, "{}", missing.stderr);
    let certs = run_with(loadgen(dir.path()).args(["run", "--certs", "none"]), "");
    says(&certs.ends_with(exit::USAGE), &["tenant \"none\"", "`certs`"]);
    run_with(loadgen(dir.path()).args(["run"]), "").ends_with(exit::USAGE);
    run_with(loadgen(dir.path()).args(["compare", "a", "b"]), "").ends_with(exit::USAGE);
}

#[test]
fn a_run_that_does_not_begin_says_why_by_its_code() {
    let served = Served::start(&[]);
    // Somebody else's authority: trusted by neither side.
    let other = Served::start(&[]);
    let stranger = other.issue(&["--tenant", "acme"]);
    let mut c = loadgen(other.dir.path());
    c.args(["run", "--certs", &stranger, "--addr", &served.addr.to_string()]);
    run_with(&mut c, "").ends_with(exit::UNAUTHORISED);
    served.operate(&["tenant", "update", "acme", "--quota", "connections=1"]).ends_with(0);
    says(&short(&served, "run", "--connections 2").ends_with(exit::QUOTA), &["QUOTA_EXCEEDED"]);
    // What was connected meanwhile is closed, and counts no more.
    short(&served, "run", "--connections 1 --items-per-second 100 --batch-items 10")
        .ends_with(exit::OK);
    // Where nobody listens: a port that was taken, and given back.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let nobody = socket.local_addr().expect("an address").to_string();
    drop(socket);
    let acme = served.issue(&["--tenant", "acme"]);
    let mut c = loadgen(served.dir.path());
    c.args(["run", "--certs", &acme, "--addr", &nobody]);
    run_with(&mut c, "").ends_with(exit::UNREACHABLE);
}
