//! Reading a topic: from a position, or as a member of a consumer group.
//!
//! No task and no channel: whoever reads does the work. A lost connection is opened again, and
//! reading goes on where it was.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, encode,
    limits::PREFIX_BYTES,
    topic::{Ack, ConsumeOpen, Nack, StartAt},
};

use super::{
    message::ReceivedMessage,
    stream::{Comeback, Stream},
};
use crate::{
    client::Client,
    error::{TopicError, Violation},
    event::Notice,
    frame_name,
    item::Failure,
};

/// Payloads from here on are kept in the buffer that they arrived in; below, a copy is cheaper.
const OWN_BYTES: usize = 4 << 10;

/// How a consumer is made; made by [`Client::consumer`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until it is opened"]
pub struct ConsumerBuilder {
    client: Client,
    topic: Arc<str>,
    tenant: Option<Arc<str>>,
    partition: Option<u32>,
    from: StartAt,
    offsets: BTreeMap<u32, u64>,
    group: Option<Arc<str>>,
    ack_timeout_ms: u64,
    in_flight_max: u32,
    follow: bool,
    patience: Option<Duration>,
}

impl ConsumerBuilder {
    pub(super) fn new(client: Client, topic: Arc<str>) -> ConsumerBuilder {
        ConsumerBuilder {
            client,
            topic,
            tenant: None,
            partition: None,
            from: StartAt::Earliest,
            offsets: BTreeMap::new(),
            group: None,
            ack_timeout_ms: 0,
            in_flight_max: 0,
            follow: true,
            patience: None,
        }
    }

    /// Gateways only: the tenant whose topic it is.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Only this partition; not for members of a group.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Where to begin: at the oldest message, otherwise. For a group, where it has no position.
    pub fn from(mut self, from: StartAt) -> Self {
        self.from = from;
        self
    }

    /// A partition that begins at an offset of its own; not for members of a group.
    pub fn offset(mut self, partition: u32, offset: u64) -> Self {
        self.offsets.insert(partition, offset);
        self
    }

    /// As a member of this consumer group, which is made when it is not there: its members share
    /// the partitions, and acknowledge what they are done with.
    pub fn group(mut self, group: impl Into<Arc<str>>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Members only: a message that is not acknowledged for so long is delivered again. 30 s,
    /// unless the broker is configured otherwise.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        self
    }

    /// Members only: messages delivered and not acknowledged at once. 1 000, unless the broker is
    /// configured otherwise.
    pub fn in_flight_max(mut self, messages: u32) -> Self {
        self.in_flight_max = messages;
        self
    }

    /// Ends with what there is, instead of going on with what comes.
    pub fn until_end(mut self) -> Self {
        self.follow = false;
        self
    }

    /// For how long a broker that is out of reach is looked for, instead of the client's own
    /// [`patience`](crate::ClientBuilder::patience).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Begins.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND` when there is no such topic, with `QUOTA_EXCEEDED`
    /// when the tenant has no place for another consumer, or may not have another group.
    pub async fn open(self) -> Result<Consumer, TopicError> {
        let mut comeback = Comeback::new(self.client.patience());
        if let Some(patience) = self.patience {
            comeback.set_patience(patience);
        }
        let (stream, partitions) = open(self.clone()).await?;
        Ok(Consumer {
            builder: self,
            partitions,
            state: State::Open(Box::new(stream)),
            kept: VecDeque::new(),
            comeback,
            closing: false,
        })
    }

    fn first(&self) -> Vec<u8> {
        let mut first = Vec::with_capacity(96);
        let frame = ClientFrame::Consume(ConsumeOpen {
            topic: &self.topic,
            tenant: self.tenant.as_deref(),
            partition: self.partition,
            from: self.from,
            offsets: self.offsets.iter().map(|(p, o)| (*p, *o)).collect(),
            group: self.group.as_deref(),
            ack_timeout_ms: self.ack_timeout_ms,
            in_flight_max: self.in_flight_max,
            follow: self.follow,
            extensions: tollgate_protocol::Extensions::EMPTY,
        });
        encode(&frame, &mut first);
        first
    }
}

