//! Opening a store: the format, the index, and what the journal has that is not in its place yet.
//!
//! Nothing is served before this is over and a checkpoint of it is durable. What is damaged is
//! neither cut nor skipped: its scope is marked and stops, the rest goes on. Only the newest group
//! may be incomplete; none of it was acknowledged, and it is overwritten with zeros.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::{
    super::{Config, OpenError, ScopeId},
    core::{Chore, Core, Health, Inbox},
    disk::{Disk, How},
    files::{INDEX, JOURNAL, Open, SCOPES, journal_file},
    frame::{Frame, Named, TRIM},
    group::{BLOCK, Entry, What},
    index::{Index, IndexError, Position, Update},
    journal::{self, Journal, Supply, zero},
    keeper::{Keeper, Stop, delete_files},
    plant::{self, Bug},
    queue::Queue,
    reserve::Reserve,
    scan::{Found, Scan, ScanError, scan},
    scope::{Contents, Large, Run, ScopeState, Scopes},
};

/// The format that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
/// Room that is kept for redb, in bytes, at most.
const RESERVE_BYTES: u64 = 4 << 20;

/// A store, ready to run.
pub(super) struct Opened {
    pub core: Arc<Core>,
    pub journal: Journal,
    pub keeper: Keeper,
}

/// Opens a store on a disk that nobody else uses.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    config: Config,
    lock: Option<fs::File>,
) -> Result<Opened, OpenError> {
    check(&config)?;
    let at = |path: &str| {
        let path = disk.root().join(path);
        move |source| OpenError::Io { path, source }
    };
    let salt = format(&**disk)?;
    disk.make_dir(JOURNAL).map_err(at(JOURNAL))?;
    disk.make_dir(SCOPES).map_err(at(SCOPES))?;
    disk.sync_dir("").map_err(at(""))?;
    let reserve = Reserve::new(disk.clone(), (config.free_bytes / 16).min(RESERVE_BYTES));
    let index = index(&**disk, &reserve)?;
    let index_says = |error: &IndexError| broken(&**disk, error);
    let boot = index.boot().map_err(|error| index_says(&error))?;
    let from = index.from().map_err(|error| index_says(&error))?;
    let damaged = index.damaged().map_err(|error| index_says(&error))?;
    let laid = index.laid().map_err(|error| index_says(&error))?;
    let scan = scan(&**disk, salt, from, laid).map_err(|error| unreadable(&**disk, error))?;
    let core = Arc::new(Core {
        room: Arc::new(Semaphore::new(config.queue_bytes as usize)),
        files: Open::new(disk.clone(), config.open_files),
        supply: Arc::new(Supply::new(config.journal_file_bytes)),
        config,
        reserve,
        index,
        scopes: Scopes::default(),
        queue: Queue::default(),
        inbox: Inbox::default(),
        health: Health::default(),
        stats: Arc::default(),
        boot,
        disk: disk.clone(),
        _lock: lock,
        held: watch::Sender::new(()),
    });
    core.inbox.begin_at(from);
    for (scope, what) in damaged {
        let rows = core.index.streams(scope).map_err(|error| index_says(&error))?;
        core.scopes.add(ScopeState::of(scope, &rows, Some(what)));
    }
    let names = disk.list(JOURNAL).map_err(at(JOURNAL))?;
    let mut spares: Vec<_> = names.into_iter().filter(|name| name.starts_with("spare-")).collect();
    spares.sort();
    let evidence = core.index.evidence().map_err(|error| index_says(&error))?;
    let mut replay = Replay {
        keeper: Keeper::new(core.clone(), spares),
        core: &core,
        dropped: BTreeMap::new(),
        touched: BTreeSet::new(),
        evidence,
    };
    let end = replay.run(&scan)?;
    let Replay { mut keeper, dropped, touched, evidence, .. } = replay;
    keeper.keep(evidence);
    let (end, file) = prepare_end(&**disk, &core, &scan, end)?;
    let lens = scan.files.lens().map_err(|error| unreadable(&**disk, error))?;
    keeper.begin(end.file, &lens).map_err(|error| index_says(&error))?;
    // The newest first, so that no crash leaves a gap.
    for number in scan.files.after(end.file).rev() {
        // It has no group that counts: it is used again in its time.
        let (name, spare) = (journal_file(number), format!("spare-{number:016x}.log"));
        disk.rename(&name, &format!("{JOURNAL}/{spare}")).map_err(at(&name))?;
        keeper.spare(spare);
    }
    if end != from {
        let touched: Vec<_> = touched.iter().filter_map(|id| core.scopes.get(*id)).collect();
        let dropped: Vec<_> = dropped.into_keys().collect();
        keeper.resume(&touched, dropped.clone());
        keeper.hear(Chore::Mark(end));
        match keeper.work() {
            Ok(()) => {}
            Err(Stop::Full(reason)) => {
                core.queue.block(&dropped);
                core.inbox.stuck(Some(reason));
            }
            Err(Stop::Failed(reason)) => {
                return Err(OpenError::Io {
                    path: disk.root().to_owned(),
                    source: io::Error::other(reason),
                });
            }
        }
    }
    let journal =
        Journal::new(salt, file, end, core.supply.clone()).map_err(at(&journal_file(end.file)))?;
    Ok(Opened { core, journal, keeper })
}

