//! Reading records: from segments, from files of large records, and from what is durable in the
//! journal alone so far.
//!
//! Blocks on the disk: called from a thread that may. Checks every byte that it gives out.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    super::{Kind, Offset, Page, ReadError, ScopeId, Stored, Stream},
    core::{Core, corrupt},
    disk::{File, How},
    files::Name,
    frame::{Damage, Frame, HEAD, Named},
    index::Class,
    plant::{self, Bug},
    scope::{Run, ScopeState},
};

/// Bytes that are read from a segment at once.
const READ_BYTES: usize = 256 << 10;

/// Where the records of a page are.
struct Plan {
    /// The first record of the page.
    from: u64,
    /// A segment to read, from this frame and place on, up to this offset.
    segment: Option<(u64, u64, u64, u64)>,
    /// What comes after the segment: from the journal.
    tail: Vec<Run>,
    /// After this the stream's damage begins.
    damaged: Option<String>,
}

/// A page of a stream.
pub(super) fn read(
    core: &Core,
    scope: &Arc<ScopeState>,
    stream: Stream,
    from: Offset,
    page: Page,
) -> Result<Vec<Stored>, ReadError> {
    loop {
        core.health.sound()?;
        let plan = plan(scope, stream, from.0, page);
        let mut reader =
            Reader { core, scope: scope.id, stream, page, out: Vec::new(), bytes: 0, over: false };
        let begin = plan.from;
        match reader.follow(scope, plan) {
            Ok(()) => return Ok(reader.out),
            Err(_) if !reader.out.is_empty() => return Ok(reader.out),
            // It was trimmed or dropped meanwhile: look again.
            Err(ReadError::Io { .. } | ReadError::Corrupt(_)) if moved(scope, stream, begin) => {}
            Err(error) => return Err(error),
        }
    }
}

fn moved(scope: &ScopeState, stream: Stream, from: u64) -> bool {
    let contents = scope.lock();
    contents.dropped || contents.streams.get(&stream).is_some_and(|state| state.first > from)
}

fn plan(scope: &ScopeState, stream: Stream, from: u64, page: Page) -> Plan {
    let contents = scope.lock();
    let damaged = contents.damaged.clone();
    let Some(state) = contents.streams.get(&stream) else {
        return Plan { from, segment: None, tail: Vec::new(), damaged };
    };
    let from = from.max(state.first);
    let mut plan = Plan { from, segment: None, tail: Vec::new(), damaged };
    let mut whole = true;
    if from < state.filled {
        let after = state.segments.partition_point(|segment| segment.base <= from);
        let Some(segment) = after.checked_sub(1).map(|at| &state.segments[at]) else {
            plan.damaged = Some(format!("{stream} has no segment for offset {from}"));
            return plan;
        };
        let end = state.segments.get(after).map_or(state.filled, |next| next.base);
        let (offset, place) = segment.near(from);
        plan.segment = Some((segment.base, offset, place, end));
        whole = end == state.filled;
    }
    let mut bytes = 0;
    for run in state.tail.iter().filter(|run| whole && run.first + run.count > from) {
        plan.tail.push(run.clone());
        bytes += run.frames.len();
        if bytes > page.bytes_max {
            break;
        }
    }
    plan
}

struct Reader<'a> {
    core: &'a Core,
    scope: ScopeId,
    stream: Stream,
    page: Page,
    out: Vec<Stored>,
    bytes: usize,
    /// A record did not fit: nothing after it is taken.
    over: bool,
}