/// Opens a stream, and hears what is granted: partitions of the topic.
async fn open(builder: ConsumerBuilder) -> Result<(Stream, u32), TopicError> {
    let mut stream = Stream::open(&builder.client, builder.first()).await?;
    loop {
        let Some(frame) = stream.splitter.peek()? else {
            poll_fn(|cx| stream.poll(cx)).await?;
            continue;
        };
        let partitions = match BrokerFrame::decode(frame)? {
            BrokerFrame::ConsumeAccepted(accepted) => Some(accepted.partitions),
            BrokerFrame::Error { code, failure } => {
                return Err(TopicError::Failed(Box::new(Failure::own(code, &failure))));
            }
            BrokerFrame::Alive => None,
            other => return Err(Violation::Unexpected(frame_name(&other)).into()),
        };
        stream.splitter.advance();
        if let Some(partitions) = partitions {
            return Ok((stream, partitions));
        }
    }
}

/// Something that a consumer is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// A message.
    Message(ReceivedMessage),
    /// The partitions that a member has from now on: all of them.
    Assigned {
        /// Rises with every change of the group's members.
        generation: u64,
        /// Which partitions.
        partitions: Vec<u32>,
    },
    /// How far the member's group is in a partition, on stable storage.
    Committed {
        /// In which partition.
        partition: u32,
        /// Every message before this offset is acknowledged.
        position: u64,
    },
    /// Something is about to happen to the connection; the consumer survives it.
    Notice(Notice),
    /// The connection was lost and is there again: a member may be delivered messages again.
    Reconnected,
}

/// Reads a topic; made by [`Client::consumer`].
///
/// Without a group, reading changes nothing, and every message is given once: when the connection
/// is lost, it goes on after the last message that was read. A member of a group acknowledges what
/// it is done with; what it does not is delivered again, so a message may come more than once.
/// Dropping it leaves the group; [`close`](Self::close) does so when what was acknowledged is kept.
///
/// ```no_run
/// use tollgate_client::Client;
///
/// # async fn example(client: Client) -> Result<(), tollgate_client::TopicError> {
/// let mut billing = client.consumer("orders").group("billing").open().await?;
/// while let Some(message) = billing.next().await {
///     let message = message?;
///     println!("{}/{}: {:?}", message.partition, message.offset, message.payload);
///     billing.ack(&message);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    builder: ConsumerBuilder,
    partitions: u32,
    state: State,
    /// What has arrived and was not asked for yet: bounded by one read.
    kept: VecDeque<ConsumerEvent>,
    comeback: Comeback,
    closing: bool,
}

enum State {
    Open(Box<Stream>),
    Opening(BoxFuture<'static, Result<(Stream, u32), TopicError>>),
    Failed(TopicError),
    Over,
}

impl Consumer {
    /// Partitions of the topic: 0, 1 … below this.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The next message; `None` when all is read, after an error, and once it is closed.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND` when the topic was deleted,
    /// [`TopicError::OutOfReach`] when the broker did not come back in time. An error is the last
    /// thing it tells.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Option<Result<ReceivedMessage, TopicError>> {
        loop {
            match self.next_event().await? {
                Ok(ConsumerEvent::Message(message)) => return Some(Ok(message)),
                Ok(_) => {}
                Err(e) => return Some(Err(e)),
            }
        }
    }

    /// As [`next`](Self::next), with everything else that is told.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next_event(&mut self) -> Option<Result<ConsumerEvent, TopicError>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// A member is done with a message. Sent with the next read, and never waits.
    pub fn ack(&mut self, message: &ReceivedMessage) {
        self.ack_range(message.partition, message.offset, message.offset);
    }

    /// A member is done with messages: those of this range that it was given.
    pub fn ack_range(&mut self, partition: u32, first: u64, last: u64) {
        self.say(&ClientFrame::Ack(Ack { partition, first, last }));
    }

    /// A member could not do a message: it is delivered again, at once. Sent with the next read.
    pub fn nack(&mut self, message: &ReceivedMessage) {
        let (partition, first, last) = (message.partition, message.offset, message.offset);
        self.say(&ClientFrame::Nack(Nack { partition, first, last }));
    }

    fn say(&mut self, frame: &ClientFrame<'_>) {
        // What is lost with a connection is delivered again.
        if let State::Open(stream) = &mut self.state {
            stream.say(|out| encode(frame, out), &Bytes::new());
        }
    }

    /// Sends what was acknowledged, without reading.
    ///
    /// # Errors
    /// When the connection is lost: the messages are then delivered again.
    pub async fn flush(&mut self) -> Result<(), TopicError> {
        match &mut self.state {
            State::Open(stream) => poll_fn(|cx| stream.poll_write(cx)).await,
            _ => Ok(()),
        }
    }

