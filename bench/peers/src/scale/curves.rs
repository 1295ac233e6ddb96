//! Which curves there are: what grows, what is held, what is told, and what may not grow.

pub struct Curve {
    pub name: &'static str,
    pub title: &'static str,
    /// What grows, and how a point is written.
    pub axis: &'static str,
    pub unit: Unit,
    /// What is held and which limits were raised.
    pub says: &'static str,
    /// Name and options of each.
    pub peers: &'static [(&'static str, &'static str)],
    pub points: &'static [Point],
    pub cell: fn(u64) -> Shape,
    /// Key and head.
    pub columns: &'static [(&'static str, &'static str)],
    /// What must not grow with the parameter; also what the broker is divided by quinn in.
    pub costs: &'static [(&'static str, &'static str)],
    /// Key and label of each panel of the plot.
    pub panels: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Count,
    Bytes,
}

pub struct Point {
    pub at: u64,
    /// Whether the short run has it.
    pub short: bool,
}

const fn at(at: u64) -> Point {
    Point { at, short: false }
}

const fn short(at: u64) -> Point {
    Point { at, short: true }
}

/// What one cell does.
pub struct Shape {
    pub workload: &'static str,
    pub conns: u64,
    pub in_flight: u64,
    pub n: u64,
    pub size: u64,
    /// Options that depend on the point.
    pub tune: String,
    /// Few batches end in a second.
    pub slow: bool,
}

/// Batches a second of the connections in use, over all of them.
const RATE: u64 = 2_000;
/// Items under way where only their grouping changes.
const UNDER_WAY: u64 = 6_400;
/// Bytes of payload under way at most: what W3 has.
const BYTES_UNDER_WAY: u64 = 16 << 20;
/// The frame limit, 1 MiB, less the head of an item.
const PAYLOAD_MAX: u64 = (1 << 20) - 64;

impl Shape {
    const W1: Shape = Shape {
        workload: "load",
        conns: 1,
        in_flight: 64,
        n: 100,
        size: 64,
        tune: String::new(),
        slow: false,
    };

    pub fn options(&self, secs: f64) -> Vec<String> {
        let numbers = [
            ("--conns", self.conns),
            ("--in-flight", self.in_flight),
            ("--items", self.n),
            ("--size", self.size),
            ("--rate", RATE),
        ];
        let mut all = vec!["--secs".into(), secs.to_string(), "--warm".into(), "0.3".into()];
        all.extend(numbers.iter().flat_map(|(name, n)| [name.to_string(), n.to_string()]));
        all
    }
}

const ITEMS_PER_S: (&str, &str) = ("items_per_s", "items/s");
const CPU: (&str, &str) = ("server_cpu_s_per_msub", "server CPU µs/item");
const RSS: (&str, &str) = ("server_rss_mib", "server RSS MiB");
const P50_MS: (&str, &str) = ("p50_ms", "batch p50 ms");
const P99_MS: (&str, &str) = ("p99_ms", "p99 ms");
const OTHERS: (&str, &str) = ("other_cores", "others' cores");

