//! What the owner is asked to do, decided into a group: checked against what there is and what the
//! group itself does.

use tollgate_protocol::{Code, id::TopicName};

use super::{
    super::{
        message,
        service::{no_such_binding, no_such_group, no_such_topic},
        shelf::{Answer, Append, Command, Fate, NewMessage, Place, State},
        staged::{self, Ahead, Appending, Change, Staged, Then, What},
    },
    Owner,
};
use crate::{
    batch::Failure,
    rules::topic::{At, Event, Judged, id},
    store::{Kind, Record, Stream},
    tenancy::{Permit, Quota},
};

/// Dead letters of a topic lie in the topic of this name.
pub(in super::super) const DEAD: &str = ".dead";
/// The topic of messages that name none.
pub(in super::super) const INBOX: &str = "inbox";

/// Tells whoever waits that nothing of it happens.
pub(super) fn refuse(command: Command, failure: &Failure) {
    match command {
        Command::Append(append) => append.refuse(failure),
        Command::Create { answer, .. }
        | Command::Keep { answer, .. }
        | Command::Delete { answer, .. }
        | Command::DeleteMessage { answer, .. }
        | Command::CreateGroup { answer, .. }
        | Command::DeleteGroup { answer, .. }
        | Command::MoveGroup { answer, .. }
        | Command::Bind { answer, .. }
        | Command::Unbind { answer, .. } => _ = answer.send(Err(failure.clone())),
        Command::Acked { told, .. } => _ = told.map(|told| told.forget()),
        Command::PutAside { .. } => {}
    }
}

impl Command {
    /// Whether it is a group of its own: what comes after it depends on it.
    fn is_alone(&self) -> bool {
        !matches!(self, Command::Append(_) | Command::Acked { .. } | Command::PutAside { .. })
    }
}

impl Owner {
    /// Decides what is to happen now, as far as one group has room.
    pub(super) fn decide(&mut self) -> Staged {
        let mut batch = Staged::default();
        let shelf = self.shelf.clone();
        shelf.take_commands(&mut self.backlog);
        let now = self.now();
        let mut state = shelf.lock();
        while batch.has_room()
            && let Some(command) = self.backlog.pop_front()
        {
            let alone = command.is_alone();
            // The broker's own messages are kept before those of clients.
            let waits = matches!(command, Command::PutAside { .. }) && !batch.appends.is_empty();
            if (alone && !batch.is_empty()) || waits {
                self.backlog.push_front(command);
                break;
            }
            if let Some(later) = self.take(command, &mut state, &mut batch, now) {
                self.backlog.push_front(later);
                break;
            }
            batch.commands += 1;
            if alone && !batch.is_empty() {
                break;
            }
        }
        batch
    }

