//! One column: what is counted while rows are read, and what comes of it at the end.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::Serialize;

use super::{
    clipped,
    numbers::{self, Numbers},
};

/// How many distinct values may still be kept, over all columns.
pub(super) struct Room(usize);

impl Room {
    pub(super) fn new() -> Self {
        Room(DISTINCT_TOTAL_MAX)
    }
}

/// A column while its rows are read. Every cell narrows down what its type can be.
pub(super) struct Column {
    name: String,
    count: u64,
    empty: u64,
    types: Types,
    /// The cells as numbers, while all of them are.
    numbers: Vec<f64>,
    integers: Range<i64>,
    /// Of cells that are dates: as text, dates sort by time.
    dates: Range<[u8; 10]>,
    /// In characters.
    lengths: Range<usize>,
    /// How often each value was seen; those that came after there was no more room are not here.
    seen: HashMap<Box<str>, u64, RandomState>,
    seen_all: bool,
}

/// The types that a column can still have.
struct Types {
    integer: bool,
    float: bool,
    boolean: bool,
    date: bool,
}

/// The least and the most, once there is one.
struct Range<T>(Option<(T, T)>);

impl<T: PartialOrd + Clone> Range<T> {
    fn add(&mut self, value: T) {
        match &mut self.0 {
            None => self.0 = Some((value.clone(), value)),
            Some((min, _)) if value < *min => *min = value,
            Some((_, max)) if value > *max => *max = value,
            Some(_) => {}
        }
    }
}

impl Column {
    pub(super) fn new(name: String) -> Self {
        Column {
            name,
            count: 0,
            empty: 0,
            types: Types { integer: true, float: true, boolean: true, date: true },
            numbers: Vec::new(),
            integers: Range(None),
            dates: Range(None),
            lengths: Range(None),
            seen: HashMap::default(),
            seen_all: true,
        }
    }

    pub(super) fn add(&mut self, cell: &str, room: &mut Room) {
        if cell.is_empty() {
            self.empty += 1;
            return;
        }
        self.count += 1;
        self.add_number(cell);
        let types = &mut self.types;
        types.boolean = types.boolean && is_boolean(cell);
        if types.date {
            match date(cell) {
                Some(day) => self.dates.add(day),
                None => types.date = false,
            }
        }
        self.lengths.add(cell.chars().count());
        self.add_distinct(cell, room);
    }

    fn add_number(&mut self, cell: &str) {
        if !self.types.float {
            return;
        }
        let integer = cell.parse::<i64>().ok();
        match integer {
            Some(n) => self.integers.add(n),
            None => self.types.integer = false,
        }
        match integer.map(|n| n as f64).or_else(|| parse_float(cell)) {
            Some(n) => self.numbers.push(n),
            None => {
                self.types.float = false;
                self.numbers = Vec::new();
            }
        }
    }

    fn add_distinct(&mut self, cell: &str, room: &mut Room) {
        if let Some(count) = self.seen.get_mut(cell) {
            *count += 1;
        } else if self.seen.len() < DISTINCT_MAX && room.0 > 0 {
            room.0 -= 1;
            self.seen.insert(cell.into(), 1);
        } else {
            self.seen_all = false;
        }
    }

    pub(super) fn finish(self) -> Profile {
        let kind = self.kind();
        let mut profile = Profile {
            name: self.name,
            kind,
            count: self.count,
            empty: self.empty,
            distinct: self.seen_all.then_some(self.seen.len()),
            distinct_at_least: (!self.seen_all).then_some(self.seen.len() + 1),
            min: None,
            max: None,
            numbers: None,
            min_length: None,
            max_length: None,
            most_common: None,
        };
        match kind {
            Type::Empty => {}
            Type::Integer => {
                (profile.min, profile.max) = bounds(self.integers, Bound::Integer);
                profile.numbers = numbers::summary(self.numbers);
            }
            Type::Float => {
                profile.numbers = numbers::summary(self.numbers);
                let range = profile.numbers.as_ref().map(|n| (n.min, n.max));
                (profile.min, profile.max) = bounds(Range(range), Bound::Float);
            }
            Type::Date => (profile.min, profile.max) = bounds(self.dates, Bound::date),
            Type::Boolean => profile.most_common = Some(most_common(&self.seen)),
            Type::String => {
                (profile.min_length, profile.max_length) = self.lengths.0.unzip();
                profile.most_common = Some(most_common(&self.seen));
            }
        }
        profile
    }

