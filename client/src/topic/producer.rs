//! Appending to a topic: messages are handed to a task, which sends them, hears what became of
//! each, and sends again what was not answered when the connection is lost.
//!
//! A producer has an id of its own, so that what comes again is not appended again.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, encode, encode_message_head,
    limits::{PREFIX_BYTES, PRODUCER_WINDOW},
    topic::{self, Acks, ProduceOpen},
};

use super::{
    message::{Message, Position},
    stream::{Comeback, Stream},
};
use crate::{
    client::Client,
    error::{TopicError, Violation},
    frame_name,
    item::Failure,
};

/// Messages that wait to be sent.
const WAITING: usize = 256;
/// So much is gathered before more is taken.
const GATHER_BYTES: usize = 64 << 10;
/// A frame has fewer bytes than this besides its payload: a key, headers and numbers at their
/// longest.
const HEAD_MAX: usize = 64 << 10;
/// Bytes of messages that are sent and not answered.
const IN_FLIGHT_BYTES: usize = 8 << 20;
/// How often a message that the broker refused for now is tried. One that a rate refused is tried
/// until there is room.
const TRIES: u32 = 8;
/// When to try again what was refused for now, if the broker does not say.
const AGAIN: Duration = Duration::from_millis(100);

/// How a producer is made; made by [`Client::producer`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until it is opened"]
pub struct ProducerBuilder {
    client: Client,
    topic: Arc<str>,
    tenant: Option<Arc<str>>,
    producer: Option<topic::Producer>,
    acks: Acks,
    in_flight_max: usize,
    patience: Option<Duration>,
}

impl ProducerBuilder {
    pub(super) fn new(client: Client, topic: Arc<str>) -> ProducerBuilder {
        let id = tollgate_protocol::id::BatchId::random().0;
        ProducerBuilder {
            client,
            topic,
            tenant: None,
            producer: Some(topic::Producer { id, epoch: 1 }),
            acks: Acks::Synced,
            in_flight_max: 1_024,
            patience: None,
        }
    }

    /// Gateways only: the tenant whose topic it is.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// An id that outlives this process, and an epoch that is larger than that of the one before:
    /// which is refused from then on. Without it, the producer has a new id.
    pub fn identity(mut self, id: [u8; 16], epoch: u64) -> Self {
        self.producer = Some(topic::Producer { id, epoch });
        self
    }

    /// Messages count as sent once the broker has them in memory: faster, and a crash of the
    /// broker loses those that were not stored yet.
    pub fn acks_received(mut self) -> Self {
        self.acks = Acks::Received;
        self
    }

    /// Messages that are sent and not answered at once: 1 024; at most 4 096.
    pub fn in_flight_max(mut self, messages: usize) -> Self {
        self.in_flight_max = messages.clamp(1, PRODUCER_WINDOW);
        self
    }

    /// For how long a broker that is out of reach is looked for, instead of the client's own
    /// [`patience`](crate::ClientBuilder::patience).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Begins, on the current tokio runtime.
    ///
    /// # Errors
    /// [`TopicError::Failed`] with `NOT_FOUND` when there is no such topic, with `QUOTA_EXCEEDED`
    /// when the tenant has no place for another producer, with `CONFLICT` when its epoch is over.
    pub async fn open(self) -> Result<Producer, TopicError> {
        let (send, commands) = mpsc::channel(WAITING);
        let patience = self.patience.unwrap_or_else(|| self.client.patience());
        let mut task = Task {
            builder: self,
            commands,
            stream: None,
            sent: VecDeque::new(),
            bytes: 0,
            // What the broker has of this id and epoch comes before.
            next: 1,
            turn: 0,
            comeback: Comeback::new(patience),
            again: Again::new(),
            frame_max: usize::MAX,
            closing: None,
        };
        let partitions = task.open().await?;
        tokio::spawn(task.run());
        Ok(Producer { commands: send, partitions })
    }
}

/// Appends to a topic. Clones share one stream; messages of one clone keep their order, but that one
/// which a rate refused (policy `reject`) is sent again, and may come after others.
///
/// When the connection is lost, it comes back by itself, and sends again what was not answered:
/// the broker appends nothing twice. Dropping the last clone gives up what was not sent yet;
/// [`close`](Self::close) waits for it.
///
/// ```no_run
/// use tollgate_client::{Client, Message};
///
/// # async fn example(client: Client) -> Result<(), tollgate_client::TopicError> {
/// let orders = client.producer("orders").open().await?;
/// let position = orders.send(Message::new("one").key("customer-7")).await?;
/// println!("appended at {}/{}", position.partition, position.offset);
/// // Many at once: queue them, then wait.
/// let mut queued = Vec::new();
/// for n in 0..1_000 {
///     queued.push(orders.queue(n.to_string()).await?);
/// }
/// for appending in queued {
///     appending.await?;
/// }
/// orders.close().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    commands: mpsc::Sender<Command>,
    partitions: u32,
}