    /// Takes one command in; gives it back when something else must happen first.
    fn take(
        &mut self,
        command: Command,
        state: &mut State,
        batch: &mut Staged,
        now: At,
    ) -> Option<Command> {
        let (outcome, answer) = match command {
            Command::Append(append) => {
                self.append(append, state, batch, now);
                return None;
            }
            Command::Acked { topic, group, partition, ranges, told } => {
                if state.topics.groups(topic).is_some_and(|groups| groups.contains_key(&group)) {
                    let then = Then::Tell { topic, group: group.clone(), partition, told };
                    batch.change(Event::Acked { topic, group, partition, ranges }, then);
                } else if let Some(told) = told {
                    told.forget();
                }
                return None;
            }
            Command::PutAside { .. } => return self.take_aside(command, state, batch, now),
            Command::Create { name, partitions, retention, own, answer } => {
                if state.topics.find(name.as_str()).is_some() {
                    let taken = Failure::new(Code::Conflict, "there is a topic of this name");
                    let outcome = if own { Ok(None) } else { Err(taken) };
                    (outcome, answer)
                } else {
                    let of = name.as_str().strip_suffix(DEAD);
                    let granted = match of.is_some_and(|of| state.topics.find(of).is_none()) {
                        // Deleted meanwhile: dead letters go with their topic.
                        true => Err(no_such_topic()),
                        false if own => Ok(Vec::new()),
                        false => self.grant(partitions),
                    };
                    match granted {
                        Ok(permits) => {
                            let event = state.topics.create(name, partitions, retention, !own, now);
                            batch.change(event, Then::Granted(permits, answer));
                            return None;
                        }
                        Err(failure) => (Err(failure), answer),
                    }
                }
            }
            Command::Keep { name, retention, answer } => {
                let topic = state.topics.find(name.as_str()).ok_or_else(no_such_topic);
                (topic.map(|topic| Some(Event::Kept { topic: topic.number, retention })), answer)
            }
            Command::Delete { name, answer } => {
                self.delete(&name, answer, state, batch);
                return None;
            }
            Command::DeleteMessage { place, offset, answer } => {
                let part = state.topics.get(place.0).and_then(|t| t.parts.get(place.1 as usize));
                let outcome = match part {
                    None => Err(no_such_topic()),
                    Some(part) if part.deleted.contains(offset) || offset < part.first => Ok(None),
                    Some(_) => {
                        let (topic, partition) = place;
                        Ok(Some(Event::MessageDeleted { topic, partition, offset }))
                    }
                };
                (outcome, answer)
            }
            Command::CreateGroup { topic, group, positions, answer } => {
                let groups = state.topics.groups(topic);
                if state.topics.get(topic).is_none() {
                    (Err(no_such_topic()), answer)
                } else if groups.is_some_and(|groups| groups.contains_key(&group)) {
                    (Ok(None), answer)
                } else {
                    match self.shelf.tenant.permit(Quota::ConsumerGroups, 1) {
                        Ok(permit) => {
                            let event = Event::GroupCreated { topic, group, positions };
                            batch.change(event, Then::Granted(vec![permit], answer));
                            return None;
                        }
                        Err(refusal) => (Err(Failure::quota(refusal)), answer),
                    }
                }
            }
            Command::DeleteGroup { topic, group, answer } => {
                let bound = state.topics.bindings(topic).any(|(name, _)| *name == group);
                let outcome = match idle_group(state, topic, &group) {
                    Ok(()) if bound => {
                        let message = "a binding reads as this group: take the binding back first";
                        Err(Failure::new(Code::Conflict, message))
                    }
                    outcome => outcome.map(|()| Some(Event::GroupDeleted { topic, group })),
                };
                (outcome, answer)
            }
            Command::MoveGroup { topic, group, positions, answer } => {
                match idle_group(state, topic, &group) {
                    Ok(()) if !positions.is_empty() => {
                        let mut answer = Some(answer);
                        let count = positions.len();
                        for (n, (partition, position)) in positions.into_iter().enumerate() {
                            let group = group.clone();
                            let last = answer.take_if(|_| n + 1 == count);
                            let then = last.map_or(Then::Nothing, Then::Answer);
                            batch.change(Event::Moved { topic, group, partition, position }, then);
                        }
                        return None;
                    }
                    outcome => (outcome.map(|()| None), answer),
                }
            }
            Command::Bind { topic, name, binding, answer } => {
                let same = state.topics.bindings(topic).find(|(known, _)| **known == name);
                let outcome = match same {
                    _ if state.topics.get(topic).is_none() => Err(no_such_topic()),
                    Some((_, known)) if known.recipe == binding.recipe => Ok(None),
                    Some(_) => {
                        let message = "there is a binding of this name, to another recipe";
                        Err(Failure::new(Code::Conflict, message))
                    }
                    None => Ok(Some(Event::Bound { topic, name, binding })),
                };
                (outcome, answer)
            }
            Command::Unbind { topic, name, answer } => {
                let known = state.topics.bindings(topic).any(|(known, _)| *known == name);
                let event = known.then_some(Event::Unbound { topic, name });
                (event.map(Some).ok_or_else(no_such_binding), answer)
            }
        };
        match outcome {
            Ok(Some(event)) => batch.change(event, Then::Answer(answer)),
            Ok(None) => _ = answer.send(Ok(())),
            Err(failure) => _ = answer.send(Err(failure)),
        }
        None
    }

    /// Takes what a new topic needs of the quotas.
    fn grant(&self, partitions: u32) -> Result<Vec<Permit>, Failure> {
        let take = |quota, n| self.shelf.tenant.permit(quota, n).map_err(Failure::quota);
        Ok(vec![take(Quota::Topics, 1)?, take(Quota::Partitions, partitions.into())?])
    }

    /// A topic goes, and its dead letters with it.
    fn delete(&self, name: &TopicName, answer: Answer, state: &State, batch: &mut Staged) {
        let Some(topic) = state.topics.find(name.as_str()) else {
            _ = answer.send(Err(no_such_topic()));
            return;
        };
        if let Some(dead) = state.topics.find(&format!("{name}{DEAD}")) {
            batch.change(Event::Deleted { topic: dead.number }, Then::Nothing);
        }
        batch.change(Event::Deleted { topic: topic.number }, Then::Answer(answer));
    }

