//! Compares what clients and workers saw with what there is in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::PoisonError,
    time::Duration,
};

use tollgate_client::{
    BatchId, Client, Code, JobEvent, JobFilter, JobId, JobInfo, JobState, JobTarget,
};
use tollgate_tests::SOON;

use crate::{
    Kill, Taken, World,
    load::{accepted, canary, told},
    works::{RECIPES, Start, answer},
};

/// What was found.
#[derive(Debug, Default)]
pub struct Figures {
    accepted: usize,
    keyed: usize,
    resubmitted: u64,
    lost: usize,
    doubled: usize,
    leaked: usize,
    attempts: u64,
    interrupted: u64,
    starts: usize,
    frames: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { accepted, keyed, resubmitted, lost, doubled, leaked, .. } = self;
        write!(f, "{accepted} jobs accepted ({keyed} with keys, {resubmitted} sent again), ")?;
        write!(f, "{lost} lost, {doubled} doubled, {leaked} leaked; {} attempts, ", self.attempts)?;
        write!(
            f,
            "{} of them interrupted; {} starts seen by workers; ",
            self.interrupted, self.starts
        )?;
        write!(f, "{} numbered frames replayed twice", self.frames)
    }
}

impl Figures {
    /// A run in which nothing of it happened would show nothing.
    pub fn all_was_tried(&self) {
        assert!(self.keyed > 0 && self.resubmitted > 0 && self.starts > 0, "{self:?}");
        assert!(self.interrupted > 0, "no attempt was ever interrupted: {self:?}");
    }
}

/// How far the clocks of attempts and kills may be apart: frames that were on their way.
const SLACK: Duration = Duration::from_millis(500);

/// Checks one tenant, once nothing of it is open any more.
pub async fn tenant(
    world: &World,
    tenant: usize,
    client: &Client,
    kills: &[Kill],
    figures: &mut Figures,
) {
    let jobs = drained(client).await;
    let mut wrong = Vec::new();
    let taken = world.history(tenant).taken.clone();
    let there: BTreeMap<JobId, &JobInfo> = jobs.iter().map(|job| (job.id, job)).collect();
    for (id, taken) in &taken {
        if !there.contains_key(id) {
            figures.lost += 1;
            wrong.push(format!("lost: {id} {taken:?}"));
        }
    }
    let mut keys = BTreeMap::new();
    let mut items = BTreeMap::new();
    for job in &jobs {
        let twin = items.insert((job.batch_id, job.item_id), job.id);
        let by_key = job.idempotency_key.as_ref();
        let twin = twin.or(by_key.and_then(|key| keys.insert((&job.recipe, key), job.id)));
        if let Some(twin) = twin {
            figures.doubled += 1;
            wrong.push(format!("doubled: {} and {twin}", job.id));
        }
        if !taken.contains_key(&job.id) {
            figures.doubled += 1;
            wrong.push(format!("nobody's: {job:?}"));
        }
    }
    let mut results = BTreeMap::new();
    for batch in jobs.iter().map(|job| job.batch_id).collect::<BTreeSet<_>>() {
        let [first, second] = [replay(client, batch).await, replay(client, batch).await];
        if !second.starts_with(&first) {
            wrong.push(format!("{batch} replays differently: {first:?} {second:?}"));
        }
        let numbers: Vec<u64> = first.iter().map(|frame| frame.number.sequence).collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            wrong.push(format!("{batch}: its numbers do not rise: {numbers:?}"));
        }
        let mut history = world.history(tenant);
        for frame in first {
            figures.frames += 1;
            history.frame(frame.number, &frame.what);
            let Some((item, result)) = frame.result else { continue };
            if results.insert((batch, item), result).is_some() {
                figures.doubled += 1;
                wrong.push(format!("item {item} of {batch} ends twice"));
            }
        }
    }
    let starts = world.starts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for job in &jobs {
        let (Some(taken), Some(result)) =
            (taken.get(&job.id), results.get(&(job.batch_id, job.item_id)))
        else {
            wrong.push(format!("{} has no result", job.id));
            continue;
        };
        let foreign = canary(1 - tenant);
        if taken.payload.contains(&foreign) || result.payload.contains(&foreign) {
            figures.leaked += 1;
            wrong.push(format!("leaked: {job:?} {result:?}"));
        }
        figures.attempts += u64::from(job.attempts);
        let lost = |e: &&_| tollgate_client::AttemptError::code(e) == Some(Code::WorkerLost);
        figures.interrupted += job.errors.iter().filter(lost).count() as u64;
        if let Err(why) = outcome(job, taken, result) {
            wrong.push(format!("{why}: {job:?} {taken:?} {result:?}"));
        }
        let seen = starts.get(&taken.payload).map_or(&[][..], |starts| starts);
        figures.starts += seen.len();
        if let Err(why) = attempts(job, result, seen, kills) {
            wrong.push(format!("attempts: {why}: {job:?} {seen:?} {result:?}"));
        }
    }
    let mut history = world.history(tenant);
    figures.accepted += taken.len();
    figures.keyed += history.keys.len();
    figures.resubmitted += history.resubmitted;
    history.wrong.extend(wrong);
}

