//! The keeper: one thread behind the committer that brings what is durable in the journal to its
//! final place, changes views, and gives space back.
//!
//! Nothing here is waited for by a commit, except when the keeper is too far behind. A checkpoint
//! of the journal: everything in segments, one sync of it all, the ends of streams noted in the
//! index, and only then the journal is let go.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    super::{Change, CheckpointError, Offset, Poisoned, ScopeId, Stream},
    committer::refuse,
    core::{Chore, Core, ViewTask, corrupt},
    disk::{How, is_full},
    files::{JOURNAL, Name, SCOPES, is_stream_file, journal_file, scope_dir},
    index::{Class, IndexError, Laid, Position, Update},
    journal,
    plant::{self, Bug},
    scope::{ScopeState, Segment},
};

/// How long a keeper that found the disk full waits before it looks again.
const PATIENCE: Duration = Duration::from_millis(200);
/// Bytes of one write to a segment, about.
const WRITE_BYTES: usize = 1 << 20;
/// Free room without which redb is not asked to write, in bytes: it does not go on after an error
/// in the middle.
const INDEX_BYTES: u64 = 2 << 20;
/// What a change of a row costs at most besides its bytes: pages are written anew, not over.
const ROW_BYTES: u64 = 8 << 10;

/// The thread's own.
pub(super) struct Keeper {
    core: Arc<Core>,
    /// Streams with something in their tails.
    fills: Vec<(Arc<ScopeState>, Stream)>,
    /// Streams that changed since the last checkpoint.
    touched: HashMap<(ScopeId, Stream), Arc<ScopeState>>,
    /// Scopes that are gone, and stay blocked until the next checkpoint.
    dropped: Vec<ScopeId>,
    /// The journal may begin here when nothing is left to fill.
    mark: Option<Position>,
    views: Vec<ViewTask>,
    /// Files of the journal to be used again.
    spares: Vec<String>,
    /// Files of the journal up to this one are kept: they hold damage.
    evidence: Option<u64>,
    /// No file of the journal that may be read is shorter.
    journal_file_bytes: u64,
}

/// Why the keeper does not get on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The disk is full: it tries again.
    Full(String),
    /// The store is lost.
    Failed(String),
}

impl Stop {
    fn of(what: &str, error: &io::Error) -> Stop {
        let text = format!("{what}: {error}");
        if is_full(error) { Stop::Full(text) } else { Stop::Failed(text) }
    }
}

impl From<IndexError> for Stop {
    fn from(error: IndexError) -> Stop {
        // redb does not go on after an error in the middle: it is opened again at the restart.
        Stop::Failed(error.to_string())
    }
}

impl Keeper {
    pub(super) fn new(core: Arc<Core>, spares: Vec<String>) -> Keeper {
        Keeper {
            journal_file_bytes: core.config.journal_file_bytes,
            core,
            fills: Vec::new(),
            touched: HashMap::new(),
            dropped: Vec::new(),
            mark: None,
            views: Vec::new(),
            spares,
            evidence: None,
        }
    }

    /// Until the inbox is closed and what is in it is done, or the store has failed.
    pub(super) fn run(mut self) {
        // Recovery may have left something for want of room.
        let mut stuck = !self.idle();
        loop {
            let waiting = self.core.inbox.take(stuck.then_some(PATIENCE));
            let closed = waiting.closed;
            if waiting.supply || stuck {
                self.supply();
            }
            self.views.extend(waiting.views);
            for chore in waiting.chores {
                self.hear(chore);
            }
            let outcome = self.work();
            let reason = match &outcome {
                Ok(()) => None,
                Err(Stop::Full(reason)) => Some(reason.clone()),
                Err(Stop::Failed(reason)) => {
                    let poisoned = self.core.health.poison(reason.clone());
                    return self.give_up(&poisoned);
                }
            };
            if let Some(reason) = reason.as_ref().filter(|_| !stuck) {
                tracing::warn!(%reason, "the disk is full: commits are refused until there is room");
            }
            stuck = reason.is_some();
            self.core.inbox.stuck(reason);
            if let Err(poisoned) = self.core.health.sound() {
                return self.give_up(&poisoned);
            }
            if closed && (stuck || self.idle()) {
                let poisoned = Poisoned { reason: "the store is closed".into() };
                return self.give_up(&poisoned);
            }
        }
    }

