//! Questions about topics and groups, and actions on them: a stream each.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quinn::{ReadError, WriteError};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Splitter, encode,
    id::MessageId,
    limits,
    topic::{self, GroupAction, GroupAsk, StartAt, TopicAction, TopicAsk},
};

use super::ReceivedMessage;
use crate::{
    client::Client,
    error::{Disconnected, TopicError, Violation},
    frame_name,
    item::Failure,
};

/// How long messages are kept; what is not said is bounded by the tenant's quotas alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Messages older than this go.
    pub age: Option<Duration>,
    /// The oldest messages of a partition go while it holds more bytes than this.
    pub bytes: Option<u64>,
}

impl Retention {
    fn wire(self) -> topic::Retention {
        let age_ms = self.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        topic::Retention { age_ms, bytes: self.bytes }
    }
}

/// What the broker knows of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Box<str>,
    /// Every partition, in order.
    pub partitions: Vec<PartitionInfo>,
    /// How long messages are kept.
    pub retention: Retention,
    /// When it was made.
    pub created: SystemTime,
    /// Consumer groups that it has.
    pub groups: u32,
}

pub use topic::{GroupPartition, PartitionInfo};

impl TopicInfo {
    fn own(t: &topic::TopicInfo<'_>) -> TopicInfo {
        TopicInfo {
            name: t.topic.into(),
            partitions: t.partitions.clone(),
            retention: Retention {
                age: t.retention.age_ms.map(Duration::from_millis),
                bytes: t.retention.bytes,
            },
            created: time(t.created_unix_ms),
            groups: t.groups,
        }
    }

    /// Messages that are kept, deleted ones among them.
    pub fn messages(&self) -> u64 {
        self.partitions.iter().map(|p| p.next.saturating_sub(p.first)).sum()
    }
}

fn time(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms)).unwrap_or(UNIX_EPOCH)
}

/// What the broker knows of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Of which topic.
    pub topic: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Members that are connected.
    pub members: u32,
    /// Rises with every change of its members.
    pub generation: u64,
    /// Every partition, in order.
    pub partitions: Vec<GroupPartition>,
}

impl GroupInfo {
    fn own(g: &topic::GroupInfo<'_>) -> GroupInfo {
        GroupInfo {
            topic: g.topic.into(),
            name: g.group.into(),
            members: g.members,
            generation: g.generation,
            partitions: g.partitions.clone(),
        }
    }

    /// Messages that are not acknowledged, or not all before them.
    pub fn lag(&self) -> u64 {
        self.partitions.iter().map(|p| p.next.saturating_sub(p.position)).sum()
    }
}

/// A page of a list of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPage {
    /// The topics, in the order of their names.
    pub topics: Vec<TopicInfo>,
    /// Where the next page begins, when there is one.
    pub next: Option<Box<str>>,
}

/// Questions about topics and consumer groups, and actions on them; made by [`Client::topics`].
///
/// ```no_run
/// use std::time::Duration;
/// use tollgate_client::{Client, Retention};
///
/// # async fn example(client: Client) -> Result<(), tollgate_client::TopicError> {
/// let day = Retention { age: Some(Duration::from_secs(86_400)), bytes: None };
/// client.topics().create("orders", 4, day).await?;
/// for topic in client.topics().list().await? {
///     println!("{}: {} messages", topic.name, topic.messages());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Topics {
    client: Client,
    tenant: Option<Arc<str>>,
}

impl Topics {
    pub(super) fn new(client: Client) -> Topics {
        Topics { client, tenant: None }
    }

