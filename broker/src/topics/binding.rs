//! What is bound to a topic: the broker reads it itself, as a member of a group, and each message
//! is one item of a recipe.
//!
//! A reader of a binding is there only while there is something to read; whoever appends wakes it.
//! As many messages are under way as the tenant has `workers`; each is tried again as a job would
//! be, and goes to the dead letters when that is used up.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tollgate_protocol::{
    Code,
    id::{BatchId, GroupName, RecipeName, TopicName},
};

use super::{
    Inner, Topics,
    ask::done,
    consume::{Got, Start},
    member::{Joining, Member},
    message::Message,
    service::{no_such_binding, no_such_topic},
    shelf::{Command, Shelf},
};
use crate::{
    batch::{Alone, Failure, Watch, jitter},
    rules::topic::{At, Binding},
    store::Page,
    tenancy::{Cost, Kind, State as Standing, Tenant},
};

/// A binding, as it was when it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct BindingInfo {
    pub topic: TopicName,
    pub name: GroupName,
    pub recipe: RecipeName,
    pub created: At,
    /// Whether a reader is there.
    pub awake: bool,
    /// Messages under way.
    pub in_flight: u32,
    /// Messages from its position to the ends.
    pub lag: u64,
}

/// What the reader of a binding may have under way, whatever the tenant's `workers`.
const IN_FLIGHT_MAX: u32 = 1_024;
/// Messages are a reader's for as long as their attempts take, and it may not be late with them.
const LEASE_MS: u64 = 24 * 3_600_000;
/// How soon a recipe is looked for again that is not there, or a rate that is used up.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Messages taken at once: so few that what is not begun is soon somebody else's.
const PAGE: Page = Page { count_max: 16, bytes_max: 1 << 20 };

impl Topics {
    /// Binds a topic to a recipe: what is in it, and what comes, are items of it. The binding reads
    /// as the group of its name, which is made when it is not there.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when there is a binding of that name to another recipe;
    /// `QUOTA_EXCEEDED` when the tenant may not have another group.
    pub(crate) async fn bind(
        &self,
        tenant: &Arc<Tenant>,
        topic: &TopicName,
        name: &GroupName,
        recipe: &RecipeName,
        start: Start,
    ) -> Result<BindingInfo, Failure> {
        let shelf = self.0.open(tenant).await?;
        self.ensure_own(&shelf, topic).await?;
        self.ensure_group(&shelf, topic, name, start).await?;
        let number = shelf.lock().topics.find(topic.as_str()).map(|topic| topic.number);
        let number = number.ok_or_else(no_such_topic)?;
        let binding = Binding { recipe: recipe.clone(), created: shelf.clock.now_ms() };
        let bound = |answer| Command::Bind { topic: number, name: name.clone(), binding, answer };
        done(&shelf, bound).await?;
        self.binding(tenant, topic, name).await
    }

    /// Takes a binding back. Its group stays: bound again, it goes on where it was.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn unbind(
        &self,
        tenant: &Arc<Tenant>,
        topic: &TopicName,
        name: &GroupName,
    ) -> Result<(), Failure> {
        let shelf = self.0.open(tenant).await?;
        let number = shelf.lock().topics.find(topic.as_str()).map(|topic| topic.number);
        let topic = number.ok_or_else(no_such_topic)?;
        done(&shelf, |answer| Command::Unbind { topic, name: name.clone(), answer }).await
    }

    /// One binding.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn binding(
        &self,
        tenant: &Arc<Tenant>,
        topic: &TopicName,
        name: &GroupName,
    ) -> Result<BindingInfo, Failure> {
        let all = self.bindings(tenant, Some(topic)).await?;
        all.into_iter().find(|binding| binding.name == *name).ok_or_else(no_such_binding)
    }

    /// A tenant's bindings, of one topic or all, in the order of topics and names.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is no such topic.
    pub(crate) async fn bindings(
        &self,
        tenant: &Arc<Tenant>,
        topic: Option<&TopicName>,
    ) -> Result<Vec<BindingInfo>, Failure> {
        let shelf = self.0.open(tenant).await?;
        let state = shelf.lock();
        let of = match topic {
            Some(name) => vec![state.topics.find(name.as_str()).ok_or_else(no_such_topic)?],
            None => state.topics.after(None).collect(),
        };
        let mut all = Vec::new();
        for topic in of {
            for (name, binding) in state.topics.bindings(topic.number) {
                let key = (topic.number, name.clone());
                let live = state.groups.get(&key);
                all.push(BindingInfo {
                    topic: topic.name.clone(),
                    name: name.clone(),
                    recipe: binding.recipe.clone(),
                    created: binding.created,
                    awake: state.awake.contains(&key),
                    in_flight: live.map_or(0, |l| l.group.look().map(|p| p.in_flight).sum()),
                    lag: state.lag_of(&key),
                });
            }
        }
        Ok(all)
    }
}

