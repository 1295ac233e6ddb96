//! Starts that fail, and the start after them on the same directory.
//!
//! No test here starts a process: a child holds what its parent had open until it becomes its own
//! program, the lock of a directory among it.

use std::{net::SocketAddr, path::Path};

use tollgate_broker::{
    Broker, Config, StartError,
    config::Http,
    recipes,
    store::{self, Kind, Record, Store, record::system},
};

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
    type Change<'a> = &'a dyn Fn(&mut Config);
    let wrong: [(&str, Change<'_>); 6] = [
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
