//! `tollgate job` and durable batches: what they print, ask and end with.

use tollgate_tests::process::{Ran, Served};

use super::{exit, says};

/// Submits a job and leaves; its id.
fn submitted(served: &Served, certs: &str, recipe: &str, payload: &str) -> String {
    let args = ["batch", "run", "--recipe", recipe, "--payload", payload, "--durable", "--detach"];
    let ran = served.run(certs, &args).ends_with(exit::OK);
    let batch = ran.stdout.clone();
    says(&ran, &[&format!("tollgate job list --tenant acme --batch {}", batch.trim())]);
    let args = ["job", "list", "--tenant", "acme", "--batch", batch.trim(), "--output", "json"];
    let page = served.operate(&args).ends_with(exit::OK).json();
    page["items"][0]["id"].as_str().expect("a job").to_owned()
}

fn job(served: &Served, args: &[&str]) -> Ran {
    let words = [&["job"], args, &["--tenant", "acme"]].concat();
    served.operate(&words)
}

#[test]
fn a_job_is_handed_over_watched_and_looked_at() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let id = submitted(&served, &acme, "echo", "hello");
    let watched = job(&served, &["watch", &id]).ends_with(exit::OK);
    // What is no JSON is shown in base64, as the API has it.
    assert_eq!(watched.stdout.trim(), "aGVsbG8=");
    let shown = job(&served, &["show", &id]).ends_with(exit::OK).stdout;
    assert!(shown.contains("succeeded") && shown.contains("echo"), "{shown}");
    let listed = job(&served, &["list", "--state", "succeeded,failed"]).ends_with(exit::OK).stdout;
    assert!(listed.contains("1 job: 1 succeeded") && listed.contains(&id), "{listed}");
    says(&job(&served, &["cancel", &id]).ends_with(exit::FAILURE), &["CONFLICT", "succeeded"]);
    says(&job(&served, &["list", "--state", "odd"]).ends_with(exit::USAGE), &["odd", "queued"]);
    let purged = job(&served, &["purge", &id]).ends_with(exit::OK).stdout;
    assert!(purged.contains(&id), "{purged}");
    says(&job(&served, &["show", &id]).ends_with(exit::FAILURE), &["NOT_FOUND"]);
}

#[test]
fn watching_ends_with_what_the_job_ended_with() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    // That is not how it is told for how long: it fails at once, and for good.
    let id = submitted(&served, &acme, "delay", "60000");
    let watched = job(&served, &["watch", &id]).ends_with(exit::USAGE);
    says(&watched, &["VALIDATION_ERROR", "1 attempt"]);
    let lines = job(&served, &["watch", &id, "--output", "json"]).ends_with(exit::USAGE);
    let lines = lines.json_lines();
    assert_eq!(lines[0]["job_accepted"]["job_id"], *id, "{lines:?}");
    assert_eq!(lines[1]["result"]["code"], "VALIDATION_ERROR", "{lines:?}");
}

#[test]
fn many_are_never_meant_by_accident() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    submitted(&served, &acme, "delay", r#"{"ms":60000}"#);
    let refused = job(&served, &["cancel"]).ends_with(exit::USAGE);
    says(&refused, &["--all", "--state"]);
    let refused = job(&served, &["cancel", "--all"]).ends_with(exit::USAGE);
    says(&refused, &["nothing was done", "--yes"]);
    let done = job(&served, &["cancel", "--recipe", "delay", "--yes"]).ends_with(exit::OK).stdout;
    assert_eq!(done.trim(), "cancelled 1 job");
    let done = job(&served, &["purge", "--all", "--yes"]).ends_with(exit::OK).stdout;
    assert_eq!(done.trim(), "purged 1 job");
}