    fn kind(&self) -> Type {
        match self.types {
            _ if self.count == 0 => Type::Empty,
            Types { integer: true, .. } => Type::Integer,
            Types { float: true, .. } => Type::Float,
            Types { boolean: true, .. } => Type::Boolean,
            Types { date: true, .. } => Type::Date,
            _ => Type::String,
        }
    }
}

/// What is said of a column.
#[derive(Serialize)]
pub(super) struct Profile {
    name: String,
    #[serde(rename = "type")]
    kind: Type,
    /// Cells that are not empty.
    count: u64,
    empty: u64,
    /// Different values, exactly; missing when there were too many to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct_at_least: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Bound>,
    #[serde(flatten)]
    numbers: Option<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_length: Option<usize>,
    /// The most frequent first; among those that were kept, when `distinct` is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    most_common: Option<Vec<Common>>,
}

/// What all cells of a column are that are not empty; the first that fits.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    /// There are none.
    Empty,
    /// Digits with or without a sign, within 64 bits.
    Integer,
    /// A decimal number, with or without an exponent, within the range of a double.
    Float,
    /// `true` or `false`, in any case.
    Boolean,
    /// `YYYY-MM-DD`, a day that exists.
    Date,
    /// Anything.
    String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Bound {
    Integer(i64),
    Float(f64),
    Date(String),
}

impl Bound {
    fn date(day: [u8; 10]) -> Self {
        Bound::Date(String::from_utf8_lossy(&day).into_owned())
    }
}

fn bounds<T>(range: Range<T>, bound: fn(T) -> Bound) -> (Option<Bound>, Option<Bound>) {
    range.0.map(|(min, max)| (bound(min), bound(max))).unzip()
}

#[derive(Serialize)]
struct Common {
    value: String,
    count: u64,
}

fn most_common(seen: &HashMap<Box<str>, u64, RandomState>) -> Vec<Common> {
    // Kept sorted: short, and most values never enter it.
    let mut top: Vec<(u64, &str)> = Vec::with_capacity(COMMON_LISTED + 1);
    for (value, &count) in seen {
        let at = top.partition_point(|&(c, v)| c > count || (c == count && *v < **value));
        if at < COMMON_LISTED {
            top.insert(at, (count, value));
            top.truncate(COMMON_LISTED);
        }
    }
    top.into_iter().map(|(count, value)| Common { value: clipped(value), count }).collect()
}

/// Rust reads `inf` and `nan` as numbers; in a table they are words.
fn parse_float(cell: &str) -> Option<f64> {
    let spelled = cell.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    cell.parse().ok().filter(|n: &f64| spelled && n.is_finite())
}

fn is_boolean(cell: &str) -> bool {
    cell.eq_ignore_ascii_case("true") || cell.eq_ignore_ascii_case("false")
}

/// The text of a day that exists.
fn date(cell: &str) -> Option<[u8; 10]> {
    let day: [u8; 10] = cell.as_bytes().try_into().ok()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = day else { return None };
    if ![y0, y1, y2, y3, m0, m1, d0, d1].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |tens: u8, ones: u8| ((tens - b'0') * 10 + (ones - b'0')) as i8;
    let year = i16::from(two(y0, y1)) * 100 + i16::from(two(y2, y3));
    let exists = year > 0 && jiff::civil::Date::new(year, two(m0, m1), two(d0, d1)).is_ok();
    exists.then_some(day)
}

/// Distinct values kept for one column, and for all: with some 100 bytes beside each value's own,
/// less than 30 MiB.
const DISTINCT_MAX: usize = 65_536;
const DISTINCT_TOTAL_MAX: usize = 262_144;
/// Most common values that are listed.
const COMMON_LISTED: usize = 5;
