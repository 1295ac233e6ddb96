//! The committer: one thread that makes groups of what waits, writes and syncs them, and then
//! answers all of it.
//!
//! What arrives during a sync is the next group. Never touches redb or segments: that is the
//! keeper's, behind it. Large records are the exception: they go straight to their file.

use std::{collections::HashMap, io, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    super::{
        ClaimError, CommitError, DropError, Fence, Offset, Poisoned, Record, ScopeId, Space,
        Stream, TrimError,
    },
    core::{Chore, Core, corrupt},
    disk::{How, is_full},
    files::{Name, SCOPES, scope_dir},
    frame::{Frame, HEAD, Named, TRIM},
    group::{BLOCK, Entry, FIXED, Head, What},
    index::{Class, Position},
    journal::Journal,
    plant::{self, Bug},
    queue::{Job, Size, Task},
    scope::{Contents, Large, Run, ScopeState},
};

/// The thread's own.
pub(super) struct Committer {
    core: Arc<Core>,
    journal: Journal,
    claims: u32,
    /// Where the journal began when the last mark was made.
    marked: Position,
}

/// A group in the making.
#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    bodies: Vec<u8>,
    answers: Vec<Answer>,
    /// Large files that were written to, and whether they are new.
    large: HashMap<Name, bool>,
}

/// Who is answered once the group is durable, and what changes then.
enum Answer {
    Claim {
        fence: Fence,
        done: oneshot::Sender<Result<Fence, ClaimError>>,
    },
    Commit {
        scope: Arc<ScopeState>,
        offsets: Vec<Offset>,
        runs: Vec<Piece>,
        done: oneshot::Sender<Result<Vec<Offset>, CommitError>>,
    },
    Trim {
        scope: Arc<ScopeState>,
        stream: Stream,
        before: Offset,
        done: oneshot::Sender<Result<(), TrimError>>,
    },
    Drop {
        scope: Arc<ScopeState>,
        done: oneshot::Sender<Result<(), DropError>>,
    },
}

/// Why there is no room for commits, if so.
struct Short {
    /// In what is free.
    free: Option<String>,
    /// In the reserve.
    reserve: Option<String>,
    /// In the last reserve.
    last_reserve: Option<String>,
}

impl Short {
    fn of(&self, space: Space) -> Option<&str> {
        match space {
            Space::Free => self.free.as_deref(),
            Space::Reserve => self.reserve.as_deref(),
            Space::LastReserve => self.last_reserve.as_deref(),
        }
    }
}

/// Which room a job may take; none for what is always taken.
fn space_of(job: &Job) -> Option<Space> {
    match job.task {
        Task::Commit { space, .. } => Some(space),
        Task::Claim { .. } | Task::Trim { .. } | Task::Drop { .. } => None,
    }
}

/// Consecutive records of a stream within the bodies.
struct Piece {
    stream: Stream,
    first: u64,
    count: u64,
    from: usize,
    to: usize,
}

impl Committer {
    pub(super) fn new(core: Arc<Core>, journal: Journal) -> Committer {
        let marked = core.inbox.begin();
        Committer { core, journal, claims: 0, marked }
    }

    /// Until the queue is closed and empty, or the store has failed.
    pub(super) fn run(mut self) {
        let config = &self.core.config;
        let max = Size { records: config.group_records, bytes: config.group_bytes };
        let files = (config.journal_bytes / config.journal_file_bytes).saturating_sub(1).max(1);
        let behind = config.behind_bytes;
        while let Some(jobs) = self.core.queue.take(max) {
            let stuck = self.core.inbox.wait_close(behind, files, self.journal.end());
            if let Err(error) = self.round(jobs, stuck) {
                let poisoned = self.core.health.poison(error.to_string());
                self.core.queue.drain().into_iter().for_each(|job| refuse(job, &poisoned));
                return;
            }
        }
    }

