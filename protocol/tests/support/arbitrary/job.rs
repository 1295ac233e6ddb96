//! Arbitrary frames of jobs.

use proptest::{collection::vec, option::of, prelude::*, sample::select};

use super::{
    super::model::{
        Broker, CancelScope, Client, Id16,
        job::{
            Attach, Gap, JobAccepted, JobAction, JobAsk, JobError, JobFilter, JobInfo, JobState,
            JobTarget, JobWhich, Jobs, Number,
        },
    },
    extensions, num, num32, text,
};

fn id() -> impl Strategy<Value = Id16> {
    any::<[u8; 16]>().prop_map(Id16)
}

fn number() -> impl Strategy<Value = Number> {
    (num(), num()).prop_map(|(epoch, sequence)| Number { epoch, sequence })
}

fn filter() -> impl Strategy<Value = JobFilter> {
    (0u8..=0x7f, of(text(128)), of(id())).prop_map(|(states, recipe, batch_id)| JobFilter {
        states,
        recipe,
        batch_id,
    })
}

fn which() -> impl Strategy<Value = JobWhich> {
    prop_oneof![
        id().prop_map(|job_id| JobWhich::One { job_id }),
        filter().prop_map(JobWhich::Filter),
    ]
}

fn action() -> impl Strategy<Value = JobAction> {
    prop_oneof![
        id().prop_map(|job_id| JobAction::Get { job_id }),
        (filter(), of(text(256)), 0u32..=1_000)
            .prop_map(|(filter, cursor, limit)| JobAction::List { filter, cursor, limit }),
        (which(), select(CancelScope::ALL))
            .prop_map(|(which, scope)| JobAction::Cancel { which, scope }),
        which().prop_map(|which| JobAction::Replay { which }),
        which().prop_map(|which| JobAction::Purge { which }),
    ]
}

pub fn client() -> impl Strategy<Value = Client> {
    let target = prop_oneof![
        id().prop_map(|job_id| JobTarget::Job { job_id }),
        id().prop_map(|batch_id| JobTarget::Batch { batch_id }),
    ];
    prop_oneof![
        (target, of(text(63)), number(), any::<bool>(), extensions()).prop_map(
            |(target, tenant, after, follow, extensions)| {
                Client::Attach(Attach { target, tenant, after, follow, extensions })
            }
        ),
        (of(text(63)), action(), extensions()).prop_map(|(tenant, action, extensions)| {
            Client::Job(JobAsk { tenant, action, extensions })
        }),
    ]
}

pub fn broker() -> impl Strategy<Value = Broker> {
    prop_oneof![
        (num(), of(text(63)), id(), any::<bool>(), number(), extensions()).prop_map(
            |(id, tenant, job_id, existing, number, extensions)| {
                Broker::JobAccepted(JobAccepted {
                    id,
                    tenant,
                    job_id,
                    existing,
                    number,
                    extensions,
                })
            }
        ),
        (num(), extensions())
            .prop_map(|(epoch, extensions)| Broker::Gap(Gap { epoch, extensions })),
        info().prop_map(Broker::Job),
        (num(), of(text(256))).prop_map(|(count, next)| Broker::Jobs(Jobs { count, next })),
    ]
}

fn info() -> impl Strategy<Value = JobInfo> {
    let what = (id(), id(), num(), text(128), select(JobState::ALL), any::<u8>());
    let counts = (num32(), num32(), num(), num(), num());
    let times = (of(num()), of(num()), of(num()), of(num()));
    let progress = (num(), num(), text(4_096), of(text(256)));
    let errors = vec(
        (num32(), num(), any::<u16>(), text(512)).prop_map(
            |(attempt, at_unix_ms, code, message)| JobError { attempt, at_unix_ms, code, message },
        ),
        0..5,
    );
    (what, counts, times, progress, number(), number(), errors, extensions()).prop_map(
        |(what, counts, times, progress, accepted, ended, errors, extensions)| {
            let (job_id, batch_id, item_id, recipe, state, priority) = what;
            let (attempts, attempts_max, payload_bytes, result_bytes, created_unix_ms) = counts;
            let (started_unix_ms, due_unix_ms, ended_unix_ms, expires_unix_ms) = times;
            let (done, total, message, idempotency_key) = progress;
            JobInfo {
                job_id,
                batch_id,
                item_id,
                recipe,
                state,
                priority,
                attempts,
                attempts_max,
                payload_bytes,
                result_bytes,
                created_unix_ms,
                started_unix_ms,
                due_unix_ms,
                ended_unix_ms,
                expires_unix_ms,
                done,
                total,
                message,
                idempotency_key,
                accepted,
                ended,
                errors,
                extensions,
            }
        },
    )
}