/// Opens the index. A new one gets its name when it is whole: redb is not made in one step.
fn index(disk: &dyn Disk, reserve: &Reserve) -> Result<Index, OpenError> {
    let at = |path: &str| {
        let path = disk.root().join(path);
        move |source| OpenError::Io { path, source }
    };
    let index_says = |error: IndexError| broken(disk, &error);
    match disk.open(INDEX, How::Existing) {
        Ok(file) => return Index::open(file, reserve.clone()).map_err(index_says),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(INDEX)(error)),
        Err(_) => {}
    }
    // It is made before the journal's first file, and nothing is stored before that.
    let names = disk.list(JOURNAL).map_err(at(JOURNAL))?;
    if names.iter().any(|name| name.ends_with(".log")) {
        let what = format!("{INDEX} is missing, and data is there");
        return Err(OpenError::Corrupt { path: disk.root().to_owned(), what });
    }
    let new = format!("{INDEX}.new");
    let file = disk.open(&new, How::Empty).map_err(at(&new))?;
    let index = Index::open(file.clone(), reserve.clone()).map_err(index_says)?;
    let update = Update { from: Some(Position::default()), streams: Vec::new() };
    index.update(&update).map_err(index_says)?;
    drop(index);
    file.sync().map_err(at(&new))?;
    disk.rename(&new, INDEX).and_then(|()| disk.sync_dir("")).map_err(at(INDEX))?;
    Index::open(file, reserve.clone()).map_err(index_says)
}

/// The end of the journal: what is torn there is zeros from now on, durably.
fn prepare_end(
    disk: &dyn Disk,
    core: &Core,
    scan: &Scan,
    end: Position,
) -> Result<(Position, Arc<dyn super::disk::File>), OpenError> {
    let name = journal_file(end.file);
    let at = |source| OpenError::Io { path: disk.root().join(&name), source };
    let Some(file) = scan.files.get(end.file).cloned() else {
        let file = journal::make(disk, end.file, core.config.journal_file_bytes).map_err(at)?;
        return Ok((end, file));
    };
    let config = &core.config;
    let torn_max = (config.group_bytes + 16 * config.group_records) as u64 + 4 * BLOCK;
    let to = (end.at + torn_max).min(file.len().map_err(at)?).max(end.at);
    let mut bytes = vec![0; usize::try_from(to - end.at).expect("a group is bounded")];
    let read = file.read_at(&mut bytes, end.at).map_err(at)?;
    if bytes[..read].iter().any(|byte| *byte != 0) {
        zero(&*file, end.at, to).map_err(at)?;
        file.sync().map_err(at)?;
    }
    Ok((end, file))
}

struct Replay<'a> {
    core: &'a Arc<Core>,
    keeper: Keeper,
    /// Scopes that were dropped, and in which group: what comes before is gone.
    dropped: BTreeMap<ScopeId, u64>,
    touched: BTreeSet<ScopeId>,
    /// The last file of the journal that is kept for whoever looks into the damage.
    evidence: Option<u64>,
}

/// An entry, and where its body is.
struct Part<'a> {
    entry: &'a Entry,
    body: Option<Bytes>,
}

