//! Topics on their streams: appending, reading, and what is asked of topics and groups.
//!
//! Judges the first frame; what runs longer has a file of its own.

use std::sync::Arc;

use tollgate_protocol::{
    BrokerFrame, Code, Extensions,
    id::{GroupName, NameError, TopicName},
    topic::{
        self as wire, GroupAction, GroupAsk, Listed, Retention, StartAt, TopicAction, TopicAsk,
    },
};

use super::{
    connection::{Caller, Peer},
    stream::{End, Stream, refuse_critical},
};
use crate::{
    batch::{Failure, foreign},
    tenancy::Tenant,
    topics::{self, GroupInfo, Start, TopicInfo},
};

mod consume;
mod produce;
mod vigil;

pub(super) use consume::{consume, serve_consumer};
pub(super) use produce::{produce, serve_producer};

/// Things of one page when the client does not say.
const LISTED_BY_DEFAULT: u32 = 100;

/// For whom a stream about topics acts.
fn tenant(peer: &Peer, named: Option<&str>) -> Result<Arc<Tenant>, Failure> {
    match (&peer.caller, named) {
        (Caller::Tenant(tenant), None) => Ok(tenant.clone()),
        (Caller::Tenant(_), Some(_)) => Err(Failure::only_gateways()),
        (Caller::Worker(_), _) => {
            let message = "the certificate of a worker may serve recipes, not use topics";
            Err(Failure::new(Code::Forbidden, message))
        }
        (Caller::Gateway(_), None) => {
            Err(Failure::validation("tenant", "a gateway names the tenant whose topics it means"))
        }
        (Caller::Gateway(gateway), Some(id)) => peer.tenant_of(gateway, id).ok_or_else(foreign),
    }
}

fn bad_name(field: &'static str) -> impl Fn(NameError) -> Failure {
    move |error| Failure::validation(field, error.to_string())
}

fn topic_name(name: &str) -> Result<TopicName, Failure> {
    TopicName::parse(name).map_err(bad_name("topic"))
}

fn group_name(name: &str) -> Result<GroupName, Failure> {
    GroupName::parse(name).map_err(bad_name("group"))
}

fn start(from: StartAt) -> Start {
    match from {
        StartAt::Earliest => Start::Earliest,
        StartAt::Latest => Start::Latest,
        StartAt::Offset(offset) => Start::Offset(offset),
        StartAt::Time(at) => Start::Time(at),
    }
}

/// A question about topics or groups, or a deed.
pub(super) struct Asks {
    tenant: Arc<Tenant>,
    what: What,
}

enum What {
    Create(TopicName, u32, topics::Retention),
    Delete(TopicName),
    Get(TopicName),
    List(Option<TopicName>, usize),
    Keep(TopicName, topics::Retention),
    GetMessage([u8; 16]),
    DeleteMessage([u8; 16]),
    Group(TopicName, GroupName),
    Groups(Option<TopicName>, Option<(TopicName, GroupName)>, usize),
    DeleteGroup(TopicName, GroupName),
    MoveGroup(TopicName, GroupName, Option<u32>, Start),
}

fn retention(asked: Retention) -> topics::Retention {
    topics::Retention { age_ms: asked.age_ms, bytes: asked.bytes }
}

fn limit(asked: u32) -> usize {
    if asked == 0 { LISTED_BY_DEFAULT as usize } else { asked as usize }
}

fn bad_cursor<E>(_: E) -> Failure {
    Failure::validation("cursor", "this is no cursor that a list gave")
}

/// Judges a question about topics.
pub(super) fn ask(peer: &Peer, ask: &TopicAsk<'_>) -> Result<Asks, Failure> {
    refuse_critical(&ask.extensions)?;
    let tenant = tenant(peer, ask.tenant)?;
    let what = match ask.action {
        TopicAction::Create { topic, partitions, retention: asked } => {
            What::Create(topic_name(topic)?, partitions, retention(asked))
        }
        TopicAction::Delete { topic } => What::Delete(topic_name(topic)?),
        TopicAction::Get { topic } => What::Get(topic_name(topic)?),
        TopicAction::List { cursor, limit: asked } => {
            let after = cursor.map(TopicName::parse).transpose().map_err(bad_cursor)?;
            What::List(after, limit(asked))
        }
        TopicAction::Update { topic, retention: asked } => {
            What::Keep(topic_name(topic)?, retention(asked))
        }
        TopicAction::GetMessage { id } => What::GetMessage(id),
        TopicAction::DeleteMessage { id } => What::DeleteMessage(id),
    };
    Ok(Asks { tenant, what })
}