    /// Messages find their places, or are found to be there, or are refused.
    fn append(&self, append: Append, state: &State, batch: &mut Staged, now: At) {
        let Some(topic) = state.topics.get(append.topic) else {
            return append.refuse(&no_such_topic());
        };
        let all: u64 = append.messages.iter().map(|m| m.body.len() as u64).sum();
        let mut storage = Storage {
            owner: self,
            whole: self.shelf.tenant.permit(Quota::StorageBytes, all).ok(),
            parts: None,
        };
        let Append { topic: number, producer, messages, room, answer } = append;
        let mut appending = Appending {
            topic: number,
            fates: Vec::new(),
            messages: Vec::with_capacity(messages.len()),
            storage: None,
            _room: room,
            answer,
        };
        for NewMessage { sequence, partition, body } in messages {
            let place = (number, partition);
            let (Some(run), Some(part)) =
                (state.parts.get(&place), topic.parts.get(partition as usize))
            else {
                let failure = no_such_partition(partition, topic.parts.len());
                appending.fates.push(Fate::Refused { sequence, failure });
                continue;
            };
            if let Some((id, epoch)) = producer {
                let newest = state.epochs.get(&(number, id)).copied().unwrap_or(epoch);
                let judged = match batch.seen.get(&(place, id, sequence)) {
                    _ if newest > epoch => Judged::Fenced(newest),
                    Some(offset) => Judged::Duplicate(*offset),
                    None => run.producers.judge(&id, epoch, sequence),
                };
                let failure = match judged {
                    Judged::New => None,
                    Judged::Duplicate(offset) => {
                        let told = (sequence, partition, offset);
                        staged::tell_kept(&mut appending.fates, told, true);
                        continue;
                    }
                    Judged::Unknown => Some(too_old(sequence)),
                    Judged::Fenced(newest) => Some(fenced(epoch, newest)),
                };
                if let Some(failure) = failure {
                    appending.fates.push(Fate::Refused { sequence, failure });
                    continue;
                }
            }
            if let Err(failure) = storage.take(body.len() as u64) {
                appending.fates.push(Fate::Refused { sequence, failure });
                continue;
            }
            let known = || Ahead { next: run.next, last: run.last };
            let ahead = batch.ahead.entry(place).or_insert_with(known);
            let (offset, at) = (ahead.next, ahead.last.next(now));
            (ahead.next, ahead.last) = (offset + 1, at);
            if let Some((id, _)) = producer {
                batch.seen.insert((place, id, sequence), offset);
            }
            let body = message::seal(body, id::make(at, part.number, offset));
            batch.bytes += body.len();
            batch.messages += 1;
            staged::tell_kept(&mut appending.fates, (sequence, partition, offset), false);
            appending.messages.push(staged::Message {
                place,
                record: Record::new(Stream(part.stream), Kind::TopicMessage, body),
                at,
                offset,
                producer: producer.map(|(id, epoch)| (id, epoch, sequence)),
            });
        }
        appending.storage = storage.whole.or(storage.parts);
        batch.appends.push(appending);
    }

    /// A message of the broker's own goes to the end of a partition.
    pub(super) fn append_own(
        &self,
        place: Place,
        body: Vec<u8>,
        (state, batch): (&State, &mut Staged),
        then: Then,
        now: At,
    ) {
        let part = state.topics.get(place.0).map(|topic| &topic.parts[place.1 as usize]);
        let (Some(part), Some(run)) = (part, state.parts.get(&place)) else { return };
        let known = || Ahead { next: run.next, last: run.last };
        let ahead = batch.ahead.entry(place).or_insert_with(known);
        let (offset, at) = (ahead.next, ahead.last.next(now));
        (ahead.next, ahead.last) = (offset + 1, at);
        let body = message::seal(body, id::make(at, part.number, offset));
        batch.bytes += body.len();
        let record = Record::new(Stream(part.stream), Kind::TopicMessage, body);
        batch.changes.push(Change { what: What::Message { place, at }, record, then });
    }
}

/// What messages take of `storage_bytes`: all at once, or, when that does not fit, one by one up
/// to the limit.
struct Storage<'a> {
    owner: &'a Owner,
    whole: Option<Permit>,
    parts: Option<Permit>,
}

impl Storage<'_> {
    fn take(&mut self, bytes: u64) -> Result<(), Failure> {
        if self.whole.is_some() {
            return Ok(());
        }
        let taken = self.owner.shelf.tenant.permit(Quota::StorageBytes, bytes);
        let permit = taken.map_err(|refusal| {
            let message = "the tenant's storage is used up: delete messages or topics, or let \
                           retention do so";
            Failure { side_effect_free: true, ..Failure::over(refusal, message) }
        })?;
        match &mut self.parts {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// A group that exists and has no members.
fn idle_group(
    state: &State,
    topic: u32,
    group: &tollgate_protocol::id::GroupName,
) -> Result<(), Failure> {
    let known = state.topics.groups(topic).is_some_and(|groups| groups.contains_key(group));
    if !known {
        return Err(no_such_group());
    }
    let members = state.groups.get(&(topic, group.clone())).map_or(0, |live| live.group.members());
    if members > 0 {
        let message = format!("the group has members ({members}): it can be changed without any");
        return Err(Failure::new(Code::Conflict, message).detail("members", members));
    }
    Ok(())
}

pub(in super::super) fn no_such_partition(partition: u32, partitions: usize) -> Failure {
    let message = format!("there is no partition {partition}: the topic has {partitions}, from 0");
    Failure::validation("partition", message).detail("partitions", partitions)
}

pub(in super::super) fn fenced(epoch: u64, newest: u64) -> Failure {
    let message = format!("the producer has begun anew with epoch {newest}: {epoch} is over");
    Failure::new(Code::Conflict, message).detail("epoch", newest)
}

fn too_old(sequence: u64) -> Failure {
    let message = format!(
        "the sequence {sequence} is older than the {} newest of this producer: whether it was \
         appended is not known any more",
        tollgate_protocol::limits::PRODUCER_WINDOW
    );
    Failure { side_effect_free: false, ..Failure::new(Code::Conflict, message) }
}