impl Replay<'_> {
    /// Brings everything of the journal into the scopes; gives where the journal ends.
    fn run(&mut self, scan: &Scan) -> Result<Position, OpenError> {
        let disk = &*self.core.disk;
        let drops = scan.groups.iter().flat_map(|group| {
            let drops = group.head.entries.iter().filter(|entry| entry.what == What::Drop);
            drops.map(|entry| (entry.scope, group.head.number))
        });
        self.dropped = drops.collect();
        for scope in self.dropped.keys() {
            // Again, for the crash may have come in between.
            delete_files(self.core, *scope).map_err(|source| OpenError::Io {
                path: disk.root().join(super::files::scope_dir(*scope)),
                source,
            })?;
            self.core.scopes.remove(*scope);
        }
        let dropped: Vec<_> = self.dropped.keys().copied().collect();
        self.core.index.forget(&dropped).map_err(|error| broken(disk, &error))?;
        for (at, group) in scan.groups.iter().enumerate() {
            let newest = at + 1 == scan.groups.len();
            let bodies = scan.files.bodies(group).map_err(|error| unreadable(disk, error))?;
            let bodies = Bytes::from(bodies);
            let parts = parts(group, &bodies);
            let torn = parts.iter().any(|part| !whole(part));
            let ends_here = torn && (newest || plant::is(Bug::DamageIsTheEnd));
            if ends_here && !plant::is(Bug::HalfCommits) {
                // Its sync never returned: nobody was told anything.
                tracing::info!(group = group.head.number, "dropped a group that was cut short");
                return Ok(group.place);
            }
            for part in &parts {
                self.apply(group, part, scan.files.last())?;
            }
            match self.keeper.work() {
                Ok(()) | Err(Stop::Full(_)) => {}
                Err(Stop::Failed(reason)) => {
                    let source = io::Error::other(reason);
                    return Err(OpenError::Io { path: disk.root().to_owned(), source });
                }
            }
        }
        // Damaged files are kept as they are: what comes now goes to a new one.
        let kept = self.evidence.filter(|last| *last >= scan.end.file);
        let next = kept.map(|last| Position { file: last + 1, at: 0, ..scan.end });
        Ok(next.unwrap_or(scan.end))
    }

    fn apply(
        &mut self,
        group: &Found,
        part: &Part<'_>,
        last: Option<u64>,
    ) -> Result<(), OpenError> {
        let id = part.entry.scope;
        if self.dropped.get(&id).is_some_and(|number| group.head.number <= *number) {
            return Ok(());
        }
        let broken = |error: IndexError| broken(&*self.core.disk, &error);
        let scope = self.core.scope(id).map_err(broken)?;
        self.touched.insert(id);
        let mut contents = scope.lock();
        if contents.damaged.is_some() {
            return Ok(());
        }
        let outcome = match (&part.body, part.entry.what) {
            (_, What::Drop) => Ok(()),
            (None, _) => Err("is cut short".to_owned()),
            (Some(body), What::Trim) => trim(&mut contents, id, body),
            (Some(body), What::Commit) => append(&mut contents, id, body),
        };
        for (stream, state) in &contents.streams {
            if !state.tail.is_empty() {
                self.keeper.hear(Chore::Fill(scope.clone(), *stream));
            }
        }
        let Err(what) = outcome else { return Ok(()) };
        let (file, number) = (journal_file(group.place.file), group.head.number);
        let what = format!("an entry of group {number} in {file} {what}; later groups are there");
        tracing::error!(scope = %id, what, "stored data is damaged: the scope stops");
        let last = last.unwrap_or(group.place.file);
        self.core.index.damage(id, &what, last).map_err(broken)?;
        contents.damaged = Some(what);
        self.evidence = Some(last);
        Ok(())
    }
}

/// The entries of a group with their bodies; `None` where the bytes end too early.
fn parts<'a>(group: &'a Found, bodies: &Bytes) -> Vec<Part<'a>> {
    let mut at = 0;
    let part = |entry: &'a Entry| {
        let (from, to) = (at, at + entry.len as usize);
        at = to;
        Part { entry, body: (to <= bodies.len()).then(|| bodies.slice(from..to)) }
    };
    group.head.entries.iter().map(part).collect()
}

/// Whether all of an entry is as it was written.
fn whole(part: &Part<'_>) -> bool {
    let Some(body) = &part.body else { return false };
    let mut at = 0;
    while at < body.len() {
        match Frame::parse(part.entry.scope, &body[at..]) {
            Ok(frame) => at += frame.len(),
            Err(_) => return false,
        }
    }
    true
}

fn trim(contents: &mut Contents, id: ScopeId, body: &Bytes) -> Result<(), String> {
    match Frame::parse(id, body) {
        Ok(frame) if frame.tag == TRIM => {
            // One that never held anything stays unknown.
            if let Some(state) = contents.streams.get_mut(&frame.stream) {
                state.first = state.first.max(frame.offset.min(state.next));
            }
            Ok(())
        }
        _ => Err("is damaged".into()),
    }
}

/// Takes the records of a commit that are not in segments yet.
fn append(contents: &mut Contents, id: ScopeId, body: &Bytes) -> Result<(), String> {
    // All or nothing, here too.
    let mut frames = Vec::new();
    let mut at = 0;
    while at < body.len() {
        match Frame::parse(id, &body[at..]) {
            Ok(frame) => {
                frames.push((at, frame));
                at += frame.len();
            }
            Err(_) if plant::is(Bug::HalfCommits) => break,
            Err(_) => return Err("is damaged".into()),
        }
    }
    for (at, frame) in frames {
        let state = contents.streams.entry(frame.stream).or_default();
        match frame.offset {
            offset if offset < state.next => continue,
            offset if offset == state.next => {}
            offset => {
                let (stream, next) = (frame.stream, state.next);
                return Err(format!("begins {stream} at {offset}, and it ends at {next}"));
            }
        }
        if frame.named {
            let named = Named::parse(frame.body).ok_or("names nothing")?;
            let end = named.at + u64::from(named.len);
            match state.large.binary_search_by_key(&named.file, |large| large.base) {
                Ok(known) => state.large[known].len = state.large[known].len.max(end),
                Err(new) => state.large.insert(new, Large { base: named.file, len: end }),
            }
        }
        let frames = body.slice(at..at + frame.len());
        state.tail.push_back(Run { first: frame.offset, count: 1, frames });
        state.next += 1;
        state.assigned = state.next;
    }
    Ok(())
}

