//! Reading: messages down, as they come; acknowledgements up, from members of groups.
//!
//! What is delivered is charged to the tenant's rates before it is written. A reader that takes
//! nothing holds a page of messages and no more; it is never given up for that: silence is what
//! reading a topic mostly is.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::sleep_until};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, Extensions,
    close::StreamCode,
    encode_delivery_head,
    id::TopicName,
    topic::{Ack, Assigned, Committed, ConsumeAccepted, ConsumeOpen, Nack},
};

use super::{
    super::{
        config::ms,
        connection::Peer,
        output::{FULL_BYTES, Output},
        stream::{End, Stream, refuse_critical, too_large, varint},
    },
    group_name, start, tenant, topic_name,
    vigil::{self, Gone, Input, Vigil},
};
use crate::{
    batch::Failure,
    broker::Pressure,
    tenancy::{Cost, Kind, Tenant},
    topics::{self, Consuming, Got, Joining, Member, Page, Reading},
};

/// A page of messages: what a stream holds of them at most.
const PAGE: Page = Page { count_max: 256, bytes_max: 128 << 10 };

/// A stream that is to consume.
pub(in super::super) struct Opened {
    tenant: Arc<Tenant>,
    topic: TopicName,
    how: How,
    follow: bool,
    place: topics::Stream,
}

enum How {
    Alone(Reading),
    Member(Joining),
}

/// Judges the first frame.
pub(in super::super) fn consume(peer: &Peer, open: &ConsumeOpen<'_>) -> Result<Opened, Failure> {
    refuse_critical(&open.extensions)?;
    peer.services.memory.admit()?;
    let tenant = tenant(peer, open.tenant)?;
    let topic = topic_name(open.topic)?;
    let how = match open.group {
        None => How::Alone(Reading {
            partition: open.partition,
            start: start(open.from),
            offsets: open.offsets.clone(),
            follow: open.follow,
        }),
        Some(_) if open.partition.is_some() || !open.offsets.is_empty() => {
            let field = if open.partition.is_some() { "partition" } else { "offsets" };
            let message = "the partitions of a member are its group's to give: leave this out";
            return Err(Failure::validation(field, message));
        }
        Some(group) => How::Member(Joining {
            group: group_name(group)?,
            start: start(open.from),
            ack_timeout_ms: open.ack_timeout_ms,
            in_flight_max: open.in_flight_max,
        }),
    };
    let place = peer.services.topics.stream(&tenant, false)?;
    Ok(Opened { tenant, topic, how, follow: open.follow, place })
}

/// Serves a stream that consumes to its end.
pub(in super::super) async fn serve_consumer(
    peer: &Arc<Peer>,
    mut stream: Stream,
    opened: Opened,
) -> End {
    let Opened { tenant, topic, how, follow, place } = opened;
    let topics = &peer.services.topics;
    let source = match how {
        How::Alone(reading) => topics.consume(&tenant, &topic, reading).await.map(Source::Alone),
        How::Member(joining) => {
            topics.join(&tenant, &topic, joining).await.map(|m| Source::Member(m, follow))
        }
    };
    let source = match source {
        Ok(source) => source,
        Err(failure) => return stream.refuse(failure).await,
    };
    let (partitions, ack_timeout_ms, in_flight_max) = source.terms();
    stream.output.frame(&BrokerFrame::ConsumeAccepted(ConsumeAccepted {
        partitions,
        ack_timeout_ms,
        in_flight_max,
        extensions: Extensions::EMPTY,
    }));
    let mut drive = Drive {
        peer,
        tenant: &tenant,
        source,
        stream,
        got: VecDeque::new(),
        until: None,
        open: true,
        stays: true,
        blocked: None,
        since: Instant::now(),
    };
    let ended = drive.run().await;
    let mut stream = drive.stream;
    // A member has left, and the place is free, before the client is told so.
    drop((drive.source, place));
    match ended {
        Ended::Gone => {
            let _ = stream.send.reset(varint(StreamCode::ReaderGone));
            let _ = stream.recv.stop(varint(StreamCode::Done));
            End::Unfinished
        }
        Ended::Failed(failure) => stream.refuse(failure).await,
        Ended::All => {
            stream.output.frame(&BrokerFrame::End);
            stream.finish(End::Completed).await
        }
    }
}