    /// Leaves, once everything that was acknowledged is on stable storage. Messages that were
    /// delivered and not read are delivered to others.
    ///
    /// # Errors
    /// When the connection is lost before.
    pub async fn close(mut self) -> Result<(), TopicError> {
        let State::Open(stream) = &mut self.state else { return Ok(()) };
        stream.finish();
        if self.builder.group.is_none() {
            return poll_fn(|cx| stream.poll_write(cx)).await;
        }
        self.closing = true;
        loop {
            match self.next_event().await {
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e),
                None => return Ok(()),
            }
        }
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<ConsumerEvent, TopicError>>> {
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let next = loop {
            if let Some(event) = self.kept.pop_front() {
                break Some(Ok(event));
            }
            let lost = match &mut self.state {
                State::Over => break None,
                State::Failed(e) => {
                    let e = e.clone();
                    self.state = State::Over;
                    break Some(Err(e));
                }
                State::Opening(opening) => match ready!(opening.poll_unpin(cx)) {
                    Ok((stream, _)) => {
                        self.state = State::Open(Box::new(stream));
                        self.kept.push_back(ConsumerEvent::Reconnected);
                        continue;
                    }
                    Err(e) => e,
                },
                State::Open(stream) => match ready!(stream.poll(cx)) {
                    Ok(()) => match self.hear() {
                        Ok(()) => continue,
                        Err(e) => e,
                    },
                    Err(e) => e,
                },
            };
            self.lose(lost);
        };
        turn.made_progress();
        Poll::Ready(next)
    }

    fn lose(&mut self, e: TopicError) {
        if self.closing {
            self.state = State::Failed(e);
            return;
        }
        match self.comeback.wait(e) {
            Ok(wait) => {
                let builder = self.builder.clone();
                let opening = async move {
                    tokio::time::sleep(wait).await;
                    open(builder).await
                };
                self.state = State::Opening(opening.boxed());
            }
            Err(e) => self.state = State::Failed(e),
        }
    }

    /// Takes every whole frame that has arrived.
    fn hear(&mut self) -> Result<(), TopicError> {
        let State::Open(stream) = &mut self.state else { return Ok(()) };
        let mut over = false;
        while !over {
            let Some(frame) = stream.splitter.peek()? else { return Ok(()) };
            let heard = if frame.len() >= OWN_BYTES
                && let Some(frame) = stream.splitter.take_gathered()
            {
                let frame = Bytes::from(frame);
                judge(&frame[PREFIX_BYTES..], Some(&frame))?
            } else {
                let frame = stream.splitter.peek()?.unwrap_or_default();
                let heard = judge(frame, None)?;
                stream.splitter.advance();
                heard
            };
            match heard {
                Heard::Event(ConsumerEvent::Message(message)) => {
                    // Where to go on, should the connection be lost.
                    if self.builder.group.is_none() {
                        self.builder.offsets.insert(message.partition, message.offset + 1);
                    }
                    self.kept.push_back(ConsumerEvent::Message(message));
                }
                Heard::Event(event) => self.kept.push_back(event),
                Heard::Nothing => {}
                Heard::End => over = true,
            }
            self.comeback.succeeded();
        }
        self.state = State::Over;
        Ok(())
    }
}

enum Heard {
    Event(ConsumerEvent),
    Nothing,
    End,
}

fn judge(frame: &[u8], backing: Option<&Bytes>) -> Result<Heard, TopicError> {
    Ok(Heard::Event(match BrokerFrame::decode(frame)? {
        BrokerFrame::Delivery(d) => ConsumerEvent::Message(ReceivedMessage::own(&d, backing)),
        BrokerFrame::Assigned(a) => {
            ConsumerEvent::Assigned { generation: a.generation, partitions: a.partitions }
        }
        BrokerFrame::Committed(c) => {
            ConsumerEvent::Committed { partition: c.partition, position: c.position }
        }
        BrokerFrame::Notice(n) => ConsumerEvent::Notice(Notice::own(&n)),
        BrokerFrame::Alive => return Ok(Heard::Nothing),
        BrokerFrame::End => return Ok(Heard::End),
        BrokerFrame::Error { code, failure } => {
            return Err(TopicError::Failed(Box::new(Failure::own(code, &failure))));
        }
        other => return Err(Violation::Unexpected(frame_name(&other)).into()),
    }))
}

impl futures::Stream for Consumer {
    type Item = Result<ConsumerEvent, TopicError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", &self.builder.topic)
            .field("group", &self.builder.group)
            .finish_non_exhaustive()
    }
}