pub const CURVES: [Curve; 6] = [
    Curve {
        name: "items",
        title: "Items per batch",
        axis: "items per batch",
        unit: Unit::Count,
        says: "One connection, 64 B each, about 6,400 items under way (at least one batch; at one \
               item a batch 4,096, the most streams that there can be). `limits.streams_max = 4096`; \
               `batch_items` 100,000. *Alone* is one batch with nothing else under way.",
        peers: &[("tollgate", "limits.streams_max=4096"), ("quinn", "streams=4096")],
        points: &[short(1), at(10), short(100), at(1_000), short(10_000), short(100_000)],
        cell: |n| Shape {
            n,
            in_flight: (UNDER_WAY / n).clamp(1, 4_096),
            slow: n >= 10_000,
            ..Shape::W1
        },
        columns: &[ITEMS_PER_S, CPU, ("alone_ms", "one batch alone, ms"), P50_MS, P99_MS, OTHERS],
        costs: &[CPU],
        panels: &[CPU, ("alone_ms", "one batch alone, ms")],
    },
    Curve {
        name: "batches",
        title: "Batches in flight",
        axis: "batches in flight",
        unit: Unit::Count,
        says: "16 connections, batches of 100 × 64 B. `batches_in_flight` 100,000.",
        peers: &[("tollgate", ""), ("quinn", "")],
        points: &[short(1), at(4), short(16), at(64), short(256), short(1_024), at(4_096)],
        cell: |in_flight| Shape { in_flight, conns: 16, ..Shape::W1 },
        columns: &[ITEMS_PER_S, CPU, P50_MS, P99_MS, RSS, OTHERS],
        costs: &[CPU],
        panels: &[CPU, ITEMS_PER_S],
    },
    Curve {
        name: "connections",
        title: "Connections",
        axis: "connections",
        unit: Unit::Count,
        says: "Opened 16 at a time and left idle, both kept alive every 1.5 s; then 2,000 batches of \
               10 × 64 B a second over all of them in turn. All share one socket at each end. \
               `limits.connections_max = 20000`; `connections` 20,000; sources on this machine are \
               not limited. *Less idle* leaves out what the idle connections take.",
        peers: &[("tollgate", "limits.connections_max=20000"), ("quinn", "keep=1500")],
        points: &[short(1), at(10), short(100), short(1_000), at(10_000)],
        cell: |conns| Shape { workload: "conns", conns, n: 10, ..Shape::W1 },
        columns: &[
            ("server_kib_per_conn", "idle KiB each"),
            ("idle_cpu_us_per_conn_s", "idle CPU µs/s each"),
            ("open_cpu_ms_per_conn", "opening: CPU ms each"),
            ("handshakes_per_s", "opened/s"),
            ("p50_us", "batch p50 µs"),
            ("p99_us", "p99 µs"),
            CPU,
            ("net_cpu_us_per_item", "less idle"),
            OTHERS,
        ],
        costs: &[
            ("server_kib_per_conn", "idle KiB a connection"),
            ("idle_cpu_us_per_conn_s", "idle CPU of a connection"),
            ("open_cpu_ms_per_conn", "CPU to open a connection"),
            ("net_cpu_us_per_item", "CPU an item, less idle"),
        ],
        panels: &[
            ("net_cpu_us_per_item", "server CPU µs/item, less idle"),
            ("p99_us", "batch p99 µs"),
        ],
    },
    Curve {
        name: "tenants",
        title: "Tenants",
        axis: "tenants",
        unit: Unit::Count,
        says: "W1 (64 batches of 100 × 64 B on one connection) by one of so many tenants, the others \
               idle and found in the data directory at the start. *Bytes each* is what the broker's \
               memory is above that of one without them. `tenancy.tenants_max = 2000000`.",
        peers: &[("tollgate", "tenancy.tenants_max=2000000")],
        points: &[short(1), at(1_000), short(10_000), short(100_000), at(1_000_000)],
        cell: |n| Shape { tune: format!("others={}", n - 1), ..Shape::W1 },
        columns: &[
            ITEMS_PER_S,
            CPU,
            P99_MS,
            ("bytes_per_tenant", "bytes each"),
            ("ready_rss_mib", "RSS at the start, MiB"),
            ("start_ms", "start ms"),
            ("created_per_s", "created/s"),
            OTHERS,
        ],
        costs: &[
            CPU,
            ("bytes_per_tenant", "bytes a tenant"),
            ("start_us_per_tenant", "start µs a tenant"),
        ],
        panels: &[CPU, ("start_ms", "start, ms")],
    },
    Curve {
        name: "payload",
        title: "Payload",
        axis: "bytes of payload an item",
        unit: Unit::Bytes,
        says: "One connection, 16 batches in flight, at most 6,400 items and 16 MiB under way; the \
               largest is what fits the frame limit of 1 MiB with its head. `payload_bytes` 1 MiB. \
               The cost that may not grow is the one per byte.",
        peers: &[("tollgate", ""), ("quinn", "")],
        points: &[
            at(0),
            short(64),
            at(1 << 10),
            short(4 << 10),
            at(16 << 10),
            short(64 << 10),
            at(256 << 10),
            short(PAYLOAD_MAX),
        ],
        cell: |size| Shape {
            size,
            in_flight: 16,
            n: (BYTES_UNDER_WAY / 16 / size.max(1)).clamp(1, UNDER_WAY / 16),
            ..Shape::W1
        },
        columns: &[
            ITEMS_PER_S,
            ("mb_per_s", "MB/s each way"),
            CPU,
            ("server_ns_per_byte", "CPU ns/byte"),
            P99_MS,
            RSS,
            OTHERS,
        ],
        costs: &[("server_ns_per_byte", "CPU a byte")],
        panels: &[CPU, ("mb_per_s", "MB/s each way")],
    },
    Curve {
        name: "streams",
        title: "Open batches that are idle",
        axis: "open batches",
        unit: Unit::Count,
        says: "100 connections; each batch has had one item of 64 B and its result, and stays open.",
        peers: &[("tollgate", ""), ("quinn", "")],
        points: &[at(100), at(1_000), short(10_000)],
        cell: |in_flight| Shape {
            workload: "streams",
            conns: 100,
            in_flight,
            n: 1,
            ..Shape::W1
        },
        columns: &[
            ("server_kib_per_stream", "KiB each"),
            ("open_cpu_us_per_stream", "opening: CPU µs each"),
            ("server_cpu_s_per_mstream_s", "idle CPU µs/s each"),
            RSS,
            OTHERS,
        ],
        costs: &[
            ("server_kib_per_stream", "KiB a batch"),
            ("open_cpu_us_per_stream", "CPU to open a batch"),
            ("server_cpu_s_per_mstream_s", "idle CPU of a batch"),
        ],
        panels: &[("server_kib_per_stream", "KiB a batch")],
    },
];
