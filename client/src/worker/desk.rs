//! The calls of one stream of work: judged when they come, started, ended, and what is written of
//! them.
//!
//! A handler is polled first in place. Only what has to wait becomes a task; so a call that is
//! answered at once costs no task, no timer and no wake-up.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use futures::FutureExt;
use tokio::{sync::Semaphore, task::JoinSet};
use tollgate_protocol::{
    Code, DispatchFrame, WorkerFrame, encode, encode_answer_head,
    limits::{FRAME_BYTES_HARD_MAX, WORK_INLINE_BYTES_MAX},
    work::{self, Dispatch},
};

use super::{
    Answer, Call, Served,
    apart::Way,
    progress::Pace,
    recipe::Recipe,
    running::{Outcome, Running},
};
use crate::{error::Violation, item::Failure};

/// Large payloads under way at once, each way: they share the connection's windows.
const APART_MAX: usize = 8;
/// Beyond this nothing new is taken until the broker has read: what runs still adds its answers.
const OUT_BYTES_MAX: usize = 1 << 20;
/// A buffer that has grown past this is given back once it is written.
const OUT_BYTES_KEPT: usize = 64 << 10;

pub(super) struct Desk {
    recipes: Arc<[Recipe]>,
    /// How many of them the broker has taken.
    registered: usize,
    /// Calls the broker may have open.
    credit: usize,
    last_lease: u64,
    /// Calls that wait for something: each has a task, and is not answered yet.
    calls: HashMap<u64, Call>,
    tasks: JoinSet<Done>,
    pub(super) pace: Pace,
    way: Way,
    fetches: Arc<Semaphore>,
    deliveries: Arc<Semaphore>,
    /// The last tenant, because it is often the next.
    tenant: Arc<str>,
    /// Frames to be written.
    pub(super) out: Vec<u8>,
    pub(super) served: Served,
}

/// What a task came to.
enum Done {
    Call(u64, Outcome),
    /// A large answer: whether the broker took it.
    Delivered(bool),
}

/// What a frame means for the stream.
pub(super) enum Heard {
    GoOn,
    /// The final frame, after `Drain`.
    End,
    /// The final frame otherwise.
    Refused(Box<Failure>),
}

impl Desk {
    pub(super) fn new(recipes: Arc<[Recipe]>, credit: u32, way: Way) -> Self {
        Desk {
            recipes,
            registered: 0,
            credit: credit as usize,
            last_lease: 0,
            calls: HashMap::new(),
            tasks: JoinSet::new(),
            pace: Pace::default(),
            way,
            fetches: Arc::new(Semaphore::new(APART_MAX)),
            deliveries: Arc::new(Semaphore::new(APART_MAX)),
            tenant: "".into(),
            out: Vec::new(),
            served: Served::default(),
        }
    }