#[derive(Debug)]
enum Command {
    Send(Message, oneshot::Sender<Result<Position, TopicError>>),
    Close(oneshot::Sender<Result<(), TopicError>>),
}

impl Producer {
    /// Partitions of the topic: 0, 1 … below this.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Appends a message, and waits until it is on stable storage: where it is. With
    /// [`acks_received`](ProducerBuilder::acks_received) the position is not known, and 0.
    ///
    /// # Errors
    /// [`TopicError::Failed`] when the broker refused it: with `STORAGE_FULL`, `QUOTA_EXCEEDED`, …
    ///
    /// # Cancel safety
    /// When dropped, it may have been handed over, and is then appended.
    pub async fn send(&self, message: impl Into<Message>) -> Result<Position, TopicError> {
        self.queue(message).await?.await
    }

    /// Hands a message over to be appended, once there is room for it; waits for nothing else.
    ///
    /// # Errors
    /// [`TopicError::Invalid`] when it can not be sent, [`TopicError::Closed`] when the producer
    /// is.
    ///
    /// # Cancel safety
    /// When dropped, the message was not handed over.
    pub async fn queue(&self, message: impl Into<Message>) -> Result<Appending, TopicError> {
        let message = message.into();
        message.check()?;
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(Command::Send(message, answer)).await;
        sent.map_err(|_| TopicError::Closed)?;
        Ok(Appending(answered))
    }

    /// Waits until everything that was handed over is answered, and ends the stream: for every
    /// clone.
    ///
    /// # Errors
    /// Why the stream was lost, if it was. What became of single messages is told to whoever waits
    /// for them.
    pub async fn close(self) -> Result<(), TopicError> {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Close(answer)).await.is_err() {
            return Ok(());
        }
        answered.await.unwrap_or(Ok(()))
    }
}

/// A message that is being appended: resolves to where it is. Dropping it changes nothing.
#[derive(Debug)]
#[must_use = "a message that could not be appended is told only here"]
pub struct Appending(oneshot::Receiver<Result<Position, TopicError>>);

impl Future for Appending {
    type Output = Result<Position, TopicError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|told| told.unwrap_or(Err(TopicError::Closed)))
    }
}

/// A message that was sent and is not answered.
struct Sent {
    sequence: u64,
    /// As the so manieth it was handed over.
    turn: u64,
    message: Message,
    tries: u32,
    answer: oneshot::Sender<Result<Position, TopicError>>,
}

/// Messages that the broker refused for now, in the order in which they were handed over. They are
/// sent again, as new ones, before anything else is; fewer at once while they are refused, more
/// while they are not, so that a used up rate is not spent on refusals.
struct Again {
    messages: VecDeque<Sent>,
    /// Not before.
    at: tokio::time::Instant,
    /// So many at once.
    burst: usize,
    /// Whether any was refused since the last were sent.
    refused: bool,
}

impl Again {
    fn new() -> Again {
        Again {
            messages: VecDeque::new(),
            at: tokio::time::Instant::now(),
            burst: PRODUCER_WINDOW,
            refused: false,
        }
    }

    fn refuse(&mut self, sent: Sent, wait: Duration) {
        if !std::mem::replace(&mut self.refused, true) {
            self.burst = (self.burst / 2).max(1);
        }
        self.at = self.at.max(tokio::time::Instant::now() + wait);
        let at = self.messages.partition_point(|known| known.turn < sent.turn);
        self.messages.insert(at, sent);
    }

    /// The next to be sent.
    fn take(&mut self) -> Vec<Sent> {
        if !std::mem::take(&mut self.refused) {
            self.burst = (self.burst * 2).min(PRODUCER_WINDOW);
        }
        let n = self.burst.min(self.messages.len());
        self.messages.drain(..n).collect()
    }
}

struct Task {
    builder: ProducerBuilder,
    commands: mpsc::Receiver<Command>,
    stream: Option<Stream>,
    /// In the order of their sequences.
    sent: VecDeque<Sent>,
    bytes: usize,
    next: u64,
    comeback: Comeback,
    /// The `turn` of the next message that is handed over.
    turn: u64,
    again: Again,
    /// The longest frame that the broker reads, in bytes.
    frame_max: usize,
    closing: Option<oneshot::Sender<Result<(), TopicError>>>,
}

impl Task {
    /// Opens a stream, and sends what is not answered. Partitions of the topic.
    async fn open(&mut self) -> Result<u32, TopicError> {
        loop {
            match self.try_open().await {
                Ok(partitions) => return Ok(partitions),
                // What was never open is not waited for.
                Err(e) if self.stream.is_none() && self.next == 1 => return Err(e),
                Err(e) => sleep(self.comeback.wait(e)?).await,
            }
        }
    }