/// Reads for a binding until there is nothing to read for a while, or it may not.
pub(super) async fn run(inner: Arc<Inner>, shelf: Arc<Shelf>, key: (u32, GroupName)) {
    let ended = Reader::open(&inner, &shelf, &key).await;
    if let Ok(mut reader) = ended {
        reader.work().await;
    }
    shelf.lock().awake.remove(&key);
    // What came at the last moment is somebody's again.
    shelf.bell.notify_one();
}

struct Reader {
    inner: Arc<Inner>,
    shelf: Arc<Shelf>,
    key: (u32, GroupName),
    topic: TopicName,
    member: Member,
    /// Taken, and not begun.
    taken: VecDeque<Got>,
}

/// How a message came to its end.
enum End {
    Done(Got),
    /// After so many attempts.
    Dead(Got, Failure, u32),
    /// It is not this reader's to do any more: it is as if it had not been taken.
    Back(Got),
}

impl Reader {
    async fn open(
        inner: &Arc<Inner>,
        shelf: &Arc<Shelf>,
        key: &(u32, GroupName),
    ) -> Result<Reader, Failure> {
        let name = shelf.lock().topics.get(key.0).map(|topic| topic.name.clone());
        let topic = name.ok_or_else(no_such_topic)?;
        let joining = Joining {
            group: key.1.clone(),
            start: Start::Earliest,
            ack_timeout_ms: LEASE_MS,
            in_flight_max: IN_FLIGHT_MAX.min(inner.config.in_flight_max),
        };
        let member = Topics(inner.clone()).join(&shelf.tenant, &topic, joining).await?;
        let (inner, shelf, key) = (inner.clone(), shelf.clone(), key.clone());
        Ok(Reader { inner, shelf, key, topic, member, taken: VecDeque::new() })
    }

    /// What it is bound to, while it is and may be read.
    fn recipe(&self) -> Option<RecipeName> {
        bound_to(&self.inner, &self.shelf, &self.key)
    }

    async fn work(&mut self) {
        let idle_after = Duration::from_millis(self.inner.config.binding_idle_ms);
        let mut changes = self.shelf.tenant.subscribe();
        let mut running: FuturesUnordered<BoxFuture<'static, End>> = FuturesUnordered::new();
        let mut busy_at = Instant::now();
        loop {
            let (tail, bell) = self.member.bells();
            let (tail, bell) = (tail.notified(), bell.notified());
            tokio::pin!(tail, bell);
            tail.as_mut().enable();
            bell.as_mut().enable();
            let recipe = self.recipe();
            if recipe.is_none() && running.is_empty() {
                return;
            }
            let workers = self.shelf.tenant.settings().workers as usize;
            let mut look = None;
            while let Some(recipe) = &recipe
                && running.len() < workers
            {
                if self.taken.is_empty() {
                    // No more than can begin: what is taken is under way.
                    let count_max = (workers - running.len()).min(PAGE.count_max);
                    match self.member.next(Page { count_max, ..PAGE }).await {
                        Ok(taken) => self.taken.extend(taken),
                        // The topic is gone, or the topics are.
                        Err(_) => return,
                    }
                }
                let Some(got) = self.taken.front() else { break };
                let cost = [Cost::one(got.payload_len())].into_iter();
                let charged = self.shelf.tenant.deliver_messages(Instant::now(), cost);
                if let Some(stop) = charged.stop {
                    look = Some(match stop.kind {
                        Kind::Wait(wait) => wait.max(Duration::from_millis(1)),
                        Kind::Never => LOOK_AGAIN,
                    });
                    break;
                }
                let Some(got) = self.taken.pop_front() else { break };
                self.inner.tallies.delivered(1);
                let bound = Bound {
                    inner: self.inner.clone(),
                    shelf: self.shelf.clone(),
                    key: self.key.clone(),
                    recipe: recipe.clone(),
                };
                running.push(Box::pin(bound.attempts(got)));
                busy_at = Instant::now();
            }
            if running.is_empty() && self.taken.is_empty() && busy_at.elapsed() >= idle_after {
                return;
            }
            let sleep = look.unwrap_or_else(|| idle_after.saturating_sub(busy_at.elapsed()));
            let idles = running.is_empty() || look.is_some();
            tokio::select! {
                Some(end) = running.next(), if !running.is_empty() => {
                    busy_at = Instant::now();
                    self.settle(end);
                }
                () = tail => {}
                () = bell => {}
                () = changes.changed() => {}
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(sleep.max(Duration::from_millis(1))), if idles => {}
            }
        }
    }