/// Reads the format, or makes it in an empty directory; gives the salt.
fn format(disk: &dyn Disk) -> Result<u64, OpenError> {
    let at = |source| OpenError::Io { path: disk.root().join(FORMAT_FILE), source };
    let file = match disk.open(FORMAT_FILE, How::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let names = disk.list("").map_err(at)?;
            if names.iter().any(|name| name == INDEX || name == JOURNAL || name == SCOPES) {
                let what = format!("{FORMAT_FILE} is missing, and data is there");
                return Err(OpenError::Corrupt { path: disk.root().to_owned(), what });
            }
            let salt = uuid::Uuid::new_v4().as_u64_pair().1;
            let text = format!("tollgate store\nformat {FORMAT}\nsalt {salt:016x}\n");
            let new = format!("{FORMAT_FILE}.new");
            let file = disk.open(&new, How::Empty).map_err(at)?;
            file.write_at(text.as_bytes(), 0).and_then(|()| file.sync()).map_err(at)?;
            disk.rename(&new, FORMAT_FILE).and_then(|()| disk.sync_dir("")).map_err(at)?;
            return Ok(salt);
        }
        Err(error) => return Err(at(error)),
    };
    let mut bytes = vec![0; 4_096];
    let read = file.read_at(&mut bytes, 0).map_err(at)?;
    let text = String::from_utf8_lossy(&bytes[..read]);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let path = PathBuf::from(disk.root());
    let found: Option<u32> = value("format").and_then(|n| n.trim().parse().ok());
    match (found, value("salt").and_then(|n| u64::from_str_radix(n.trim(), 16).ok())) {
        (Some(found), _) if found > FORMAT => Err(OpenError::Newer { path, found, known: FORMAT }),
        (Some(_), Some(salt)) => Ok(salt),
        _ => Err(OpenError::Corrupt { path, what: format!("{FORMAT_FILE} can not be read") }),
    }
}

/// Judges the numbers of the configuration.
fn check(config: &Config) -> Result<(), OpenError> {
    let bad = |key, why: String| Err(OpenError::BadConfig { key, why });
    if config.group_bytes < 4 << 10 || config.group_bytes > 64 << 20 {
        return bad("group_bytes", "must be 4 KiB to 64 MiB".into());
    }
    if config.group_records < 2 || config.group_records > 1 << 19 {
        return bad("group_records", "must be 2 to 524,288".into());
    }
    if config.commit_records < 1 || config.commit_records > config.group_records / 2 {
        return bad(
            "commit_records",
            "must be at least 1 and at most half of group_records".into(),
        );
    }
    let least = 2 * (config.group_bytes + 16 * config.group_records) as u64 + journal::KEPT_MIN;
    if config.journal_file_bytes < least {
        return bad("journal_file_bytes", format!("must hold two groups: at least {least}"));
    }
    if config.journal_bytes < 4 * config.journal_file_bytes {
        return bad("journal_bytes", "must hold four files of the journal".into());
    }
    if config.large_bytes < 64 || config.large_bytes > config.group_bytes / 4 {
        return bad(
            "large_bytes",
            "must be 64 at least and a quarter of group_bytes at most".into(),
        );
    }
    if config.record_bytes < config.large_bytes || config.record_bytes > 1 << 30 {
        return bad("record_bytes", "must be large_bytes to 1 GiB".into());
    }
    if config.queue_bytes == 0 || config.behind_bytes == 0 || config.segment_bytes == 0 {
        return bad("queue_bytes, behind_bytes, segment_bytes", "must not be 0".into());
    }
    Ok(())
}

fn broken(disk: &dyn Disk, error: &IndexError) -> OpenError {
    let path = disk.root().to_owned();
    match error.io() {
        Some(source) => OpenError::Io { path: path.join(INDEX), source },
        None => OpenError::Corrupt { path, what: error.to_string() },
    }
}

fn unreadable(disk: &dyn Disk, error: ScanError) -> OpenError {
    let path = disk.root().to_owned();
    match error {
        ScanError::Io(name, source) => OpenError::Io { path: path.join(name), source },
        ScanError::Damaged(what) => OpenError::Corrupt { path, what },
    }
}
