//! Watching the file that lists the tenants: a change acts at once, a bad file changes nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::tenancy::{FileError, Registry, TenantsFile};

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(250);

/// What tells that a file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64)>);

impl Stamp {
    fn of(path: &Path) -> Stamp {
        let stamp = |m: fs::Metadata| -> io::Result<_> { Ok((m.modified()?, m.len())) };
        Stamp(fs::metadata(path).and_then(stamp).ok())
    }
}

/// Applies every good version of the file. Runs until it is aborted.
pub(super) async fn watch(path: PathBuf, tenants: Registry) {
    let mut seen = Stamp::of(&path);
    let mut tick = tokio::time::interval(POLL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Stamp::of(&path);
        if now == seen {
            continue;
        }
        // Once still for a whole poll: a file that is being written is not read.
        tick.tick().await;
        if Stamp::of(&path) != now {
            continue;
        }
        seen = now;
        match apply(path.clone(), &tenants).await {
            Ok(()) => tracing::info!(path = %path.display(), "tenants were reloaded"),
            Err(error) => tracing::error!(%error, "the tenants stay as they were"),
        }
    }
}

/// Reads the file and makes the registry what it says.
pub(super) async fn apply(path: PathBuf, tenants: &Registry) -> Result<(), FileError> {
    let file = tokio::task::spawn_blocking(move || TenantsFile::load(&path))
        .await
        .expect("loading a file does not panic")?;
    tenants.apply_file(file);
    Ok(())
}
