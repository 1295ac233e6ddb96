//! The files of one snapshot: their stamps, their bytes, and what these mean together.
//!
//! Everything here blocks on the disk and knows neither time nor tasks.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{Paths, Snapshot};
use crate::{
    crypto,
    deny::{DenyError, DenyList},
    files::{self, PemError},
    server::{CredentialsError, ServerCredentials},
    verify::{Trust, TrustError},
};

/// Why files were refused.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A revocation list or the deny list is not where it should be, which would let those in whom
    /// it keeps out.
    #[error("{0} is not there; to revoke nobody, leave an empty list in its place")]
    Missing(PathBuf),
    /// A file is not PEM of the kind expected.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// The broker's own certificate or key cannot be used.
    #[error("{path}: {source}")]
    Credentials {
        /// The file with the certificate.
        path: PathBuf,
        /// What is wrong.
        source: CredentialsError,
    },
    /// The deny list has an entry that would refuse nobody.
    #[error("{path}: {source}")]
    Deny {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DenyError,
    },
    /// The deny list is not text.
    #[error("{0} is not UTF-8")]
    NotText(PathBuf),
    /// Roots, lists and entries do not work together.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Nobody follows the files any more.
    #[error("the certificate files are no longer followed")]
    Stopped,
}

/// What tells one version of a file from another without reading it. Nothing for no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Option<Version>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    len: u64,
    /// A file moved into place keeps its times; its inode and change time give it away.
    #[cfg(unix)]
    inode_and_change: (u64, i64, i64),
}

/// The bytes of all files.
pub(super) struct Source {
    certificate: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<Vec<u8>>,
    crls: Vec<Option<Vec<u8>>>,
    deny: Option<Vec<u8>>,
}

/// The stamps of all files.
pub(super) fn stamps(paths: &Paths) -> Vec<Stamp> {
    [&paths.certificate, &paths.key]
        .into_iter()
        .chain(&paths.roots)
        .chain(&paths.crls)
        .chain(&paths.deny)
        .map(|path| stamp(path))
        .collect()
}

fn stamp(path: &Path) -> Stamp {
    let Ok(metadata) = fs::metadata(path) else {
        return Stamp(None);
    };
    #[cfg(unix)]
    let inode_and_change = {
        use std::os::unix::fs::MetadataExt;
        (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
    };
    Stamp(Some(Version {
        modified: metadata.modified().ok(),
        len: metadata.len(),
        #[cfg(unix)]
        inode_and_change,
    }))
}

impl Source {
    pub(super) fn read(paths: &Paths) -> Result<Source, RotateError> {
        Ok(Source {
            certificate: read(&paths.certificate)?,
            key: read(&paths.key)?,
            roots: paths.roots.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
            crls: paths.crls.iter().map(|path| read_if_there(path)).collect::<Result<_, _>>()?,
            deny: match &paths.deny {
                Some(path) => read_if_there(path)?,
                None => None,
            },
        })
    }

    /// Which of the lists are there: those of revocations, then the deny list.
    pub(super) fn present(&self) -> Vec<bool> {
        self.crls.iter().chain([&self.deny]).map(Option::is_some).collect()
    }

    /// Refuses the absence of a list that was there before.
    pub(super) fn refuse_vanished(
        &self,
        paths: &Paths,
        before: &[bool],
    ) -> Result<(), RotateError> {
        let now = self.present();
        let lists = paths.crls.iter().chain(&paths.deny);
        for ((path, was), is) in lists.zip(before).zip(&now) {
            if *was && !*is {
                return Err(RotateError::Missing(path.clone()));
            }
        }
        Ok(())
    }

    /// A hash over all files, which also tells an empty file from a missing one.
    pub(super) fn digest(&self) -> [u8; 32] {
        let needed = [&self.certificate, &self.key].into_iter().chain(&self.roots).map(Some);
        let lists = self.crls.iter().chain([&self.deny]).map(Option::as_ref);
        let mut each = Vec::new();
        for file in needed.chain(lists) {
            each.push(u8::from(file.is_some()));
            each.extend(file.map_or([0; 32], |bytes| crypto::sha256(bytes)));
        }
        crypto::sha256(&each)
    }

    /// What the files mean together.
    pub(super) fn snapshot(&self, paths: &Paths, generation: u64) -> Result<Snapshot, RotateError> {
        let server =
            ServerCredentials::from_pem(&self.certificate, &self.key).map_err(|source| {
                RotateError::Credentials { path: paths.certificate.clone(), source }
            })?;
        let pem = |path: &PathBuf, source| RotateError::Pem { path: path.clone(), source };
        let mut roots = Vec::new();
        for (path, bytes) in paths.roots.iter().zip(&self.roots) {
            roots.extend(files::certificates(bytes).map_err(|e| pem(path, e))?);
        }
        let mut crls = Vec::new();
        for (path, bytes) in paths.crls.iter().zip(&self.crls) {
            if let Some(bytes) = bytes {
                crls.extend(files::revocation_lists(bytes).map_err(|e| pem(path, e))?);
            }
        }
        let deny = match (&paths.deny, &self.deny) {
            (Some(path), Some(bytes)) => deny_list(path, bytes)?,
            _ => DenyList::default(),
        };
        let trust = Trust::new(roots, crls, deny, paths.domain.clone())?;
        Ok(Snapshot { server: Arc::new(server), trust: Arc::new(trust), generation })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RotateError> {
    files::read(path).map_err(|source| RotateError::Read { path: path.to_owned(), source })
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, RotateError> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(RotateError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn deny_list(path: &Path, bytes: &[u8]) -> Result<DenyList, RotateError> {
    let text = str::from_utf8(bytes).map_err(|_| RotateError::NotText(path.to_owned()))?;
    DenyList::parse(text).map_err(|source| RotateError::Deny { path: path.to_owned(), source })
}