/// Judges a question about groups.
pub(super) fn ask_group(peer: &Peer, ask: &GroupAsk<'_>) -> Result<Asks, Failure> {
    refuse_critical(&ask.extensions)?;
    let tenant = tenant(peer, ask.tenant)?;
    let what = match ask.action {
        GroupAction::Get { topic, group } => What::Group(topic_name(topic)?, group_name(group)?),
        GroupAction::List { topic, cursor, limit: asked } => {
            let topic = topic.map(topic_name).transpose()?;
            let after = cursor.map(group_cursor).transpose()?;
            What::Groups(topic, after, limit(asked))
        }
        GroupAction::Delete { topic, group } => {
            What::DeleteGroup(topic_name(topic)?, group_name(group)?)
        }
        GroupAction::Reset { topic, group, partition, to } => {
            What::MoveGroup(topic_name(topic)?, group_name(group)?, partition, start(to))
        }
    };
    Ok(Asks { tenant, what })
}

/// The cursor of a list of groups names the last one of the page before: opaque all the same. No
/// name has a slash.
fn group_cursor(text: &str) -> Result<(TopicName, GroupName), Failure> {
    let (topic, group) = text.split_once('/').ok_or(()).map_err(bad_cursor)?;
    Ok((TopicName::parse(topic).map_err(bad_cursor)?, GroupName::parse(group).map_err(bad_cursor)?))
}

/// Answers a question about topics or groups.
pub(super) async fn answer(peer: &Arc<Peer>, mut stream: Stream, asked: Asks) -> End {
    let Asks { tenant, what } = asked;
    match tell(&peer.services.topics, &tenant, what, &mut stream).await {
        Ok(()) => {
            stream.output.frame(&BrokerFrame::End);
            stream.finish(End::Completed).await
        }
        Err(failure) => stream.refuse(failure).await,
    }
}

async fn tell(
    topics: &topics::Topics,
    tenant: &Arc<Tenant>,
    what: What,
    stream: &mut Stream,
) -> Result<(), Failure> {
    match what {
        What::Create(name, partitions, retention) => {
            put_topic(stream, &topics.create(tenant, &name, partitions, retention).await?);
        }
        What::Keep(name, retention) => {
            put_topic(stream, &topics.keep(tenant, &name, retention).await?);
        }
        What::Get(name) => put_topic(stream, &topics.get(tenant, &name).await?),
        What::List(after, limit) => {
            let listed = topics.list(tenant, after.as_ref(), limit).await?;
            listed.topics.iter().for_each(|topic| put_topic(stream, topic));
            put_listed(stream, listed.topics.len(), listed.next.as_ref().map(TopicName::as_str));
        }
        What::Delete(name) => {
            topics.delete(tenant, &name).await?;
            put_listed(stream, 1, None);
        }
        What::GetMessage(id) => {
            let message = topics.message(tenant, id).await?;
            let (delivery, _) = message.got.delivery()?;
            stream.output.frame(&BrokerFrame::Delivery(delivery));
        }
        What::DeleteMessage(id) => {
            topics.delete_message(tenant, id).await?;
            put_listed(stream, 1, None);
        }
        What::Group(name, group) => put_group(stream, &topics.group(tenant, &name, &group).await?),
        What::Groups(name, after, limit) => {
            let listed = topics.groups(tenant, name.as_ref(), after.as_ref(), limit).await?;
            listed.groups.iter().for_each(|group| put_group(stream, group));
            let next = listed.next.as_ref().map(|(topic, group)| format!("{topic}/{group}"));
            put_listed(stream, listed.groups.len(), next.as_deref());
        }
        What::DeleteGroup(name, group) => {
            topics.delete_group(tenant, &name, &group).await?;
            put_listed(stream, 1, None);
        }
        What::MoveGroup(name, group, partition, to) => {
            put_group(stream, &topics.move_group(tenant, &name, &group, partition, to).await?);
        }
    }
    Ok(())
}

fn put_listed(stream: &mut Stream, count: usize, next: Option<&str>) {
    stream.output.frame(&BrokerFrame::Listed(Listed { count: count as u64, next }));
}

fn put_topic(stream: &mut Stream, info: &TopicInfo) {
    let part = |part: &topics::PartInfo| wire::PartitionInfo {
        first: part.first,
        next: part.next,
        bytes: part.bytes,
    };
    stream.output.frame(&BrokerFrame::Topic(wire::TopicInfo {
        topic: info.name.as_str(),
        partitions: info.partitions.iter().map(part).collect(),
        retention: Retention { age_ms: info.retention.age_ms, bytes: info.retention.bytes },
        created_unix_ms: info.created,
        groups: info.groups,
        extensions: Extensions::EMPTY,
    }));
}

fn put_group(stream: &mut Stream, info: &GroupInfo) {
    let part = |part: &topics::GroupPart| wire::GroupPartition {
        position: part.position,
        next: part.next,
        in_flight: part.in_flight,
        member: part.member,
    };
    stream.output.frame(&BrokerFrame::Group(wire::GroupInfo {
        topic: info.topic.as_str(),
        group: info.group.as_str(),
        members: info.members,
        generation: info.generation,
        partitions: info.partitions.iter().map(part).collect(),
        extensions: Extensions::EMPTY,
    }));
}
