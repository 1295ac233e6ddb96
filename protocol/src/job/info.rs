//! What the broker knows of one job.

use crate::{
    batch::{Number, plain_enum},
    codec::{DecodeError, Problem, Reader, Result, put_option, put_str, put_u64},
    id::{BatchId, JobId},
    limits,
    pairs::Extensions,
};

plain_enum! {
    /// How far a job has come.
    JobState, "state" {
        /// It waits for its first start.
        Queued = 0,
        /// An attempt runs.
        Running = 1,
        /// An attempt failed; it waits for the next.
        Retrying = 2,
        /// Over: the recipe answered.
        Succeeded = 3,
        /// Over: it failed in a way that is not tried again, or its batch's deadline passed.
        Failed = 4,
        /// Over: it was cancelled.
        Cancelled = 5,
        /// Its attempts are used up: kept with its payload, to be replayed or purged.
        Dead = 6,
    }
}

impl JobState {
    /// Whether nothing more happens to the job by itself.
    pub const fn is_over(self) -> bool {
        matches!(
            self,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Dead
        )
    }
}

/// A set of states: bit *n* stands for the state of number *n*. The empty set means any state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct JobStates(u8);

impl JobStates {
    /// Whatever the state.
    pub const ANY: JobStates = JobStates(0);

    const BITS_MAX: u8 = (1 << JobState::ALL.len()) - 1;

    /// These states; none of them means any.
    pub fn of(states: &[JobState]) -> Self {
        JobStates(states.iter().fold(0, |bits, s| bits | 1 << (*s as u8)))
    }

    /// Whether a job in this state is meant.
    pub const fn has(self, state: JobState) -> bool {
        self.0 == 0 || self.0 & (1 << (state as u8)) != 0
    }

    /// The bits as they stand in a frame.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits; `None` when a bit stands for no state.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::BITS_MAX { Some(JobStates(bits)) } else { None }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let bits = r.u8("states")?;
        let problem = Problem::OutOfRange { found: bits.into(), max: Self::BITS_MAX.into() };
        Self::from_bits(bits).ok_or(DecodeError::new("states", problem))
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
}

/// How one attempt of a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobError<'a> {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// A number of the table of codes.
    pub code: u16,
    /// For people; cut to [`limits::JOB_ERROR_MESSAGE_BYTES_MAX`].
    pub message: &'a str,
}

impl<'a> JobError<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(JobError {
            attempt: r.u32("errors.attempt")?,
            at_unix_ms: r.u64("errors.at_unix_ms")?,
            code: r.u16("errors.code")?,
            message: r.str("errors.message", limits::JOB_ERROR_MESSAGE_BYTES_MAX)?,
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.attempt.into());
        put_u64(out, self.at_unix_ms);
        put_u64(out, self.code.into());
        put_str(out, self.message);
    }
}