    fn idle(&self) -> bool {
        self.fills.is_empty() && self.mark.is_none() && self.views.is_empty()
    }

    fn give_up(self, poisoned: &Poisoned) {
        // Those that wait until a scope is deleted among them: nobody else would tell them.
        self.core.queue.drain().into_iter().for_each(|job| refuse(job, poisoned));
        self.core.inbox.close();
        self.core.supply.close();
        let left = self.core.inbox.take(Some(Duration::ZERO)).views;
        for view in self.views.into_iter().chain(left) {
            // Whoever asked may have gone.
            let _ = view.done.send(Err(poisoned.clone().into()));
        }
    }

    /// Takes a chore on.
    pub(super) fn hear(&mut self, chore: Chore) {
        match chore {
            Chore::Fill(scope, stream) => self.fills.push((scope, stream)),
            Chore::Trimmed(scope, stream) => {
                self.touched.insert((scope.id, stream), scope);
            }
            Chore::Drop(scope) => self.forget_files(&scope),
            Chore::Mark(position) => self.mark = Some(position),
        }
    }

    /// Does what can be done.
    pub(super) fn work(&mut self) -> Result<(), Stop> {
        self.change_views()?;
        while let Some((scope, stream)) = self.fills.pop() {
            let filled = self.fill(&scope, stream);
            if filled.is_err() {
                self.fills.push((scope, stream));
            }
            filled?;
            self.supply();
        }
        if let Some(mark) = self.mark {
            self.checkpoint(mark)?;
            self.mark = None;
        }
        Ok(())
    }

    /// Brings the tail of a stream to its segments.
    fn fill(&mut self, scope: &Arc<ScopeState>, stream: Stream) -> Result<(), Stop> {
        loop {
            let mut contents = scope.lock();
            let Some(state) = contents.streams.get_mut(&stream) else { return Ok(()) };
            let mut runs = 0;
            let mut frames = Vec::new();
            for run in &state.tail {
                if runs > 0 && frames.len() + run.frames.len() > WRITE_BYTES {
                    break;
                }
                frames.extend_from_slice(&run.frames);
                runs += 1;
            }
            if runs == 0 {
                state.queued = false;
                return Ok(());
            }
            let max = self.core.config.segment_bytes;
            let last = state.segments.last().filter(|segment| segment.len < max);
            let (base, at) = last.map_or((state.filled, 0), |segment| (segment.base, segment.len));
            let new = last.is_none();
            drop(contents);

            let name = Name::new(scope.id, stream, Class::Segment, base);
            let how = if new { How::Empty } else { How::Existing };
            let written =
                self.core.files.get(name, how).and_then(|file| file.write_at(&frames, at));
            written.map_err(|error| Stop::of(&name.path(), &error))?;

            let mut contents = scope.lock();
            let Some(state) = contents.streams.get_mut(&stream) else { return Ok(()) };
            if new {
                state.segments.push(Segment::new(base, 0));
            }
            let segment = state.segments.last_mut().expect("one was pushed when there was none");
            let mut place = at;
            for run in state.tail.drain(..runs) {
                segment.remember(run.first, place);
                place += run.frames.len() as u64;
                state.filled = run.first + run.count;
            }
            segment.len = place;
            drop(contents);
            self.touched.insert((scope.id, stream), scope.clone());
            self.core.inbox.filled(frames.len());
        }
    }

    /// Whether redb can be asked to change so many rows, of so many bytes.
    fn room(&self, rows: usize, bytes: usize) -> Result<(), Stop> {
        self.core.reserve.take().map_err(|error| Stop::of("the reserve", &error))?;
        let free = self.core.disk.free().map_err(|error| Stop::of("free space", &error))?;
        let wanted = INDEX_BYTES + rows as u64 * ROW_BYTES + 2 * bytes as u64;
        if free >= wanted {
            return Ok(());
        }
        self.core.stats.put_off.fetch_add(1, Relaxed);
        Err(Stop::Full(format!("{free} bytes are free, a checkpoint wants {wanted}")))
    }

