//! An upstream that fails is left alone, and found again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tollgate_broker::{MetricsFormat, events::News};
use tollgate_client::{Client, Request};
use tollgate_tests::{
    Rig, eventually,
    upstream::{Service, Step, adds, upstream, whole},
};

use super::{call, failure, once, says};

const REFUSED: (&str, bool, bool) = ("UPSTREAM_FAILED", true, true);

fn shows(rig: &Rig, line: &str) -> bool {
    rig.broker.metrics(MetricsFormat::Text).lines().any(|l| l == line)
}

/// A service that works or does not, as its switch says.
async fn switched() -> (Service, Arc<AtomicBool>) {
    let works = Arc::new(AtomicBool::new(false));
    let switch = works.clone();
    let service = Service::start(move |_| match switch.load(Relaxed) {
        true => whole(200, &[], "ok"),
        false => whole(503, &[], ""),
    })
    .await;
    (service, works)
}

/// Calls until the upstream was asked once more, as it is when its time alone is over.
async fn until_asked(client: &Client, service: &Service) -> tollgate_client::ItemResult {
    let before = service.seen().asked.len();
    let ask = async {
        loop {
            let result = call(client, "x").await;
            if service.seen().asked.len() > before {
                return result;
            }
            let wait = failure(&result).retry_after.expect("it says when");
            tokio::time::sleep(wait).await;
        }
    };
    tokio::time::timeout(tollgate_tests::SOON, ask).await.expect("it is asked again")
}

#[tokio::test]
async fn it_opens_refuses_at_once_lets_one_through_and_closes() {
    let (service, works) = switched().await;
    let mut of = service.upstream("call", |_| {});
    (of.breaker.failures, of.breaker.open_ms) = (3, 300);
    let rig = Rig::with(adds(of)).await;
    let mut events = rig.broker.events().subscribe(None);
    let client = rig.client("acme").await;
    for _ in 0..3 {
        assert_eq!(says(&call(&client, "x").await), ("UPSTREAM_FAILED", false, false));
    }
    let refused = call(&client, "x").await;
    assert_eq!(says(&refused), REFUSED);
    let f = failure(&refused);
    assert_eq!(
        (f.details.get("phase"), f.details.get("upstream")),
        (Some("breaker"), Some("service"))
    );
    let wait = f.retry_after.expect("it says when");
    assert!(wait <= Duration::from_millis(300), "{wait:?}");
    assert_eq!(service.seen().asked.len(), 3, "it is left alone");
    assert!(shows(&rig, "tollgate_upstream_breaker{upstream=\"service\"} 2"));
    assert!(shows(
        &rig,
        "tollgate_upstream_requests_total{upstream=\"service\",outcome=\"refused\"} 1"
    ));
    assert!(shows(
        &rig,
        "tollgate_upstream_requests_total{upstream=\"service\",outcome=\"5xx\"} 3"
    ));

    // The one that goes through to see finds that it still fails.
    assert_eq!(
        failure(&until_asked(&client, &service).await).details.get("http_status"),
        Some("503")
    );
    assert_eq!(says(&call(&client, "x").await), REFUSED);
    works.store(true, Relaxed);
    assert!(until_asked(&client, &service).await.is_success());
    assert!(call(&client, "x").await.is_success());
    assert_eq!(service.seen().asked.len(), 6);
    assert!(shows(&rig, "tollgate_upstream_breaker{upstream=\"service\"} 0"));

    let mut told = Vec::new();
    while let Some(News::Event(event)) = events.try_next() {
        let json = serde_json::to_value(&*event).expect("JSON");
        if let Some(upstream) = json.get("upstream") {
            told.push(format!("{} {upstream}", event.kind.name()));
        }
    }
    assert_eq!(told, ["upstream_failing \"service\"", "upstream_recovered \"service\""]);
    rig.idle().await;
}

#[tokio::test]
async fn the_client_crate_comes_back_when_it_is_told_to() {
    let (service, works) = switched().await;
    let mut of = service.upstream("call", |_| {});
    (of.breaker.failures, of.breaker.open_ms) = (1, 200);
    let rig = Rig::with(adds(of)).await;
    let client = rig.client("acme").await;
    assert_eq!(says(&call(&client, "x").await), ("UPSTREAM_FAILED", false, false));
    works.store(true, Relaxed);
    // Not idempotent, and yet: the first answer says that nothing was done, and when to come back.
    let result = client.execute([Request::new("call", "x")]).await.expect("a batch");
    assert_eq!(result.successes().count(), 1, "{result:?}");
    assert_eq!(service.seen().asked.len(), 2);
}

