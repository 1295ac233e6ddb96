//! Watching the file that lists the tenants: a change acts at once, a bad file changes nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::tenancy::{FileError, Registry, TenantsFile};

/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(250);
/// For how long it must be still when it is asked for: writers truncate and then write, and a file
/// without tenants is a good file that deletes them all.
const STILL: Duration = Duration::from_millis(50);
/// How often that is tried; what still changes then is read as it is.
const STILL_TRIES: u32 = 20;

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

/// As [`apply`], once nobody is writing the file any more.
pub(super) async fn apply_still(path: PathBuf, tenants: &Registry) -> Result<(), FileError> {
    let mut seen = Stamp::of(&path);
    for _ in 0..STILL_TRIES {
        tokio::time::sleep(STILL).await;
        let now = Stamp::of(&path);
        if now == seen {
            break;
        }
        seen = now;
    }
    apply(path, tenants).await
}

/// Reads the file and makes the registry what it says.
async fn apply(path: PathBuf, tenants: &Registry) -> Result<(), FileError> {
    let file = tokio::task::spawn_blocking(move || TenantsFile::load(&path))
        .await
        .expect("loading a file does not panic")?;
    tenants.apply_file(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{Config, State};

    #[tokio::test]
    async fn a_file_that_is_being_written_deletes_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tenants.toml");
        let tenants = Registry::new(&Config::default());
        fs::write(&path, "[tenants.acme]\n").expect("written");
        apply(path.clone(), &tenants).await.expect("a good file");
        let acme = tenants.get("acme").expect("acme");
        // A writer has truncated it, and gets to the rest while the reload is under way.
        fs::write(&path, "").expect("truncated");
        let writer = async { fs::write(&path, "[tenants.acme]\n[tenants.globex]\n") };
        let (applied, written) = tokio::join!(apply_still(path.clone(), &tenants), writer);
        written.expect("written");
        applied.expect("a good file");
        assert_eq!(acme.state(), State::Active, "it was never deleted");
        assert!(tenants.get("globex").is_some(), "the whole file counts");
    }
}
