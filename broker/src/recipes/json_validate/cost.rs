//! What a validation can cost, counted before it begins.
//!
//! A schema of a few lines can ask for a number of steps that is exponential in its length (each
//! definition refers twice to the next) or in the depth of the value. This walks schema and value as
//! a validator that never stops early would, and gives up beyond a bound.

use serde_json::{Map, Value};

/// Why a schema is not used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Where in the schema, as a JSON pointer.
    pub at: String,
    pub problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("validating this value takes more than the {0} steps that a payload of its length may")]
    TooManySteps(u64),
    #[error("references and values nest too deeply, or in a circle")]
    TooDeep,
    #[error("a reference must be a JSON pointer into the schema, as in \"#/$defs/name\"")]
    Reference,
    #[error("this refers to nothing")]
    Dangling,
    #[error("{0} is not taken here")]
    Keyword(&'static str),
    #[error("more than {PATTERNS_MAX} patterns")]
    TooManyPatterns,
}

/// An upper bound of the steps that validating `value` takes, compiling the patterns among them.
/// What is allowed grows with the payload (`len`, in bytes): who sends little gets little done, and
/// what is small enough to run in place takes no longer than a few milliseconds.
pub(super) fn steps(schema: &Value, value: &Value, len: usize) -> Result<u64, Refused> {
    // Only in this draft is a plain `id` what `$id` is in later ones.
    let has_plain_ids = schema["$schema"].as_str().is_some_and(|s| s.contains("draft-04"));
    let mut check = Check { has_plain_ids, patterns: 0 };
    check.visit(schema, &mut Vec::new())?;
    let max = (STEPS_MIN + STEPS_PER_BYTE * len as u64).min(STEPS_MAX);
    let mut walk = Walk { root: schema, steps: check.patterns as u64 * STEPS_PER_PATTERN, max };
    walk.visit(schema, value, 0).map_err(|problem| Refused { at: String::new(), problem })?;
    Ok(walk.steps)
}

/// Looks at every object as if it were a schema: the keywords that would lead out of what the walk
/// sees are refused wherever they stand, even where they are plain data.
struct Check {
    has_plain_ids: bool,
    patterns: usize,
}

impl Check {
    fn visit<'s>(&mut self, at: &'s Value, path: &mut Vec<&'s str>) -> Result<(), Refused> {
        for (keyword, below) in members(at) {
            path.push(keyword);
            self.keyword(keyword, below, path.len() == 1).map_err(|problem| {
                let escaped = |p: &&str| format!("/{}", p.replace('~', "~0").replace('/', "~1"));
                Refused { at: path.iter().map(escaped).collect(), problem }
            })?;
            self.visit(below, path)?;
            path.pop();
        }
        elements(at).try_for_each(|below| self.visit(below, path))
    }

    fn keyword(&mut self, keyword: &str, below: &Value, at_root: bool) -> Result<(), Problem> {
        match (keyword, below) {
            ("$dynamicRef", Value::String(_)) => Err(Problem::Keyword("$dynamicRef")),
            ("$recursiveRef", Value::String(_)) => Err(Problem::Keyword("$recursiveRef")),
            ("$schema", Value::String(_)) if !at_root => Err(Problem::Keyword("a second $schema")),
            ("$id", Value::String(_)) if !at_root => Err(Problem::Keyword("a second $id")),
            ("id", Value::String(_)) if !at_root && self.has_plain_ids => {
                Err(Problem::Keyword("a second id"))
            }
            ("pattern", Value::String(_)) => self.add_patterns(1),
            ("patternProperties", Value::Object(members)) => self.add_patterns(members.len()),
            _ => Ok(()),
        }
    }

    fn add_patterns(&mut self, n: usize) -> Result<(), Problem> {
        self.patterns += n;
        if self.patterns > PATTERNS_MAX { Err(Problem::TooManyPatterns) } else { Ok(()) }
    }
}

struct Walk<'s> {
    root: &'s Value,
    steps: u64,
    max: u64,
}

