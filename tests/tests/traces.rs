//! A client's trace goes on in the broker: recipes hand it on, and a collector gets its spans.

use std::{sync::mpsc, time::Duration};

use axum::{Router, body::Bytes as Body, routing::post};
use bytes::Bytes;
use opentelemetry::trace::TracerProvider;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prost::Message;
use tollgate_broker::batch::{Catalog, Context, Error, Recipe, Reply, Spec};
use tollgate_client::{Client, ClientCredentials, Request};
use tollgate_tests::{Rig, SOON, process::Served};
use tracing_subscriber::layer::SubscriberExt;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// A recipe that answers with the trace context it was given.
struct Told;

impl Recipe for Told {
    async fn run(&self, ctx: Context, _: Bytes) -> Result<Reply, Error> {
        Ok(Reply::from(ctx.traceparent().unwrap_or("none").to_owned()))
    }
}

fn telling() -> Catalog {
    Catalog::builder().recipe("told", Spec::bytes(), Told).build().expect("a catalog")
}

async fn told(client: &Client, traceparent: Option<&str>) -> String {
    let mut batch = client.batch();
    if let Some(traceparent) = traceparent {
        batch = batch.traceparent(traceparent);
    }
    let outcome = batch.execute([Request::new("told", Bytes::new())]).await.expect("a batch");
    let results = outcome.into_result().expect("no failures");
    String::from_utf8(results[0].payload().expect("an answer").to_vec()).expect("text")
}

/// One test, as who listens is the whole process's.
#[tokio::test]
async fn recipes_hand_on_the_clients_trace_or_the_brokers_span_of_it() {
    let rig = Rig::with_catalog(telling(), |_| {}).await;
    let client = rig.client("acme").await;
    let sampled = traceparent("01");
    assert_eq!(
        told(&client, Some(&sampled)).await,
        sampled,
        "nobody listens: as the client sent it"
    );
    assert_eq!(told(&client, None).await, "none");

    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("the first");
    let own = told(&client, Some(&sampled)).await;
    assert!(own.starts_with(&format!("00-{TRACE}-")) && own.ends_with("-01"), "{own}");
    assert!(!own.contains(PARENT), "{own} is a span of the broker's own");
    let unsampled = told(&client, Some(&traceparent("00"))).await;
    assert!(unsampled.contains(TRACE) && unsampled.ends_with("-00"), "{unsampled}");
    let new = told(&client, None).await;
    assert!(new.starts_with("00-") && !new.contains(TRACE), "{new}");
}

/// A collector on a thread of its own: the address for spans, and the spans that it is sent.
fn collector() -> (String, mpsc::Receiver<Span>) {
    let (tell, spans) = mpsc::sync_channel(1_024);
    let (ready, addr) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let take = move |body: Body| {
                let tell = tell.clone();
                async move {
                    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
                    let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
                    scopes.flat_map(|s| s.spans).for_each(|span| drop(tell.send(span)));
                }
            };
            let app = Router::new().route("/v1/traces", post(take));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            ready.send(listener.local_addr().expect("an address")).expect("awaited");
            axum::serve(listener, app).await.expect("served");
        });
    });
    let addr = addr.recv_timeout(SOON).expect("a collector");
    (format!("http://{addr}/v1/traces"), spans)
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    span.attributes.iter().find(|a| a.key == key)?.value.clone()?.value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn a_collector_gets_what_the_client_samples_before_the_process_ends() {
    let (endpoint, spans) = collector();
    let endpoint = format!("telemetry.otlp_endpoint={endpoint}");
    let quiet = "telemetry.otlp_sample_ratio=0.0";
    let served = Served::start(&["--set", &endpoint, "--set", quiet]);
    let certs = served.dir.path().join(served.issue(&["--tenant", "acme"]));
    let credentials = ClientCredentials::load_dir(&certs).expect("certificates");
    let builder = Client::builder(served.addr).server_name("localhost").credentials(credentials);
    let client = builder.connect().await.expect("connected");
    for traceparent in [Some(traceparent("01")), Some(traceparent("00")), None] {
        let mut batch = client.batch();
        if let Some(traceparent) = traceparent {
            batch = batch.traceparent(traceparent);
        }
        let items = ["echo", "echo", "panic"].map(|r| Request::new(r, Bytes::new()));
        let _ = batch.execute(items).await.expect("a batch");
    }
    drop(client);
    served.signal(libc::SIGTERM);
    let ended = tokio::task::spawn_blocking(move || served.ended().0).await.expect("it ends");
    assert_eq!(ended, 0);

    let span = spans.recv_timeout(SOON).expect("a span");
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(span.name, "batch");
    assert_eq!(attribute(&span, "tenant"), Some(Value::StringValue("acme".into())));
    assert_eq!(attribute(&span, "ended"), Some(Value::StringValue("sealed".into())));
    assert_eq!(attribute(&span, "items"), Some(Value::IntValue(3)));
    assert_eq!(attribute(&span, "failed"), Some(Value::IntValue(1)));
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    let events: Vec<_> = span.events.iter().map(|e| e.name.as_str()).collect();
    assert!(events.contains(&"a recipe panicked"), "{events:?}");
    // All there is was sent before the process ended.
    assert!(spans.recv_timeout(Duration::ZERO).is_err(), "what was not sampled is not sent");
}
