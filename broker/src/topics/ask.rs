//! What is asked of topics and groups, and done to them, by clients and operators alike.

use std::sync::Arc;

use tokio::sync::oneshot;
use tollgate_protocol::{
    Code,
    id::{GroupName, TopicName},
    limits,
};

use super::{
    Topics,
    consume::{Start, position},
    owner::{DEAD, INBOX, no_such_partition},
    service::{no_such_group, no_such_topic},
    shelf::{Answer, Command, Shelf, State},
    stopped,
};
use crate::{
    batch::Failure,
    rules::topic::{self, At, Retention},
    tenancy::{Quota, Tenant},
};

/// A topic, as it was when it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct TopicInfo {
    pub name: TopicName,
    pub created: At,
    pub retention: Retention,
    pub partitions: Vec<PartInfo>,
    pub groups: u32,
}

/// One of its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartInfo {
    pub first: u64,
    pub next: u64,
    pub bytes: u64,
}

/// A consumer group, as it was when it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct GroupInfo {
    pub topic: TopicName,
    pub group: GroupName,
    pub members: u32,
    pub generation: u64,
    pub partitions: Vec<GroupPart>,
}

/// How far it is in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupPart {
    pub position: u64,
    pub next: u64,
    pub in_flight: u32,
    pub member: Option<u64>,
}

/// A page of topics.
#[derive(Debug, Clone)]
pub(crate) struct TopicsListed {
    pub topics: Vec<TopicInfo>,
    /// After which the next page begins, when there is one.
    pub next: Option<TopicName>,
}

/// A page of groups.
#[derive(Debug, Clone)]
pub(crate) struct GroupsListed {
    pub groups: Vec<GroupInfo>,
    /// After which the next page begins, when there is one.
    pub next: Option<(TopicName, GroupName)>,
}

/// The longest name of a topic that is made: its dead letters' must be one, too.
const NAME_BYTES_MAX: usize = limits::TOPIC_NAME_BYTES_MAX - DEAD.len();
const HOUR_MS: u64 = 3_600_000;

impl Topics {
    /// Makes a topic.
    ///
    /// # Errors
    /// `CONFLICT` when there is one of that name; `QUOTA_EXCEEDED` for `topics`, `partitions` and
    /// `retention_hours`; `VALIDATION_ERROR` for a name that dead letters have, or that leaves no
    /// room for them, and for too many partitions.
    pub(crate) async fn create(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        partitions: u32,
        retention: Retention,
    ) -> Result<TopicInfo, Failure> {
        if name.as_str().ends_with(DEAD) {
            let message = format!("names that end with {DEAD} are the broker's, for dead letters");
            return Err(Failure::validation("topic", message));
        }
        if name.as_str().len() > NAME_BYTES_MAX {
            let len = name.as_str().len();
            let message = format!("{len} bytes, at most {NAME_BYTES_MAX} are allowed");
            return Err(Failure::validation("topic", message));
        }
        if partitions > limits::TOPIC_PARTITIONS_MAX {
            let max = limits::TOPIC_PARTITIONS_MAX;
            let message = format!("{partitions}, at most {max} are allowed");
            return Err(Failure::validation("partitions", message));
        }
        check_retention(tenant, retention)?;
        let shelf = self.0.open(tenant).await?;
        let (partitions, own) = (partitions.max(1), name.as_str() == INBOX);
        let taken = |state: &State| state.topics.find(name.as_str()).is_some();
        if own && taken(&shelf.lock()) {
            return Err(Failure::new(Code::Conflict, "there is a topic of this name"));
        }
        let create = |answer| {
            let name = name.clone();
            Command::Create { name, partitions, retention, own, answer }
        };
        done(&shelf, create).await?;
        info(&shelf.lock(), name.as_str()).ok_or_else(no_such_topic)
    }

    /// Changes how long a topic's messages are kept.
    ///
    /// # Errors
    /// `NOT_FOUND`; `QUOTA_EXCEEDED` for `retention_hours`.
    pub(crate) async fn keep(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        retention: Retention,
    ) -> Result<TopicInfo, Failure> {
        check_retention(tenant, retention)?;
        let shelf = self.0.open(tenant).await?;
        done(&shelf, |answer| Command::Keep { name: name.clone(), retention, answer }).await?;
        info(&shelf.lock(), name.as_str()).ok_or_else(no_such_topic)
    }

