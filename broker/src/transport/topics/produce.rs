//! Appending: messages up, a handful at a time; what became of each down.
//!
//! A message is read, charged to the tenant's rates, given room among what the tenant has in
//! flight, and handed to the owner of the topics; it is acknowledged in the order in which it was
//! handed over. Whatever there is no room for is not read, and QUIC holds the client back.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Instant};

use tokio::time::sleep_until;
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, Extensions,
    batch::Scope,
    close::StreamCode,
    limits::PRODUCER_WINDOW,
    topic::{
        Acks, Message, ProduceAccepted, ProduceFailed, ProduceOpen, Produced, Producer, Received,
    },
};

use super::{
    super::{
        connection::Peer,
        hold::Hold,
        output::FULL_BYTES,
        stream::{End, Stream, refuse_critical, too_large, varint},
    },
    tenant, topic_name,
    vigil::{self, Gone, Input, Vigil},
};
use crate::{
    batch::Failure,
    tenancy::{BytesPermit, Cost, Kind, PaceTicket, Policy, Quota, Refusal, Stop, Tenant},
    topics::{self, Appended, Fate, Producing, Ready},
};

/// Messages of a handful.
const HANDFUL: usize = 256;
/// Bytes of a handful, and what the last of them adds.
const HANDFUL_BYTES: usize = 256 << 10;
/// Bytes of messages that one stream may have under way.
const UNDER_WAY_BYTES: usize = 2 << 20;

/// A stream that is to produce.
pub(in super::super) struct Opened {
    tenant: Arc<Tenant>,
    topic: tollgate_protocol::id::TopicName,
    producer: Option<Producer>,
    acks: Acks,
    place: topics::Stream,
}

/// Judges the first frame.
pub(in super::super) fn produce(peer: &Peer, open: &ProduceOpen<'_>) -> Result<Opened, Failure> {
    refuse_critical(&open.extensions)?;
    peer.services.memory.admit()?;
    let tenant = tenant(peer, open.tenant)?;
    let topic = topic_name(open.topic)?;
    let place = peer.services.topics.stream(&tenant, true)?;
    Ok(Opened { tenant, topic, producer: open.producer, acks: open.acks, place })
}

/// Serves a stream that produces to its end.
pub(in super::super) async fn serve_producer(
    peer: &Arc<Peer>,
    mut stream: Stream,
    opened: Opened,
) -> End {
    let Opened { tenant, topic, producer, acks, place } = opened;
    let producing = match peer.services.topics.produce(&tenant, &topic, producer).await {
        Ok(producing) => producing,
        Err(failure) => return stream.refuse(failure).await,
    };
    let frame_bytes_max = peer.services.config.limits.frame_bytes_max;
    let payload_bytes_max = tenant.limit(Quota::PayloadBytes).get().min(frame_bytes_max as u64);
    stream.output.frame(&BrokerFrame::ProduceAccepted(ProduceAccepted {
        partitions: producing.partitions,
        last_sequence: producing.last_sequence,
        frame_bytes_max: frame_bytes_max as u32,
        payload_bytes_max,
        extensions: Extensions::EMPTY,
    }));
    let mut drive = Drive {
        peer,
        tenant: &tenant,
        producing,
        acks,
        stream,
        read: VecDeque::new(),
        charged: 0,
        under_way: VecDeque::new(),
        messages: 0,
        bytes: 0,
        last: None,
        pace: None,
        room: None,
        input: true,
        open: true,
        count: 0,
        handed_over: false,
        since: Instant::now(),
        failed: None,
    };
    let ended = drive.run().await;
    let (mut stream, failed) = (drive.stream, drive.failed);
    drop(place);
    match ended {
        Err(Gone) => {
            let _ = stream.send.reset(varint(StreamCode::ReaderGone));
            let _ = stream.recv.stop(varint(StreamCode::Done));
            End::Unfinished
        }
        Ok(()) => match failed {
            Some(failure) => stream.refuse(failure).await,
            None => {
                stream.output.frame(&BrokerFrame::End);
                stream.finish(End::Completed).await
            }
        },
    }
}