/// All jobs, once none is open.
async fn drained(client: &Client) -> Vec<JobInfo> {
    let over = async {
        loop {
            let jobs = client.jobs().list(&JobFilter::new()).await.expect("a list");
            if jobs.iter().all(JobInfo::is_over) {
                return jobs;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON * 2, over).await.expect("every job comes to its end")
}

#[derive(Debug, PartialEq)]
struct Frame {
    number: tollgate_client::Number,
    what: String,
    result: Option<(u64, Ended)>,
}

/// A result, as it was replayed.
#[derive(Debug, Clone, PartialEq)]
struct Ended {
    attempts: u32,
    code: u16,
    payload: String,
}

async fn replay(client: &Client, batch: BatchId) -> Vec<Frame> {
    // Not followed: one whose seal was lost with its client is sealed by the broker later.
    let mut attached = client.attach(JobTarget::Batch(batch)).replay();
    let mut frames = Vec::new();
    let read = async {
        while let Some(event) = attached.next().await {
            match event.expect("an event") {
                JobEvent::Accepted(a) => {
                    let what = accepted(a.id, a.job_id);
                    frames.push(Frame { number: a.number, what, result: None });
                }
                JobEvent::Result(r) => {
                    let payload = r.payload().map(|p| String::from_utf8_lossy(p).into_owned());
                    let ended = Ended {
                        attempts: r.attempts,
                        code: r.code_number,
                        payload: payload.unwrap_or_default(),
                    };
                    let result = Some((r.id, ended));
                    frames.push(Frame { number: r.number, what: told(&r), result });
                }
                JobEvent::Summary(s) => {
                    let what = format!("summary {batch} {} {} {:?}", s.total, s.succeeded, s.ended);
                    frames.push(Frame { number: s.number, what, result: None });
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, read).await.expect("what is kept is replayed to its end");
    frames
}

/// Whether a job ended as its recipe ends.
fn outcome(job: &JobInfo, taken: &Taken, result: &Ended) -> Result<(), &'static str> {
    let right = |right: bool, why| if right { Ok(()) } else { Err(why) };
    right(&*job.recipe == taken.recipe, "another recipe")?;
    right(job.payload_bytes == taken.payload.len() as u64, "another payload")?;
    right(job.idempotency_key.as_deref() == taken.key.as_deref(), "another key")?;
    right(job.attempts == result.attempts, "two counts of attempts")?;
    // What a kill interrupts each time is given up in the end.
    if job.state == JobState::Dead {
        let lost = |e: &tollgate_client::AttemptError| e.code() == Some(Code::WorkerLost);
        return right(job.errors.iter().all(lost) && job.attempts == job.attempts_max, "dead");
    }
    let state = if taken.recipe == "fail" { JobState::Failed } else { JobState::Succeeded };
    right(job.state == state, "another end")?;
    match taken.recipe {
        "echo" => right(result.payload == taken.payload, "another answer"),
        name if RECIPES.iter().any(|(r, ..)| *r == name) => {
            right(result.payload.starts_with(&taken.payload), "another answer")
        }
        "fail" => right(result.code == Code::RecipeExecution.number(), "another failure"),
        _ => right(!result.payload.is_empty(), "no answer"),
    }
}

/// Whether the attempts are counted truly. An attempt counts once its start is kept: so one that a
/// worker saw may be missing, and one that no worker saw may count, each only if a kill explains it.
fn attempts(job: &JobInfo, result: &Ended, seen: &[Start], kills: &[Kill]) -> Result<(), String> {
    let killed = kills.iter().filter(|kill| {
        let ended = job.ended.is_none_or(|ended| kill.wall <= ended + SLACK);
        kill.wall + SLACK >= job.created && ended
    });
    let killed = killed.count() as u32;
    let failed: Vec<u32> = job.errors.iter().map(|e| e.attempt).collect();
    let succeeded = job.state == JobState::Succeeded;
    let expected: Vec<u32> = (1..job.attempts + u32::from(!succeeded)).collect();
    if failed != expected {
        return Err(format!("errors of the attempts {failed:?}"));
    }
    let lost = job.errors.iter().filter(|e| e.code() == Some(Code::WorkerLost)).count() as u32;
    if lost > killed {
        return Err(format!("{lost} were lost and {killed} kills"));
    }
    let Some(last) = seen.last() else {
        // An embedded recipe: it begins once, and once more after each that was lost.
        return if job.attempts == 1 + lost || job.state == JobState::Dead {
            Ok(())
        } else {
            Err(format!("{lost} were lost"))
        };
    };
    if !seen.iter().any(|s| {
        s.attempt == job.attempts && result.payload.ends_with(&answer("", s.attempt, s.serial))
    }) {
        return Err("the answer is of no start that was seen".into());
    }
    if last.attempt != job.attempts {
        return Err(format!("the last start was of attempt {}", last.attempt));
    }
    let by_number = seen.iter().map(|s| s.attempt).collect::<BTreeSet<_>>();
    let unseen = job.attempts - by_number.len() as u32;
    if unseen > lost {
        return Err(format!("{unseen} attempts were seen by nobody, and {lost} lost"));
    }
    for pair in seen.windows(2) {
        let [before, after] = pair else { continue };
        if after.attempt < before.attempt {
            return Err("the numbers fall".into());
        }
        let between = |kill: &Kill| kill.at + SLACK >= before.at && kill.at <= after.at;
        let explained = kills.iter().any(between);
        if after.attempt == before.attempt && !explained {
            return Err("one number for two starts, and no kill between them".into());
        }
        if after.attempt > before.attempt && !before.fails && !explained {
            return Err("begun again without a reason".into());
        }
    }
    Ok(())
}