#[tokio::test]
async fn when_it_is_half_open_so_many_go_through_and_no_more() {
    let gate = |_: &_| [vec![Step::Gate], whole(200, &[], "")].into_iter().flatten().collect();
    let service = Service::start(gate).await;
    let mut of = service.upstream("call", |r| r.timeout_ms = Some(300));
    (of.breaker.failures, of.breaker.open_ms, of.breaker.probes) = (1, 50, 2);
    let rig = Rig::with(adds(of)).await;
    let client = rig.client("acme").await;
    assert_eq!(says(&call(&client, "x").await), ("TIMEOUT", false, false));
    eventually("it is half-open", || {
        shows(&rig, "tollgate_upstream_breaker{upstream=\"service\"} 1")
    })
    .await;
    let ten = client.batch().retry(tollgate_client::RetryPolicy::none());
    let ten = ten.execute((0..10).map(|_| Request::new("call", "x")).collect::<Vec<_>>());
    let open = async {
        service.until("two are asked", |s| s.asked.len() == 3).await;
        service.open(2);
    };
    let (ten, ()) = tokio::join!(ten, open);
    let ten = ten.expect("a batch");
    assert_eq!(ten.successes().count(), 2);
    assert!(ten.failures().all(|r| says(r) == REFUSED), "{ten:?}");
    assert_eq!(service.seen().asked.len(), 3);
    assert!(shows(&rig, "tollgate_upstream_breaker{upstream=\"service\"} 0"));
}

#[tokio::test]
async fn an_impatient_client_does_not_make_an_upstream_look_broken() {
    let service = Service::start(|a| match &a.body[..] {
        b"slow" => vec![Step::Hang],
        _ => whole(200, &[], ""),
    })
    .await;
    let mut of = service.upstream("call", |_| {});
    of.breaker.failures = 2;
    let rig = Rig::with(adds(of)).await;
    let client = rig.client("acme").await;
    for _ in 0..5 {
        let impatient = Request::new("call", "slow").timeout(Duration::from_millis(30));
        assert_eq!(says(&once(&client, impatient).await), ("TIMEOUT", false, false));
    }
    assert!(call(&client, "quick").await.is_success());
    eventually("they were counted", || {
        shows(
            &rig,
            "tollgate_upstream_requests_total{upstream=\"service\",outcome=\"timed_out\"} 5",
        )
    })
    .await;
}

#[tokio::test]
async fn what_a_tenant_asks_in_vain_does_not_take_the_upstream_from_another() {
    let service = Service::start(|a| match &a.body[..] {
        b"poison" => vec![Step::Close],
        _ => whole(200, &[], ""),
    })
    .await;
    let mut of = service.upstream("call", |_| {});
    of.breaker.failures = 3;
    let rig = Rig::with(adds(of)).await;
    let (acme, globex) = (rig.client("acme").await, rig.client("globex").await);
    assert!(call(&globex, "good").await.is_success());
    for _ in 0..20 {
        assert_eq!(says(&call(&acme, "poison").await), ("UPSTREAM_FAILED", false, false));
    }
    assert!(call(&globex, "good").await.is_success(), "it was served all the while");
}

#[tokio::test]
async fn an_upstream_that_is_down_disturbs_no_other_recipe_and_no_other_upstream() {
    let good = Service::start(|_| whole(200, &[], "ok")).await;
    let hangs = Service::start(|_| vec![Step::Hang]).await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let nowhere = format!("http://{}", socket.local_addr().expect("an address"));
    drop(socket);
    let rig = Rig::with(|config| {
        config.upstreams.insert("good".into(), good.upstream("good", |_| {}));
        config.upstreams.insert("nowhere".into(), upstream(&nowhere, "nowhere", |_| {}));
        config.upstreams.insert("hangs".into(), hangs.upstream("hangs", |_| {}));
    })
    .await;
    let (acme, globex) = (rig.client("acme").await, rig.client("globex").await);
    let trouble = ["nowhere", "hangs"].into_iter().cycle().take(200);
    let trouble = trouble.map(|r| Request::new(r, "x").timeout(Duration::from_secs(2)));
    let patience = acme.batch().retry(tollgate_client::RetryPolicy::none());
    let trouble = patience.execute(trouble.collect::<Vec<_>>());
    let others = async {
        hangs.until("it holds all that it takes", |s| s.running == 64).await;
        for _ in 0..20 {
            for client in [&acme, &globex] {
                assert!(once(client, Request::new("good", "x")).await.is_success());
                assert!(once(client, Request::new("echo", "x")).await.is_success());
            }
        }
    };
    let (trouble, ()) = tokio::join!(trouble, others);
    let trouble = trouble.expect("a batch");
    assert_eq!(trouble.failures().count(), 200);
    assert_eq!(hangs.seen().most, 64);
    rig.idle().await;
}
