//! New jobs: accepted into a group, found to be there already, or refused.

use std::borrow::Cow;

use tollgate_protocol::{Code, id::JobId};
use uuid::Uuid;

use super::{
    super::{
        group::{Accept, Entry, Group, Then},
        inbox::Note,
        record::{self, Beside},
        service,
        shelf::{Command, State, Submit},
    },
    Owner,
};
use crate::{
    batch::{Accepted, Failure},
    clock::wall_ms,
    rules::job::{
        At, Refused, Submitted, Submitting,
        plant::{self, Bug},
    },
};

impl Owner {
    /// Takes a new job into the group. What depends on the group itself comes back.
    pub(super) fn submit(
        &mut self,
        submit: Submit,
        state: &mut State,
        group: &mut Group,
        now: At,
    ) -> Option<Box<Submit>> {
        let new = &submit.new;
        let job = JobId(Uuid::now_v7().into_bytes());
        let submitting = Submitting {
            job: Submitted {
                job,
                batch: submit.of.batch,
                item: new.item,
                recipe: new.recipe.clone(),
                priority: new.priority,
                timeout_ms: new.timeout.map(|d| d.as_millis() as u64),
                deadline: new.deadline.map(wall_ms),
                due: new.not_before.filter(|at| *at > now),
                key: new.key.clone(),
                digest: submit.digest,
                at: now,
                payload_len: u32::try_from(new.payload.len()).unwrap_or(u32::MAX),
            },
            durable: submit.of.durable,
        };
        let item = new.item;
        let refusal = match state.jobs.submit(submitting, now) {
            Ok(event) => {
                let pairs = new.metadata.as_pairs();
                let beside = Beside {
                    metadata: pairs.iter().map(|(k, v)| (Cow::from(k), Cow::from(v))).collect(),
                    traceparent: new.traceparent.as_deref().map(Cow::from),
                };
                let record = record::record(&event, &beside, &new.payload);
                let Submit { new, inbox, permits, .. } = submit;
                let accept = Accept { inbox, item, job, permits, room: new.room };
                group.submit(Entry { event, record, then: Then::Accept(Box::new(accept)) });
                return None;
            }
            Err(Refused::Locked) => return Some(Box::new(submit)),
            Err(Refused::Existing(job)) => {
                let epoch = state.epoch;
                let number = state.jobs.get(job).map(|known| {
                    // An item that names another one's job has no job of its own.
                    let own = (known.batch, known.item) == (submit.of.batch, item);
                    service::number(epoch, if own { known.accepted } else { 0 })
                });
                let number = number.unwrap_or_default();
                let accepted = Accepted { item, job, existing: true, number };
                let wakers = state.accept(job, &submit.inbox, accepted);
                self.wake_later(wakers);
                return None;
            }
            Err(Refused::KeyTaken(job)) => {
                Failure::new(Code::Conflict, "the idempotency key names a job with another payload")
                    .detail("field", "idempotency_key")
                    .detail("job", job)
            }
            Err(Refused::ItemTaken(job)) => {
                let message = "the batch has this item with another payload or recipe";
                let failure = Failure::new(Code::Conflict, message).detail("field", "id");
                let failure = failure.detail("job", job);
                let waker = submit.inbox.put(Note::Contradicts { item, failure });
                self.wake_later(waker);
                return None;
            }
            Err(Refused::Sealed) => Failure::new(Code::Conflict, "the batch is sealed"),
        };
        let waker = submit.inbox.put(Note::Refused { item, failure: refusal });
        self.wake_later(waker);
        None
    }
}

impl State {
    /// Tells that an item is a job, and from now on what becomes of it.
    pub(in crate::jobs) fn accept(
        &mut self,
        job: JobId,
        inbox: &std::sync::Arc<super::super::inbox::Inbox>,
        accepted: Accepted,
    ) -> Vec<std::task::Waker> {
        let told = !accepted.existing && plant::is(Bug::EarlyAcknowledgement);
        let waker = if told { None } else { inbox.put(Note::Accepted(accepted)) };
        let mut wakers: Vec<_> = waker.into_iter().collect();
        let item = accepted.item;
        let known = self.jobs.get(job).map(|known| (known.state.is_over(), known.batch));
        match known {
            Some((true, _)) => wakers.extend(inbox.put(Note::Ended { item, job })),
            Some((false, _)) => self.watch(job, inbox, item),
            None => {}
        }
        if !accepted.existing
            && let Some((_, batch)) = known
            && let Some(watchers) = self.batch_watchers.get_mut(&batch)
        {
            watchers.retain(|inbox| !inbox.is_closed());
            wakers.extend(watchers.iter().filter_map(|w| w.put(Note::Accepted(accepted))));
        }
        wakers
    }
}

/// Answers a command that came too late.
pub(super) fn refuse(command: Command, failure: &Failure) {
    match command {
        Command::Submit(submit) => {
            let (item, failure) = (submit.new.item, failure.clone());
            if let Some(waker) = submit.inbox.put(Note::Refused { item, failure }) {
                waker.wake();
            }
        }
        Command::Open { answer, .. } => _ = answer.send(Err(failure.clone())),
        Command::Act { answer: Some(answer), .. } => _ = answer.send(Err(failure.clone())),
        _ => {}
    }
}
