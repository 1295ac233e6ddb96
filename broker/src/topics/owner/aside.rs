//! Dead letters: a message that was delivered as often as may be goes to `<topic>.dead`, and the
//! group is done with it, in one commit.

use tollgate_protocol::id::TopicName;

use super::{
    super::{
        letter::Letter,
        reader,
        shelf::{Command, State},
        staged::{Staged, Then},
    },
    Owner,
    decide::DEAD,
};
use crate::{
    batch::Failure,
    rules::topic::{At, Event, Retention},
};

/// Dead letters that are looked for at once.
const AT_ONCE: usize = 64;

impl Owner {
    /// Looks for messages that are to be put aside. Whether there were any.
    pub(super) async fn put_aside(&mut self) -> Result<bool, Failure> {
        let mut dead = Vec::new();
        {
            let mut state = self.shelf.lock();
            let State { groups, topics, .. } = &mut *state;
            for ((topic, group), live) in groups.iter_mut() {
                let Some(known) = topics.get(*topic) else { continue };
                for (partition, offset, deliveries) in live.group.take_dead(AT_ONCE) {
                    let told = (known.name.clone(), deliveries);
                    dead.push((*topic, group.clone(), partition, offset, told));
                }
            }
        }
        let any = !dead.is_empty();
        for (topic, group, partition, offset, (name, deliveries)) in dead {
            let found = reader::one(&self.shelf, (topic, partition), offset).await?;
            let body = found.as_deref().and_then(|body| {
                let place = (partition, offset);
                let letter = Letter { name: &name, group: &group, place, deliveries, why: None };
                letter.write(body)
            });
            self.shelf.send(Command::PutAside { topic, group, partition, offset, body });
        }
        Ok(any)
    }

    /// Puts a message aside, once there is a topic for it.
    pub(super) fn take_aside(
        &mut self,
        command: Command,
        state: &mut State,
        batch: &mut Staged,
        now: At,
    ) -> Option<Command> {
        let Command::PutAside { topic, group, partition, offset, body } = command else {
            return Some(command);
        };
        // Deleted meanwhile: with it goes what was to be put aside.
        let known = state.topics.get(topic)?;
        let acked =
            Event::Acked { topic, group: group.clone(), partition, ranges: vec![(offset, offset)] };
        let then = Then::PutAside { topic, group: group.clone(), partition, offset };
        let Some(body) = body else {
            batch.change(acked, then);
            return None;
        };
        let name = format!("{}{DEAD}", known.name);
        let Some(place) = state.topics.find(&name).map(|dead| (dead.number, 0)) else {
            let Ok(name) = TopicName::parse(&name) else {
                debug_assert!(false, "names of topics leave room for it");
                batch.change(acked, then);
                return None;
            };
            if batch.is_empty() {
                let made = state.topics.create(name, 1, Retention::default(), false, now);
                batch.change(made, Then::Nothing);
            }
            return Some(Command::PutAside { topic, group, partition, offset, body: Some(body) });
        };
        self.append_own(place, body, (state, batch), Then::Nothing, now);
        batch.change(acked, then);
        None
    }
}
