//! Jobs, against a simple model: random lives, and after each step everything is counted again.
//!
//! The model knows of each job where it stands and how often it began, and nothing of indexes,
//! timers or offsets.

use std::collections::BTreeMap;

use tollgate_protocol::id::{BatchId, JobId, RecipeName};

use super::{
    At, Attempt, Cancel, Event, How, Jobs, Keep, Refused, State, Submitted, Submitting, Which,
    plant::{self, Bug},
};
use crate::rules::retry::Backoff;

const KEEP: Keep = Keep { job_ms: 5_000, key_ms: 20_000, unsealed_ms: 300 };
const BACKOFF: Backoff = Backoff { first_ms: 20, factor: 2.0, cap_ms: 100 };
const ATTEMPTS: u32 = 3;

/// A small generator of numbers: the same seed gives the same ones.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

/// A job as the model knows it.
#[derive(Debug, Clone)]
struct Modelled {
    state: State,
    attempts: u32,
    /// Attempts that failed, in all.
    failed: u32,
    key: Option<(usize, u64)>,
    digest: [u8; 16],
    created: At,
    batch: usize,
    item: u64,
}

/// One life: what is decided and applied, and what the model says of it.
struct Life {
    jobs: Jobs,
    dice: Dice,
    now: At,
    events: Vec<Event>,
    model: BTreeMap<JobId, Modelled>,
    /// Durable batches: whether they are sealed, and over.
    batches: BTreeMap<usize, (bool, bool)>,
    made: u64,
}

fn recipe(n: usize) -> RecipeName {
    RecipeName::parse(&format!("recipe.{n}")).expect("a name")
}

fn batch(n: usize) -> BatchId {
    BatchId([n as u8 + 1; 16])
}

/// The first half are durable ones.
const BATCHES: usize = 6;

type Checked = Result<(), String>;

fn right(right: bool, why: impl FnOnce() -> String) -> Checked {
    if right { Ok(()) } else { Err(why()) }
}

impl Life {
    fn new(seed: u64) -> Life {
        Life {
            jobs: Jobs::new(KEEP),
            dice: Dice::new(seed),
            now: 1_000,
            events: Vec::new(),
            model: BTreeMap::new(),
            batches: BTreeMap::new(),
            made: 0,
        }
    }

    /// What was decided is committed, and so applied.
    fn happens(&mut self, event: Event) -> Checked {
        let offset = self.events.len() as u64;
        self.jobs.apply(&event, offset);
        self.events.push(event);
        self.jobs.check()
    }

    fn some_job(&mut self) -> Option<JobId> {
        let at = self.dice.below(self.model.len());
        self.model.keys().nth(at).copied()
    }

    fn step(&mut self) -> Checked {
        self.now += self.dice.below(40) as u64;
        match self.dice.below(16) {
            0..4 => self.submit()?,
            4..7 => self.start()?,
            7..10 => self.attempt_ends()?,
            10 => self.cancel()?,
            11 => self.replay_or_purge()?,
            12 => self.batch_opens_or_seals()?,
            13 => self.late_end()?,
            14 => self.moves()?,
            _ => {}
        }
        self.time_passes()?;
        self.settle()?;
        self.agrees()
    }