    fn settle(&self, end: End) {
        match end {
            End::Done(got) => self.member.ack(got.partition, got.offset, got.offset),
            End::Back(got) => self.member.give_back(got.partition, got.offset),
            End::Dead(got, failure, attempts) => {
                let topic = &self.topic;
                let recipe = self.recipe();
                let tenant = self.shelf.tenant.id();
                let code = failure.code;
                tracing::warn!(%tenant, %topic, offset = got.offset, %code, "a dead letter");
                let recipe = recipe.as_ref().map(RecipeName::as_str);
                self.member.put_aside(topic, &got, (&failure, recipe), attempts);
            }
        }
    }
}

/// The recipe that a topic is bound to under a name, while it may be read for it.
fn bound_to(inner: &Inner, shelf: &Shelf, (topic, name): &(u32, GroupName)) -> Option<RecipeName> {
    let may = shelf.tenant.state() == Standing::Active && !inner.is_draining();
    let state = shelf.lock();
    let mut bindings = state.topics.bindings(*topic).filter(|_| may);
    bindings.find(|(known, _)| *known == name).map(|(_, binding)| binding.recipe.clone())
}

/// What the messages under way need to know.
struct Bound {
    inner: Arc<Inner>,
    shelf: Arc<Shelf>,
    key: (u32, GroupName),
    recipe: RecipeName,
}

impl Bound {
    /// Runs a message's attempts, as many as its recipe says, as long as it is bound to it.
    async fn attempts(self, got: Got) -> End {
        let (metadata, payload) = match Message::parse(&got.body) {
            Ok(message) => (message.headers.to_buf(), got.body.slice_ref(message.payload)),
            Err(error) => {
                let message = format!("the message can not be read: {error}");
                return End::Dead(got, Failure::new(Code::InternalError, message), 0);
            }
        };
        let Bound { inner, shelf, key, recipe } = self;
        let mut attempt = 0;
        loop {
            if bound_to(&inner, &shelf, &key).as_ref() != Some(&recipe) {
                return End::Back(got);
            }
            let index = shelf.tenant.index();
            let Some(entry) = inner.engine.directory.find(index, recipe.as_str()) else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            attempt += 1;
            let retry = entry.spec().retry;
            let alone = Alone {
                tenant: shelf.tenant.clone(),
                timeout: entry.timeout,
                entry,
                item: got.offset,
                attempt,
                priority: tollgate_protocol::limits::PRIORITY_DEFAULT,
                metadata: metadata.clone(),
                payload: payload.clone(),
                begun: Arc::new(|| {}),
                gate: None,
            };
            let watch = Watch::new(BatchId(message_id(&got)), None);
            let ran = inner.engine.run_alone(alone, &watch).await;
            let failure = match ran.outcome {
                Ok(_) => return End::Done(got),
                Err(failure) => failure,
            };
            if !failure.is_transient() || attempt >= retry.attempts_max {
                return End::Dead(got, failure, attempt);
            }
            let wait = retry.backoff().wait_ms(attempt, jitter());
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }
}

fn message_id(got: &Got) -> [u8; 16] {
    super::message::id(&got.body).unwrap_or_default()
}
