//! Waiting for a rate, under a paused clock.

use std::sync::Mutex;

use super::*;
use crate::tenancy::WaitNews;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn requests(limit: u64) -> Arc<Tenant> {
    tenant(|s| s.overrides.requests_per_second = Some(Limit::at_most(limit)))
}

fn charge(t: &Arc<Tenant>, n: usize) -> Charged {
    t.charge(now(), std::iter::repeat_n(0, n))
}

fn told(c: Charged) -> Kind {
    c.stop.expect("a stop").kind
}

/// Uses the limit up at a moment that begins a bucket, so that waits are round.
async fn used_up(limit: u64) -> Arc<Tenant> {
    let t = requests(limit);
    let c = charge(&t, limit as usize + 1);
    assert_eq!((c.admitted as u64, told(c)), (limit, Kind::Wait(ms(1_000))));
    t
}

#[tokio::test(start_paused = true)]
async fn a_stop_names_the_quota_and_its_numbers() {
    let t = used_up(10).await;
    let stop = charge(&t, 1).stop.expect("a stop");
    let kind = Kind::Wait(ms(1_000));
    let expected = Stop { quota: Quota::RequestsPerSecond, current: 10, limit: 10, kind };
    assert_eq!((stop, stop.wait_ms()), (expected, Some(1_000)));
    let large = t.charge(now(), [u64::MAX].into_iter()).stop.expect("a stop");
    assert_eq!((large.quota, large.kind), (Quota::BytesPerSecond, Kind::Never));
    assert_eq!(large.wait_ms(), None);
}

#[tokio::test(start_paused = true)]
async fn milliseconds_are_rounded_up() {
    let kind = Kind::Wait(Duration::from_nanos(1_000_001));
    let stop = Stop { quota: Quota::RequestsPerSecond, current: 1, limit: 1, kind };
    assert_eq!(stop.wait_ms(), Some(2));
}