    fn submit(&mut self) -> Checked {
        self.made += 1;
        let of = self.dice.below(BATCHES);
        let durable = self.batches.contains_key(&of);
        // Batches of the second half are never opened.
        let item = self.dice.below(30) as u64;
        let recipe_at = self.dice.below(3);
        let key = (self.dice.below(3) == 0).then(|| self.dice.below(6) as u64);
        let digest = [self.dice.below(2) as u8; 16];
        let id = JobId(u128::from(self.made).to_be_bytes());
        let submitted = Submitted {
            job: id,
            batch: batch(of),
            item,
            recipe: recipe(recipe_at),
            priority: self.dice.below(8) as u8,
            timeout_ms: None,
            deadline: (self.dice.below(6) == 0).then_some(self.now + 150),
            due: (self.dice.below(4) == 0).then_some(self.now + 100),
            key: key.map(|key| key.to_string().into()),
            digest,
            at: self.now,
            payload_len: self.dice.below(100) as u32,
        };
        let names = |j: &(&JobId, &Modelled)| {
            j.1.key == key.map(|key| (recipe_at, key)) && j.1.key.is_some()
        };
        let by_key = self.model.iter().filter(names).max_by_key(|j| j.0).map(|j| *j.0);
        let by_key = by_key.filter(|id| self.model[id].created + KEEP.key_ms > self.now);
        let by_item = self.model.iter().find(|j| durable && (j.1.batch, j.1.item) == (of, item));
        let by_item = by_item.map(|j| *j.0);
        let same = |id: JobId| {
            let known = self.jobs.get(id).expect("modelled");
            known.digest == digest && known.recipe == recipe(recipe_at)
        };
        let sealed = durable && self.batches[&of].0;
        let expected = match (by_item, by_key) {
            (Some(id), _) if same(id) => Err(Refused::Existing(id)),
            (Some(id), _) => Err(Refused::ItemTaken(id)),
            _ if sealed => Err(Refused::Sealed),
            (_, Some(id)) if same(id) => Err(Refused::Existing(id)),
            (_, Some(id)) => Err(Refused::KeyTaken(id)),
            _ => Ok(()),
        };
        let submitting = Submitting { job: submitted, durable };
        let decided = self.jobs.submit(submitting.clone(), self.now);
        let outcome = decided.as_ref().map(|_| ()).map_err(|e| *e);
        right(outcome == expected, || {
            format!("{submitting:?} is {outcome:?} instead of {expected:?}")
        })?;
        let Ok(event) = decided else { return Ok(()) };
        let keyed = key.is_some();
        if keyed || durable {
            let again = self.jobs.submit(submitting, self.now);
            right(again == Err(Refused::Locked), || format!("under way, and {again:?}"))?;
        }
        if self.dice.below(8) == 0 {
            // There is no room for it.
            self.jobs.give_up(&event);
            return self.jobs.check();
        }
        let key = key.map(|key| (recipe_at, key));
        let (state, created) = (State::Queued, self.now);
        let new = Modelled { state, attempts: 0, failed: 0, key, digest, created, batch: of, item };
        self.model.insert(id, new);
        self.happens(event)
    }

    fn start(&mut self) -> Checked {
        let ready: Vec<JobId> =
            self.jobs.ready().flat_map(|(_, set)| set.iter().map(|w| w.job)).collect();
        if ready.is_empty() {
            return Ok(());
        }
        let id = ready[self.dice.below(ready.len())];
        if self.dice.below(6) == 0 {
            self.jobs.postpone(id, self.now + 50);
            return self.jobs.check();
        }
        let event = self.jobs.start(id, ATTEMPTS, self.now);
        let Some(event) = event else { return Err(format!("{id} is ready and does not start")) };
        right(self.jobs.start(id, ATTEMPTS, self.now).is_none(), || "started twice".into())?;
        let known = self.model.get_mut(&id).ok_or("a job that is not modelled is ready")?;
        right(matches!(known.state, State::Queued | State::Retrying), || format!("{known:?}"))?;
        (known.state, known.attempts) = (State::Running, known.attempts + 1);
        self.happens(event)
    }

    fn attempt_ends(&mut self) -> Checked {
        let running: Vec<JobId> = self.in_state(|s| s == State::Running);
        if running.is_empty() {
            return Ok(());
        }
        let id = running[self.dice.below(running.len())];
        let attempt = self.model[&id].attempts;
        let (transient, lost) = (self.dice.below(4) > 0, self.dice.below(4) == 0);
        let succeeds = self.dice.below(2) == 0;
        let result_len = self.dice.below(50) as u32;
        let came_to = if succeeds {
            Attempt::Succeeded { result_len }
        } else {
            let message = "it failed".into();
            Attempt::Failed { code: 7, message, transient, lost, after_ms: None, result_len }
        };
        let drawn = self.dice.below(1_000) as u64;
        let event = self.jobs.attempt_ended(id, attempt, came_to, (BACKOFF, drawn), self.now);
        let event = event.ok_or("the attempt that runs can not end")?;
        let known = self.model.get_mut(&id).expect("modelled");
        known.failed += u32::from(!succeeds);
        known.state = match (succeeds, transient) {
            (true, _) => State::Succeeded,
            (_, false) => State::Failed,
            _ if attempt < ATTEMPTS => State::Retrying,
            _ => State::Dead,
        };
        if let Event::AttemptFailed { due, .. } = &event {
            let longest = if lost { 0 } else { BACKOFF.cap_ms };
            right(*due <= self.now + longest, || format!("{due} is too late at {}", self.now))?;
        }
        self.happens(event)
    }

    /// Ends that come too late, of attempts that do not run: they change nothing.
    fn late_end(&mut self) -> Checked {
        let Some(id) = self.some_job() else { return Ok(()) };
        let known = &self.model[&id];
        let attempt = match known.state {
            State::Running => known.attempts.wrapping_sub(1),
            _ => known.attempts,
        };
        let came_to = Attempt::Succeeded { result_len: 1 };
        let event = self.jobs.attempt_ended(id, attempt, came_to, (BACKOFF, 0), self.now);
        right(event.is_none(), || format!("{event:?} of attempt {attempt} of {known:?}"))
    }

