//! Sizes that vary: one for all, drawn evenly from a range, or from a list with weights.
//!
//! A draw is a function of a number, so that whoever checks an answer draws the same again.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How large things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// All alike.
    Fixed(u64),
    /// Evenly from a range, both ends included.
    Range {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// One of these, each with its share.
    List(Vec<(u64, u64)>),
}

impl Sizes {
    /// Reads `64`, `16..4096` or `64:9,65536:1`.
    pub fn parse(text: &str) -> Result<Sizes, String> {
        let wrong = || format!("{text:?} is none of `64`, `16..4096`, `64:9,65536:1`");
        let number = |s: &str| s.trim().replace('_', "").parse::<u64>().map_err(|_| wrong());
        if let Some((min, max)) = text.split_once("..") {
            let (min, max) = (number(min)?, number(max)?);
            if min > max {
                return Err(format!("{text:?} begins above its end"));
            }
            return Ok(Sizes::Range { min, max });
        }
        if !text.contains([':', ',']) {
            return number(text).map(Sizes::Fixed);
        }
        let one = |part: &str| -> Result<(u64, u64), String> {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            Ok((number(size)?, number(weight)?))
        };
        let list = text.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        if list.iter().any(|(_, w)| !(1..=WEIGHT_MAX).contains(w)) || list.len() > LIST_MAX {
            let problem = format!("weights are 1 to {WEIGHT_MAX}, sizes are {LIST_MAX} at most");
            return Err(format!("{text:?}: {problem}"));
        }
        Ok(Sizes::List(list))
    }

    /// The draw that belongs to a number, which must be well mixed.
    #[inline]
    pub fn at(&self, mixed: u64) -> u64 {
        match self {
            Sizes::Fixed(n) => *n,
            Sizes::Range { min, max } => min + mixed % (max - min + 1),
            Sizes::List(list) => {
                let mut place = mixed % list.iter().map(|(_, w)| w).sum::<u64>();
                let found = list.iter().find(|(_, weight)| {
                    let here = place < *weight;
                    place = place.saturating_sub(*weight);
                    here
                });
                found.map_or(0, |(size, _)| *size)
            }
        }
    }

    /// The smallest there is.
    pub fn min(&self) -> u64 {
        match self {
            Sizes::Fixed(n) => *n,
            Sizes::Range { min, .. } => *min,
            Sizes::List(list) => list.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }

    /// The largest there is.
    pub fn max(&self) -> u64 {
        match self {
            Sizes::Fixed(n) => *n,
            Sizes::Range { max, .. } => *max,
            Sizes::List(list) => list.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }

    /// What many draws come to, each.
    pub fn mean(&self) -> f64 {
        match self {
            Sizes::Fixed(n) => *n as f64,
            Sizes::Range { min, max } => (*min as f64 + *max as f64) / 2.0,
            Sizes::List(list) => {
                let weights: u64 = list.iter().map(|(_, w)| w).sum();
                list.iter().map(|(size, w)| *size as f64 * *w as f64).sum::<f64>() / weights as f64
            }
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(n) => n.fmt(f),
            Sizes::Range { min, max } => write!(f, "{min}..{max}"),
            Sizes::List(list) => {
                let parts: Vec<_> = list.iter().map(|(size, w)| format!("{size}:{w}")).collect();
                f.write_str(&parts.join(","))
            }
        }
    }
}

impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Sizes::Fixed(n) => s.serialize_u64(*n),
            varying => s.collect_str(varying),
        }
    }
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Sizes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or \"16..4096\", or \"64:9,65536:1\"")
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Sizes, E> {
        Ok(Sizes::Fixed(n))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Sizes, E> {
        u64::try_from(n).map(Sizes::Fixed).map_err(|_| E::custom(format!("{n} is negative")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sizes, E> {
        Sizes::parse(text).map_err(E::custom)
    }
}

/// Sizes in a list, and the weight of one.
const LIST_MAX: usize = 100;
const WEIGHT_MAX: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::mix;

    #[test]
    fn the_three_forms_are_read_and_written_alike() {
        for text in ["64", "16..4096", "64:9,65536:1"] {
            assert_eq!(Sizes::parse(text).expect("fine").to_string(), text);
        }
        assert_eq!(Sizes::parse("1_000"), Ok(Sizes::Fixed(1_000)));
        for text in ["", "x", "5..4", "64:0", "64:9,", "-1", "1..2..3"] {
            assert!(Sizes::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn draws_keep_to_their_bounds_and_weights() {
        let range = Sizes::parse("10..19").expect("fine");
        let list = Sizes::parse("1:3,1000:1").expect("fine");
        let (mut sum, mut large) = (0, 0);
        for n in 0..10_000 {
            let size = range.at(mix(n));
            assert!((10..=19).contains(&size));
            sum += size;
            large += u64::from(list.at(mix(n)) == 1_000);
        }
        assert!((sum as f64 / 1e4 - range.mean()).abs() < 0.2, "{sum}");
        assert!((2_300..2_700).contains(&large), "{large}");
        assert_eq!((list.min(), list.max(), list.mean()), (1, 1_000, 250.75));
    }
}