impl<'s> Walk<'s> {
    fn visit(&mut self, schema: &'s Value, value: &Value, depth: usize) -> Result<(), Problem> {
        if depth > DEPTH_MAX {
            return Err(Problem::TooDeep);
        }
        self.step(1)?;
        let Value::Object(keywords) = schema else { return Ok(()) };
        let before = self.steps;
        for (keyword, below) in keywords {
            self.step(1)?;
            self.keyword(keyword, below, value, depth + 1)?;
        }
        // These walk everything beside them again, to see what was evaluated.
        if keywords.keys().any(|k| k.starts_with("unevaluated")) {
            self.step((self.steps - before).saturating_mul(2))?;
        }
        Ok(())
    }

    fn keyword(
        &mut self,
        keyword: &str,
        below: &'s Value,
        value: &Value,
        depth: usize,
    ) -> Result<(), Problem> {
        match keyword {
            "$ref" => {
                let target = below.as_str().ok_or(Problem::Reference)?;
                let pointer = target.strip_prefix('#').ok_or(Problem::Reference)?;
                if !(pointer.is_empty() || pointer.starts_with('/')) || pointer.contains('%') {
                    return Err(Problem::Reference);
                }
                let target = self.root.pointer(pointer).ok_or(Problem::Dangling)?;
                self.visit(target, value, depth)
            }
            "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" => {
                one_or_many(below).try_for_each(|s| self.visit(s, value, depth))
            }
            "dependentSchemas" | "dependencies" => {
                members(below).try_for_each(|(_, s)| self.visit(s, value, depth))
            }
            "properties" => members(below).try_for_each(|(name, s)| match value.get(name) {
                Some(child) => self.visit(s, child, depth),
                None => self.step(1),
            }),
            "patternProperties" => members(below).try_for_each(|(pattern, s)| {
                members(value).try_for_each(|(name, child)| {
                    self.matching(pattern, name)?;
                    self.visit(s, child, depth)
                })
            }),
            "additionalProperties" | "unevaluatedProperties" => {
                members(value).try_for_each(|(_, child)| self.visit(below, child, depth))
            }
            // A name is a string: only what is said of strings can take long.
            "propertyNames" => members(value)
                .try_for_each(|(name, _)| self.visit(below, &Value::String(name.clone()), depth)),
            "items" | "prefixItems" if below.is_array() => one_or_many(below)
                .zip(elements(value))
                .try_for_each(|(s, child)| self.visit(s, child, depth)),
            "items" | "additionalItems" | "contains" | "unevaluatedItems" => {
                elements(value).try_for_each(|child| self.visit(below, child, depth))
            }
            "pattern" => match (below, value) {
                (Value::String(pattern), Value::String(text)) => self.matching(pattern, text),
                _ => Ok(()),
            },
            // It compiles the value as a pattern.
            "format" if below == "regex" => Err(Problem::Keyword("the format \"regex\"")),
            "format" => self.step(value.as_str().map_or(0, |text| text.len() as u64 / 16)),
            "uniqueItems" => self.step(size(value).saturating_mul(4)),
            "enum" | "const" => self.step(size(below)),
            // The rest looks at the value itself, or at each entry of a list of names.
            _ => self.step(one_or_many(below).count() as u64),
        }
    }

    /// Patterns run in linear time, which means: at worst every state for every byte.
    fn matching(&mut self, pattern: &str, text: &str) -> Result<(), Problem> {
        let states = states(pattern);
        self.step((1 + text.len() as u64).saturating_mul(states))
    }

    fn step(&mut self, n: u64) -> Result<(), Problem> {
        self.steps = self.steps.saturating_add(n);
        if self.steps > self.max { Err(Problem::TooManySteps(self.max)) } else { Ok(()) }
    }
}