    /// What the oldest records keep is kept once more: nothing else changes.
    fn moves(&mut self) -> Checked {
        let next = self.events.len() as u64;
        let before = self.jobs.spent_before();
        for (from, job) in self.jobs.to_move(next, 40, 3) {
            self.happens(Event::Moved { job, from })?;
        }
        right(self.jobs.spent_before() >= before, || "what is wanted is older now".into())
    }

    fn cancel(&mut self) -> Checked {
        let Some(id) = self.some_job() else { return Ok(()) };
        let scope = [Cancel::Pending, Cancel::All][self.dice.below(2)];
        let event = self.jobs.give_it_up(id, scope, (State::Cancelled, 9, "cancelled"), self.now);
        let known = self.model.get_mut(&id).expect("modelled");
        let meant = match known.state {
            State::Running => scope == Cancel::All,
            state => !state.is_over(),
        };
        right(event.is_some() == meant, || format!("{scope:?} of {known:?} gives {event:?}"))?;
        let Some(event) = event else { return Ok(()) };
        (known.state, known.failed) = (State::Cancelled, known.failed + 1);
        self.happens(event)
    }

    fn replay_or_purge(&mut self) -> Checked {
        let Some(id) = self.some_job() else { return Ok(()) };
        let known = self.model[&id].clone();
        if self.dice.below(2) == 0 {
            let event = self.jobs.replay(id, self.now);
            let meant = matches!(known.state, State::Failed | State::Cancelled | State::Dead);
            right(event.is_some() == meant, || format!("replay of {known:?} gives {event:?}"))?;
            let Some(event) = event else { return Ok(()) };
            // An end that was told is not taken back: a batch that is over stays so.
            let known = self.model.get_mut(&id).expect("modelled");
            (known.state, known.attempts) = (State::Queued, 0);
            return self.happens(event);
        }
        let event = self.jobs.remove(id);
        right(event.is_some() == known.state.is_over(), || format!("{event:?} of {known:?}"))?;
        let Some(event) = event else { return Ok(()) };
        self.model.remove(&id);
        self.happens(event)
    }

    fn batch_opens_or_seals(&mut self) -> Checked {
        let of = self.dice.below(BATCHES / 2);
        let jobs = self.model.values().any(|job| job.batch == of);
        match self.batches.get(&of).copied() {
            // Ids of ephemeral batches are not used for durable ones here.
            None if jobs => Ok(()),
            None => {
                let event = self.jobs.open_batch(batch(of), false, self.now);
                self.batches.insert(of, (false, false));
                self.happens(event.ok_or("it does not open")?)
            }
            Some((false, _)) if self.dice.below(2) == 0 => {
                self.jobs.left(batch(of), Some(self.now));
                self.jobs.check()
            }
            Some((sealed, _)) => {
                let event =
                    self.jobs.seal(batch(of), How::Client, Some(99), vec![(3, 1)], self.now);
                right(event.is_some() != sealed, || format!("sealed {sealed}, and {event:?}"))?;
                let Some(event) = event else { return Ok(()) };
                self.batches.insert(of, (true, false));
                self.happens(event)
            }
        }
    }

    fn time_passes(&mut self) -> Checked {
        while let Some(due) = self.jobs.take_due(self.now) {
            use super::Due;
            match due {
                Due::Start(id) => self.jobs.wake(id),
                Due::Deadline(id) => {
                    let words = (State::Failed, 11, "too late");
                    let event = self.jobs.give_it_up(id, Cancel::Pending, words, self.now);
                    let known = self.model.get_mut(&id).ok_or("a deadline of nothing")?;
                    right(event.is_some(), || format!("{known:?} has a deadline"))?;
                    (known.state, known.failed) = (State::Failed, known.failed + 1);
                    self.happens(event.expect("looked at"))?;
                }
                Due::Forget(id) => {
                    let event = self.jobs.remove(id).ok_or("nothing to forget")?;
                    self.model.remove(&id);
                    self.happens(event)?;
                }
                Due::Seal(id) => {
                    let of = usize::from(id.0[0] - 1);
                    let event = self.jobs.seal(id, How::Broker, None, Vec::new(), self.now);
                    self.batches.insert(of, (true, false));
                    self.happens(event.ok_or("nothing to seal")?)?;
                }
                Due::ForgetBatch(id) => match self.jobs.remove_batch(id) {
                    Some(event) => {
                        self.batches.remove(&usize::from(id.0[0] - 1));
                        self.happens(event)?;
                    }
                    None => self.jobs.again(self.now + 500, due),
                },
            }
        }
        right(self.jobs.next_due().is_none_or(|at| at > self.now), || "something is due".into())
    }

