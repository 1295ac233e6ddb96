//! What a recipe answers: a payload and a string map.
//!
//! Reused from item to item by the engine, so that a small answer allocates nothing.

use bytes::Bytes;
use tollgate_protocol::{DecodeError, PairsBuf};

/// The answer of a recipe.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reply {
    payload: Vec<u8>,
    /// Set instead of `payload` when the recipe had its answer as owned bytes already.
    shared: Option<Bytes>,
    metadata: PairsBuf,
}

impl Reply {
    /// An empty answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to the payload.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.shared.is_some() {
            self.unshare();
        }
        self.payload.extend_from_slice(bytes);
    }

    /// Makes the payload one that can be appended to.
    #[cold]
    fn unshare(&mut self) {
        if let Some(shared) = self.shared.take() {
            self.payload.extend_from_slice(&shared);
        }
    }

    /// Makes `bytes` the payload, without copying them.
    pub fn set(&mut self, bytes: Bytes) {
        self.payload.clear();
        self.shared = Some(bytes);
    }

    /// Adds a pair to the metadata of the result.
    ///
    /// # Errors
    /// [`DecodeError`] when the map would pass its bounds.
    pub fn metadata(&mut self, key: &str, value: &str) -> Result<(), DecodeError> {
        self.metadata.push(key, value)
    }

    /// Makes this the metadata, in the place of what there was.
    pub(crate) fn set_metadata(&mut self, metadata: PairsBuf) {
        self.metadata = metadata;
    }

    /// The payload as it stands.
    pub fn payload(&self) -> &[u8] {
        self.shared.as_deref().unwrap_or(&self.payload)
    }

    /// The metadata as it stands.
    pub fn pairs(&self) -> &PairsBuf {
        &self.metadata
    }

    /// Makes the answer empty again, keeping its memory up to a bound.
    pub(crate) fn reset(&mut self) {
        const KEEP_BYTES: usize = 64 << 10;
        if self.payload.capacity() > KEEP_BYTES {
            self.payload = Vec::new();
        }
        self.payload.clear();
        if self.shared.is_some() {
            self.shared = None;
        }
        if !self.metadata.is_empty() {
            self.metadata = PairsBuf::new();
        }
    }

    /// Takes the payload out as owned bytes.
    pub(crate) fn take_payload(&mut self) -> Bytes {
        self.shared.take().unwrap_or_else(|| std::mem::take(&mut self.payload).into())
    }
}

impl std::io::Write for Reply {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl From<Bytes> for Reply {
    fn from(bytes: Bytes) -> Self {
        Reply { shared: Some(bytes), ..Reply::default() }
    }
}

impl From<Vec<u8>> for Reply {
    fn from(payload: Vec<u8>) -> Self {
        Reply { payload, ..Reply::default() }
    }
}

impl From<String> for Reply {
    fn from(s: String) -> Self {
        s.into_bytes().into()
    }
}

impl From<&'static str> for Reply {
    fn from(s: &'static str) -> Self {
        Bytes::from_static(s.as_bytes()).into()
    }
}