    /// Changes views: all that wait, in one step.
    fn change_views(&mut self) -> Result<(), Stop> {
        if self.views.is_empty() {
            return Ok(());
        }
        let changes = self.views.iter().flat_map(|view| &view.change.changes);
        let (mut rows, mut bytes) = (self.views.len(), 0);
        for change in changes {
            rows += 1;
            bytes += match change {
                Change::Put { key, value } => key.len() + value.len(),
                Change::Delete { key } => key.len(),
            };
        }
        if let Err(stop) = self.room(rows, bytes) {
            let Stop::Full(reason) = &stop else { return Err(stop) };
            for view in self.views.drain(..) {
                let reason = reason.clone();
                let _ = view.done.send(Err(CheckpointError::Full { reason }));
            }
            return Ok(());
        }
        let mut changes = Vec::new();
        let mut told = Vec::new();
        // Up to where the views among them come, one after the other.
        let mut upto: HashMap<(ScopeId, Stream), u64> = HashMap::new();
        for view in std::mem::take(&mut self.views) {
            let at = upto.get(&(view.change.scope, view.change.stream)).copied();
            match self.judge(&view, at) {
                Ok(()) => {
                    upto.insert((view.change.scope, view.change.stream), view.change.upto.0);
                    told.push((view.change.scope, view.change.stream, view.change.upto, view.done));
                    changes.push(view.change);
                }
                Err(error) => drop(view.done.send(Err(error))),
            }
        }
        if let Err(error) = self.core.index.change(&changes) {
            let poisoned = self.core.health.poison(error.to_string());
            for (.., done) in told {
                let _ = done.send(Err(poisoned.clone().into()));
            }
            return Err(error.into());
        }
        for (scope, stream, upto, done) in told {
            if let Some(scope) = self.core.scopes.get(scope) {
                let mut contents = scope.lock();
                if !contents.dropped {
                    contents.streams.entry(stream).or_default().upto = upto.0;
                }
            }
            let _ = done.send(Ok(()));
        }
        Ok(())
    }

    /// Whether a view may be changed; `at` is where it will be after those before.
    fn judge(&self, view: &ViewTask, at: Option<u64>) -> Result<(), CheckpointError> {
        let (scope, upto) = (view.change.scope, view.change.upto);
        let fenced = CheckpointError::Fenced { scope };
        let state = self.core.scopes.get(scope).ok_or(fenced.clone())?;
        let contents = state.lock();
        if contents.owner != Some(view.epoch) && !plant::is(Bug::SkipFence) || contents.dropped {
            return Err(fenced);
        }
        if let Some(what) = &contents.damaged {
            return Err(corrupt(scope, what.as_str()).into());
        }
        let stream = contents.streams.get(&view.change.stream);
        let (min, max) = stream.map_or((0, 0), |s| (at.unwrap_or(s.upto), s.next));
        let (min, max) = (Offset(min), Offset(max));
        if upto < min || upto > max {
            return Err(CheckpointError::Misplaced { upto, min, max });
        }
        Ok(())
    }

    /// Lets the journal begin at the mark: everything before is in its place.
    fn checkpoint(&mut self, mark: Position) -> Result<(), Stop> {
        self.room(self.touched.len(), 0)?;
        if !plant::is(Bug::EarlyTrim) {
            self.core.disk.sync_all().map_err(|error| Stop::Failed(error.to_string()))?;
        }
        let mut update = Update { from: Some(mark), streams: Vec::new() };
        let mut spent = Vec::new();
        for ((id, stream), scope) in &self.touched {
            let mut contents = scope.lock();
            let Some(state) = contents.streams.get_mut(stream) else { continue };
            let taken = state.take_spent();
            spent.extend(
                taken.into_iter().map(|(class, base)| Name::new(*id, *stream, class, base)),
            );
            update.streams.push((*id, state.row(*stream)));
        }
        self.core.index.update(&update)?;
        self.touched.clear();
        self.core.inbox.begin_at(mark);
        self.core.stats.checkpoint();
        for name in spent {
            self.core.files.close(|open| *open == name);
            if let Err(error) = self.core.disk.remove(&name.path()) {
                // It is not listed any more, and goes with its scope at the latest.
                tracing::warn!(file = name.path(), %error, "a trimmed file could not be deleted");
            }
        }
        self.let_go(mark)?;
        self.core.queue.unblock(&std::mem::take(&mut self.dropped));
        Ok(())
    }