    /// Deletes a topic, its messages, its groups and its dead letters.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn delete(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
    ) -> Result<(), Failure> {
        let shelf = self.0.open(tenant).await?;
        done(&shelf, |answer| Command::Delete { name: name.clone(), answer }).await
    }

    /// One topic.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn get(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
    ) -> Result<TopicInfo, Failure> {
        let shelf = self.0.open(tenant).await?;
        let state = shelf.lock();
        info(&state, name.as_str()).ok_or_else(no_such_topic)
    }

    /// Topics in the order of their names, after one; at most `limit`.
    ///
    /// # Errors
    /// When they can not be read.
    pub(crate) async fn list(
        &self,
        tenant: &Arc<Tenant>,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Result<TopicsListed, Failure> {
        let shelf = self.0.open(tenant).await?;
        let state = shelf.lock();
        let after = after.map(TopicName::as_str);
        let mut topics: Vec<TopicInfo> =
            state.topics.after(after).take(limit + 1).map(|topic| known(&state, topic)).collect();
        let more = topics.len() > limit;
        topics.truncate(limit);
        let next = topics.last().filter(|_| more).map(|topic| topic.name.clone());
        Ok(TopicsListed { topics, next })
    }

    /// One group of a topic.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn group(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        group: &GroupName,
    ) -> Result<GroupInfo, Failure> {
        let shelf = self.0.open(tenant).await?;
        let state = shelf.lock();
        let topic = state.topics.find(name.as_str()).ok_or_else(no_such_topic)?;
        group_info(&state, topic, group).ok_or_else(no_such_group)
    }

    /// Groups in the order of topics and names, of one topic or all; at most `limit`.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is no such topic.
    pub(crate) async fn groups(
        &self,
        tenant: &Arc<Tenant>,
        name: Option<&TopicName>,
        after: Option<&(TopicName, GroupName)>,
        limit: usize,
    ) -> Result<GroupsListed, Failure> {
        let shelf = self.0.open(tenant).await?;
        let state = shelf.lock();
        let of: Vec<&topic::Topic> = match name {
            Some(name) => vec![state.topics.find(name.as_str()).ok_or_else(no_such_topic)?],
            None => state.topics.after(None).collect(),
        };
        let all = of.into_iter().flat_map(|topic| {
            let groups = state.topics.groups(topic.number).into_iter().flat_map(|g| g.keys());
            groups.map(move |group| (topic, group))
        });
        let left =
            all.filter(|(topic, group)| after.is_none_or(|(t, g)| (&topic.name, *group) > (t, g)));
        let page = left.take(limit + 1);
        let mut groups: Vec<GroupInfo> =
            page.filter_map(|(topic, group)| group_info(&state, topic, group)).collect();
        let more = groups.len() > limit;
        groups.truncate(limit);
        let next = groups.last().filter(|_| more).map(|g| (g.topic.clone(), g.group.clone()));
        Ok(GroupsListed { groups, next })
    }

    /// Forgets a group.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` while it has members.
    pub(crate) async fn delete_group(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        group: &GroupName,
    ) -> Result<(), Failure> {
        let shelf = self.0.open(tenant).await?;
        let topic = number(&shelf, name)?;
        let delete = |answer| Command::DeleteGroup { topic, group: group.clone(), answer };
        done(&shelf, delete).await
    }

    /// Moves a group, in one partition or all.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` while it has members; `VALIDATION_ERROR` when there is no such
    /// partition.
    pub(crate) async fn move_group(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        group: &GroupName,
        partition: Option<u32>,
        to: Start,
    ) -> Result<GroupInfo, Failure> {
        let shelf = self.0.open(tenant).await?;
        let (topic, partitions) = {
            let state = shelf.lock();
            let topic = state.topics.find(name.as_str()).ok_or_else(no_such_topic)?;
            (topic.number, topic.parts.len() as u32)
        };
        let all = match partition {
            Some(one) if one >= partitions => {
                return Err(no_such_partition(one, partitions as usize));
            }
            Some(one) => one..one + 1,
            None => 0..partitions,
        };
        let mut positions = Vec::new();
        for partition in all {
            let to = position(&shelf, (topic, partition), to).await?;
            // Beyond the end nothing is: what comes there would be passed unread.
            let (_, next) = super::reader::ends(&shelf, (topic, partition))?;
            positions.push((partition, to.min(next)));
        }
        let moved = |answer| {
            let group = group.clone();
            Command::MoveGroup { topic, group, positions, answer }
        };
        done(&shelf, moved).await?;
        self.group(tenant, name, group).await
    }

    /// Makes a topic of the broker's own when it is not there: the inbox, and the dead letters of a
    /// topic, so that they can be waited for.
    pub(super) async fn ensure_own(
        &self,
        shelf: &Arc<Shelf>,
        name: &TopicName,
    ) -> Result<(), Failure> {
        {
            let state = shelf.lock();
            let of = name.as_str().strip_suffix(DEAD);
            let own = of.map_or(name.as_str() == INBOX, |of| state.topics.find(of).is_some());
            if !own || state.topics.find(name.as_str()).is_some() {
                return Ok(());
            }
        }
        let (name, retention) = (name.clone(), Retention::default());
        let create = |answer| Command::Create { name, partitions: 1, retention, own: true, answer };
        done(shelf, create).await
    }
}

