//! A client that hands jobs over in every way there is, and keeps what it was told.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tollgate_client::{BatchError, Client, Event, ItemResult, Job, JobError, JobId, Request};

use crate::{Seeded, TENANTS, Taken, World};

/// What stands in every payload of a tenant, and in no other's.
pub fn canary(tenant: usize) -> String {
    format!("canary-of-{}", TENANTS[tenant])
}

/// A result as a frame: everything that a replay must tell again.
pub fn told(result: &ItemResult) -> String {
    let outcome = match &result.outcome {
        Ok(payload) => format!("ok {}", String::from_utf8_lossy(payload)),
        Err(failure) => format!("failed {} {}", failure.code_number, failure.message),
    };
    let (queued, duration) = (result.queued, result.duration);
    format!("result {} {} {queued:?} {duration:?} {outcome}", result.id, result.attempts)
}

/// An acceptance as a frame.
pub fn accepted(item: u64, job: JobId) -> String {
    format!("accepted {item} {job}")
}

pub struct Load {
    client: Client,
    tenant: usize,
    me: usize,
    random: Seeded,
    world: Arc<World>,
    made: u64,
    /// Keys that were used before.
    used: Vec<(String, Taken)>,
}

impl Load {
    pub fn new(client: Client, tenant: usize, me: usize, seed: u64, world: Arc<World>) -> Load {
        let random = Seeded(seed);
        Load { client, tenant, me, random, world, made: 0, used: Vec::new() }
    }

    /// Hands jobs over until it is to stop, and sees the last of them through.
    pub async fn run(mut self) {
        while !self.world.stop.load(Relaxed) {
            let outcome = match self.random.below(8) {
                0 | 1 => self.single(false).await,
                2 | 3 => self.single(true).await,
                4 => self.again().await,
                5 => self.cut().await,
                _ => self.batch().await,
            };
            if let Err(why) = outcome {
                let mut history = self.world.history(self.tenant);
                history.wrong.push(format!("client {} of {}: {why}", self.me, self.tenant));
            }
        }
    }

    fn next(&mut self, keyed: bool) -> Taken {
        self.made += 1;
        let name = format!("{} {} {}", canary(self.tenant), self.me, self.made);
        let (recipe, payload) = match self.random.below(8) {
            0 => ("echo", name.clone()),
            1 => ("sha256", name.clone()),
            2 => {
                let message = format!("{{\"permanent\":true,\"message\":\"{name}\"}}");
                ("fail", message)
            }
            3 => ("delay", format!("{{\"ms\":{},\"steps\":3}}", 20 + self.random.below(100))),
            4 => ("work.slow", name.clone()),
            5 => ("work.flaky", name.clone()),
            _ => ("work.quick", name.clone()),
        };
        let key = keyed.then(|| format!("key of {name}"));
        Taken { recipe, payload, key }
    }

    fn took(&self, id: JobId, taken: &Taken) {
        self.world.history(self.tenant).take(id, taken.clone());
    }

    fn ended(&self, result: &ItemResult) {
        self.world.history(self.tenant).frame(result.number, &told(result));
        if result.is_success() {
            self.world.succeeded(self.tenant);
        }
    }

    async fn submit(&self, taken: &Taken) -> Result<Job, String> {
        let submit = self.client.submit_bytes(taken.recipe, taken.payload.clone());
        let submit = match &taken.key {
            Some(key) => submit.idempotency_key(key.as_str()),
            None => submit,
        };
        let job = submit.await.map_err(|e: JobError| format!("{taken:?} is refused: {e}"))?;
        self.took(job.id(), taken);
        Ok(job)
    }

    /// One job, and mostly its result.
    async fn single(&mut self, keyed: bool) -> Result<(), String> {
        let taken = self.next(keyed);
        let job = self.submit(&taken).await?;
        if let Some(key) = &taken.key {
            self.used.push((key.clone(), taken.clone()));
        }
        if self.random.below(4) > 0 {
            let result = job.result().await.map_err(|e| format!("{taken:?}: no result: {e}"))?;
            self.ended(&result);
        }
        Ok(())
    }