    /// Files of the journal that lie before the mark are used again, or kept as evidence.
    fn let_go(&mut self, mark: Position) -> Result<(), Stop> {
        let failed = |error: io::Error| Stop::of("the journal", &error);
        let names = self.core.disk.list(JOURNAL).map_err(failed)?;
        let max = self.core.config.journal_bytes / self.core.config.journal_file_bytes;
        for name in names {
            let Some(number) = super::files::journal_number(&name) else { continue };
            if number >= mark.file {
                continue;
            }
            let from = journal_file(number);
            if self.evidence.is_some_and(|last| number <= last) {
                let kept = format!("{JOURNAL}/damaged-{name}");
                self.core.disk.rename(&from, &kept).map_err(failed)?;
            } else if (self.spares.len() as u64) < max / 2 {
                let spare = format!("spare-{name}");
                self.core.disk.rename(&from, &format!("{JOURNAL}/{spare}")).map_err(failed)?;
                self.spares.push(spare);
            } else {
                self.core.disk.remove(&from).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Makes the file of the journal that is wanted.
    fn supply(&mut self) {
        let Some(number) = self.core.supply.wanted() else { return };
        let bytes = self.core.supply.file_bytes;
        let file = match self.spares.last() {
            Some(spare) => journal::reuse(&*self.core.disk, spare, number, bytes),
            None => journal::make(&*self.core.disk, number, bytes),
        };
        match &file {
            Ok(_) => {
                self.spares.pop();
                // With too little room for redb it goes without: then the file would not be missed.
                if self.room(1, 0).is_ok()
                    && let Err(error) = self.lay(number)
                {
                    self.core.health.poison(error.to_string());
                }
            }
            Err(error) if !is_full(error) => {
                self.core.health.poison(format!("the journal: {error}"));
            }
            Err(_) => {}
        }
        self.core.supply.bring(number, file.map_err(|error| error.to_string()));
    }

    /// Deletes a dropped scope: what the store made, nothing else.
    fn forget_files(&mut self, scope: &Arc<ScopeState>) {
        self.touched.retain(|(id, _), _| *id != scope.id);
        self.fills.retain(|(of, _)| of.id != scope.id);
        self.core.files.close(|open| open.scope == scope.id);
        if let Err(error) = delete_files(&self.core, scope.id) {
            tracing::warn!(scope = %scope.id, %error, "not all of a dropped scope could be deleted");
        }
        self.dropped.push(scope.id);
        let lock = &self.core.scopes.loading;
        let _nobody_loads = lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match self.core.index.forget(&[scope.id]) {
            Ok(()) => self.core.scopes.remove(scope.id),
            Err(error) => drop(self.core.health.poison(error.to_string())),
        }
    }

    /// Notes that the journal has files up to this one, before groups are written there.
    fn lay(&self, last: u64) -> Result<(), IndexError> {
        self.core.index.lay(Laid { last, bytes: self.journal_file_bytes })
    }

    /// The journal ends in this file, and those that may be read have these lengths. Those that
    /// come after it are spares.
    ///
    /// # Errors
    /// When the index does not take it.
    pub(super) fn begin(&mut self, last: u64, lens: &[u64]) -> Result<(), IndexError> {
        let shortest = lens.iter().copied().min().unwrap_or(u64::MAX);
        self.journal_file_bytes = self.journal_file_bytes.min(shortest);
        self.lay(last)
    }

    /// Files of the journal up to this one are evidence of damage.
    pub(super) fn keep(&mut self, evidence: Option<u64>) {
        self.evidence = evidence;
    }

    /// A file of the journal that can be used again.
    pub(super) fn spare(&mut self, name: String) {
        self.spares.push(name);
    }

    /// Streams that recovery brought back, and scopes that it found dropped.
    pub(super) fn resume(&mut self, scopes: &[Arc<ScopeState>], dropped: Vec<ScopeId>) {
        let mut seen = HashSet::new();
        for scope in scopes {
            for stream in scope.lock().streams.keys() {
                if seen.insert((scope.id, *stream)) {
                    self.touched.insert((scope.id, *stream), scope.clone());
                }
            }
        }
        self.dropped.extend(dropped);
    }
}

/// Deletes the files of a scope, and its directory when nothing else is in it.
pub(super) fn delete_files(core: &Core, scope: ScopeId) -> io::Result<()> {
    let dir = scope_dir(scope);
    let names = match core.disk.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    let (ours, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_stream_file(name));
    for name in ours {
        core.disk.remove(&format!("{dir}/{name}"))?;
    }
    if others.is_empty() {
        core.disk.remove_dir(&dir)?;
        core.disk.sync_dir(SCOPES)?;
    }
    Ok(())
}
