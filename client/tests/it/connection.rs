//! Connecting, being refused, losing the connection and coming back.

use std::{net::Ipv4Addr, time::Duration};

use tollgate_client::{
    Backoff, BatchError, Client, CloseCode, Code, ConnectError, Event, Request, Transport,
};

use crate::{frames::accepted, support::*};

#[tokio::test]
async fn questions_are_answered() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let version = client.version().await.expect("a version");
        assert_eq!((&*version.protocol, &*version.broker), ("tollgate/1", "9.9.9"));
        let recipes = client.recipes().await.expect("recipes");
        assert_eq!((&*recipes[0].name, recipes[0].timeout), ("echo", Duration::from_secs(5)));
        assert_eq!(client.limits().await.expect("limits").batch_items_max, 10_000);
        let usage = client.usage().await.expect("usage");
        assert_eq!(usage.quota("connections").expect("a line").limit, Some(10));
        assert_eq!(usage.quota("requests_per_second").expect("a line").limit, None);
        assert!(usage.quota("nothing").is_none());
        assert!(client.socket_buffers().expect("its own socket").receive > 0);
    })
    .await;
}

#[tokio::test]
async fn a_refused_certificate_shows_when_connecting() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let foreign = || broker.client().credentials(foreign_credentials());
        let e = foreign().connect().await.expect_err("refused");
        assert!(matches!(e, ConnectError::Unauthorized { .. }), "{e:?}");
        assert_eq!((e.code(), e.retryable()), (Some(Code::Unauthorized), false));

        // Without confirmation it shows in the first operation.
        let client = foreign().confirm(false).connect().await.expect("looks connected");
        let e = client.execute([Request::new("echo", "")]).await.expect_err("refused");
        assert_eq!(e.code(), Some(Code::Unauthorized), "{e:?}");
        assert!(e.to_string().contains("refused the client's certificate"), "{e}");
    })
    .await;
}

#[tokio::test]
async fn a_broker_of_another_authority_or_name_is_not_trusted() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let e = broker.client().credentials(suspicious_credentials()).connect().await;
        assert!(matches!(e, Err(ConnectError::UntrustedBroker { .. })), "{e:?}");
        let e = broker.client().server_name("elsewhere").connect().await;
        assert!(matches!(e, Err(ConnectError::UntrustedBroker { .. })), "{e:?}");
    })
    .await;
}

#[tokio::test]
async fn a_close_code_is_told_by_name_with_its_reason() {
    in_time(async {
        let broker = Broker::refusing(CloseCode::TenantSuspended, "acme is suspended");
        let e = broker.client().connect().await.expect_err("refused");
        assert_eq!((e.close_code(), e.retryable()), (Some(CloseCode::TenantSuspended), false));
        assert_eq!(
            e.to_string(),
            "the broker refused the connection: TENANT_SUSPENDED: acme is suspended"
        );
        let broker = Broker::refusing(CloseCode::QuotaExceeded, "connections: 10 of 10");
        let e = broker.client().connect().await.expect_err("refused");
        assert_eq!((e.code(), e.retryable()), (Some(Code::QuotaExceeded), true));
    })
    .await;
}

#[tokio::test]
async fn silence_and_nonsense_settings_are_told_apart() {
    in_time(async {
        let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let addr = silent.local_addr().expect("an address");
        let builder = Client::builder(addr).server_name("localhost").credentials(credentials());
        let after = Duration::from_millis(200);
        let e = builder.clone().connect_timeout(after).connect().await.expect_err("silent");
        assert!(matches!(e, ConnectError::Timeout { after: a } if a == after), "{e:?}");
        let transport = Transport { mtu_max: 9_000, ..Transport::default() };
        let e = builder.transport(transport).connect().await.expect_err("nonsense");
        assert!(matches!(e, ConnectError::Config(_)), "{e:?}");
        let e = Client::builder(addr).connect().await.expect_err("nobody");
        assert!(e.to_string().contains("no credentials"), "{e}");
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_fails_what_runs_and_comes_back_for_the_next() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            peer.requests().await;
            // And then never anything.
            peer.connection.closed().await;
        });
        let addr = broker.addr;
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        batch.send(Request::new("delay", "")).await.expect("sent");
        assert!(matches!(batch.next().await, Some(Ok(Event::Accepted(_)))));
        broker.stop(CloseCode::Draining, "be right back").await;
        let e = batch.next().await.expect("an error").expect_err("lost");
        assert_eq!(e.close_code(), Some(CloseCode::Draining));
        assert!(e.to_string().contains("DRAINING: be right back"), "{e}");
        assert!(matches!(e, BatchError::Disconnected(_)));
        assert!(client.connection().is_none());

        let broker = Broker::restart(addr).await;
        // Many wait, one connection is made.
        let calls = (0..20).map(|_| client.call_bytes("echo", "again").into_future());
        for answer in futures::future::join_all(calls).await {
            assert_eq!(answer.expect("an answer"), "again");
        }
        assert_eq!(broker.endpoint.open_connections(), 1);
        assert!(client.connection().is_some());
    })
    .await;
}