/// An upper bound of the states of a compiled pattern, roughly: what stands in it, times how often it
/// may be repeated. Classes count as one, whatever is in them.
fn states(pattern: &str) -> u64 {
    let pattern = pattern.as_bytes();
    // The states of each open group, and of the last thing in it, which a repetition multiplies.
    let (mut groups, mut sum, mut last) = (Vec::new(), 0_u64, 0_u64);
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        at += 1;
        let one = match byte {
            b'(' => {
                groups.push(sum.saturating_add(last));
                (sum, last) = (0, 0);
                continue;
            }
            b')' => {
                let inner = sum.saturating_add(last);
                sum = groups.pop().unwrap_or(0);
                last = inner;
                continue;
            }
            b'{' => {
                let (times, after) = repetition(pattern, at);
                (last, at) = (last.saturating_mul(times), after);
                continue;
            }
            b'[' => {
                at = class_end(pattern, at);
                1
            }
            b'\\' => {
                at += 1;
                // `\p{Greek}`: the braces are no repetition.
                if matches!(pattern.get(at - 1), Some(b'p' | b'P'))
                    && pattern.get(at) == Some(&b'{')
                {
                    at = repetition(pattern, at + 1).1;
                }
                1
            }
            _ => 1,
        };
        sum = sum.saturating_add(last);
        last = one;
    }
    groups.iter().fold(sum.saturating_add(last), |sum, open| sum.saturating_add(*open)).max(1)
}

/// The largest number between braces, and where they end.
fn repetition(pattern: &[u8], from: usize) -> (u64, usize) {
    let rest = &pattern[from..];
    let len = rest.iter().position(|b| *b == b'}').unwrap_or(rest.len());
    let numbers = rest[..len].split(|b| !b.is_ascii_digit()).map(|digits| {
        digits.iter().fold(0_u64, |n, d| n.saturating_mul(10).saturating_add((d - b'0').into()))
    });
    (numbers.max().unwrap_or(0).max(1), (from + len + 1).min(pattern.len()))
}

/// Where a class ends that begins before `at`; classes nest.
fn class_end(pattern: &[u8], mut at: usize) -> usize {
    let start = at;
    let mut depth = 1;
    while let Some(&byte) = pattern.get(at) {
        at += 1;
        match byte {
            b'\\' => at += 1,
            b'[' => depth += 1,
            // A bracket that comes first stands for itself.
            b']' if at == start + 1 || &pattern[start..at - 1] == b"^" => {}
            b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    at.min(pattern.len())
}

fn one_or_many(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter()
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Values in a value.
fn size(value: &Value) -> u64 {
    let below = elements(value).chain(members(value).map(|(_, v)| v));
    1 + below.map(size).sum::<u64>()
}

/// A step takes some 50 ns, on both ways through: counting it, and validating.
const STEPS_MIN: u64 = 2_000;
/// A value takes two bytes at least, and a few steps for each keyword that applies to it.
const STEPS_PER_BYTE: u64 = 8;
const STEPS_MAX: u64 = 4_000_000;
/// What compiling a pattern counts.
const STEPS_PER_PATTERN: u64 = 400;
/// References followed and levels of the value gone down, together.
const DEPTH_MAX: usize = 512;
/// Each compiled pattern may take 256 KiB, and as much again while it runs.
const PATTERNS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::states;

    #[test]
    fn repetitions_multiply_what_they_repeat() {
        for (pattern, expected) in [
            ("", 1),
            ("abc", 3),
            ("a{10}", 10),
            ("ab{2,7}c", 9),
            ("(ab){5}", 10),
            ("(a(b{3}c){4}){2}", 34),
            ("[a-z\\]{}]{4}", 4),
            ("[]a]{3}[^]b]{2}", 5),
            ("[[:alpha:]_]{6}", 6),
            ("\\{2\\}", 3),
            ("\\p{Greek}{3}", 3),
            ("a{999999999999999999999999}", u64::MAX),
            ("a{999999999999999999999999}(b)c{2}", u64::MAX),
            ("((((", 1),
            ("a{", 1),
            ("[", 1),
            ("\\", 1),
        ] {
            assert_eq!(states(pattern), expected, "{pattern}");
        }
    }
}