/// What the broker knows of one job. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInfo<'a> {
    /// The broker's name for the job.
    pub job_id: JobId,
    /// The batch that it came in.
    pub batch_id: BatchId,
    /// The item that it is in that batch.
    pub item_id: u64,
    /// What it runs.
    pub recipe: &'a str,
    /// How far it has come.
    pub state: JobState,
    /// From 0 to 7, 7 first.
    pub priority: u8,
    /// Attempts that were begun.
    pub attempts: u32,
    /// After how many it is dead.
    pub attempts_max: u32,
    /// Of its payload.
    pub payload_bytes: u64,
    /// Of its result's payload; 0 while there is none.
    pub result_bytes: u64,
    /// When it was accepted.
    pub created_unix_ms: u64,
    /// When its last attempt began.
    pub started_unix_ms: Option<u64>,
    /// When it may start, while it waits for that.
    pub due_unix_ms: Option<u64>,
    /// When it was over.
    pub ended_unix_ms: Option<u64>,
    /// When it is forgotten.
    pub expires_unix_ms: Option<u64>,
    /// What is done, in units of the recipe's choice.
    pub done: u64,
    /// What there is to do in all; 0 when that is not known.
    pub total: u64,
    /// Of its newest progress, for people.
    pub message: &'a str,
    /// The key that it is run once for.
    pub idempotency_key: Option<&'a str>,
    /// The number of its `JobAccepted`.
    pub accepted: Number,
    /// The number of its `Result`; (0, 0) while there is none.
    pub ended: Number,
    /// The errors of its attempts, the oldest first; the newest when there were more than
    /// [`limits::JOB_ERRORS_MAX`].
    pub errors: Vec<JobError<'a>>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> JobInfo<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(JobInfo {
            job_id: JobId(r.array("job_id")?),
            batch_id: BatchId(r.array("batch_id")?),
            item_id: r.u64("item_id")?,
            recipe: r.str("recipe", limits::RECIPE_NAME_BYTES_MAX)?,
            state: JobState::read(r)?,
            priority: r.u8("priority")?,
            attempts: r.u32("attempts")?,
            attempts_max: r.u32("attempts_max")?,
            payload_bytes: r.u64("payload_bytes")?,
            result_bytes: r.u64("result_bytes")?,
            created_unix_ms: r.u64("created_unix_ms")?,
            started_unix_ms: r.option("started_unix_ms", |r| r.u64("started_unix_ms"))?,
            due_unix_ms: r.option("due_unix_ms", |r| r.u64("due_unix_ms"))?,
            ended_unix_ms: r.option("ended_unix_ms", |r| r.u64("ended_unix_ms"))?,
            expires_unix_ms: r.option("expires_unix_ms", |r| r.u64("expires_unix_ms"))?,
            done: r.u64("done")?,
            total: r.u64("total")?,
            message: r.str("message", limits::MESSAGE_BYTES_MAX)?,
            idempotency_key: r.option("idempotency_key", |r| {
                r.str("idempotency_key", limits::IDEMPOTENCY_KEY_BYTES_MAX)
            })?,
            accepted: Number::read(r)?,
            ended: Number::read(r)?,
            errors: {
                let n = r.count("errors", limits::JOB_ERRORS_MAX)?;
                (0..n).map(|_| JobError::read(r)).collect::<Result<_>>()?
            },
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.job_id.0);
        out.extend_from_slice(&self.batch_id.0);
        put_u64(out, self.item_id);
        put_str(out, self.recipe);
        self.state.put(out);
        out.push(self.priority);
        put_u64(out, self.attempts.into());
        put_u64(out, self.attempts_max.into());
        put_u64(out, self.payload_bytes);
        put_u64(out, self.result_bytes);
        put_u64(out, self.created_unix_ms);
        put_option(out, self.started_unix_ms, put_u64);
        put_option(out, self.due_unix_ms, put_u64);
        put_option(out, self.ended_unix_ms, put_u64);
        put_option(out, self.expires_unix_ms, put_u64);
        put_u64(out, self.done);
        put_u64(out, self.total);
        put_str(out, self.message);
        put_option(out, self.idempotency_key, put_str);
        self.accepted.put(out);
        self.ended.put(out);
        put_u64(out, self.errors.len() as u64);
        for e in &self.errors {
            e.put(out);
        }
        self.extensions.put(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_states_has_its_members_and_the_empty_one_has_all() {
        let waiting = JobStates::of(&[JobState::Queued, JobState::Retrying]);
        for state in JobState::ALL {
            assert!(JobStates::ANY.has(*state));
            let waits = matches!(state, JobState::Queued | JobState::Retrying);
            assert_eq!(waiting.has(*state), waits, "{state:?}");
        }
        assert_eq!(JobStates::from_bits(0b101), Some(waiting));
        assert_eq!(JobStates::of(JobState::ALL).bits(), 0x7f);
        assert_eq!(JobStates::from_bits(0x80), None);
    }

    #[test]
    fn a_job_is_over_or_something_will_still_happen_to_it() {
        let open: Vec<_> = JobState::ALL.iter().filter(|s| !s.is_over()).collect();
        assert_eq!(open, [&JobState::Queued, &JobState::Running, &JobState::Retrying]);
    }
}
