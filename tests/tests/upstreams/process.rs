//! Upstreams as operators have them: in a file, listed, watched, reloaded.

use std::{fs, path::Path};

use tollgate_client::{Client, ClientCredentials};
use tollgate_tests::{
    process::{Served, run, run_with, tollgate},
    upstream::{Service, whole},
};

use super::call;

/// A file with an upstream whose token is in a file beside it.
fn write_config(dir: &Path, url: &str) {
    fs::write(dir.join("token"), "token-one\n").expect("written");
    let text = format!(
        "[upstreams.reports]\nurl = \"{url}\"\n\
         headers = {{ authorization = {{ file = \"token\", prefix = \"Bearer \" }}, \
         x-key = {{ env = \"REPORTS_KEY\" }} }}\n\
         [upstreams.reports.recipes.call]\npath = \"/{{tenant}}\"\ndescription = \"Asks\"\n\
         [upstreams.reports.recipes.\"two.words\"]\nidempotent = true\nconcurrency_max = 2\n"
    );
    fs::write(dir.join("tollgate.toml"), text).expect("written");
}

async fn connected(served: &Served, certs: &str) -> Client {
    let credentials =
        ClientCredentials::load_dir(&served.dir.path().join(certs)).expect("readable");
    Client::connect(served.addr, "localhost", credentials).await.expect("let in")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_all_it_takes_and_secrets_are_read_again() {
    let service = Service::start(|_| whole(200, &[], "ok")).await;
    let trap = Service::start(|_| whole(200, &[], "stolen")).await;
    let dir = tempfile::tempdir().expect("a directory");
    write_config(dir.path(), &service.url());
    let proxy = trap.url();
    let variables = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|v| (v, &*proxy));
    let variables = [&variables[..], &[("REPORTS_KEY", "k1")]].concat();
    let served = Served::start_with(dir, "127.0.0.1:0", &[], &variables);
    let certs = served.issue(&["--tenant", "acme"]);
    let client = connected(&served, &certs).await;
    assert!(call(&client, "{}").await.is_success());
    let sent = |n: usize, name| service.seen().asked[n].header(name);
    assert_eq!(sent(0, "authorization").as_deref(), Some("Bearer token-one"));
    assert_eq!(sent(0, "x-key").as_deref(), Some("k1"));
    assert_eq!(service.seen().asked[0].target, "/acme");

    // Listed by each of the three doors.
    let kind_of = |recipes: &serde_json::Value, name: &str| {
        let all = recipes.as_array().expect("a list");
        let one = all.iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("{name}"));
        one["kind"].as_str().expect("a kind").to_owned()
    };
    let listed = served.run(&certs, &["recipe", "list", "--output", "json"]).ends_with(0).json();
    let url = format!("http://{}/api/v1/recipes", served.http());
    let curl = ["-sS", "--noproxy", "*", &url];
    let api = run_with(std::process::Command::new("curl").args(curl), "").ends_with(0).json();
    for recipes in [&listed, &api["items"]] {
        assert_eq!(kind_of(recipes, "call"), "upstream");
        assert_eq!(kind_of(recipes, "two.words"), "upstream");
        assert_eq!(kind_of(recipes, "echo"), "embedded");
    }
    let table = served.run(&certs, &["recipe", "list"]).ends_with(0).stdout;
    assert!(table.lines().any(|l| l.starts_with("call ") && l.contains("upstream")), "{table}");

    // A secret that changed is used from the next request on; a bad one changes nothing.
    fs::write(served.dir.path().join("token"), "token-two\n").expect("written");
    served.signal(libc::SIGHUP);
    served.logs("were reloaded");
    assert!(call(&client, "{}").await.is_success());
    assert_eq!(sent(1, "authorization").as_deref(), Some("Bearer token-two"));
    fs::write(served.dir.path().join("token"), "\n").expect("written");
    served.signal(libc::SIGHUP);
    let line = served.logs("stays as it was");
    assert!(line.contains("authorization") && !line.contains("token-two"), "{line}");
    assert!(call(&client, "{}").await.is_success());
    assert_eq!(sent(2, "authorization").as_deref(), Some("Bearer token-two"));

    let url = format!("http://{}/metrics", served.http());
    let curl = ["-sS", "--noproxy", "*", &url];
    let page = run_with(std::process::Command::new("curl").args(curl), "").ends_with(0).stdout;
    let line = "tollgate_upstream_requests_total{upstream=\"reports\",outcome=\"2xx\"} 3";
    assert!(page.lines().any(|l| l == line), "{page}");
    assert_eq!(trap.seen().connections, 0, "no variable sends requests elsewhere");
    client.close().await;
}

#[test]
fn the_configuration_is_judged_before_anything_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    write_config(dir.path(), "http://127.0.0.1:1");
    let check = || {
        let mut command = tollgate(dir.path());
        command.args(["config", "check"]).env("REPORTS_KEY", "k1");
        run_with(&mut command, "")
    };
    let good = check().ends_with(0).stdout;
    assert!(good.contains("upstreams: 1"), "{good}");
    let printed = run(dir.path(), ["config", "print"]).ends_with(0).stdout;
    assert!(printed.contains("[upstreams.reports") && !printed.contains("token-one"), "{printed}");

    fs::remove_file(dir.path().join("token")).expect("removed");
    let missing = check().ends_with(2).stderr;
    assert!(missing.contains("upstreams.reports") && missing.contains("token"), "{missing}");
    let no_key = run(dir.path(), ["config", "check"]).ends_with(2).stderr;
    assert!(no_key.contains("REPORTS_KEY") || no_key.contains("token"), "{no_key}");

    let argv = "upstreams.reports.headers.authorization=Bearer x";
    let secret = run(dir.path(), ["config", "check", "--set", argv]).ends_with(2).stderr;
    assert!(secret.contains("a file or a variable"), "{secret}");
    fs::write(dir.path().join("token"), "token-one").expect("written");
    let name = "[upstreams.reports.recipes.\"Bad Name\"]\npath = \"/\"\n";
    let text = fs::read_to_string(dir.path().join("tollgate.toml")).expect("there");
    fs::write(dir.path().join("tollgate.toml"), format!("{text}{name}")).expect("written");
    let bad = check().ends_with(2).stderr;
    assert!(bad.contains("upstreams.reports.recipes.Bad Name"), "{bad}");
}
