//! What a process that ended in good order has kept for the next one.

use serde_json::{Value, json};
use tollgate_tests::process::Served;

#[test]
fn what_operators_set_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("tollgate.toml");
    std::fs::write(&config, "[tenancy.profiles.gold]\nconnections = 7\n").expect("written");
    let args = ["--config", "tollgate.toml"];
    let served = Served::start_in(dir, "127.0.0.1:0", &args);
    let does = |served: &Served, args: &[&str]| served.operate(args).ends_with(0);
    does(&served, &["tenant", "create", "gold", "--profile", "gold", "--quota", "topics=3"]);
    does(&served, &["tenant", "update", "gold", "--weight", "5"]);
    does(&served, &["tenant", "create", "quiet"]);
    does(&served, &["tenant", "suspend", "quiet"]);
    does(&served, &["tenant", "create", "gone"]);
    does(&served, &["tenant", "delete", "gone", "--force", "--yes"]);
    let lost = "spiffe://tollgate.local/tenant/gold/client/lost";
    does(&served, &["revocation", "add", "--spiffe-id", lost, "--reason", "a laptop"]);
    let seen = |served: &Served| {
        let list = |what: &str| does(served, &[what, "list", "--output", "json"]).json();
        (list("tenant"), list("revocation"))
    };
    let before = seen(&served);
    let of = |id: &str| {
        let tenants = before.0["items"].as_array().expect("a list");
        tenants.iter().find(|t| t["id"] == id).cloned().unwrap_or(Value::Null)
    };
    assert_eq!((&of("gold")["quotas"]["topics"], &of("gold")["weight"]), (&json!(3), &json!(5)));
    assert_eq!(of("gold")["quotas"]["connections"], 7, "the profile's");
    assert_eq!((&of("quiet")["state"], of("gone")), (&json!("Suspended"), Value::Null));
    assert_eq!(before.1["items"][0]["spiffe_id"], lost);

    served.signal(libc::SIGTERM);
    let (code, dir) = served.ended();
    assert_eq!(code, 0);
    let served = Served::start_in(dir, "127.0.0.1:0", &args);
    assert_eq!(seen(&served), before);
    let lost = served.issue(&["--tenant", "gold", "--name", "lost"]);
    let other = served.issue(&["--tenant", "gold", "--name", "other"]);
    let quiet = served.issue(&["--tenant", "quiet"]);
    let echo = ["batch", "run", "--recipe", "echo", "--payload", "hello"];
    served.run(&other, &echo).ends_with(0);
    for refused in [lost, quiet] {
        assert_ne!(served.run(&refused, &echo).code, 0, "{refused} is let in");
    }
}
