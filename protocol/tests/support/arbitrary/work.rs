//! Arbitrary frames of workers.

use proptest::{option::of, prelude::*, sample::select};

use super::{
    super::model::{
        Client, Encoding, Id16,
        work::{
            Answer, Call, CallProgress, Deliver, Failed, Fetch, RecipeSpec, ToWorker, WorkOpen,
            Worker,
        },
    },
    blob, extensions, failure, map, notice, num, num32, text,
};

pub fn client() -> impl Strategy<Value = Client> {
    prop_oneof![
        (0u32..=65_536, extensions())
            .prop_map(|(credit, extensions)| Client::Work(WorkOpen { credit, extensions })),
        (num(), num()).prop_map(|(work, lease)| Client::Fetch(Fetch { work, lease })),
        (num(), num(), num(), map()).prop_map(|(work, lease, size, metadata)| Client::Deliver(
            Deliver { work, lease, size, metadata }
        )),
    ]
}

pub fn worker() -> impl Strategy<Value = Worker> {
    prop_oneof![
        1 => spec().prop_map(Worker::Register),
        1 => (0u32..=65_536).prop_map(|add| Worker::Credit { add }),
        2 => (num(), num(), num(), text(4_096)).prop_map(|(lease, done, total, message)| {
            Worker::Progress(CallProgress { lease, done, total, message })
        }),
        3 => answer().prop_map(Worker::Answer),
        2 => failed().prop_map(Worker::Failed),
        1 => Just(Worker::Drain),
    ]
}

pub fn answer() -> impl Strategy<Value = Answer> {
    (num(), map(), blob(300)).prop_map(|(lease, metadata, payload)| Answer {
        lease,
        metadata,
        payload,
    })
}

fn failed() -> impl Strategy<Value = Failed> {
    (num(), any::<u16>(), any::<bool>(), text(4_096), of(num()), of(text(128)), map()).prop_map(
        |(lease, code, permanent, message, retry_after_ms, app_code, details)| Failed {
            lease,
            code,
            permanent,
            message,
            retry_after_ms,
            app_code,
            details,
        },
    )
}

fn spec() -> impl Strategy<Value = RecipeSpec> {
    let what = (text(128), select(Encoding::ALL), text(4_096), of(text(65_536)), extensions());
    let times = (of(num()), of(num()), num(), of(num32()), any::<bool>());
    let retry = (num32(), num(), num32(), num());
    (what, times, retry, of(num()), of(num())).prop_map(
        |(what, times, retry, payload_bytes_max, result_bytes_max)| {
            let (name, encoding, description, schema, extensions) = what;
            let (timeout_ms, queue_timeout_ms, estimated_duration_ms, concurrency_max, idempotent) =
                times;
            let (attempts_max, retry_first_ms, retry_factor_percent, retry_cap_ms) = retry;
            RecipeSpec {
                name,
                encoding,
                timeout_ms,
                queue_timeout_ms,
                estimated_duration_ms,
                concurrency_max,
                idempotent,
                attempts_max,
                retry_first_ms,
                retry_factor_percent,
                retry_cap_ms,
                payload_bytes_max,
                result_bytes_max,
                description,
                schema,
                extensions,
            }
        },
    )
}

pub fn dispatch() -> impl Strategy<Value = ToWorker> {
    prop_oneof![
        1 => num32().prop_map(|recipe| ToWorker::Registered { recipe }),
        4 => call().prop_map(ToWorker::Dispatch),
        1 => num().prop_map(|lease| ToWorker::Cancel { lease }),
        1 => notice().prop_map(ToWorker::Notice),
        1 => (any::<u16>(), failure()).prop_map(|(code, failure)| ToWorker::Error { code, failure }),
        1 => Just(ToWorker::End),
    ]
}

pub fn call() -> impl Strategy<Value = Call> {
    let run = (num(), num32(), num32(), num());
    let whose = (num(), any::<[u8; 16]>(), text(63), of(text(256)));
    (run, whose, map(), of(num()), blob(300)).prop_map(|(run, whose, metadata, apart, payload)| {
        let (lease, recipe, attempt, timeout_ms) = run;
        let (item_id, batch_id, tenant, traceparent) = whose;
        Call {
            lease,
            recipe,
            attempt,
            timeout_ms,
            item_id,
            batch_id: Id16(batch_id),
            tenant,
            traceparent,
            metadata,
            apart,
            payload,
        }
    })
}