impl Reader<'_> {
    fn follow(&mut self, scope: &ScopeState, plan: Plan) -> Result<(), ReadError> {
        if let Some((base, offset, place, end)) = plan.segment {
            let name = Name::new(self.scope, self.stream, Class::Segment, base);
            let file = self.core.files.get(name, How::Existing).map_err(|e| self.io(&name, &e))?;
            let (offset, place) = self.segment(&*file, &name, (offset, place), (plan.from, end))?;
            let mut contents = scope.lock();
            let state = contents.streams.get_mut(&self.stream);
            let segment = state.and_then(|s| s.segments.iter_mut().find(|s| s.base == base));
            if let Some(segment) = segment {
                segment.remember(offset, place);
            }
        }
        for run in plan.tail {
            self.run(&run, plan.from)?;
        }
        match plan.damaged {
            // Silence here would look like the end.
            Some(what) if self.out.is_empty() => Err(corrupt(self.scope, what).into()),
            _ => Ok(()),
        }
    }

    fn full(&self) -> bool {
        self.over
            || self.out.len() >= self.page.count_max.max(1)
            || (!self.out.is_empty() && self.bytes >= self.page.bytes_max)
    }

    fn io(&self, name: &Name, error: &io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::NotFound => {
                corrupt(self.scope, format!("{} is missing", name.path())).into()
            }
            _ => ReadError::Io { reason: format!("{}: {error}", name.path()) },
        }
    }

    /// Reads frames, those from `from` on up to `end` into the page; gives the offset and place of
    /// the one after the last.
    fn segment(
        &mut self,
        file: &dyn File,
        name: &Name,
        (mut offset, mut place): (u64, u64),
        (from, end): (u64, u64),
    ) -> Result<(u64, u64), ReadError> {
        let mut buffer = Vec::new();
        let mut at = 0;
        while offset < end && !self.full() {
            let (frame, len) = match Frame::parse(self.scope, &buffer[at..]) {
                Ok(frame) if frame.offset == offset && frame.stream == self.stream => {
                    (frame, frame.len())
                }
                Err(Damage::Short(wanted)) => {
                    buffer.drain(..at);
                    at = 0;
                    let (have, want) = (buffer.len(), wanted.max(READ_BYTES));
                    if want > READ_BYTES.max(self.core.config.record_bytes + HEAD) {
                        return Err(self.damage(name, offset, place));
                    }
                    buffer.resize(want, 0);
                    let read = file.read_at(&mut buffer[have..], place + have as u64);
                    buffer.truncate(have + read.map_err(|error| self.io(name, &error))?);
                    if buffer.len() < wanted {
                        return Err(self.damage(name, offset, place));
                    }
                    continue;
                }
                _ => return Err(self.damage(name, offset, place)),
            };
            if offset >= from && !self.take(&frame)? {
                break;
            }
            (offset, place, at) = (offset + 1, place + len as u64, at + len);
        }
        Ok((offset, place))
    }

    fn damage(&self, name: &Name, offset: u64, place: u64) -> ReadError {
        let what = format!("{} is damaged at byte {place}, offset {offset}", name.path());
        tracing::error!(scope = %self.scope, what, "stored data is damaged");
        corrupt(self.scope, what).into()
    }

    /// Takes records that are in memory.
    fn run(&mut self, run: &Run, from: u64) -> Result<(), ReadError> {
        let mut at = 0;
        while at < run.frames.len() && !self.full() {
            let frame = Frame::parse(self.scope, &run.frames[at..]);
            let Ok(frame) = frame else {
                return Err(corrupt(self.scope, "a record in memory is damaged").into());
            };
            if frame.offset >= from && !self.take(&frame)? {
                break;
            }
            at += frame.len();
        }
        Ok(())
    }

    /// Puts a record into the page; `false` when it has no room. Its body owns just itself: what
    /// was read around it is not kept.
    fn take(&mut self, frame: &Frame<'_>) -> Result<bool, ReadError> {
        let len = match Named::parse(frame.body) {
            Some(named) if frame.named => named.len as usize,
            _ => frame.body.len(),
        };
        if !self.out.is_empty() && self.bytes + len > self.page.bytes_max {
            self.over = true;
            return Ok(false);
        }
        let Some(kind) = Kind::from_tag(frame.tag) else {
            let (scope, stream, offset) = (self.scope, self.stream, Offset(frame.offset));
            return Err(ReadError::UnknownKind { scope, stream, offset, tag: frame.tag });
        };
        let body = match frame.named {
            false => Bytes::copy_from_slice(frame.body),
            true => self.large(frame)?,
        };
        self.bytes += body.len() + 1;
        let (layout, epoch) = (frame.layout, frame.epoch);
        self.out.push(Stored { offset: Offset(frame.offset), kind, layout, epoch, body });
        Ok(true)
    }

    /// Reads a large record.
    fn large(&self, frame: &Frame<'_>) -> Result<Bytes, ReadError> {
        let damage = |what: &str| {
            let what = format!("{what} of {} at offset {}", self.stream, frame.offset);
            ReadError::from(corrupt(self.scope, what))
        };
        let named = Named::parse(frame.body).ok_or_else(|| damage("a name"))?;
        if named.len as usize > self.core.config.record_bytes {
            return Err(damage("a length"));
        }
        let name = Name::new(self.scope, self.stream, Class::Large, named.file);
        let file = self.core.files.get(name, How::Existing).map_err(|e| self.io(&name, &e))?;
        let mut body = vec![0; named.len as usize];
        let read = file.read_at(&mut body, named.at).map_err(|error| self.io(&name, &error))?;
        let sound = crc32c::crc32c(&body) == named.crc || plant::is(Bug::SkipChecksum);
        if read < body.len() || !sound {
            return Err(damage("the large record"));
        }
        Ok(body.into())
    }
}
