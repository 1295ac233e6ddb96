//! The golden vectors of jobs.

use super::{
    super::model::{
        Broker, CancelScope, Client, Id16,
        job::{
            Attach, Gap, JobAccepted, JobAction, JobAsk, JobError, JobFilter, JobInfo, JobState,
            JobTarget, JobWhich, Jobs, Number,
        },
    },
    extensions,
};

pub fn client() -> Vec<(&'static str, Client)> {
    let ask = |action| Client::Job(JobAsk { tenant: None, action, extensions: vec![] });
    vec![
        ("attach_job", Client::Attach(attach())),
        ("attach_every_field", Client::Attach(attach_every_field())),
        ("job_get", ask(JobAction::Get { job_id: job_id() })),
        ("job_list", ask(list(filter(), None, 0))),
        ("job_list_every_field", Client::Job(list_every_field())),
        ("job_cancel", ask(JobAction::Cancel { which: one(), scope: CancelScope::Pending })),
        (
            "job_cancel_many",
            ask(JobAction::Cancel {
                which: JobWhich::Filter(filter_every_field()),
                scope: CancelScope::All,
            }),
        ),
        ("job_replay", ask(JobAction::Replay { which: one() })),
        ("job_replay_many", ask(JobAction::Replay { which: JobWhich::Filter(filter()) })),
        ("job_purge", ask(JobAction::Purge { which: one() })),
        ("job_purge_many", ask(JobAction::Purge { which: JobWhich::Filter(filter()) })),
    ]
}

pub fn broker() -> Vec<(&'static str, Broker)> {
    vec![
        ("job_accepted", Broker::JobAccepted(accepted())),
        ("job_accepted_every_field", Broker::JobAccepted(accepted_every_field())),
        ("gap", Broker::Gap(Gap { epoch: 2, extensions: vec![] })),
        ("gap_every_field", Broker::Gap(Gap { epoch: u64::MAX, extensions: extensions() })),
        ("job_queued", Broker::Job(info())),
        ("job_every_field", Broker::Job(info_every_field())),
        ("jobs", Broker::Jobs(Jobs { count: 3, next: None })),
        ("jobs_more", Broker::Jobs(Jobs { count: 1_000, next: Some("p.17".into()) })),
    ]
}

pub fn job_id() -> Id16 {
    Id16(std::array::from_fn(|i| 0xb0 + i as u8))
}

pub fn batch_id() -> Id16 {
    Id16(std::array::from_fn(|i| i as u8))
}

pub fn attach() -> Attach {
    Attach {
        target: JobTarget::Job { job_id: job_id() },
        tenant: None,
        after: Number { epoch: 0, sequence: 0 },
        follow: true,
        extensions: vec![],
    }
}

pub fn attach_every_field() -> Attach {
    Attach {
        target: JobTarget::Batch { batch_id: batch_id() },
        tenant: Some("acme".into()),
        after: Number { epoch: 1, sequence: 300 },
        follow: false,
        extensions: extensions(),
    }
}

pub fn one() -> JobWhich {
    JobWhich::One { job_id: job_id() }
}

pub fn filter() -> JobFilter {
    JobFilter { states: 0, recipe: None, batch_id: None }
}

pub fn filter_every_field() -> JobFilter {
    JobFilter { states: 0x7f, recipe: Some("csv.profile".into()), batch_id: Some(batch_id()) }
}

pub fn list(filter: JobFilter, cursor: Option<String>, limit: u32) -> JobAction {
    JobAction::List { filter, cursor, limit }
}

pub fn list_every_field() -> JobAsk {
    JobAsk {
        tenant: Some("acme".into()),
        action: list(filter_every_field(), Some("p.17".into()), 1_000),
        extensions: extensions(),
    }
}

pub fn accepted() -> JobAccepted {
    JobAccepted {
        id: 1,
        tenant: None,
        job_id: job_id(),
        existing: false,
        number: Number { epoch: 1, sequence: 17 },
        extensions: vec![],
    }
}

pub fn accepted_every_field() -> JobAccepted {
    JobAccepted {
        id: 1 << 40,
        tenant: Some("acme".into()),
        existing: true,
        number: Number { epoch: u64::MAX, sequence: 1 << 33 },
        extensions: extensions(),
        ..accepted()
    }
}

pub fn info() -> JobInfo {
    JobInfo {
        job_id: job_id(),
        batch_id: batch_id(),
        item_id: 1,
        recipe: "delay".into(),
        state: JobState::Queued,
        priority: 3,
        attempts: 0,
        attempts_max: 5,
        payload_bytes: 10,
        result_bytes: 0,
        created_unix_ms: 1_700_000_000_000,
        started_unix_ms: None,
        due_unix_ms: None,
        ended_unix_ms: None,
        expires_unix_ms: None,
        done: 0,
        total: 0,
        message: String::new(),
        idempotency_key: None,
        accepted: Number { epoch: 1, sequence: 17 },
        ended: Number { epoch: 0, sequence: 0 },
        errors: vec![],
        extensions: vec![],
    }
}

pub fn info_every_field() -> JobInfo {
    let error = |attempt, at_unix_ms, code, message: &str| JobError {
        attempt,
        at_unix_ms,
        code,
        message: message.into(),
    };
    JobInfo {
        item_id: 1 << 40,
        recipe: "csv.profile".into(),
        state: JobState::Dead,
        priority: 7,
        attempts: 2,
        attempts_max: 2,
        payload_bytes: 1 << 20,
        result_bytes: 300,
        started_unix_ms: Some(1_700_000_001_000),
        due_unix_ms: Some(1_700_000_001_500),
        ended_unix_ms: Some(1_700_000_002_000),
        expires_unix_ms: Some(1_700_604_802_000),
        done: 150,
        total: 300,
        message: "half way".into(),
        idempotency_key: Some("order-17".into()),
        ended: Number { epoch: 1, sequence: 128 },
        errors: vec![
            error(1, 1_700_000_000_900, 17, "no such file"),
            error(2, 1_700_000_002_000, 22, ""),
        ],
        extensions: extensions(),
        ..info()
    }
}
