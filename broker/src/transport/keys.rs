//! Keys that outlive the process: for stateless resets, retry tokens and the like.
//!
//! With new ones at every start, clients of the broker before would hang until their idle time-out
//! instead of learning at once that it is gone.

use std::{fs, io, path::Path, sync::Arc};

use aws_lc_rs::{
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

/// The secret all keys are derived from.
pub(super) struct Secret([u8; SECRET_BYTES]);

const SECRET_BYTES: usize = 32;
const FILE: &str = "transport.key";

impl Secret {
    /// The secret kept in a directory; made there when it is missing.
    ///
    /// # Errors
    /// When it can not be read or written, or is not a secret of ours.
    pub(super) fn load_or_create(dir: &Path) -> io::Result<Secret> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map(Secret).map_err(|b: Vec<u8>| {
                let message = format!("{}: {} bytes, not {SECRET_BYTES}", path.display(), b.len());
                io::Error::new(io::ErrorKind::InvalidData, message)
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let secret = Secret::random()?;
                write_private(&path, &secret.0)?;
                Ok(secret)
            }
            Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
        }
    }

    /// A secret for this process only.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(super) fn random() -> io::Result<Secret> {
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
        Ok(Secret(bytes))
    }

    fn derive(&self, label: &str) -> [u8; 64] {
        let key = hmac::Key::new(hmac::HMAC_SHA512, &self.0);
        let mut out = [0; 64];
        out.copy_from_slice(hmac::sign(&key, label.as_bytes()).as_ref());
        out
    }

    /// Signs stateless resets.
    pub(super) fn reset_key(&self) -> Arc<dyn quinn::crypto::HmacKey> {
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.derive("stateless reset")))
    }

    /// Seals retry tokens.
    pub(super) fn token_key(&self) -> Arc<dyn quinn::crypto::HandshakeTokenKey> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
        Arc::new(salt.extract(&self.derive("retry token")))
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_kept_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Secret::load_or_create(dir.path()).expect("made");
        let again = Secret::load_or_create(dir.path()).expect("read");
        assert_eq!(first.0, again.0);
        assert_ne!(first.derive("a"), first.derive("b"));
        fs::write(dir.path().join(FILE), b"short").expect("written");
        let e = Secret::load_or_create(dir.path()).err().expect("refused");
        assert!(e.to_string().contains("5 bytes, not 32"), "{e}");
    }
}
