//! A disk without room: what was accepted waits for it, what is purged makes some, what is new is
//! refused.

use tokio::time::{Duration, sleep};

use super::{
    super::{
        group::{Entry, Group},
        service,
        shelf::{Act, Command},
    },
    Owner, Standing, submit,
};
use crate::{
    batch::Failure,
    rules::job::Event,
    store::{CommitError, Kind, Offset, Record, Space},
};

/// How long a group that finds no room on the disk waits before it is tried again.
const FULL_WAIT: Duration = Duration::from_millis(500);

/// The room that records may take. What only takes away has the last of it: it leads to more.
pub(super) fn of(records: &[Record]) -> Space {
    let takes_away = |r: &Record| matches!(r.kind, Kind::JobRemoved | Kind::BatchRemoved);
    if records.iter().all(takes_away) { Space::LastReserve } else { Space::Reserve }
}

impl Owner {
    /// Why nothing more is done, if that is so.
    pub(super) fn is_over(&self) -> Option<Failure> {
        if self.inner.stop.is_cancelled() {
            return Some(super::super::stopped());
        }
        let deleted = self.shelf.tenant.state() == Standing::Deleted;
        deleted.then(Failure::no_such_tenant)
    }

    /// Commits what must find room and found none: again and again, as long as there is anybody to
    /// do it for.
    pub(super) async fn keep(&mut self, records: Vec<Record>) -> Result<Vec<Offset>, Failure> {
        loop {
            tracing::warn!(tenant = %self.shelf.tenant.id(), "no room to note what jobs do");
            self.meanwhile().await?;
            tokio::select! {
                () = self.inner.stop.cancelled() => {}
                () = sleep(FULL_WAIT) => {}
            }
            if let Some(failure) = self.is_over() {
                return Err(failure);
            }
            let scope = &self.shelf.scope;
            let kept = scope.commit_in(of(&records), &self.fence, records.clone()).await;
            if !matches!(kept, Err(CommitError::Full { .. })) {
                return kept.map_err(|error| Failure::not_kept(&error));
            }
        }
    }

    /// Purges, and refuses what is new, while what happened to other jobs waits for room. All else
    /// waits behind that.
    async fn meanwhile(&mut self) -> Result<(), Failure> {
        let (mut group, mut new) = (Group::default(), Vec::new());
        let shelf = self.shelf.clone();
        shelf.take_commands(&mut self.backlog);
        let now = shelf.clock.now_ms();
        {
            let mut state = shelf.lock();
            for command in std::mem::take(&mut self.backlog) {
                match command {
                    Command::Submit(_) => new.push(command),
                    Command::Act { act: Act::Purge, .. } if group.has_room() => {
                        let later = self.take(command, &mut state, &mut group, now);
                        self.backlog.extend(later);
                    }
                    other => self.backlog.push_back(other),
                }
            }
        }
        let full = Failure::disk_full();
        new.into_iter().for_each(|command| submit::refuse(command, &full));
        let records = group.changes.iter().map(|entry| entry.record.clone()).collect();
        let purged = shelf.scope.commit_in(Space::LastReserve, &self.fence, records).await;
        match purged {
            Ok(offsets) => {
                let epoch = shelf.lock().epoch;
                self.apply(group.changes.into_iter().zip(offsets).collect(), epoch);
                for (answer, count) in group.answers {
                    // Who asked may be gone.
                    let _ = answer.send(Ok(count));
                }
            }
            Err(CommitError::Full { .. }) => self.lose(group, &full),
            Err(error) => {
                let failure = Failure::not_kept(&error);
                self.lose(group, &failure);
                return Err(failure);
            }
        }
        self.pages.make_room();
        // What fails is said there, and tried again.
        let _ = self.pages.turn(&shelf, &self.fence, self.next).await;
        Ok(())
    }

    /// Keeps what the oldest records keep once more, at the end, so that those can go: a job that
    /// stays for long must not keep everything that came after it. Without room they stay.
    pub(super) async fn move_the_oldest(&mut self, span_min: u64) -> Result<(), Failure> {
        const AT_ONCE: usize = 512;
        let oldest = self.shelf.lock().jobs.to_move(self.next, span_min, AT_ONCE);
        let mut group = Group::default();
        for (from, job) in oldest {
            if !group.has_room() {
                break;
            }
            match service::read_kept(&self.shelf.scope, from).await {
                Ok(body) => group.moved(Event::Moved { job, from }, &body),
                Err(error) => {
                    tracing::error!(tenant = %self.shelf.tenant.id(), %job, error, "not moved");
                    break;
                }
            }
        }
        if group.is_empty() {
            return Ok(());
        }
        let records = group.changes.iter().map(|entry: &Entry| entry.record.clone()).collect();
        match self.shelf.scope.commit_from_reserve(&self.fence, records).await {
            Ok(offsets) => {
                let epoch = self.shelf.lock().epoch;
                self.apply(group.changes.into_iter().zip(offsets).collect(), epoch);
                Ok(())
            }
            Err(CommitError::Full { .. } | CommitError::TooLarge { .. }) => Ok(()),
            Err(error) => Err(Failure::not_kept(&error)),
        }
    }
}