    /// Whether more may be taken: the broker reads what is written.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < OUT_BYTES_MAX
    }

    /// Whether the broker has taken every recipe.
    pub(super) fn is_registered(&self) -> bool {
        self.registered == self.recipes.len()
    }

    /// Takes one frame of the broker.
    #[inline]
    pub(super) fn take(&mut self, frame: &[u8], now: Instant) -> Result<Heard, Violation> {
        match DispatchFrame::decode(frame)? {
            DispatchFrame::Dispatch(dispatch) => self.dispatch(&dispatch, now)?,
            DispatchFrame::Alive => {}
            DispatchFrame::Cancel { lease } if lease > self.last_lease => {
                return Err(Violation::StrangeLease(lease));
            }
            DispatchFrame::Cancel { lease } => {
                // Answered already, perhaps: the answer and this have crossed.
                if let Some(call) = self.calls.get(&lease) {
                    call.cancel();
                }
            }
            DispatchFrame::Registered { recipe } => {
                if recipe as usize != self.registered || self.is_registered() {
                    return Err(Violation::StrangeRecipe(recipe));
                }
                self.registered += 1;
                self.served.connections += u64::from(self.is_registered());
            }
            DispatchFrame::Notice(n) => {
                tracing::info!(kind = ?n.kind, message = n.message, "the broker gives notice");
            }
            DispatchFrame::Error { code, failure } => {
                return Ok(Heard::Refused(Box::new(Failure::own(code, &failure))));
            }
            DispatchFrame::End => return Ok(Heard::End),
        }
        Ok(Heard::GoOn)
    }

    fn dispatch(&mut self, d: &Dispatch<'_>, now: Instant) -> Result<(), Violation> {
        if d.lease != self.last_lease + 1 {
            return Err(Violation::StrangeLease(d.lease));
        }
        self.last_lease = d.lease;
        if self.calls.len() >= self.credit {
            return Err(Violation::OverCredit(self.credit as u32));
        }
        let registered = &self.recipes[..self.registered];
        let recipe = registered.get(d.recipe as usize);
        let recipe = recipe.ok_or(Violation::StrangeRecipe(d.recipe))?;
        if *self.tenant != *d.tenant {
            self.tenant = d.tenant.into();
        }
        let call = Call::new(d, recipe.name.clone(), self.tenant.clone(), now, &self.pace.board);
        if let Some(size) = d.apart {
            if !d.payload.is_empty() || size > FRAME_BYTES_HARD_MAX as u64 {
                return Err(Violation::Apart(d.lease));
            }
            self.fetch(call, d.recipe as usize, size);
            return Ok(());
        }
        // Lives as long as the handler likes: no part of the received packets does.
        let payload = Bytes::copy_from_slice(d.payload);
        match Running::start(&recipe.handler, call.clone(), payload) {
            Err(outcome) => self.end(&call, outcome),
            Ok(mut running) => {
                // Whoever polls it next is somebody else, so nobody is to be woken yet.
                let mut cx = Context::from_waker(Waker::noop());
                match Pin::new(&mut running).poll(&mut cx) {
                    Poll::Ready(outcome) => self.end(&call, outcome),
                    Poll::Pending => self.spawn(running),
                }
            }
        }
        Ok(())
    }

    fn spawn(&mut self, running: Running) {
        let call = running.call().clone();
        let lease = call.lease();
        self.calls.insert(lease, call);
        self.tasks.spawn(running.map(move |outcome| Done::Call(lease, outcome)));
    }

    /// The handler starts once its payload is here.
    fn fetch(&mut self, call: Call, recipe: usize, size: u64) {
        let (way, turns, recipes) = (self.way.clone(), self.fetches.clone(), self.recipes.clone());
        let of = call.clone();
        let handler = async move {
            let turn = turns.acquire_owned().await;
            let payload = way.fetch(of.lease(), size).await?;
            drop(turn);
            (recipes[recipe].handler)(of, payload).await
        };
        self.spawn(Running::of(call, handler.boxed()));
    }

    /// Takes what tasks have come to; true when there was something.
    pub(super) fn poll_tasks(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while !self.tasks.is_empty() && self.has_room() {
            match self.tasks.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Done::Call(lease, outcome)))) => {
                    if let Some(call) = self.calls.remove(&lease) {
                        self.end(&call, outcome);
                    }
                }
                Poll::Ready(Some(Ok(Done::Delivered(taken)))) => {
                    self.served.succeeded += u64::from(taken);
                    self.served.cancelled += u64::from(!taken);
                }
                // Given up with its call, or the runtime ends.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
            any = true;
        }
        any
    }

    /// Whether nothing runs any more.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    #[inline]
    fn end(&mut self, call: &Call, outcome: Outcome) {
        let lease = call.lease();
        let last = call.slot().close();
        if let (Some(last), Outcome::Answer(_) | Outcome::Failed(_)) = (last, &outcome) {
            last.put(lease, &mut self.out);
        }
        match outcome {
            Outcome::Answer(a) if a.payload.len() > WORK_INLINE_BYTES_MAX => self.deliver(lease, a),
            Outcome::Answer(a) => {
                self.served.succeeded += 1;
                let head = work::Answer { lease, metadata: a.metadata.0.as_pairs(), payload: &[] };
                encode_answer_head(&head, a.payload.len(), &mut self.out);
                self.out.extend_from_slice(&a.payload);
            }
            Outcome::Failed(e) => {
                self.served.failed += 1;
                e.put(lease, &mut self.out);
            }
            Outcome::Cancelled => {
                self.served.cancelled += 1;
                let failed = work::Failed::new(lease, Code::Cancelled, "given up as asked");
                encode(&WorkerFrame::Failed(failed), &mut self.out);
            }
        }
    }

    fn deliver(&mut self, lease: u64, answer: Answer) {
        let (way, turns) = (self.way.clone(), self.deliveries.clone());
        self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            Done::Delivered(way.deliver(lease, answer).await)
        });
    }

    pub(super) fn drain(&mut self) {
        encode(&WorkerFrame::Drain, &mut self.out);
    }

    /// Time is up: every call that is open is answered as cancelled, whatever it does.
    pub(super) fn abandon(&mut self) {
        self.tasks.abort_all();
        for (_, call) in std::mem::take(&mut self.calls) {
            call.cancel();
            self.end(&call, Outcome::Cancelled);
        }
    }

    /// The stream is over: nobody hears of what still runs.
    pub(super) fn lose(mut self) -> Served {
        self.tasks.abort_all();
        for call in self.calls.values() {
            call.slot().close();
            call.cancel();
            self.served.lost += 1;
        }
        self.served
    }

    /// Everything is written: the buffer is used again, unless it has grown much.
    pub(super) fn written(&mut self) {
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
    }
}
