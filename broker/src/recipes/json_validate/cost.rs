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
    #[error("validating this value takes more than {STEPS_MAX} steps")]
    TooManySteps,
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

/// An upper bound of the steps that validating `value` takes.
pub(super) fn steps(schema: &Value, value: &Value) -> Result<u64, Refused> {
    // Only in this draft is a plain `id` what `$id` is in later ones.
    let has_plain_ids = schema["$schema"].as_str().is_some_and(|s| s.contains("draft-04"));
    Check { has_plain_ids, patterns: 0 }.visit(schema, &mut Vec::new())?;
    let mut walk = Walk { root: schema, steps: 0 };
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
            "format" => self.step(value.as_str().map_or(0, |text| text.len() as u64 / 16)),
            "uniqueItems" => self.step(size(value).saturating_mul(4)),
            "enum" | "const" => self.step(size(below)),
            // The rest looks at the value itself, or at each entry of a list of names.
            _ => self.step(one_or_many(below).count() as u64),
        }
    }

    /// Patterns run in linear time, but by how much depends on their own length.
    fn matching(&mut self, pattern: &str, text: &str) -> Result<(), Problem> {
        self.step(1 + (pattern.len() as u64 * text.len() as u64) / 64)
    }

    fn step(&mut self, n: u64) -> Result<(), Problem> {
        self.steps = self.steps.saturating_add(n);
        if self.steps > STEPS_MAX { Err(Problem::TooManySteps) } else { Ok(()) }
    }
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

/// Some 100 ms.
const STEPS_MAX: u64 = 1_000_000;
/// References followed and levels of the value gone down, together.
const DEPTH_MAX: usize = 512;
/// Each compiled pattern may take 256 KiB, and as much again while it runs.
const PATTERNS_MAX: usize = 32;
