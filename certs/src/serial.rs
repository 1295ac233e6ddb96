//! Certificate serial numbers: positive integers of at most 20 octets, written in hex.
//!
//! Never compares text: `00:AB`, `ab` and the DER octets `00 ab` are one number.

use std::{fmt, str::FromStr};

use crate::text::{Excerpt, hex};

/// A serial number, without leading zeros.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

/// Why text is not a serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// A character is neither a hex digit nor a colon between octets.
    #[error("{0} is not a serial number: hex digits are allowed, with or without colons")]
    NotHex(Excerpt),
    /// The number is zero or missing.
    #[error("a serial number is positive")]
    Zero,
    /// The number is longer than RFC 5280 allows.
    #[error("a serial number has at most {OCTETS_MAX} octets, this one has {octets}")]
    TooLong {
        /// Its length.
        octets: usize,
    },
}

impl Serial {
    /// Parses hex of either case, with or without colons between the octets.
    ///
    /// # Errors
    /// [`SerialError`] says what is allowed.
    pub fn parse(text: &str) -> Result<Serial, SerialError> {
        let not_hex = || SerialError::NotHex(Excerpt::new(text));
        let digits = if text.contains(':') {
            if text.split(':').any(|octet| octet.len() != 2) {
                return Err(not_hex());
            }
            text.replace(':', "")
        } else {
            text.to_owned()
        };
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(not_hex());
        }
        let digits = digits.trim_start_matches('0');
        let octets = digits.len().div_ceil(2);
        if octets == 0 {
            return Err(SerialError::Zero);
        }
        if octets > OCTETS_MAX {
            return Err(SerialError::TooLong { octets });
        }
        let digits = format!("{digits:0>width$}", width = octets * 2);
        let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| not_hex());
        (0..digits.len()).step_by(2).map(octet).collect::<Result<_, _>>().map(Serial)
    }

    /// A serial number from the contents of a DER integer, of whatever length a certificate has.
    pub(crate) fn from_der(octets: &[u8]) -> Serial {
        let zeros = octets.iter().take_while(|&&b| b == 0).count();
        Serial(octets[zeros..].to_vec())
    }

    /// The octets, most significant first, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = SerialError;
    fn from_str(text: &str) -> Result<Serial, SerialError> {
        Serial::parse(text)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// RFC 5280, section 4.1.2.2.
const OCTETS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_number_is_the_same_serial() {
        let serial = Serial::from_der(&[0, 0xab, 0x01]);
        for text in ["ab01", "AB01", "00ab01", "00:AB:01", "ab:01"] {
            assert_eq!(Serial::parse(text), Ok(serial.clone()), "{text}");
        }
        assert_eq!(serial.to_string(), "ab01");
        assert_eq!(Serial::parse("f"), Ok(Serial(vec![15])));
    }

    #[test]
    fn what_is_not_a_serial_is_refused() {
        for text in ["0x12", "12 34", "a:b", "12:3", ":12", "12:", "g", "-1", "\u{1b}[31m", "é"] {
            assert!(matches!(Serial::parse(text), Err(SerialError::NotHex(_))), "{text:?}");
        }
        assert_eq!(Serial::parse(""), Err(SerialError::Zero));
        assert_eq!(Serial::parse("00:00"), Err(SerialError::Zero));
        assert!(Serial::parse(&"7f".repeat(20)).is_ok());
        assert_eq!(Serial::parse(&"7f".repeat(21)), Err(SerialError::TooLong { octets: 21 }));
    }
}
