//! Every series, named once: what dashboards, alerts and the documentation may rely on.
//!
//! A counter's name stands here without the `_total` that it is shown with.

use prometheus_client::metrics::MetricType;

/// One family of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// What a series counts, and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rises only; begins at 0 with the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How many were how long.
    Histogram,
}

impl Series {
    /// The name as a query has it.
    #[cfg(test)]
    pub(crate) fn shown(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }

    pub(super) fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}

macro_rules! series {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*], $help:literal;)*) => {
        $(pub(crate) const $constant: Series = Series {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them, in the order of the page.
        #[cfg(test)]
        pub(crate) const ALL: &[Series] = &[$($constant,)*];
    };
}

series! {
    BUILD_INFO = Gauge "tollgate_build_info" ["version"], "Always 1; says which version runs";
    DRAINING = Gauge "tollgate_draining" [], "1 from the moment the broker is told to end";
    CERTIFICATE_EXPIRY = Gauge "tollgate_certificate_expiry_timestamp_seconds" [],
        "When the server certificate expires, in seconds since 1970";
    MEMORY_PRESSURE = Gauge "tollgate_memory_pressure" [],
        "0: there is room, 1: new connections are turned away, 2: new batches too";

    STORE_BYTES = Gauge "tollgate_store_bytes" [],
        "Bytes that the store keeps for the broker itself: tenants, revocations";
    STORE_POISONED = Gauge "tollgate_store_poisoned" [],
        "1 once the store has failed: nothing durable is accepted any more, and the process ends";
    STORE_GROUPS = Counter "tollgate_store_groups" [],
        "Groups of changes that one sync each made durable";
    STORE_ENTRIES = Counter "tollgate_store_entries" [], "Changes in these groups";
    STORE_WRITTEN = Counter "tollgate_store_written_bytes" [],
        "Bytes that these groups took in the journal";
    STORE_SYNC = Histogram "tollgate_store_sync_seconds" [],
        "How long it took to write and sync a group";
    STORE_FREE = Gauge "tollgate_store_free_bytes" [], "Bytes that are free on the store's disk";
    STORE_RESERVE = Gauge "tollgate_store_reserve_bytes" [],
        "Bytes of these that changes never use: with less, nothing more is created";
    STORE_CHECKPOINT_AGE = Gauge "tollgate_store_checkpoint_age_seconds" [],
        "Time since the journal was last let go up to some point, or since the start";
    STORE_PUT_OFF = Counter "tollgate_store_checkpoints_put_off" [],
        "Checkpoints that found no room on the disk; they are tried again";

    CONNECTIONS = Gauge "tollgate_connections" ["role"], "QUIC connections open";
    CONNECTIONS_OPENED = Counter "tollgate_connections_opened" ["role"],
        "QUIC connections that were admitted";
    CONNECTIONS_REFUSED = Counter "tollgate_connections_refused" ["code"],
        "QUIC connections turned away after their handshake, by close code";
    CONNECTIONS_CLOSED = Counter "tollgate_connections_closed" ["code"],
        "Admitted QUIC connections that the broker closed, by close code";
    HANDSHAKES = Counter "tollgate_handshakes" ["outcome"],
        "Handshakes by outcome; ignored, refused and retried ones had not begun";
    HANDSHAKES_IN_FLIGHT = Gauge "tollgate_handshakes_in_flight" [], "Handshakes under way";
    STREAMS = Gauge "tollgate_streams" [], "Streams open on all connections";
    STREAMS_ENDED = Counter "tollgate_streams_ended" ["how"],
        "Streams that ended: completed, reset by the peer, or unfinished";

    BATCHES_OPENED = Counter "tollgate_batches_opened" [], "Batches that were admitted";
    BATCHES_ENDED = Counter "tollgate_batches_ended" ["how"], "Batches that ended, by how";
    BATCHES_IN_FLIGHT = Gauge "tollgate_batches_in_flight" [], "Batches that are open";

    ITEMS_STARTED = Counter "tollgate_items_started" ["recipe"], "Items whose recipe was started";
    ITEMS_SUCCEEDED = Counter "tollgate_items_succeeded" ["recipe"], "Items that ended well";
    ITEMS_FAILED = Counter "tollgate_items_failed" ["recipe", "code"],
        "Items that failed, by code; recipe (none): refused before a recipe was found";
    ITEM_DURATION = Histogram "tollgate_item_duration_seconds" ["recipe"],
        "How long items ran";
    ITEM_QUEUE = Histogram "tollgate_item_queue_seconds" ["recipe"],
        "How long items waited between their arrival and their start";
    SLOTS_RUNNING = Gauge "tollgate_slots_running" [],
        "Items that run and did not answer at once";
    SLOTS_WAITING = Gauge "tollgate_slots_waiting" [], "Items that wait for a slot";
    SLOTS_MAX = Gauge "tollgate_slots_max" [], "Items that may run at once";
    POOL_RUNNING = Gauge "tollgate_pool_threads_running" [],
        "Threads for blocking recipes that are occupied";
    POOL_QUEUED = Gauge "tollgate_pool_queued" [], "Items that wait for such a thread";
    POOL_THREADS = Gauge "tollgate_pool_threads" [], "Threads for blocking recipes";

    WORKERS = Gauge "tollgate_workers" ["scope"],
        "Workers connected: the platform's, which serve every tenant, and tenants' own";
    WORKER_CREDIT = Gauge "tollgate_worker_credit" [],
        "Calls that workers take at once, all that do not drain together";
    WORKER_LEASES = Gauge "tollgate_worker_leases" [],
        "Calls that workers have and have not answered";
    WORKER_QUEUE = Gauge "tollgate_worker_queue_items" ["served"],
        "Items that wait for workers; served no: nobody who serves their recipe is there";
    WORKER_DISPATCHES = Counter "tollgate_worker_dispatches" [],
        "Calls that were given to workers, those given again among them";
    WORKER_ANSWERS = Counter "tollgate_worker_answers" ["outcome"],
        "Answers of workers that were waited for, by outcome";
    WORKER_LATE = Counter "tollgate_worker_late_answers" [],
        "Answers of workers that nobody waited for any more, or that came twice";
    WORKER_LOST = Counter "tollgate_worker_leases_lost" [],
        "Calls whose worker was gone before it answered";
    WORKER_REPORTS_DROPPED = Counter "tollgate_worker_reports_dropped" [],
        "Reports of progress that came too soon after the one before";

    JOBS = Gauge "tollgate_jobs" ["tenant", "state"],
        "Jobs of a tenant, by state; those that are over as long as they are kept";
    JOBS_BYTES = Gauge "tollgate_jobs_bytes" ["tenant"],
        "Bytes that the jobs of a tenant take of its storage";
    JOBS_ENDED = Counter "tollgate_jobs_ended" ["state"], "Jobs that were over, by how";

    TOPICS = Gauge "tollgate_topics" ["tenant"], "Topics of a tenant, dead letters among them";
    TOPIC_PARTITIONS = Gauge "tollgate_topic_partitions" ["tenant"], "Partitions of these topics";
    TOPIC_MESSAGES = Gauge "tollgate_topic_messages" ["tenant"],
        "Messages that the topics of a tenant keep";
    TOPIC_BYTES = Gauge "tollgate_topic_bytes" ["tenant"],
        "Bytes that the topics of a tenant take of its storage";
    TOPIC_GROUPS = Gauge "tollgate_topic_groups" ["tenant"], "Consumer groups of a tenant";
    TOPIC_LAG = Gauge "tollgate_topic_group_lag" ["tenant"],
        "Messages from the positions of a tenant's consumer groups to the ends";
    TOPIC_DEAD = Gauge "tollgate_topic_dead_letters" ["tenant"],
        "Messages among the dead letters of a tenant";
    MESSAGES_APPENDED = Counter "tollgate_messages_appended" [],
        "Messages that were appended to topics";
    MESSAGES_DELIVERED = Counter "tollgate_messages_delivered" [],
        "Messages of topics that were delivered";

    TENANTS = Gauge "tollgate_tenants" ["state"], "Tenants by state";
    TENANT_ITEMS = Counter "tollgate_tenant_items" ["tenant", "outcome"],
        "Items of a tenant, by outcome";
    TENANT_BYTES_IN = Counter "tollgate_tenant_bytes_in" ["tenant"],
        "Payload bytes that came in for a tenant";
    TENANT_BYTES_OUT = Counter "tollgate_tenant_bytes_out" ["tenant"],
        "Payload bytes that went out for a tenant";
    TENANT_LATENCY = Gauge "tollgate_tenant_latency_seconds" ["tenant", "quantile"],
        "Time from an item's arrival to its answer, for tenants that were busy lately";
    THROTTLES = Counter "tollgate_throttles" ["tenant"],
        "How often a stream of a tenant was made to wait for a rate";
    THROTTLED_SECONDS = Counter "tollgate_throttled_seconds" ["tenant"],
        "How long streams of a tenant waited for a rate";
    QUOTA_REFUSALS = Counter "tollgate_quota_refusals" ["quota", "scope"],
        "Items, batches and connections that a quota refused";
    QUOTA_UTILISATION = Gauge "tollgate_quota_utilisation_ratio" ["tenant", "quota"],
        "How much of a quota a tenant uses, 1 is all; other: the most that any other tenant uses";
    QUOTA_LEVEL = Gauge "tollgate_quota_level" ["tenant", "quota"],
        "0: normal, 1: warning, 2: critical, from where tenancy.alerts says";
    QUOTA_DRIFT = Gauge "tollgate_quota_drift" [],
        "By how much the counts of the quotas differ from a recount; must be 0";

    UPSTREAM_REQUESTS = Counter "tollgate_upstream_requests" ["upstream", "outcome"],
        "Requests to HTTP upstreams: the hundred of their status, or why there was none";
    UPSTREAM_IN_FLIGHT = Gauge "tollgate_upstream_in_flight" ["upstream"],
        "Requests to an HTTP upstream that are not answered yet";
    UPSTREAM_BREAKER = Gauge "tollgate_upstream_breaker" ["upstream"],
        "0: closed, all is well; 1: half-open, a few go through to see; 2: open, none does";
    UPSTREAM_DURATION = Histogram "tollgate_upstream_duration_seconds" ["upstream"],
        "How long requests to an HTTP upstream took, to the last byte of the answer";

    HTTP_REQUESTS = Counter "tollgate_http_requests" ["method", "route", "status"],
        "HTTP requests that were answered";
    HTTP_DURATION = Histogram "tollgate_http_request_duration_seconds" ["method", "route"],
        "How long HTTP requests took";

    COMPAT_HTTP_REQUESTS = Counter "http_requests" ["method", "route", "status"],
        "A copy of tollgate_http_requests_total";
    COMPAT_HTTP_DURATION = Histogram "http_request_duration_seconds" ["method", "route"],
        "A copy of tollgate_http_request_duration_seconds";
    COMPAT_ACTIVE_TENANTS = Gauge "active_tenants_total" [],
        "A copy of tollgate_tenants, state active";
    COMPAT_MESSAGES = Counter "messages_processed" [],
        "Items that were answered, well or not";
    COMPAT_QUEUE_DEPTH = Gauge "message_queue_depth" [],
        "Items that wait for a slot, for a thread or for a worker, and jobs that wait";
    COMPAT_WORKERS = Gauge "active_workers_total" [],
        "Workers connected, of every scope";

    PROCESS_CPU = Counter "process_cpu_seconds" [], "CPU time used, user and system";
    PROCESS_RSS = Gauge "process_resident_memory_bytes" [], "Memory that is resident";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" [], "Memory that is mapped";
    PROCESS_FDS = Gauge "process_open_fds" [], "File descriptors open";
    PROCESS_FDS_MAX = Gauge "process_max_fds" [], "File descriptors that may be open";
    PROCESS_START = Gauge "process_start_time_seconds" [],
        "When the process started, in seconds since 1970";
}
