//! Arbitrary frames, every value within its bounds.

pub mod job;
pub mod topic;
pub mod work;

use proptest::{collection::vec, option::of, prelude::*, sample::select};

use tollgate_protocol::batch::Success;

use super::model::{
    Accepted, BatchOpen, Blob, Body, Broker, CancelScope, Client, Describe, Durability, Encoding,
    Ended, Ext, Failure, Id16, ItemResult, Limits, Map, Mode, Notice, NoticeKind, Order, Progress,
    Quota, Recipe, RecipeKind, Request, Scope, Subject, Summary, Throttled, UsageLine,
};

/// Numbers of every length as a varint, not only the longest.
fn num() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(n, shift)| n >> shift)
}

fn num32() -> impl Strategy<Value = u32> {
    (any::<u32>(), 0u32..32).prop_map(|(n, shift)| n >> shift)
}

/// Text of at most `max` bytes, of all planes of Unicode.
fn text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..=max.min(40) / 4).prop_map(|chars| chars.into_iter().collect())
}

pub fn blob(max: usize) -> impl Strategy<Value = Blob> {
    vec(any::<u8>(), 0..=max).prop_map(Blob)
}

fn map() -> impl Strategy<Value = Map> {
    vec((text(128), text(4_096)), 0..4)
}

fn extensions() -> impl Strategy<Value = Vec<Ext>> {
    let extension = (num32(), any::<bool>(), blob(40)).prop_map(|(number, critical, body)| Ext {
        number,
        critical,
        body,
    });
    vec(extension, 0..3)
}

pub fn client() -> impl Strategy<Value = Client> {
    prop_oneof![
        2 => batch_open().prop_map(Client::Batch),
        1 => Just(Client::Detach),
        1 => (select(Subject::ALL), of(text(63)), extensions()).prop_map(
            |(subject, tenant, extensions)| {
                Client::Describe(Describe { subject, tenant, extensions })
            }
        ),
        4 => request().prop_map(Client::Request),
        1 => num().prop_map(|items| Client::Seal { items }),
        1 => select(CancelScope::ALL).prop_map(Client::Cancel),
        2 => job::client(),
        4 => topic::client(),
        2 => work::client(),
    ]
}

fn batch_open() -> impl Strategy<Value = BatchOpen> {
    let choices = (select(Durability::ALL), select(Mode::ALL), select(Order::ALL), 0u8..=7);
    (any::<[u8; 16]>(), choices, of(text(63)), num32(), of(num()), of(text(256)), extensions())
        .prop_map(|(id, choices, tenant, concurrency_max, deadline_ms, traceparent, extensions)| {
            let (durability, mode, order, priority) = choices;
            BatchOpen {
                batch_id: Id16(id),
                tenant,
                durability,
                mode,
                order,
                concurrency_max,
                deadline_ms,
                priority,
                traceparent,
                extensions,
            }
        })
}

pub fn request() -> impl Strategy<Value = Request> {
    (num(), text(128), of(num()), (of(text(256)), of(num())), of(text(63)), map(), blob(300))
        .prop_map(|(id, recipe, timeout_ms, job, tenant, metadata, payload)| Request {
            id,
            recipe,
            timeout_ms,
            idempotency_key: job.0,
            not_before_unix_ms: job.1,
            tenant,
            metadata,
            payload,
        })
}

pub fn broker() -> impl Strategy<Value = Broker> {
    prop_oneof![
        1 => accepted().prop_map(Broker::Accepted),
        1 => progress().prop_map(Broker::Progress),
        4 => result().prop_map(Broker::Result),
        1 => throttled().prop_map(Broker::Throttled),
        1 => notice().prop_map(Broker::Notice),
        1 => summary().prop_map(Broker::Summary),
        1 => (any::<u16>(), failure()).prop_map(|(code, failure)| Broker::Error { code, failure }),
        1 => (text(128), text(128)).prop_map(|(protocol, broker)| Broker::Version { protocol, broker }),
        1 => recipe().prop_map(Broker::Recipe),
        1 => limits().prop_map(Broker::Limits),
        1 => vec(usage_line(), 0..5).prop_map(|lines| Broker::Usage { lines }),
        1 => Just(Broker::End),
        3 => job::broker(),
        6 => topic::broker(),
    ]
}

fn accepted() -> impl Strategy<Value = Accepted> {
    (num32(), num(), num32(), num(), of(num()), of(num()), extensions()).prop_map(
        |(
            concurrency_max,
            items_max,
            frame_bytes_max,
            payload_bytes_max,
            deadline_ms,
            last_id,
            extensions,
        )| Accepted {
            concurrency_max,
            items_max,
            frame_bytes_max,
            payload_bytes_max,
            deadline_ms,
            last_id,
            extensions,
        },
    )
}