    /// What follows from ends and seals.
    fn settle(&mut self) -> Checked {
        for of in 0..BATCHES {
            let Some(event) = self.jobs.end_batch(batch(of), self.now) else { continue };
            let open = self.model.values().any(|job| job.batch == of && !job.state.is_over());
            let known = self.batches.get_mut(&of).ok_or("an ephemeral batch ends")?;
            right(known.0 && !known.1 && !open, || format!("batch {of} ends: {known:?}"))?;
            known.1 = true;
            self.happens(event)?;
        }
        Ok(())
    }

    fn in_state(&self, is: impl Fn(State) -> bool) -> Vec<JobId> {
        self.model.iter().filter(|(_, job)| is(job.state)).map(|(id, _)| *id).collect()
    }

    fn agrees(&self) -> Checked {
        right(self.jobs.is_settled(), || "something is locked".into())?;
        right(self.jobs.after(None).count() == self.model.len(), || "more or fewer jobs".into())?;
        for (id, known) in &self.model {
            let job = self.jobs.get(*id).ok_or("a job is not there")?;
            let agrees = (job.state, job.attempts, job.digest)
                == (known.state, known.attempts, known.digest)
                && job.errors.len() == known.failed.min(super::ERRORS_MAX as u32) as usize;
            right(agrees, || format!("{job:?} instead of {known:?}"))?;
        }
        for (of, (sealed, over)) in &self.batches {
            let there = self.jobs.batch(batch(*of)).ok_or("a batch is not there")?;
            let is = (there.sealed.is_some(), there.ended.is_some());
            right(is == (*sealed, *over), || format!("batch {of} is {is:?}"))?;
        }
        for state in State::ALL {
            let which = Which { states: 1 << state.number(), ..Which::default() };
            let found: Vec<JobId> =
                self.jobs.after(None).filter(|job| which.has(job)).map(|job| job.id).collect();
            right(found == self.in_state(|s| s == state), || format!("{state:?}: {found:?}"))?;
        }
        Ok(())
    }

    /// All events added up, from the beginning; and a view of some time, with the events after it.
    fn restarts(&self, view: Option<(usize, &Jobs)>) -> Checked {
        let mut again = Jobs::new(KEEP);
        let from = match view {
            None => 0,
            Some((from, jobs)) => {
                for (id, batch) in jobs.batches().filter(|(_, b)| b.durable) {
                    let mut kept = super::Batch { opened: batch.opened, ..Default::default() };
                    (kept.durable, kept.fail_fast) = (true, batch.fail_fast);
                    (kept.sealed, kept.ended) = (batch.sealed.clone(), batch.ended);
                    kept.counts = batch.counts.clone();
                    kept.last_item = batch.last_item;
                    again.insert_batch(id, kept);
                }
                for job in jobs.after(None) {
                    again.insert(job.clone());
                }
                from
            }
        };
        for (offset, event) in self.events.iter().enumerate().skip(from) {
            again.apply(event, offset as u64);
        }
        again.check().map_err(|why| format!("after a restart: {why}"))?;
        let (then, now) = (again.essence(), self.jobs.essence());
        right(then == now, || format!("{then:#?} is not what it was, {now:#?}"))
    }
}

fn lives(seeds: std::ops::Range<u64>) -> Checked {
    for seed in seeds {
        let mut life = Life::new(seed);
        let mut view: Option<(usize, Jobs)> = None;
        let viewed = life.dice.below(200);
        // A view may know more than the events before the point that it is said to know.
        let behind = life.dice.below(12);
        for step in 0..300 {
            let done = life.step();
            done.map_err(|why| format!("life {seed}, step {step}: {why}"))?;
            if step == viewed {
                let mut jobs = Jobs::new(KEEP);
                let events = life.events.iter().enumerate();
                events.for_each(|(offset, event)| jobs.apply(event, offset as u64));
                view = Some((life.events.len().saturating_sub(behind), jobs));
            }
        }
        life.restarts(None).map_err(|why| format!("life {seed}: {why}"))?;
        let view = view.as_ref().map(|(from, jobs)| (*from, jobs));
        life.restarts(view).map_err(|why| format!("life {seed}, with a view: {why}"))?;
    }
    Ok(())
}

#[test]
fn random_lives_add_up_at_every_step_and_after_every_restart() {
    lives(0..300).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn planted_bugs_of_the_rules_are_found() {
    for bug in [Bug::AnyAttempt, Bug::RetryNotCounted, Bug::TrimResults] {
        let found = plant::with(bug, || lives(0..50)).unwrap_or_else(|| Err("panicked".into()));
        println!("{bug:?}: {}", found.as_ref().err().map_or("unnoticed", |why| why));
        assert!(found.is_err(), "{bug:?} went unnoticed");
    }
}