/// A stream that takes one item, waiting as long as it must, and notes its name.
async fn stream(
    t: Arc<Tenant>,
    name: usize,
    order: Arc<Mutex<Vec<(usize, Duration)>>>,
    t0: Instant,
) {
    let mut ticket = t.begin_wait();
    loop {
        ticket.turn().await;
        if ticket.charge(now(), [0].into_iter()).admitted == 1 {
            order.lock().expect("no panic").push((name, now() - t0));
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn paced_streams_are_released_in_the_order_in_which_they_began_to_wait() {
    let t0 = now();
    let t = used_up(10).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut streams = Vec::new();
    for name in 0..20 {
        streams.push(tokio::spawn(stream(t.clone(), name, order.clone(), t0)));
        tokio::task::yield_now().await;
    }
    assert_eq!(t.waiting(), 20);
    for s in streams {
        done(s).await;
    }
    let order = order.lock().expect("no panic");
    let names: Vec<_> = order.iter().map(|(n, _)| *n).collect();
    assert_eq!(names, (0..20).collect::<Vec<_>>());
    // One a bucket: a tenth of 10, from when the burst has left the window.
    for (i, (_, at)) in order.iter().enumerate() {
        let due = ms(1_000 + 100 * i as u64);
        assert!(*at >= due && *at < due + ms(5), "{i} at {at:?}");
    }
    assert_eq!(t.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_later_does_not_pass_those_who_wait() {
    let t = used_up(10).await;
    let mut ticket = t.begin_wait();
    let behind = t.begin_wait();
    tokio::time::advance(ms(3_000)).await;
    let c = charge(&t, 1);
    assert_eq!((c.admitted, told(c)), (0, Kind::Wait(Duration::ZERO)), "there is room, not for it");
    ticket.turn().await;
    assert_eq!(ticket.charge(now(), [0].into_iter()).admitted, 1);
    drop((ticket, behind));
    assert_eq!(charge(&t, 1).admitted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_dropped_makes_way() {
    let t = used_up(10).await;
    let (first, second) = (t.begin_wait(), t.begin_wait());
    let mut third = t.begin_wait();
    let turn = tokio::spawn(async move {
        third.turn().await;
        third.charge(now(), [0].into_iter())
    });
    tokio::task::yield_now().await;
    drop(second);
    tokio::task::yield_now().await;
    assert!(!turn.is_finished());
    drop(first);
    assert_eq!(done(turn).await.admitted, 0, "its turn, but not yet its time");
    assert_eq!(t.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_dropped_half_way_loses_nothing() {
    let t = used_up(10).await;
    let mut ticket = t.begin_wait();
    assert_eq!(told(ticket.charge(now(), [0].into_iter())), Kind::Wait(ms(1_000)));
    for _ in 0..5 {
        assert!(tokio::time::timeout(ms(100), ticket.turn()).await.is_err());
    }
    let before = now();
    ticket.turn().await;
    assert!(now() - before >= ms(450) && now() - before <= ms(505));
    assert_eq!(ticket.charge(now(), [0].into_iter()).admitted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_acts_on_those_who_wait() {
    let registry = Registry::in_memory(&Config::default());
    let quotas = Quotas { requests_per_second: Limit::at_most(10), ..Quotas::DEFAULT };
    let settings = Settings::with_quotas(&quotas);
    let t = registry.create_named("acme", settings).await.expect("a valid id");
    assert_eq!(charge(&t, 11).admitted, 10);
    let mut ticket = t.begin_wait();
    let before = now();
    let admitted = tokio::spawn(async move {
        loop {
            ticket.turn().await;
            if ticket.charge(now(), [0].into_iter()).admitted == 1 {
                return now();
            }
        }
    });
    tokio::task::yield_now().await;
    let raise = |s: &mut Settings| s.overrides.requests_per_second = Some(Limit::at_most(1_000));
    registry.update("acme", None, raise).await.expect("it exists");
    let at = done(admitted).await;
    // What was taken before is more than the first slice of the new limit.
    assert!(at - before < ms(10), "{:?}", at - before);
}

#[tokio::test(start_paused = true)]
async fn bytes_out_are_paced_in_shares() {
    let t = tenant(|s| s.overrides.bytes_per_second = Some(Limit::at_most(1_000)));
    assert_eq!(t.take_out(now(), 400), (400, None));
    let (granted, stop) = t.take_out(now(), 1_000);
    assert_eq!(granted, 600, "what there is");
    let stop = stop.expect("not all");
    assert_eq!((stop.quota, stop.kind), (Quota::BytesPerSecond, Kind::Wait(ms(1_000))));
    let (began, mut left, mut wait) = (now(), 400, stop.wait());
    let mut buckets = [0; 4];
    while let Some(time) = wait {
        tokio::time::sleep(time).await;
        let (granted, stop) = t.take_out(now(), left);
        assert!((1..=7).contains(&granted), "a sixteenth of a bucket's hundred: {granted}");
        left -= granted;
        let bucket = (now() - began - ms(1_000)).as_millis() / 100;
        buckets[bucket as usize] += granted;
        wait = stop.and_then(|s| s.wait());
    }
    assert_eq!((left, t.used(Quota::RequestsPerSecond, now())), (0, 0));
    assert_eq!(buckets, [100; 4], "a tenth a bucket");
}

#[tokio::test(start_paused = true)]
async fn messages_wait_in_the_same_line_as_items() {
    let t = tenant(|s| s.overrides.messages_per_second = Some(Limit::at_most(10)));
    let messages = |n| std::iter::repeat_n(Cost::one(0), n);
    let c = t.charge_messages(now(), messages(11));
    assert_eq!((c.admitted, c.stop.map(|s| s.quota)), (10, Some(Quota::MessagesPerSecond)));
    let mut ticket = t.begin_wait();
    assert_eq!(ticket.charge_messages(now(), messages(1)).admitted, 0);
    assert_eq!(charge(&t, 1).admitted, 0, "an item does not pass who waits for bytes too");
    assert_eq!(t.deliver_messages(now(), messages(1)).admitted, 1, "what goes out is apart");
    tokio::time::timeout(ms(1_001), ticket.turn()).await.expect("its time comes");
    assert_eq!(ticket.charge_messages(now(), messages(1)).admitted, 1);
    drop(ticket);
    assert_eq!(charge(&t, 1).admitted, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_out_under_a_limit_of_0_but_what_has_no_bytes() {
    let t = tenant(|s| s.overrides.bytes_per_second = Some(Limit::NONE));
    assert_eq!(t.take_out(now(), 0), (0, None));
    let (granted, stop) = t.take_out(now(), 1);
    assert_eq!((granted, stop.map(|s| s.kind)), (0, Some(Kind::Never)));
}

#[test]
fn a_stream_is_told_that_it_waits_ten_times_a_second_at_most() {
    let (mut news, start) = (WaitNews::default(), Instant::now());
    let told: Vec<_> = [0, 99, 100, 150, 199, 200].map(|n| news.is_due(start + ms(n))).into();
    assert_eq!(told, [true, false, true, false, false, true]);
}

#[test]
fn what_was_before_the_registry_counts_as_its_beginning() {
    let before = Instant::now();
    let t = requests(1);
    assert_eq!(t.charge(before, [0].into_iter()).admitted, 1);
    assert_eq!(t.charge(before, [0].into_iter()).admitted, 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_wakes_who_asks_with_a_new_future_each_time() {
    let t = used_up(10).await;
    let mut ticket = t.begin_wait();
    ticket.turn().await;
    assert_eq!(ticket.charge(now(), [0].into_iter()).admitted, 0);
    let polled = std::future::poll_fn(|cx| std::pin::pin!(ticket.turn()).poll(cx));
    let woken = tokio::time::timeout(ms(1_001), polled).await;
    assert!(woken.is_ok(), "nobody was woken when the wait was over");
    assert_eq!(ticket.charge(now(), [0].into_iter()).admitted, 1);
}