fn progress() -> impl Strategy<Value = Progress> {
    (num(), num32(), num(), num(), num(), text(4_096), map()).prop_map(
        |(id, attempt, done, total, at_unix_ms, message, metadata)| Progress {
            id,
            attempt,
            done,
            total,
            at_unix_ms,
            message,
            metadata,
        },
    )
}

fn quota() -> impl Strategy<Value = Quota> {
    (text(128), select(Scope::ALL), num(), num()).prop_map(|(quota, scope, current, limit)| Quota {
        quota,
        scope,
        current,
        limit,
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let promises = (any::<bool>(), any::<bool>());
    (text(4_096), promises, of(num()), of(text(128)), of(quota()), map()).prop_map(
        |(message, (retryable, side_effect_free), retry_after_ms, app_code, quota, details)| {
            Failure {
                message,
                retryable,
                side_effect_free,
                retry_after_ms,
                app_code,
                quota,
                details,
            }
        },
    )
}

pub fn success() -> impl Strategy<Value = Success> {
    (num(), num32(), num(), num()).prop_map(|(id, attempts, queued_us, duration_us)| Success {
        id,
        attempts,
        queued_us,
        duration_us,
    })
}

pub fn result() -> impl Strategy<Value = ItemResult> {
    let body = prop_oneof![blob(300).prop_map(Body::Payload), failure().prop_map(Body::Failure)];
    let outcome = (any::<u16>(), any::<u16>(), num32());
    let times = (num(), num(), num(), num());
    (num(), of(text(63)), outcome, times, map(), extensions(), body).prop_map(
        |(id, tenant, (status, code, attempts), times, metadata, extensions, body)| {
            let (queued_us, duration_us, epoch, sequence) = times;
            ItemResult {
                id,
                tenant,
                status,
                code,
                attempts,
                queued_us,
                duration_us,
                epoch,
                sequence,
                metadata,
                extensions,
                body,
            }
        },
    )
}

fn throttled() -> impl Strategy<Value = Throttled> {
    (quota(), num()).prop_map(|(q, resume_ms)| Throttled {
        quota: q.quota,
        scope: q.scope,
        current: q.current,
        limit: q.limit,
        resume_ms,
    })
}

fn notice() -> impl Strategy<Value = Notice> {
    (select(NoticeKind::ALL), num(), text(4_096)).prop_map(|(kind, at_unix_ms, message)| Notice {
        kind,
        at_unix_ms,
        message,
    })
}

fn summary() -> impl Strategy<Value = Summary> {
    let counts = (num(), num(), vec((any::<u16>(), num()), 0..6), of(num()));
    let amounts = (num(), num(), num(), num());
    (select(Ended::ALL), counts, amounts, num(), num(), extensions()).prop_map(
        |(ended, counts, amounts, epoch, sequence, extensions)| {
            let (total, succeeded, failed, last_id_read) = counts;
            let (duration_us, bytes_in, bytes_out, throttled_us) = amounts;
            Summary {
                ended,
                total,
                succeeded,
                failed,
                last_id_read,
                duration_us,
                bytes_in,
                bytes_out,
                throttled_us,
                epoch,
                sequence,
                extensions,
            }
        },
    )
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let what = (text(128), select(RecipeKind::ALL), select(Encoding::ALL), text(4_096));
    let times = (num(), num(), num());
    let runs = (num32(), any::<bool>(), any::<bool>(), num32());
    (what, times, runs, num(), num(), of(text(65_536)), extensions()).prop_map(
        |(what, times, runs, payload_bytes_max, result_bytes_max, schema, extensions)| {
            let (name, kind, encoding, description) = what;
            let (timeout_ms, queue_timeout_ms, estimated_duration_ms) = times;
            let (concurrency_max, blocking, idempotent, attempts_max) = runs;
            Recipe {
                name,
                kind,
                encoding,
                timeout_ms,
                queue_timeout_ms,
                estimated_duration_ms,
                concurrency_max,
                blocking,
                idempotent,
                attempts_max,
                payload_bytes_max,
                result_bytes_max,
                description,
                schema,
                extensions,
            }
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (num32(), num(), num(), num32(), num(), extensions()).prop_map(
        |(frame, payload, items, concurrency_max, batches, extensions)| Limits {
            frame_bytes_max: frame,
            payload_bytes_max: payload,
            batch_items_max: items,
            concurrency_max,
            batches_in_flight_max: batches,
            extensions,
        },
    )
}

fn usage_line() -> impl Strategy<Value = UsageLine> {
    (text(128), num(), of(num())).prop_map(|(quota, current, limit)| UsageLine {
        quota,
        current,
        limit,
    })
}