/// Where messages come from.
enum Source {
    Alone(Consuming),
    /// And whether it goes on when there is nothing.
    Member(Member, bool),
}

/// How a stream is over.
enum Ended {
    All,
    Failed(Failure),
    Gone,
}

struct Drive<'a> {
    peer: &'a Arc<Peer>,
    tenant: &'a Arc<Tenant>,
    source: Source,
    stream: Stream,
    /// What was read and not written.
    got: VecDeque<Got>,
    /// Until when the tenant's rates let nothing more out.
    until: Option<Instant>,
    /// Whether the client's side is open.
    open: bool,
    /// Whether it is given more: a member whose side is over leaves.
    stays: bool,
    /// Since when the reader has taken nothing of what waits for it.
    blocked: Option<Instant>,
    /// When the last bytes came.
    since: Instant,
}

/// More than this waits to be written, before something is.
const FULL: usize = FULL_BYTES / 2;

impl Drive<'_> {
    async fn run(&mut self) -> Ended {
        let peer = self.peer.clone();
        let mut vigil = Vigil::new(&peer);
        let reader = ms(peer.services.config.limits.reader_timeout_ms);
        loop {
            let (tail, bell) = self.source.bells();
            let (tail, bell) = (tail.notified(), bell.notified());
            tokio::pin!(tail, bell);
            // Before looking: what comes meanwhile is heard.
            tail.as_mut().enable();
            bell.as_mut().enable();
            if let Err(failure) = self.heed() {
                return Ended::Failed(failure);
            }
            // Before it is told: what is kept by then is told, too.
            let over = self.source.is_over(self.stays);
            self.tell_group();
            if !self.stays {
                // It gives back what it was not given, by leaving.
                (self.got, self.until) = (VecDeque::new(), None);
            } else if let Err(failure) = self.fill().await {
                return Ended::Failed(failure);
            }
            let idle = self.got.is_empty() && self.stream.output.is_empty();
            if idle && over {
                return Ended::All;
            }
            let waits = !self.stream.output.is_empty();
            self.blocked = self.blocked.filter(|_| waits).or(waits.then(Instant::now));
            let stalls = self.blocked.map(|at| at + reader);
            let within = self.open && self.stream.splitter.buffered() > 0;
            let frame_stalls = vigil.frame_due(self.since);
            let until = self.until;
            let alive = vigil.alive_at();
            let Stream { recv, splitter, send, output, .. } = &mut self.stream;
            let stopped = send.stopped();
            tokio::select! {
                written = poll_fn(|cx| write(output, send, cx)), if waits => {
                    if written.is_err() {
                        return Ended::Gone;
                    }
                    self.blocked = None;
                    vigil.wrote();
                }
                () = tail => {}
                () = bell => {}
                () = at(until), if until.is_some() => self.until = None,
                () = at(stalls), if stalls.is_some() => {
                    // Who only reads may be slow as long as there is memory for it; a member keeps
                    // messages from others.
                    let short = peer.services.memory.pressure() > Pressure::None;
                    if short || self.source.is_member() {
                        return Ended::Gone;
                    }
                    self.blocked = Some(Instant::now());
                }
                () = sleep_until(frame_stalls), if within => {
                    return Ended::Failed(vigil.stalled());
                }
                input = vigil::read((recv, splitter)), if self.open => match input {
                    Input::Bytes => self.since = Instant::now(),
                    Input::Fin => (self.open, self.stays) = (false, !self.source.is_member()),
                    Input::Gone => return Ended::Gone,
                },
                _ = stopped => return Ended::Gone,
                state = vigil.changed() => {
                    if let Some(failure) = vigil.heed(state, &mut self.stream) {
                        return Ended::Failed(failure);
                    }
                }
                () = sleep_until(alive), if !waits => {
                    self.stream.output.frame(&BrokerFrame::Alive);
                }
            }
        }
    }

    /// Puts messages out, as many as there is room for and the rates let out.
    async fn fill(&mut self) -> Result<(), Failure> {
        while self.stream.output.len() < FULL && self.until.is_none() {
            if self.got.is_empty() {
                self.got = self.source.next().await?.into();
            }
            if self.got.is_empty() {
                break;
            }
            let (now, costs) =
                (Instant::now(), self.got.iter().map(|got| Cost::one(got.payload_len())));
            let charged = self.tenant.deliver_messages(now, costs);
            self.peer.services.topics.tallies().delivered(charged.admitted as u64);
            for got in self.got.drain(..charged.admitted) {
                let (delivery, payload) = got.delivery()?;
                let head = |out: &mut Vec<u8>| encode_delivery_head(&delivery, payload.len(), out);
                self.stream.output.payload_after(head, &payload);
            }
            self.until = match charged.stop.map(|stop| stop.kind) {
                None => None,
                Some(Kind::Wait(wait)) => Some(now + wait.max(Duration::from_millis(1))),
                // Until the quota is another one.
                Some(Kind::Never) => Some(now + Duration::from_secs(1)),
            };
        }
        Ok(())
    }

    /// A member is told which partitions it has, and how far its group is.
    fn tell_group(&mut self) {
        let Source::Member(member, _) = &mut self.source else { return };
        let output = &mut self.stream.output;
        if let Some((generation, partitions)) = member.assigned() {
            output.frame(&BrokerFrame::Assigned(Assigned { generation, partitions }));
        }
        for (partition, position) in member.committed() {
            output.frame(&BrokerFrame::Committed(Committed { partition, position }));
        }
    }

    /// Does what the client says in its stream.
    fn heed(&mut self) -> Result<(), Failure> {
        loop {
            let frame = match self.stream.splitter.peek() {
                Err(e) => return Err(too_large(e)),
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => ClientFrame::decode(frame)?,
            };
            match (frame, &self.source) {
                (ClientFrame::Ack(Ack { partition, first, last }), Source::Member(member, _)) => {
                    member.ack(partition, first, last);
                }
                (ClientFrame::Nack(Nack { partition, first, last }), Source::Member(member, _)) => {
                    member.nack(partition, first, last);
                }
                (ClientFrame::Ack(_) | ClientFrame::Nack(_), Source::Alone(_)) => {
                    let message = "only members of a group acknowledge messages";
                    return Err(Failure::new(Code::InvalidAction, message));
                }
                (other, _) => {
                    let name = other.name();
                    let message = format!("{name} does not belong into a stream that consumes");
                    return Err(Failure::new(Code::InvalidAction, message));
                }
            }
            self.stream.splitter.advance();
        }
    }
}