#[tokio::test]
async fn an_operation_waits_for_a_broker_that_comes_back_and_gives_up_in_the_end() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let addr = broker.addr;
        let reconnect =
            Backoff { first: Duration::from_millis(1), tries_max: 2, ..Backoff::RECONNECT };
        let client = broker
            .client()
            .connect_timeout(Duration::from_millis(300))
            .reconnect(reconnect)
            .connect()
            .await
            .expect("connected");
        broker.stop(CloseCode::Done, "").await;
        let e = client.version().await.expect_err("nobody is there");
        assert!(matches!(e, tollgate_client::DescribeError::Connect(_)), "{e:?}");
        // Given up half way: the next does not inherit its time-outs.
        let impatient = tokio::time::timeout(Duration::from_millis(10), client.version()).await;
        assert!(impatient.is_err());
        let _broker = Broker::restart(addr).await;
        client.version().await.expect("it is back");
    })
    .await;
}

#[tokio::test]
async fn other_credentials_open_another_connection_and_the_old_one_finishes() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let old = client.connection().expect("connected");
        let mut batch = client.batch().open().await.expect("open");
        batch.send(Request::new("echo", "before")).await.expect("sent");
        batch.flush().await.expect("flushed");

        client.set_credentials(&credentials()).expect("good credentials");
        assert_eq!(client.call_bytes("echo", "new").await.expect("an answer"), "new");
        let new = client.connection().expect("connected");
        assert_ne!(old.stable_id(), new.stable_id());
        assert_eq!(broker.endpoint.open_connections(), 2);

        batch.send(Request::new("echo", "after")).await.expect("the old one still works");
        batch.finish().await.expect("finished");
        let mut results = 0;
        while let Some(event) = batch.next().await {
            results += usize::from(matches!(event.expect("no error"), Event::Result(_)));
        }
        assert_eq!(results, 2);
        // With its last stream the old connection goes.
        drop((batch, old));
        while broker.endpoint.open_connections() > 1 {
            tokio::task::yield_now().await;
        }
        // Credentials that the broker refuses fail the next operation, for good.
        client.set_credentials(&foreign_credentials()).expect("well formed");
        let e = client.version().await.expect_err("refused");
        assert_eq!(e.code(), Some(Code::Unauthorized));
    })
    .await;
}

#[tokio::test]
async fn clients_can_share_an_endpoint_and_close_apart() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let first = broker.connect().await;
        let second =
            broker.client().endpoint(first.endpoint().clone()).connect().await.expect("connected");
        second.close().await;
        let e = second.execute([Request::new("echo", "")]).await.expect_err("closed");
        assert!(matches!(e, BatchError::Connect(ConnectError::ClientClosed)), "{e}");
        assert_eq!(first.call_bytes("echo", "x").await.expect("an answer"), "x");
        first.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_goes_on_while_the_socket_moves() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        for n in 0..5u8 {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            client.endpoint().rebind(socket).expect("rebound");
            batch.send(Request::new("echo", vec![n])).await.expect("sent");
            while !matches!(batch.next().await, Some(Ok(Event::Result(_)))) {}
        }
        batch.finish().await.expect("finished");
        assert!(matches!(batch.next().await, Some(Ok(Event::Summary(s))) if s.total == 5));
    })
    .await;
}