/// Asks the owner, and waits until it is kept.
pub(super) async fn done(
    shelf: &Arc<Shelf>,
    command: impl FnOnce(Answer) -> Command,
) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    shelf.send(command(answer));
    answered.await.unwrap_or_else(|_| Err(shelf.gone().unwrap_or_else(stopped)))
}

fn number(shelf: &Shelf, name: &TopicName) -> Result<u32, Failure> {
    let state = shelf.lock();
    state.topics.find(name.as_str()).map(|topic| topic.number).ok_or_else(no_such_topic)
}

/// Nothing may be kept for longer than the tenant's quota says.
fn check_retention(tenant: &Arc<Tenant>, retention: Retention) -> Result<(), Failure> {
    let Some(age) = retention.age_ms else { return Ok(()) };
    tenant.check(Quota::RetentionHours, age.div_ceil(HOUR_MS)).map_err(|refusal| {
        let message = format!(
            "the quota `retention_hours` allows {} h, {} h were asked for",
            refusal.limit, refusal.current
        );
        Failure { side_effect_free: true, ..Failure::over(refusal, message) }
    })
}

fn info(state: &State, name: &str) -> Option<TopicInfo> {
    state.topics.find(name).map(|topic| known(state, topic))
}

fn known(state: &State, topic: &topic::Topic) -> TopicInfo {
    let partitions = (0..).zip(&topic.parts).map(|(partition, part)| {
        let place = (topic.number, partition);
        let next = state.parts.get(&place).map_or(part.first, |run| run.next);
        PartInfo { first: part.first, next, bytes: state.bytes_of(place) }
    });
    TopicInfo {
        name: topic.name.clone(),
        created: topic.created,
        retention: topic.retention,
        partitions: partitions.collect(),
        groups: state.topics.groups(topic.number).map_or(0, |groups| groups.len() as u32),
    }
}

fn group_info(state: &State, topic: &topic::Topic, group: &GroupName) -> Option<GroupInfo> {
    let done = state.topics.groups(topic.number)?.get(group)?;
    let live = state.groups.get(&(topic.number, group.clone()));
    let looks: Vec<_> = live.into_iter().flat_map(|live| live.group.look()).collect();
    let partitions = (0..).zip(done).map(|(partition, done)| {
        let run = state.parts.get(&(topic.number, partition));
        let look = looks.get(partition as usize);
        GroupPart {
            position: done.position,
            next: run.map_or(done.position, |run| run.next),
            in_flight: look.map_or(0, |look| look.in_flight),
            member: look.and_then(|look| look.member),
        }
    });
    Some(GroupInfo {
        topic: topic.name.clone(),
        group: group.clone(),
        members: live.map_or(0, |live| live.group.members() as u32),
        generation: live.map_or(0, |live| live.group.generation()),
        partitions: partitions.collect(),
    })
}
