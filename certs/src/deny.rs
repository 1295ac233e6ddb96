//! The deny list: certificates refused by serial number, holders refused by SPIFFE ID.
//!
//! Every entry is checked when it is read, because one with a typing error would refuse nobody.
//! There are no patterns: an entry is one certificate or one holder.

use std::collections::HashSet;

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
            list.add(entry).map_err(|problem| DenyError { line: index + 1, problem })?;
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

    fn add(&mut self, entry: &str) -> Result<(), EntryError> {
        if entry.contains("://") {
            let (domain, identity) = Identity::parse_any(entry)?;
            self.spiffe_ids.insert(identity.spiffe_id(&domain));
            self.domains.insert(domain);
        } else {
            self.serials.insert(Serial::parse(entry)?);
        }
        Ok(())
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
