//! Random batches: whatever is sent and whenever it is given up, every item that was read has
//! exactly one result, and the summary tells the truth.

use std::collections::BTreeMap;

use tollgate_protocol::{
    BrokerFrame, ClientFrame,
    batch::{CancelScope, Ended, Mode, Order},
};
use tollgate_tests::{Rig, raw::Raw, stage::Stage};

/// A generator that is the same every time: xorshift64*.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const RECIPES: &[&str] = &[
    "echo",
    "echo",
    "fail",
    "panic",
    "quick",
    "later",
    "later.fail",
    "later.panic",
    "nope",
    "invalid",
    "gate",
    "gate.two",
    "steps",
    "pool",
];

/// How a batch is ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Seal,
    SealAndFin,
    Fin,
    Frame(CancelScope),
    Reset(u32),
    Nothing,
}

const ENDS: &[End] = &[
    End::Seal,
    End::Seal,
    End::SealAndFin,
    End::Fin,
    End::Frame(CancelScope::Pending),
    End::Frame(CancelScope::All),
    End::Reset(0),
    End::Reset(1),
    End::Reset(2),
    End::Nothing,
];

/// What a summary says: why it ended, read, succeeded, failed by code, last id, bytes out.
type Counts = (Ended, u64, u64, BTreeMap<u16, u64>, Option<u64>, u64);

/// What the client did, and what it saw.
#[derive(Default)]
struct Told {
    results: Vec<(u64, u16)>,
    broken: Vec<String>,
    summary: Option<Counts>,
    bytes: u64,
}

impl Told {
    fn see(&mut self, frame: &BrokerFrame<'_>) {
        if self.summary.is_some() {
            self.broken.push(format!("after the summary: {frame:?}"));
        }
        match frame {
            BrokerFrame::Result(r) => {
                if let tollgate_protocol::batch::Body::Payload(p) = r.body {
                    self.bytes += p.len() as u64;
                }
                self.results.push((r.id, r.code));
            }
            BrokerFrame::Progress(p) if self.results.iter().any(|(id, _)| *id == p.id) => {
                self.broken.push(format!("progress after its result: {p:?}"));
            }
            BrokerFrame::Summary(s) => {
                let failed = s.failed.iter().copied().collect();
                let counts = (s.ended, s.total, s.succeeded, failed, s.last_id_read, s.bytes_out);
                self.summary = Some(counts);
            }
            BrokerFrame::Error { code, .. } => self.broken.push(format!("an error: {code}")),
            _ => {}
        }
    }
}

async fn one_batch(raw: &Raw, stage: &Stage, random: &mut Seeded) {
    let deadline = random.pick(&[None, None, Some(0), Some(3), Some(40), Some(60_000)]);
    let order = random.pick(Order::ALL);
    let (mode, end) = (random.pick(Mode::ALL), random.pick(ENDS));
    // Something must end it.
    let deadline = if matches!(end, End::Nothing) { deadline.or(Some(30)) } else { deadline };
    let deadline =
        deadline.map(|ms: u64| ms.min(if matches!(end, End::Nothing) { 40 } else { ms }));
    let concurrency = random.pick(&[0, 1, 2, 7]);
    let items = random.below(120);
    stage.open(4_000);
    stage.open_pool(items as usize);
    let mut batch = raw
        .batch_with(|open| {
            (open.mode, open.order, open.deadline_ms) = (mode, order, deadline);
            (open.concurrency_max, open.priority) = (concurrency, 3);
        })
        .await;
    let (mut sent, mut id) = (Vec::new(), 0);
    for _ in 0..items {
        id += 1 + random.below(3);
        let recipe = random.pick(RECIPES);
        let len = random.pick(&[0, 1, 30, 900]);
        let mut payload = vec![b'0'; len];
        payload.extend(random.below(20).to_string().bytes());
        let request = tollgate_protocol::batch::Request::new(id, recipe, &payload);
        let mut bytes = Vec::new();
        tollgate_protocol::encode(&ClientFrame::Request(request), &mut bytes);
        // It may have been stopped already: by its deadline, or by a failure.
        if batch.send.write_all(&bytes).await.is_err() {
            break;
        }
        sent.push(id);
        if random.below(10) == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut bytes = Vec::new();
    match end {
        End::Seal | End::SealAndFin => {
            let seal = ClientFrame::Seal { items: sent.len() as u64 };
            tollgate_protocol::encode(&seal, &mut bytes);
        }
        End::Frame(scope) => {
            tollgate_protocol::encode(&ClientFrame::Cancel(scope), &mut bytes);
        }
        _ => {}
    }
    let _ = batch.send.write_all(&bytes).await;
    let mut told = Told::default();
    if matches!(end, End::Reset(_)) {
        // What a reset overtakes was never sent, the opening of the batch included.
        batch.next(|f| told.see(&f)).await.expect("an answer");
    }
    match end {
        End::Fin | End::SealAndFin => drop(batch.send.finish()),
        End::Reset(code) => drop(batch.send.reset(code.into())),
        _ => {}
    }
    let ended = loop {
        if let Err(ended) = batch.try_next(|f| told.see(&f)).await {
            break ended;
        }
    };
    let how = format!("{mode:?} {order:?} {end:?} {deadline:?} {concurrency} {ended:?}");
    assert_eq!(ended, tollgate_tests::raw::Ending::Finished, "{how}: {:?}", told.results);
    holds(&told, &sent, order, &how);
}

#[track_caller]
fn holds(told: &Told, sent: &[u64], order: Order, how: &str) {
    assert_eq!(told.broken, [""; 0], "{how}");
    let (ended, total, succeeded, failed, last_id, bytes_out) =
        told.summary.as_ref().unwrap_or_else(|| panic!("no summary: {how}: {sent:?}"));
    let read: Vec<u64> = match last_id {
        None => Vec::new(),
        Some(last) => sent.iter().copied().filter(|id| id <= last).collect(),
    };
    let mut ids: Vec<u64> = told.results.iter().map(|r| r.0).collect();
    if order == Order::Submission {
        assert_eq!(ids, read, "{how}: {ended:?}: in their order");
    }
    ids.sort_unstable();
    assert_eq!(ids, read, "{how}: {ended:?}: exactly one result for each item that was read");
    assert_eq!(*total, read.len() as u64, "{how}");
    let mut counts = BTreeMap::new();
    told.results.iter().for_each(|(_, code)| *counts.entry(*code).or_insert(0) += 1);
    assert_eq!(counts.remove(&0).unwrap_or(0), *succeeded, "{how}");
    assert_eq!(counts, *failed, "{how}");
    assert_eq!(told.bytes, *bytes_out, "{how}");
    if *ended == Ended::Sealed {
        assert_eq!(read, sent, "{how}: a sealed batch was read whole");
    }
}

async fn check(seed: u64) {
    let (rig, stage) = Rig::staged(|c| c.batch.waiting_items_max = 16).await;
    let raw = rig.raw("acme").await;
    let mut random = Seeded(seed);
    for _ in 0..60 {
        one_batch(&raw, &stage, &mut random).await;
    }
    assert!(raw.serves().await);
    stage.open_pool(10_000);
    rig.idle().await;
}

#[tokio::test]
async fn every_item_read_has_exactly_one_result_1() {
    check(0x5eed_0001).await;
}

#[tokio::test]
async fn every_item_read_has_exactly_one_result_2() {
    check(0x5eed_0002).await;
}

#[tokio::test]
async fn every_item_read_has_exactly_one_result_3() {
    check(0x5eed_0003).await;
}
