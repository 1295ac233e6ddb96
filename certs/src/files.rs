//! Reading and writing certificate files.
//!
//! Reads are bounded, writes reach the disk before they are reported, and a private key is never
//! readable by others, not even for a moment.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Certificates and lists: everybody.
    Public,
    /// Keys: the owner alone (0600).
    Private,
}

/// Why PEM text was not understood. Never holds any of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// The text has no section of the kind that was looked for.
    #[error("no {0} found")]
    Nothing(&'static str),
    /// A section is cut short or not base64.
    #[error("the PEM text of a {0} is damaged")]
    Damaged(&'static str),
}

/// Reads a regular file of at most [`FILE_BYTES_MAX`] bytes.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would block a thread for good, so the kind is checked before it is opened.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {FILE_BYTES_MAX} bytes"),
        ));
    }
    Ok(bytes)
}

/// Writes a file that must not exist yet.
pub(crate) fn create(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file in one step: whoever reads it sees the old content or the new, never half.
pub(crate) fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    create(&temporary, bytes, access)?;
    fs::rename(&temporary, path)?;
    sync_directory(path)
}

/// Makes a new name in the directory of `path` survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if dir != Path::new("") => File::open(dir)?.sync_all(),
        _ => File::open(PathBuf::from("."))?.sync_all(),
    }
}

/// Every certificate in some PEM text, at least one.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    sections(text, "certificate")
}

/// Every revocation list in some PEM text, at least one.
pub(crate) fn revocation_lists(
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    sections(text, "certificate revocation list")
}

/// The first private key in some PEM text.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|e| describe(&e, "private key"))
}

fn sections<T: PemObject>(text: &[u8], what: &'static str) -> Result<Vec<T>, PemError> {
    let found: Vec<T> =
        T::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|e| describe(&e, what))?;
    if found.is_empty() { Err(PemError::Nothing(what)) } else { Ok(found) }
}

/// The parser's own errors quote the text, which may be a key.
fn describe(error: &pem::Error, what: &'static str) -> PemError {
    match error {
        pem::Error::NoItemsFound => PemError::Nothing(what),
        _ => PemError::Damaged(what),
    }
}

/// Room for a revocation list of some hundred thousand entries.
const FILE_BYTES_MAX: u64 = 16 << 20;