    /// A job that was handed over before, by its key: it is the same one.
    async fn again(&mut self) -> Result<(), String> {
        if self.used.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.used.len() as u64) as usize;
        let (_, taken) = self.used[at].clone();
        let job = self.submit(&taken).await?;
        if !job.existing() {
            return Err(format!("{taken:?} is new, and was there"));
        }
        self.world.history(self.tenant).resubmitted += 1;
        Ok(())
    }

    /// An ephemeral batch of keyed items, sent until its stream survives: each is one job.
    async fn cut(&mut self) -> Result<(), String> {
        let items: Vec<Taken> = (0..3).map(|_| self.next(true)).collect();
        loop {
            match self.ephemeral(&items).await {
                Ok(()) => break,
                // The stream is gone, and with it what was not kept: it is sent again.
                Err(BatchError::Cut | BatchError::Disconnected(_) | BatchError::Reset(_)) => {}
                Err(BatchError::Connect(e)) if e.retryable() => {}
                Err(BatchError::Failed(f)) if f.retryable => {}
                Err(e) => return Err(format!("an ephemeral batch: {e:?}")),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self.used.extend(items.into_iter().map(|t| (t.key.clone().unwrap_or_default(), t)));
        Ok(())
    }

    async fn ephemeral(&self, items: &[Taken]) -> Result<(), BatchError> {
        let mut batch = self.client.batch().open().await?;
        for (n, taken) in items.iter().enumerate() {
            batch.send(request(taken).id(n as u64)).await?;
        }
        batch.seal().await?;
        while let Some(event) = batch.next().await {
            self.heard(event?, items, false);
        }
        Ok(())
    }

    /// A durable batch, read to its end or let go.
    async fn batch(&mut self) -> Result<(), String> {
        let count = 2 + self.random.below(7);
        let keyed = self.random.below(3) == 0;
        let items: Vec<Taken> = (0..count).map(|_| self.next(keyed)).collect();
        let failed = |what: &'static str| move |e: BatchError| format!("{what}: {e}");
        let mut batch = self.client.batch().durable().open().await.map_err(failed("open"))?;
        for (n, taken) in items.iter().enumerate() {
            batch.send(request(taken).id(n as u64)).await.map_err(failed("send"))?;
        }
        let follows = self.random.below(4) > 0;
        let (mut taken, mut results) = (0, 0);
        if follows {
            batch.seal().await.map_err(failed("seal"))?;
        }
        while follows || taken < count {
            if !follows && taken == 0 {
                batch.flush().await.map_err(failed("flush"))?;
            }
            let Some(event) = batch.next().await else { break };
            let event = event.map_err(failed("batch"))?;
            taken += u64::from(matches!(event, Event::JobAccepted(_)));
            results += u64::from(matches!(event, Event::Result(_)));
            self.heard(event, &items, true);
        }
        if !follows {
            let late = batch.detach().await.map_err(failed("detach"))?;
            late.iter().for_each(|result| self.ended(result));
            return Ok(());
        }
        if (taken, results) != (count, count) {
            return Err(format!("of {count} items {taken} were taken and {results} ended"));
        }
        Ok(())
    }

    fn heard(&self, event: Event, items: &[Taken], durable: bool) {
        match event {
            Event::JobAccepted(a) => {
                self.took(a.job_id, &items[a.id as usize]);
                if !a.existing || durable {
                    self.world.history(self.tenant).frame(a.number, &accepted(a.id, a.job_id));
                }
            }
            Event::Result(result) => self.ended(&result),
            _ => {}
        }
    }
}

fn request(taken: &Taken) -> Request {
    let request = Request::new(taken.recipe, taken.payload.clone());
    match &taken.key {
        Some(key) => request.idempotency_key(key.as_str()),
        None => request,
    }
}
