//! Starts that fail, and the start after them on the same directory; and what a process that ended
//! in good order has kept for the next one.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use tollgate_broker::{
    Broker, Config, StartError,
    config::Http,
    recipes,
    store::{self, Kind, Record, Store, record::system},
};
use tollgate_tests::process::Served;

fn config(dir: &Path) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: Some(dir.into()),
        http: Http::anywhere(),
        ..Config::default()
    }
}

async fn start(config: Config) -> Result<Broker, StartError> {
    Broker::start(config, recipes::builtin().build().expect("a catalog")).await
}

#[tokio::test]
async fn what_the_configuration_says_is_judged_before_the_store_is_opened() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let tcp_addr = tcp.local_addr().expect("its address");
    let udp_addr = udp.local_addr().expect("its address");
    let wrong: [(&str, &dyn Fn(&mut Config)); 6] = [
        ("http.listen is in use", &|c| c.http.listen = tcp_addr),
        ("http.listen is everybody's", &|c| c.http.listen = "0.0.0.0:0".parse().expect("one")),
        ("no token file", &|c| c.http.operator_token_file = Some("/nowhere/token".into())),
        ("no certificate of HTTP", &|c| {
            c.http.certificate = Some("/nowhere/cert.pem".into());
            c.http.key = Some("/nowhere/key.pem".into());
        }),
        ("listen is in use", &|c| c.listen = udp_addr),
        ("a limit", &|c| c.limits.mtu_initial = 1),
    ];
    for (what, change) in wrong {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = config(dir.path());
        change(&mut config);
        match start(config).await {
            Err(StartError::Http(_) | StartError::Endpoint(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
        assert!(!dir.path().join("store").exists(), "{what}: the store was opened");
    }
}

#[tokio::test]
async fn a_start_that_fails_gives_the_directory_back_before_it_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    {
        let store = Store::open(Some(&path), &store::Config::default()).expect("opens");
        let system = store.system();
        let fence = system.claim().await.expect("claimed");
        // A deletion to be finished, which the start does in the background (layout 1: its id and
        // its number), and a revocation that is none, which the start fails on.
        let gone = Record::new(system::TENANTS, Kind::TenantDeleted, &b"\x04gone\x07"[..]);
        let bad = Record::new(system::REVOCATIONS, Kind::Revocation, &b"nonsense"[..]);
        system.commit(&fence, vec![gone, bad]).await.expect("committed");
        let released = store.released();
        drop((store, system));
        released.await;
    }
    for attempt in 1..=5 {
        match start(config(dir.path())).await {
            Err(StartError::Revocations(_)) => {}
            other => panic!("attempt {attempt}: {other:?}"),
        }
        let store = Store::open(Some(&path), &store::Config::default());
        drop(store.unwrap_or_else(|error| panic!("attempt {attempt}: {error}")));
    }
}

#[tokio::test]
async fn a_good_start_follows_a_failed_one_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut wrong = config(dir.path());
    wrong.http.operator_token_file = Some(dir.path().join("token"));
    assert!(matches!(start(wrong.clone()).await, Err(StartError::Http(_))));
    std::fs::write(dir.path().join("token"), "0123456789abcdef0123456789abcdef").expect("written");
    let broker = start(wrong).await.expect("it starts");
    broker.tenants().create_named("acme", Default::default()).await.expect("a tenant");
}

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