    async fn try_open(&mut self) -> Result<u32, TopicError> {
        let b = &self.builder;
        let mut first = Vec::with_capacity(96);
        let open = ProduceOpen {
            tenant: b.tenant.as_deref(),
            producer: b.producer,
            acks: b.acks,
            ..ProduceOpen::new(&b.topic)
        };
        encode(&ClientFrame::Produce(open), &mut first);
        let mut stream = Stream::open(&b.client, first).await?;
        let (partitions, last, frame_max) = loop {
            let Some(frame) = stream.splitter.peek()? else {
                poll_fn(|cx| stream.poll(cx)).await?;
                continue;
            };
            let accepted = match BrokerFrame::decode(frame)? {
                BrokerFrame::ProduceAccepted(accepted) => {
                    Some((accepted.partitions, accepted.last_sequence, accepted.frame_bytes_max))
                }
                BrokerFrame::Error { code, failure } => {
                    return Err(TopicError::Failed(Box::new(Failure::own(code, &failure))));
                }
                BrokerFrame::Alive => None,
                other => return Err(Violation::Unexpected(frame_name(&other)).into()),
            };
            stream.splitter.advance();
            if let Some(accepted) = accepted {
                break accepted;
            }
        };
        self.frame_max = frame_max as usize;
        // Another process of this id and epoch may have sent these.
        if self.sent.is_empty() {
            self.next = self.next.max(last.map_or(0, |last| last + 1));
        }
        for sent in &self.sent {
            say(&mut stream, sent.sequence, &sent.message);
        }
        self.stream = Some(stream);
        self.comeback.succeeded();
        Ok(partitions)
    }