/// The share of what the tenant may have in flight, as soon as it is there.
type Room = Pin<Box<dyn Future<Output = BytesPermit> + Send>>;

struct Drive<'a> {
    peer: &'a Arc<Peer>,
    tenant: &'a Arc<Tenant>,
    producing: Producing,
    acks: Acks,
    stream: Stream,
    /// What was read and not handed over: each with what it is charged.
    read: VecDeque<(Ready, u64)>,
    /// How many of them, from the first on, are charged.
    charged: usize,
    /// What was handed over and not answered: with its bytes.
    under_way: VecDeque<(Appended, usize)>,
    /// Messages and bytes of that.
    messages: usize,
    bytes: usize,
    /// The last sequence that was read.
    last: Option<u64>,
    pace: Option<(PaceTicket, Option<Hold>)>,
    room: Option<Room>,
    /// Whether more is taken in.
    input: bool,
    /// Whether the client's side is open.
    open: bool,
    /// Messages that were read.
    count: u64,
    /// Whether any was handed over.
    handed_over: bool,
    /// When the last bytes came.
    since: Instant,
    /// Why the stream ends, if not by its own end.
    failed: Option<Failure>,
}

impl Drive<'_> {
    async fn run(&mut self) -> Result<(), Gone> {
        let peer = self.peer.clone();
        let mut vigil = Vigil::new(&peer);
        loop {
            self.take_in();
            self.hand_over();
            vigil.write(&mut self.stream).await?;
            if !self.input && self.read.is_empty() && self.under_way.is_empty() {
                return Ok(());
            }
            if self.takes() && self.stream.splitter.has_unread() {
                // There may be more whole frames than one handful.
                tokio::task::consume_budget().await;
                if self.has_whole() {
                    continue;
                }
            }
            let reads = self.reads();
            let within = reads && self.stream.splitter.buffered() > 0;
            let stalls = vigil.frame_due(self.since);
            let alive = vigil.alive_at();
            let Stream { recv, splitter, send, .. } = &mut self.stream;
            tokio::select! {
                fates = fates(&mut self.under_way) => self.tell(fates),
                input = vigil::read((recv, splitter)), if reads => match input {
                    Input::Bytes => self.since = Instant::now(),
                    Input::Fin => self.open = false,
                    Input::Gone => return Err(Gone),
                },
                () = turn(&mut self.pace), if self.pace.is_some() && self.room.is_none() => {
                    self.charge();
                }
                room = arrives(&mut self.room), if self.room.is_some() => {
                    self.room = None;
                    self.append(room);
                }
                state = vigil.changed() => {
                    if let Some(failure) = vigil.heed(state, &mut self.stream) {
                        self.fail(failure);
                    }
                }
                _ = send.stopped() => return Err(Gone),
                () = sleep_until(stalls), if within => self.fault(vigil.stalled()),
                () = sleep_until(alive) => self.stream.output.frame(&BrokerFrame::Alive),
            }
        }
    }

    /// Whether there is room for more to come.
    fn takes(&self) -> bool {
        self.input && self.has_room() && self.read.is_empty()
    }

    /// Whether bytes are read: once what came before is taken in.
    fn reads(&mut self) -> bool {
        self.takes() && self.open && !self.stream.splitter.buffers().is_empty()
    }

    /// Whether a whole frame, or one that is too large, waits to be taken in.
    fn has_whole(&mut self) -> bool {
        !matches!(self.stream.splitter.peek(), Ok(None))
    }

    fn has_room(&self) -> bool {
        self.messages < PRODUCER_WINDOW
            && self.bytes < UNDER_WAY_BYTES
            && self.stream.output.len() < FULL_BYTES
    }

    /// The stream ends at once: what was handed over is told first.
    fn fail(&mut self, failure: Failure) {
        (self.pace, self.room) = (None, None);
        self.read.clear();
        self.fault(failure);
    }

    /// The client is at fault: what it said before stands, and is told first.
    fn fault(&mut self, failure: Failure) {
        let stands = self.handed_over || !self.read.is_empty();
        let side_effect_free = failure.side_effect_free && !stands;
        self.failed.get_or_insert(Failure { side_effect_free, ..failure });
        self.input = false;
    }

    /// Decodes what has arrived, up to a handful.
    fn take_in(&mut self) {
        if !self.input || !self.read.is_empty() || !self.has_room() {
            return;
        }
        let payload_max = self.tenant.limit(Quota::PayloadBytes).get();
        let mut bytes = 0;
        while self.read.len() < HANDFUL && bytes < HANDFUL_BYTES && self.input {
            let frame = match self.stream.splitter.peek() {
                Err(e) => return self.fault(too_large(e)),
                Ok(None) => {
                    // All that came is taken in: without a seal, too, that is the end.
                    self.input = self.open;
                    break;
                }
                Ok(Some(frame)) => frame,
            };
            let taken = match ClientFrame::decode(frame) {
                Ok(ClientFrame::Message(message)) => self.producing.take(&message, payload_max),
                Ok(ClientFrame::Seal { items }) if items == self.count => {
                    self.input = false;
                    self.stream.splitter.advance();
                    break;
                }
                Ok(ClientFrame::Seal { items }) => {
                    let message = format!("the seal says {items} messages, {} came", self.count);
                    let failure = Failure::validation("items", message);
                    return self.fault(failure.detail("read", self.count));
                }
                Ok(other) => {
                    let name = other.name();
                    let message = format!("{name} does not belong into a stream that produces");
                    return self.fault(Failure::new(Code::InvalidAction, message));
                }
                Err(e) => match e.item {
                    Some(sequence) if e.is_out_of_bounds() => {
                        let failure = Failure { side_effect_free: true, ..e.into() };
                        Taken::Refused(sequence, failure)
                    }
                    _ => return self.fault(e.into()),
                },
            };
            let sequence = match &taken {
                Taken::Ready(ready, _) => ready.sequence(),
                Taken::Refused(sequence, _) => *sequence,
            };
            if let Some(last) = self.last.filter(|last| sequence <= *last) {
                let message = format!("sequence {sequence} after {last}: sequences rise strictly");
                return self.fault(Failure::validation("sequence", message));
            }
            self.last = Some(sequence);
            self.count += 1;
            self.stream.splitter.advance();
            match taken {
                Taken::Ready(ready, cost) => {
                    bytes += ready.stored_len();
                    self.read.push_back((ready, cost));
                }
                Taken::Refused(sequence, failure) => self.refuse(sequence, &failure),
            }
        }
    }

    fn refuse(&mut self, sequence: u64, failure: &Failure) {
        let (code, failure) = (failure.code.number(), failure.as_wire());
        let failed = ProduceFailed { sequence, code, failure };
        self.stream.output.frame(&BrokerFrame::ProduceFailed(failed));
    }

    /// Charges what was read, and hands it over when there is room.
    fn hand_over(&mut self) {
        if self.read.is_empty() || self.room.is_some() {
            return;
        }
        if self.charged == 0 && self.pace.is_none() {
            self.charge();
        }
        if self.charged == 0 {
            return;
        }
        let bytes = self.read.iter().take(self.charged).map(|(ready, _)| ready.stored_len()).sum();
        match self.tenant.reserve_bytes(bytes) {
            Some(room) => self.append(room),
            None => {
                let tenant = self.tenant.clone();
                self.room = Some(Box::pin(async move { tenant.reserve_bytes_wait(bytes).await }));
            }
        }
    }

    /// Charges what was read to the tenant's rates, from the first on. What does not fit waits, or
    /// is refused.
    fn charge(&mut self) {
        while self.charged == 0
            && let Some((first, _)) = self.read.front()
        {
            let sequence = first.sequence();
            let costs = self.read.iter().map(|(_, bytes)| Cost::one(*bytes));
            let now = Instant::now();
            let charged = match &mut self.pace {
                Some((ticket, _)) => ticket.charge_messages(now, costs),
                None => self.tenant.charge_messages(now, costs),
            };
            self.charged = charged.admitted;
            if charged.admitted > 0 {
                // Who wants more joins the line at its end.
                self.pace = None;
                return;
            }
            let Some(stop) = charged.stop else { return };
            let waits = matches!(stop.kind, Kind::Wait(_)) && self.tenant.policy() == Policy::Pace;
            if waits && self.pace.is_some() {
                return;
            }
            let hold = waits.then(|| self.peer.holds.try_hold()).flatten();
            if waits && (hold.is_some() || self.read.len() < HANDFUL) {
                self.wait_for(&stop, hold);
                return;
            }
            self.read.pop_front();
            self.refuse(sequence, &Failure::rate(&stop));
        }
    }

    fn wait_for(&mut self, stop: &Stop, hold: Option<Hold>) {
        self.pace = Some((self.tenant.begin_wait(), hold));
        self.stream.output.throttled(Instant::now(), stop);
    }

    /// Hands over what is charged and has room.
    fn append(&mut self, room: BytesPermit) {
        let ready: Vec<Ready> = self.read.drain(..self.charged).map(|(ready, _)| ready).collect();
        (self.charged, self.handed_over) = (0, true);
        let (messages, bytes) = (ready.len(), ready.iter().map(Ready::stored_len).sum());
        let last = ready.last().map(Ready::sequence);
        self.messages += messages;
        self.bytes += bytes;
        self.under_way.push_back((self.producing.append(ready, room), bytes));
        if let (Acks::Received, Some(sequence)) = (self.acks, last) {
            self.stream.output.frame(&BrokerFrame::Received(Received { sequence }));
        }
    }

    /// Tells what became of the oldest handful.
    fn tell(&mut self, fates: Vec<Fate>) {
        if let Some((appended, bytes)) = self.under_way.pop_front() {
            self.messages -= appended.len();
            self.bytes -= bytes;
        }
        for fate in fates {
            match fate {
                Fate::Kept { .. } if self.acks == Acks::Received => {}
                Fate::Kept { sequence, count, partition, offset, duplicate } => {
                    let produced = Produced { sequence, count, partition, offset, duplicate };
                    self.stream.output.frame(&BrokerFrame::Produced(produced));
                }
                Fate::Refused { sequence, failure } => self.refuse(sequence, &failure),
            }
        }
    }
}

