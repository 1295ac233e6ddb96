//! Who may begin a handshake: bounds on how many are under way, and how fast one source may knock.
//!
//! Judges addresses and counts only; the certificate is judged later, by TLS.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use foldhash::HashMap;

use super::Config;

/// What to do with a client that knocks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let the handshake begin.
    Accept,
    /// First let it prove that it has the address it claims.
    Retry,
    /// Pretend not to have heard: it will send again.
    Ignore,
    /// Turn it away.
    Refuse,
}

/// The gate of an endpoint. Owned by the task that accepts.
#[derive(Debug)]
pub(super) struct Gate {
    under_way: Arc<AtomicUsize>,
    max: usize,
    retry_from: usize,
    rate: f64,
    burst: f64,
    loopback_exempt: bool,
    sources: HashMap<IpAddr, Bucket>,
    swept: Instant,
}

/// A token bucket: `level` tokens at `at`.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

/// Sources remembered at most; beyond it the oldest half is forgotten, which errs for the client.
const SOURCES_MAX: usize = 65_536;

/// A handshake under way; over when dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Gate {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        Gate {
            under_way: Arc::default(),
            max: config.handshakes_max,
            retry_from: config.handshakes_retry_from,
            rate: f64::from(config.source_connections_per_second),
            burst: f64::from(config.source_connections_burst.max(1)),
            loopback_exempt: config.source_loopback_exempt,
            sources: HashMap::default(),
            swept: now,
        }
    }

    /// Judges a knock. `validated`: the address is proven.
    pub(super) fn judge(&mut self, from: SocketAddr, validated: bool, now: Instant) -> Verdict {
        let under_way = self.under_way.load(Relaxed);
        if under_way >= self.max {
            return Verdict::Ignore;
        }
        if under_way >= self.retry_from && !validated {
            return Verdict::Retry;
        }
        if self.loopback_exempt && from.ip().to_canonical().is_loopback() {
            return Verdict::Accept;
        }
        if self.take(source(from.ip()), now) { Verdict::Accept } else { Verdict::Refuse }
    }

    /// Counts a handshake that begins.
    pub(super) fn begin(&self) -> UnderWay {
        self.under_way.fetch_add(1, Relaxed);
        UnderWay(self.under_way.clone())
    }

    fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        self.sweep(now);
        let (rate, burst) = (self.rate, self.burst);
        let bucket = self.sources.entry(source).or_insert(Bucket { level: burst, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.level = (bucket.level + passed * rate).min(burst);
        bucket.at = now;
        let enough = bucket.level >= 1.0;
        if enough {
            bucket.level -= 1.0;
        }
        enough
    }

    /// Forgets sources whose bucket is full again, so that memory follows who knocks now.
    fn sweep(&mut self, now: Instant) {
        const EVERY_S: f64 = 1.0;
        let full = self.sources.len() >= SOURCES_MAX;
        if !full && now.saturating_duration_since(self.swept).as_secs_f64() < EVERY_S {
            return;
        }
        self.swept = now;
        let refill_s = self.burst / self.rate.max(f64::MIN_POSITIVE);
        self.sources.retain(|_, b| now.saturating_duration_since(b.at).as_secs_f64() < refill_s);
        if self.sources.len() >= SOURCES_MAX {
            let mut keep = false;
            self.sources.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }
}

/// What counts as one source: an IPv4 address, an IPv6 /64.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gate(now: Instant) -> Gate {
        Gate::new(&Config::default(), now)
    }

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 4000)
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let t = Instant::now();
        let mut gate = gate(t);
        let knock = |gate: &mut Gate, ip, at| gate.judge(from(ip), false, at) == Verdict::Accept;
        assert_eq!((0..100).filter(|_| knock(&mut gate, "192.0.2.1", t)).count(), 40);
        assert!(knock(&mut gate, "192.0.2.2", t), "another source is not affected");
        let later = t + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| knock(&mut gate, "192.0.2.1", later)).count(), 20);
        assert_eq!((0..100).filter(|_| knock(&mut gate, "127.0.0.1", t)).count(), 100);
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let t = Instant::now();
        let mut gate = gate(t);
        let admitted = (0..100)
            .filter(|i| gate.judge(from(&format!("2001:db8::{i:x}")), false, t) == Verdict::Accept)
            .count();
        assert_eq!(admitted, 40);
        assert_eq!(gate.judge(from("2001:db8:0:1::1"), false, t), Verdict::Accept);
    }

    #[test]
    fn under_load_addresses_must_be_proven_and_then_knocks_are_ignored() {
        let t = Instant::now();
        let mut gate = gate(t);
        let mut held: Vec<_> = (0..63).map(|_| gate.begin()).collect();
        assert_eq!(gate.judge(from("127.0.0.1"), false, t), Verdict::Accept);
        held.push(gate.begin());
        assert_eq!(gate.judge(from("127.0.0.1"), false, t), Verdict::Retry);
        assert_eq!(gate.judge(from("127.0.0.1"), true, t), Verdict::Accept);
        held.extend((64..256).map(|_| gate.begin()));
        assert_eq!(gate.judge(from("127.0.0.1"), true, t), Verdict::Ignore);
        drop(held);
        assert_eq!(gate.judge(from("127.0.0.1"), false, t), Verdict::Accept);
    }

    #[test]
    fn memory_for_sources_is_bounded() {
        let t = Instant::now();
        let mut gate = gate(t);
        for i in 0..200_000u32 {
            gate.judge(SocketAddr::new(IpAddr::V4((0x0a00_0000 + i).into()), 1), false, t);
        }
        assert!(gate.sources.len() <= SOURCES_MAX);
        gate.judge(from("192.0.2.1"), false, t + Duration::from_secs(10));
        assert_eq!(gate.sources.len(), 1, "who knocked long ago is forgotten");
    }
}