    async fn run(mut self) {
        let ended = self.work().await;
        let e = ended.err().unwrap_or(TopicError::Closed);
        for sent in self.sent.drain(..).chain(self.again.messages.drain(..)) {
            // Who waited may be gone.
            let _ = sent.answer.send(Err(e.clone()));
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Send(_, answer) => _ = answer.send(Err(e.clone())),
                Command::Close(answer) => _ = answer.send(Ok(())),
            }
        }
        if let Some(closing) = self.closing.take() {
            let _ = closing.send(if matches!(e, TopicError::Closed) { Ok(()) } else { Err(e) });
        }
    }

    async fn work(&mut self) -> Result<(), TopicError> {
        let mut open = true;
        loop {
            let refused = !self.again.messages.is_empty();
            let idle = self.sent.is_empty() && !refused;
            if idle && (!open || self.closing.is_some()) {
                return self.finish().await;
            }
            let room = self.sent.len() < self.builder.in_flight_max
                && self.bytes < IN_FLIGHT_BYTES
                && self.stream.as_ref().is_some_and(|s| s.queued() < GATHER_BYTES);
            let takes = open && room && self.closing.is_none() && !refused;
            // What was sent with them is answered first: perhaps they are not the first any more.
            let again = refused && self.sent.is_empty() && self.stream.is_some();
            let due = self.again.at;
            let stream = self.stream.as_mut();
            tokio::select! {
                // Biased: what is handed over is gathered before it is written.
                biased;
                command = self.commands.recv(), if takes => match command {
                    Some(Command::Send(message, answer)) => self.take_on(message, answer),
                    Some(Command::Close(answer)) => self.closing = Some(answer),
                    None => open = false,
                },
                () = tokio::time::sleep_until(due), if again => {
                    self.again.take().into_iter().for_each(|sent| self.send(sent));
                }
                polled = write_and_read(stream) => {
                    let heard = polled.and_then(|()| self.hear());
                    if let Err(e) = heard {
                        self.lose(e).await?;
                    }
                }
            }
        }
    }

    /// A message that is handed over.
    fn take_on(&mut self, message: Message, answer: oneshot::Sender<Result<Position, TopicError>>) {
        let turn = self.turn;
        self.turn += 1;
        self.send(Sent { sequence: 0, turn, message, tries: 0, answer });
    }

    fn send(&mut self, sent: Sent) {
        let sent = Sent { sequence: self.next, ..sent };
        if let Some(failure) = self.beyond(&sent) {
            // Who waited may be gone.
            let _ = sent.answer.send(Err(TopicError::Failed(Box::new(failure))));
            return;
        }
        self.next += 1;
        self.bytes += sent.message.size();
        if let Some(stream) = &mut self.stream {
            say(stream, sent.sequence, &sent.message);
        }
        self.sent.push_back(sent);
    }

    /// Why the broker would not read it, if so: it would end the stream.
    fn beyond(&self, sent: &Sent) -> Option<Failure> {
        let payload = sent.message.payload().len();
        if payload + HEAD_MAX <= self.frame_max {
            return None;
        }
        let mut head = Vec::new();
        encode_message_head(&sent.message.wire(sent.sequence), payload, &mut head);
        let frame = head.len() - PREFIX_BYTES + payload;
        (frame > self.frame_max).then(|| Failure::frame_too_large("message", frame, self.frame_max))
    }

    /// The stream is lost: another one, when that makes sense.
    async fn lose(&mut self, e: TopicError) -> Result<(), TopicError> {
        self.stream = None;
        if self.builder.producer.is_none() && !self.sent.is_empty() {
            return Err(e);
        }
        sleep(self.comeback.wait(e)?).await;
        loop {
            match self.try_open().await {
                Ok(_) => return Ok(()),
                Err(e) => sleep(self.comeback.wait(e)?).await,
            }
        }
    }

    /// Hears what the broker says.
    fn hear(&mut self) -> Result<(), TopicError> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let heard = self.hear_all(&mut stream);
        self.stream = Some(stream);
        heard
    }

    fn hear_all(&mut self, stream: &mut Stream) -> Result<(), TopicError> {
        while let Some(frame) = stream.splitter.peek()? {
            match BrokerFrame::decode(frame)? {
                BrokerFrame::Alive | BrokerFrame::Throttled(_) | BrokerFrame::Notice(_) => {}
                BrokerFrame::Produced(p) => {
                    for n in 0..u64::from(p.count) {
                        let at = Position { partition: p.partition, offset: p.offset + n };
                        if let Some(sent) = self.take(p.sequence + n)? {
                            let _ = sent.answer.send(Ok(at));
                        }
                    }
                }
                BrokerFrame::Received(r) => {
                    while self.sent.front().is_some_and(|sent| sent.sequence <= r.sequence) {
                        let Some(sent) = self.sent.pop_front() else { break };
                        self.bytes -= sent.message.size();
                        let _ = sent.answer.send(Ok(Position { partition: 0, offset: 0 }));
                    }
                }
                BrokerFrame::ProduceFailed(f) => {
                    let failure = Failure::own(f.code, &f.failure);
                    if let Some(mut sent) = self.take(f.sequence)? {
                        sent.tries += 1;
                        let tries = sent.tries < TRIES || failure.code() == Some(Code::RateLimited);
                        if failure.retryable && failure.side_effect_free && tries {
                            self.again.refuse(sent, failure.retry_after.unwrap_or(AGAIN));
                        } else {
                            let _ = sent.answer.send(Err(TopicError::Failed(Box::new(failure))));
                        }
                    }
                }
                BrokerFrame::Error { code, failure } => {
                    return Err(TopicError::Failed(Box::new(Failure::own(code, &failure))));
                }
                BrokerFrame::End => return Err(TopicError::Cut),
                other => return Err(Violation::Unexpected(frame_name(&other)).into()),
            }
            stream.splitter.advance();
            self.comeback.succeeded();
        }
        Ok(())
    }

    /// The message of a sequence, if it is not answered: mostly the first.
    fn take(&mut self, sequence: u64) -> Result<Option<Sent>, TopicError> {
        if sequence >= self.next {
            return Err(Violation::StrangeItem(sequence).into());
        }
        let at = self.sent.binary_search_by_key(&sequence, |sent| sent.sequence);
        let sent = at.ok().and_then(|at| self.sent.remove(at));
        if let Some(sent) = &sent {
            self.bytes -= sent.message.size();
        }
        Ok(sent)
    }

    /// Ends the stream, and waits for the broker to have heard it.
    async fn finish(&mut self) -> Result<(), TopicError> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        stream.finish();
        loop {
            while let Some(frame) = stream.splitter.peek()? {
                match BrokerFrame::decode(frame)? {
                    BrokerFrame::End => return Ok(()),
                    BrokerFrame::Error { code, failure } => {
                        return Err(TopicError::Failed(Box::new(Failure::own(code, &failure))));
                    }
                    // Of messages that were answered before: received, and refused later.
                    _ => {}
                }
                stream.splitter.advance();
            }
            poll_fn(|cx| stream.poll(cx)).await?;
        }
    }
}

fn say(stream: &mut Stream, sequence: u64, message: &Message) {
    let (wire, payload) = (message.wire(sequence), message.payload());
    stream.say(|out| encode_message_head(&wire, payload.len(), out), payload);
}

/// Writes and reads, while there is a stream, until something was read, or there is room for more
/// to be written where there was none.
async fn write_and_read(stream: Option<&mut Stream>) -> Result<(), TopicError> {
    let Some(stream) = stream else { return std::future::pending().await };
    let full = stream.queued() >= GATHER_BYTES;
    poll_fn(|cx| match stream.poll(cx) {
        Poll::Pending if full && stream.queued() < GATHER_BYTES => Poll::Ready(Ok(())),
        polled => polled,
    })
    .await
}