    /// A group.
    fn round(&mut self, jobs: Vec<Job>, stuck: Option<String>) -> io::Result<()> {
        if stuck.is_some() {
            // There may be room by now.
            self.core.inbox.push(Vec::new(), 0, true);
        }
        let short = self.short(&jobs, stuck);
        let mut group = Group::default();
        for job in jobs {
            self.add(&mut group, job, &short);
        }
        if let Err(error) = self.sync_large(&group) {
            group.unknown(&self.core.health.poison(error.to_string()));
            return Err(error);
        }
        if group.entries.is_empty() {
            self.publish(group);
            return Ok(());
        }
        if plant::is(Bug::EarlyAcknowledgement) {
            let head = Head { number: self.journal.end().number, entries: group.entries.clone() };
            let bodies = group.bodies.clone();
            self.publish(group);
            return self.journal.append(&head, &bodies).map(|_| ());
        }
        let entries = std::mem::take(&mut group.entries);
        let head = Head { number: self.journal.end().number, entries };
        let begun = Instant::now();
        match self.journal.append(&head, &group.bodies) {
            Ok(Ok(())) => {
                self.core.stats.group(head.entries.len(), head.extent(), begun.elapsed());
                self.publish(group);
                Ok(())
            }
            Ok(Err(reason)) => {
                group.refused(&reason);
                Ok(())
            }
            Err(error) => {
                group.unknown(&self.core.health.poison(error.to_string()));
                Err(error)
            }
        }
    }

    /// Why commits can not be taken, if so; `stuck` is why the keeper does not get on.
    fn short(&self, jobs: &[Job], stuck: Option<String>) -> Short {
        let bytes: usize = jobs.iter().map(|job| job.size.bytes).sum();
        let extent = |from: Space| {
            let taken = jobs.iter().filter(|job| space_of(job).is_none_or(|space| space >= from));
            let (count, bytes) = taken.fold((0, 0), |(n, sum), job| (n + 1, sum + job.size.bytes));
            let head = (FIXED + 16 * count) as u64;
            head.next_multiple_of(BLOCK) + (bytes as u64).next_multiple_of(BLOCK)
        };
        let wake = || self.core.inbox.push(Vec::new(), 0, true);
        let full = self.journal.room(extent(Space::Free), wake).err();
        // What is refused takes no room from what is not.
        let beyond = |space| full.clone().filter(|_| !self.journal.reach(space, extent(space)));
        let (reserve, last_reserve) = (beyond(Space::Reserve), beyond(Space::LastReserve));
        let few = || {
            let free = match self.core.disk.free() {
                Ok(free) => free,
                Err(error) => return Some(format!("free space is not known: {error}")),
            };
            let kept = self.core.config.free_bytes + bytes as u64;
            (free < kept).then(|| format!("{free} bytes are free, of which {kept} are not used"))
        };
        Short { free: stuck.or(full).or_else(few), reserve, last_reserve }
    }