/// A message that was read.
enum Taken {
    /// With the bytes that it is charged.
    Ready(Ready, u64),
    Refused(u64, Failure),
}

impl Producing {
    fn take(&self, message: &Message<'_>, payload_max: u64) -> Taken {
        let (sequence, len) = (message.sequence, message.payload.len() as u64);
        if len > payload_max {
            let refusal = Refusal {
                quota: Quota::PayloadBytes,
                scope: Scope::Tenant,
                current: len,
                limit: payload_max,
            };
            let words = "the payload is larger than the tenant may send";
            return Taken::Refused(sequence, Failure::over(refusal, words));
        }
        match self.ready(message) {
            Ok(ready) => Taken::Ready(ready, len),
            Err(failure) => Taken::Refused(sequence, failure),
        }
    }
}

/// What became of the oldest handful; never, when there is none.
async fn fates(under_way: &mut VecDeque<(Appended, usize)>) -> Vec<Fate> {
    match under_way.front_mut() {
        Some((appended, _)) => appended.fates().await,
        None => std::future::pending().await,
    }
}

async fn turn(pace: &mut Option<(PaceTicket, Option<Hold>)>) {
    match pace {
        Some((ticket, _)) => ticket.turn().await,
        None => std::future::pending().await,
    }
}

async fn arrives(room: &mut Option<Room>) -> BytesPermit {
    match room {
        Some(room) => room.await,
        None => std::future::pending().await,
    }
}
