//! The deny list: certificates refused by serial number, holders refused by SPIFFE ID.
//!
//! Every entry is checked when it is read, because one with a typing error would refuse nobody.
//! There are no patterns: an entry is one certificate or one holder.

use std::{collections::HashSet, fmt, str::FromStr};

use crate::{
    identity::{Identity, IdentityError, TrustDomain},
    serial::{Serial, SerialError},
};

/// What is refused although its certificate is otherwise good. Immutable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    serials: HashSet<Serial>,
    spiffe_ids: HashSet<String>,
    domains: HashSet<TrustDomain>,
}

/// One entry: a certificate, or a holder whatever its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The certificate with this serial number.
    Serial(Serial),
    /// Every certificate of this holder.
    Holder {
        /// Its trust domain.
        domain: TrustDomain,
        /// Its SPIFFE ID.
        spiffe_id: String,
    },
}

impl FromStr for Entry {
    type Err = EntryError;

    /// Parses a serial number in hex, or a SPIFFE ID.
    fn from_str(entry: &str) -> Result<Entry, EntryError> {
        if entry.contains("://") {
            let (domain, identity) = Identity::parse_any(entry)?;
            Ok(Entry::Holder { spiffe_id: identity.spiffe_id(&domain), domain })
        } else {
            Ok(Entry::Serial(Serial::parse(entry)?))
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Serial(serial) => serial.fmt(f),
            Entry::Holder { spiffe_id, .. } => f.write_str(spiffe_id),
        }
    }
}

impl FromIterator<Entry> for DenyList {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> DenyList {
        let mut list = DenyList::default();
        entries.into_iter().for_each(|entry| list.add(entry));
        list
    }
}

/// Why the text of a deny list was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct DenyError {
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub problem: EntryError,
}

/// Why one entry was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// It begins like a SPIFFE ID, and is none that a certificate could carry.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is not a serial number, so it is nothing.
    #[error("{0}; a SPIFFE ID begins with spiffe://")]
    Serial(#[from] SerialError),
}

impl DenyList {
    /// Parses a list: on each line a serial number in hex or a SPIFFE ID; `#` begins a comment.
    ///
    /// # Errors
    /// [`DenyError`] names the first line that is neither.
    pub fn parse(text: &str) -> Result<DenyList, DenyError> {
        let mut list = DenyList::default();
        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            list.add(entry.parse().map_err(|problem| DenyError { line: index + 1, problem })?);
        }
        Ok(list)
    }

    /// Whether a certificate is refused, by its serial number or by its holder.
    pub fn contains(&self, serial: &Serial, spiffe_id: &str) -> bool {
        self.serials.contains(serial) || self.spiffe_ids.contains(spiffe_id)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.serials.len() + self.spiffe_ids.len()
    }

    /// Whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A trust domain other than `domain` that some entry names: that entry refuses nobody.
    pub(crate) fn foreign_domain(&self, domain: &TrustDomain) -> Option<&TrustDomain> {
        self.domains.iter().find(|named| *named != domain)
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Serial(serial) => {
                self.serials.insert(serial);
            }
            Entry::Holder { domain, spiffe_id } => {
                self.spiffe_ids.insert(spiffe_id);
                self.domains.insert(domain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_and_spiffe_ids_are_found_however_they_are_spelled() {
        let list = DenyList::parse(
            "# revoked by hand\r\n\n  00:AB:CD  # a laptop\nspiffe://tollgate.local/gateway/eu\r\n",
        )
        .expect("a good list");
        assert_eq!(list.len(), 2);
        assert!(list.contains(&Serial::from_der(&[0, 0xab, 0xcd]), "spiffe://x/gateway/y"));
        assert!(list.contains(&Serial::from_der(&[1]), "spiffe://tollgate.local/gateway/eu"));
        assert!(!list.contains(&Serial::from_der(&[0xab]), "spiffe://tollgate.local/gateway/e"));
        assert!(DenyList::parse("").expect("nothing is a good list").is_empty());
    }

    #[test]
    fn an_error_names_the_line_and_shows_no_control_characters() {
        for (entry, part) in [
            ("acme", "hex digits are allowed"),
            ("12 34", "hex digits are allowed"),
            ("spiffe://tollgate.local/tenant/*/client", "is not a SPIFFE ID"),
            ("spiffe://tollgate.local/tenant/Acme/client", "'A' at byte 0"),
            ("SPIFFE://tollgate.local/gateway/a", "not canonical"),
            ("spiffe://tollgate.local/tenant/acme", "no role has the path"),
            ("https://tollgate.local/gateway/a", "scheme"),
            ("\u{1b}[31mff", "\\u{1b}[31mff"),
        ] {
            let error = DenyList::parse(&format!("ff\n{entry}\n")).expect_err(entry);
            let text = error.to_string();
            assert_eq!(error.line, 2, "{text}");
            assert!(text.starts_with("line 2: ") && text.contains(part), "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}