    /// Gateways only: the tenant whose topics they are.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Topics {
        self.tenant = Some(tenant.into());
        self
    }

    /// Makes a topic with so many partitions; 0: 1.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `CONFLICT` when there is one of that name, with `QUOTA_EXCEEDED`
    /// when the tenant may not have another, or keep messages so long.
    pub async fn create(
        &self,
        topic: &str,
        partitions: u32,
        retention: Retention,
    ) -> Result<TopicInfo, TopicError> {
        let retention = retention.wire();
        self.one_topic(TopicAction::Create { topic, partitions, retention }).await
    }

    /// Changes how long messages of a topic are kept.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND` or `QUOTA_EXCEEDED`.
    pub async fn update(&self, topic: &str, retention: Retention) -> Result<TopicInfo, TopicError> {
        self.one_topic(TopicAction::Update { topic, retention: retention.wire() }).await
    }

    /// What the broker knows of a topic.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND`.
    pub async fn get(&self, topic: &str) -> Result<TopicInfo, TopicError> {
        self.one_topic(TopicAction::Get { topic }).await
    }

    /// Deletes a topic, its messages, its groups and its dead letters.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND`.
    pub async fn delete(&self, topic: &str) -> Result<(), TopicError> {
        self.count(self.topic(TopicAction::Delete { topic })).await
    }

    /// All topics, in the order of their names: page after page.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn list(&self) -> Result<Vec<TopicInfo>, TopicError> {
        let (mut topics, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.page(cursor.as_deref(), limits::LISTED_MAX).await?;
            topics.extend(page.topics);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(topics),
            }
        }
    }

    /// One page of the topics: from the beginning, or from where [`TopicPage::next`] of the page
    /// before says. At most `limit`, up to 1 000; 0: 100.
    ///
    /// # Errors
    /// [`TopicError`].
    pub async fn page(&self, cursor: Option<&str>, limit: u32) -> Result<TopicPage, TopicError> {
        let (mut topics, mut end) = (Vec::new(), None);
        let limit = limit.min(limits::LISTED_MAX);
        let ask = self.topic(TopicAction::List { cursor, limit });
        self.ask(ask, &mut |frame| match frame {
            BrokerFrame::Topic(topic) if end.is_none() => {
                topics.push(TopicInfo::own(topic));
                topics.len() <= limits::LISTED_MAX as usize
            }
            BrokerFrame::Listed(last) => end.replace(last.next.map(Into::into)).is_none(),
            _ => false,
        })
        .await?;
        let next = end.ok_or(TopicError::Protocol(Violation::Unexpected("End")))?;
        Ok(TopicPage { topics, next })
    }

    /// A message by its id.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND`.
    pub async fn message(&self, id: MessageId) -> Result<ReceivedMessage, TopicError> {
        let mut found = None;
        let ask = self.topic(TopicAction::GetMessage { id: id.0 });
        self.ask(ask, &mut |frame| match frame {
            BrokerFrame::Delivery(d) => found.replace(ReceivedMessage::own(d, None)).is_none(),
            _ => false,
        })
        .await?;
        found.ok_or(TopicError::Protocol(Violation::Unexpected("End")))
    }

    /// Deletes a message by its id: nobody reads it any more.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND`.
    pub async fn delete_message(&self, id: MessageId) -> Result<(), TopicError> {
        self.count(self.topic(TopicAction::DeleteMessage { id: id.0 })).await
    }

    /// What the broker knows of a consumer group of a topic.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND`.
    pub async fn group(&self, topic: &str, group: &str) -> Result<GroupInfo, TopicError> {
        self.one_group(GroupAction::Get { topic, group }).await
    }

    /// All groups, of one topic or of all, in the order of topics and names.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND` when there is no such topic.
    pub async fn groups(&self, topic: Option<&str>) -> Result<Vec<GroupInfo>, TopicError> {
        let (mut groups, mut cursor): (Vec<GroupInfo>, Option<Box<str>>) = (Vec::new(), None);
        loop {
            let (limit, mut end) = (limits::LISTED_MAX, None);
            let action = GroupAction::List { topic, cursor: cursor.as_deref(), limit };
            self.ask(self.group_ask(action), &mut |frame| match frame {
                BrokerFrame::Group(group) if end.is_none() => {
                    groups.push(GroupInfo::own(group));
                    true
                }
                BrokerFrame::Listed(last) => end.replace(last.next.map(Into::into)).is_none(),
                _ => false,
            })
            .await?;
            match end.ok_or(TopicError::Protocol(Violation::Unexpected("End")))? {
                Some(next) => cursor = Some(next),
                None => return Ok(groups),
            }
        }
    }

    /// Forgets a group and its positions.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND`, or `CONFLICT` while it has members.
    pub async fn delete_group(&self, topic: &str, group: &str) -> Result<(), TopicError> {
        self.count(self.group_ask(GroupAction::Delete { topic, group })).await
    }

    /// Moves a group's positions, in one partition or all.
    ///
    /// # Errors
    /// As [`delete_group`](Self::delete_group).
    pub async fn reset_group(
        &self,
        topic: &str,
        group: &str,
        partition: Option<u32>,
        to: StartAt,
    ) -> Result<GroupInfo, TopicError> {
        self.one_group(GroupAction::Reset { topic, group, partition, to }).await
    }

    fn topic<'a>(&'a self, action: TopicAction<'a>) -> ClientFrame<'a> {
        ClientFrame::Topic(TopicAsk { tenant: self.tenant.as_deref(), ..TopicAsk::new(action) })
    }

    fn group_ask<'a>(&'a self, action: GroupAction<'a>) -> ClientFrame<'a> {
        ClientFrame::Group(GroupAsk { tenant: self.tenant.as_deref(), ..GroupAsk::new(action) })
    }

    async fn one_topic(&self, action: TopicAction<'_>) -> Result<TopicInfo, TopicError> {
        let mut info = None;
        self.ask(self.topic(action), &mut |frame| match frame {
            BrokerFrame::Topic(topic) => info.replace(TopicInfo::own(topic)).is_none(),
            _ => false,
        })
        .await?;
        info.ok_or(TopicError::Protocol(Violation::Unexpected("End")))
    }

    async fn one_group(&self, action: GroupAction<'_>) -> Result<GroupInfo, TopicError> {
        let mut info = None;
        self.ask(self.group_ask(action), &mut |frame| match frame {
            BrokerFrame::Group(group) => info.replace(GroupInfo::own(group)).is_none(),
            _ => false,
        })
        .await?;
        info.ok_or(TopicError::Protocol(Violation::Unexpected("End")))
    }

    async fn count(&self, ask: ClientFrame<'_>) -> Result<(), TopicError> {
        self.ask(ask, &mut |frame| matches!(frame, BrokerFrame::Listed(_))).await
    }

    /// Asks one question; `take` says whether a frame belongs to its answer.
    async fn ask(
        &self,
        ask: ClientFrame<'_>,
        take: &mut (dyn FnMut(&BrokerFrame<'_>) -> bool + Send),
    ) -> Result<(), TopicError> {
        let session = self.client.session().await?;
        let (mut send, mut recv) = session.connection.open_bi().await.map_err(Disconnected)?;
        let mut question = Vec::with_capacity(64);
        encode(&ask, &mut question);
        // A stream that was stopped before it was read is no error: the answer says why.
        if let Err(WriteError::ConnectionLost(e)) = send.write_all(&question).await {
            return Err(Disconnected(e).into());
        }
        let _ = send.finish();
        let mut splitter = Splitter::new(session.receive_frame_max);
        loop {
            while let Some(frame) = splitter.peek()? {
                match BrokerFrame::decode(frame)? {
                    BrokerFrame::End => return Ok(()),
                    BrokerFrame::Error { code, failure } => {
                        return Err(TopicError::Failed(Box::new(Failure::own(code, &failure))));
                    }
                    BrokerFrame::Alive => {}
                    ref answer if take(answer) => {}
                    other => return Err(Violation::Unexpected(frame_name(&other)).into()),
                }
                splitter.advance();
            }
            match recv.read_chunks(splitter.buffers()).await {
                Ok(Some(n)) => splitter.filled(n),
                Ok(None) => return Err(TopicError::Cut),
                Err(ReadError::ConnectionLost(e)) => return Err(Disconnected(e).into()),
                Err(ReadError::Reset(code)) => return Err(TopicError::Reset(code.into_inner())),
                // Only 0-RTT and unordered reads give the others, and there are none here.
                Err(_) => return Err(TopicError::Cut),
            }
        }
    }
}