    fn add(&mut self, group: &mut Group, job: Job, short: &Short) {
        let scope = match self.core.scope(job.scope) {
            Ok(scope) => scope,
            Err(error) => return refuse(job, &self.core.health.poison(error.to_string())),
        };
        match job.task {
            Task::Claim { done } => {
                let outcome = self.claim(&scope);
                match outcome {
                    Ok(fence) => group.answers.push(Answer::Claim { fence, done }),
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Task::Commit { space, epoch, records, done, permit } => {
                // Its bytes are the group's from here on.
                drop(permit);
                match self.commit(group, &scope, epoch, &records, short.of(space)) {
                    Ok((offsets, runs)) => {
                        group.answers.push(Answer::Commit { scope, offsets, runs, done });
                    }
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Task::Trim { epoch, stream, before, done } => {
                // What "past the end" means is settled here: replayed later, the end is another.
                let before = match trimmable(&scope, epoch, stream) {
                    Ok(end) => before.min(end),
                    Err(error) => return drop(done.send(Err(error))),
                };
                if !plant::is(Bug::ForgetTrim) {
                    let from = group.bodies.len();
                    let frame = Frame {
                        tag: TRIM,
                        layout: 1,
                        named: false,
                        epoch,
                        stream,
                        offset: before.0,
                        body: &[],
                    };
                    frame.put(scope.id, &mut group.bodies);
                    group.enter(scope.id, What::Trim, from);
                }
                group.answers.push(Answer::Trim { scope, stream, before, done });
            }
            Task::Drop { done } => {
                let from = group.bodies.len();
                group.enter(scope.id, What::Drop, from);
                group.answers.push(Answer::Drop { scope, done });
            }
        }
    }

    fn claim(&mut self, scope: &ScopeState) -> Result<Fence, ClaimError> {
        let mut contents = scope.lock();
        if let Some(what) = &contents.damaged {
            return Err(corrupt(scope.id, what.as_str()).into());
        }
        self.claims += 1;
        let epoch = self.core.boot << 32 | u64::from(self.claims);
        contents.owner = Some(epoch);
        Ok(Fence { scope: scope.id, epoch })
    }

    /// Gives records their offsets and appends their frames.
    fn commit(
        &self,
        group: &mut Group,
        scope: &ScopeState,
        epoch: u64,
        records: &[Record],
        full: Option<&str>,
    ) -> Result<(Vec<Offset>, Vec<Piece>), CommitError> {
        let mut contents = scope.lock();
        if contents.owner != Some(epoch) && !plant::is(Bug::SkipFence) || contents.dropped {
            return Err(CommitError::Fenced { scope: scope.id });
        }
        if let Some(what) = &contents.damaged {
            return Err(corrupt(scope.id, what.as_str()).into());
        }
        if let Some(reason) = full {
            return Err(CommitError::Full { reason: reason.to_owned() });
        }
        let mut offsets = Vec::with_capacity(records.len());
        for record in records {
            let stream = contents.streams.entry(record.stream).or_default();
            offsets.push(Offset(stream.assigned));
            stream.assigned += 1;
        }
        let mut named = Vec::new();
        for (record, offset) in records.iter().zip(&offsets) {
            if record.body.len() > self.core.config.large_bytes {
                let place = self.place(group, scope.id, &mut contents, record, *offset);
                named.push((*offset, record, place));
            }
        }
        drop(contents);
        for (_, record, (name, place)) in &named {
            if let Err(error) = self.write_large(*name, record, place) {
                give_back(scope, records);
                self.core.health.sound()?;
                return Err(CommitError::Full { reason: error });
            }
        }
        let mut named = named.into_iter().map(|(_, _, (_, place))| place);
        let begin = group.bodies.len();
        let mut pieces: Vec<Piece> = Vec::new();
        for (record, offset) in records.iter().zip(&offsets) {
            let from = group.bodies.len();
            let large = record.body.len() > self.core.config.large_bytes;
            let name = large.then(|| named.next()).flatten().map(Named::to_bytes);
            let frame = Frame {
                tag: record.kind.tag(),
                layout: record.kind.layout(),
                named: name.is_some(),
                epoch,
                stream: record.stream,
                offset: offset.0,
                body: name.as_ref().map_or(&record.body[..], |name| &name[..]),
            };
            frame.put(scope.id, &mut group.bodies);
            let to = group.bodies.len();
            match pieces.last_mut() {
                Some(piece) if piece.stream == record.stream => {
                    (piece.count, piece.to) = (piece.count + 1, to);
                }
                _ => {
                    let (stream, first) = (record.stream, offset.0);
                    pieces.push(Piece { stream, first, count: 1, from, to });
                }
            }
        }
        group.enter(scope.id, What::Commit, begin);
        Ok((offsets, pieces))
    }

    /// Finds a large record its place.
    fn place(
        &self,
        group: &mut Group,
        scope: ScopeId,
        contents: &mut Contents,
        record: &Record,
        offset: Offset,
    ) -> (Name, Named) {
        let stream = contents.streams.entry(record.stream).or_default();
        let len = u32::try_from(record.body.len()).expect("records are bounded far below");
        let max = self.core.config.segment_bytes;
        let new = stream.large.last().is_none_or(|large| large.len >= max);
        if new {
            stream.large.push(Large { base: offset.0, len: 0 });
        }
        let large = stream.large.last_mut().expect("one was pushed when there was none");
        let named =
            Named { file: large.base, at: large.len, len, crc: crc32c::crc32c(&record.body) };
        large.len += u64::from(len);
        let name = Name::new(scope, record.stream, Class::Large, large.base);
        *group.large.entry(name).or_default() |= new;
        (name, named)
    }

    /// Writes a large record to its place. Only that there is no room is an error: anything else
    /// is the end of the store.
    fn write_large(&self, name: Name, record: &Record, place: &Named) -> Result<(), String> {
        let how = if place.at == 0 { How::Empty } else { How::Create };
        let file = self.core.files.get(name, how);
        match file.and_then(|file| file.write_at(&record.body, place.at)) {
            Ok(()) => Ok(()),
            Err(error) => {
                if !is_full(&error) {
                    self.core.health.poison(format!("{}: {error}", name.path()));
                }
                Err(error.to_string())
            }
        }
    }

    /// Makes large records durable before they are named.
    fn sync_large(&self, group: &Group) -> io::Result<()> {
        if let Err(poisoned) = self.core.health.sound() {
            return Err(io::Error::other(poisoned.reason));
        }
        if plant::is(Bug::LargeUnsynced) {
            return Ok(());
        }
        for (name, new) in &group.large {
            // One whose first record found no room is not there.
            let file = match self.core.files.get(*name, How::Existing) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            file.sync()?;
            if *new {
                self.core.disk.sync_dir(&scope_dir(name.scope))?;
                self.core.disk.sync_dir(SCOPES)?;
            }
        }
        Ok(())
    }

    /// Everything in the group is durable: it can be read, and those who wait are told.
    fn publish(&mut self, group: Group) {
        let bodies = Bytes::from(group.bodies);
        let mut chores = Vec::new();
        let mut bytes = 0;
        let mut free = false;
        for answer in &group.answers {
            match answer {
                Answer::Claim { .. } => {}
                Answer::Commit { scope, runs, .. } => {
                    let mut contents = scope.lock();
                    for piece in runs {
                        let frames = bodies.slice(piece.from..piece.to);
                        let stream = contents.streams.entry(piece.stream).or_default();
                        stream.next = piece.first + piece.count;
                        bytes += frames.len();
                        let run = Run { first: piece.first, count: piece.count, frames };
                        stream.tail.push_back(run);
                        if !std::mem::replace(&mut stream.queued, true) {
                            chores.push(Chore::Fill(scope.clone(), piece.stream));
                        }
                    }
                }
                Answer::Trim { scope, stream, before, .. } => {
                    let mut contents = scope.lock();
                    if let Some(state) = contents.streams.get_mut(stream) {
                        state.first = state.first.max(before.0.min(state.next));
                        free |= state.has_spent();
                        chores.push(Chore::Trimmed(scope.clone(), *stream));
                    }
                }
                Answer::Drop { scope, .. } => {
                    let tails = scope.lock().clear();
                    self.core.inbox.filled(tails);
                    chores.push(Chore::Drop(scope.clone()));
                    free = true;
                }
            }
        }
        let end = self.journal.end();
        if free || self.since_mark(end) >= self.core.config.journal_bytes / 4 {
            self.marked = end;
            chores.push(Chore::Mark(end));
        }
        self.core.inbox.push(chores, bytes, false);
        group.answers.into_iter().for_each(Answer::done);
    }

    fn since_mark(&self, end: Position) -> u64 {
        (end.file - self.marked.file) * self.core.config.journal_file_bytes + end.at
            - self.marked.at.min(end.at)
    }
}

impl Group {
    fn enter(&mut self, scope: ScopeId, what: What, from: usize) {
        let len = u32::try_from(self.bodies.len() - from).expect("a group is bounded");
        self.entries.push(Entry { scope, what, len });
    }

    /// There was no room for it: nothing happened.
    fn refused(self, reason: &str) {
        for answer in self.answers {
            let reason = reason.to_owned();
            // Whoever asked may have gone: then nobody is told.
            match answer {
                Answer::Claim { fence, done } => drop(done.send(Ok(fence))),
                Answer::Commit { scope, done, runs, .. } => {
                    let mut contents = scope.lock();
                    for piece in &runs {
                        let stream = contents.streams.entry(piece.stream).or_default();
                        stream.assigned = stream.next;
                        stream.large.retain(|large| large.base < stream.next);
                    }
                    drop(contents);
                    let _ = done.send(Err(CommitError::Full { reason }));
                }
                Answer::Trim { done, .. } => drop(done.send(Err(TrimError::Full { reason }))),
                Answer::Drop { done, .. } => drop(done.send(Err(DropError::Full { reason }))),
            }
        }
    }

    /// Whether it is there is not known.
    fn unknown(self, poisoned: &Poisoned) {
        for answer in self.answers {
            let poisoned = poisoned.clone();
            match answer {
                Answer::Claim { done, .. } => drop(done.send(Err(poisoned.into()))),
                Answer::Commit { done, .. } => {
                    drop(done.send(Err(CommitError::Unknown(poisoned))));
                }
                Answer::Trim { done, .. } => drop(done.send(Err(TrimError::Unknown(poisoned)))),
                Answer::Drop { done, .. } => drop(done.send(Err(DropError::Unknown(poisoned)))),
            }
        }
    }
}

impl Answer {
    /// It happened.
    fn done(self) {
        match self {
            Answer::Claim { fence, done } => drop(done.send(Ok(fence))),
            Answer::Commit { offsets, done, .. } => drop(done.send(Ok(offsets))),
            Answer::Trim { done, .. } => drop(done.send(Ok(()))),
            Answer::Drop { done, .. } => drop(done.send(Ok(()))),
        }
    }
}

/// Where the stream ends, if it may be trimmed.
fn trimmable(scope: &ScopeState, epoch: u64, stream: Stream) -> Result<Offset, TrimError> {
    let contents = scope.lock();
    if contents.owner != Some(epoch) && !plant::is(Bug::SkipFence) || contents.dropped {
        return Err(TrimError::Fenced { scope: scope.id });
    }
    match &contents.damaged {
        Some(what) => Err(corrupt(scope.id, what.as_str()).into()),
        None => Ok(Offset(contents.streams.get(&stream).map_or(0, |state| state.assigned))),
    }
}

/// Takes the offsets of a commit back that is not going to be: it was the last to get any.
fn give_back(scope: &ScopeState, records: &[Record]) {
    let mut contents = scope.lock();
    for record in records {
        let stream = contents.streams.entry(record.stream).or_default();
        stream.assigned -= 1;
        // A file that was to begin with one of them is begun again.
        stream.large.retain(|large| large.base < stream.assigned);
    }
}

/// The store had failed before this was begun.
pub(super) fn refuse(job: Job, poisoned: &Poisoned) {
    let poisoned = poisoned.clone();
    match job.task {
        Task::Claim { done } => drop(done.send(Err(poisoned.into()))),
        Task::Commit { done, .. } => drop(done.send(Err(poisoned.into()))),
        Task::Trim { done, .. } => drop(done.send(Err(poisoned.into()))),
        Task::Drop { done } => drop(done.send(Err(poisoned.into()))),
    }
}

/// How much of a group a commit is.
pub(super) fn size_of(records: &[Record], large_bytes: usize) -> Size {
    let framed = |record: &Record| match record.body.len() {
        len if len > large_bytes => HEAD + Named::LEN,
        len => HEAD + len,
    };
    Size { records: records.len(), bytes: records.iter().map(framed).sum() }
}