/// Writes something of what there is.
fn write(
    output: &mut Output,
    send: &mut quinn::SendStream,
    cx: &mut Poller<'_>,
) -> Poll<Result<(), Gone>> {
    match output.write(send, cx) {
        Err(_) => Poll::Ready(Err(Gone)),
        Ok(0) if !output.is_empty() => Poll::Pending,
        Ok(_) => Poll::Ready(Ok(())),
    }
}

/// Resolves at a time; never without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

impl Source {
    /// Partitions, and of a member: its time to acknowledge, and how many messages it may have.
    fn terms(&self) -> (u32, u64, u32) {
        match self {
            Source::Alone(reader) => (reader.partitions, 0, 0),
            Source::Member(m, _) => (m.partitions, m.ack_timeout_ms, m.in_flight_max),
        }
    }

    fn bells(&self) -> (Arc<Notify>, Arc<Notify>) {
        match self {
            Source::Alone(reader) => (reader.tail(), reader.tail()),
            Source::Member(member, _) => member.bells(),
        }
    }

    fn is_member(&self) -> bool {
        matches!(self, Source::Member(..))
    }

    async fn next(&mut self) -> Result<Vec<Got>, Failure> {
        match self {
            Source::Alone(reader) => reader.next(PAGE).await,
            Source::Member(member, _) => member.next(PAGE).await,
        }
    }

    /// Whether nothing more is to come; `stays` is whether it is given more.
    fn is_over(&self, stays: bool) -> bool {
        match self {
            Source::Alone(reader) => reader.is_over(),
            Source::Member(member, follow) => {
                (!stays || (!follow && member.is_done())) && member.is_kept()
            }
        }
    }
}
