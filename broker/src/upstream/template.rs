//! The path of a recipe, with places that items fill in.
//!
//! Nothing an item says can change the host, leave its segment of the path, or begin a query: a
//! value is escaped, and one that an upstream might read as more than a value is refused.

use std::fmt::Write;

use tollgate_protocol::limits;

use crate::batch::{Context, Error};

/// A path and perhaps a query, cut into fixed text and places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Vec<Part>>,
    /// What follows the `?`.
    query: Option<Vec<Part>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tenant,
    Batch,
    Item,
    Metadata(String),
}

/// Why a path is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin as a path.
    #[error("a path begins with /")]
    NoSlash,
    /// A character that does not stand in a URL.
    #[error("{0:?} must be percent-encoded in a URL")]
    Character(char),
    /// A `%` without two digits.
    #[error("a % is followed by two hexadecimal digits")]
    Escape,
    /// It leaves the upstream's own path.
    #[error("`.` and `..` are no segments here")]
    Dots,
    /// A brace without its other half, or one within another.
    #[error("a place is written {{tenant}}, and a brace as %7B or %7D")]
    Brace,
    /// A place that there is not.
    #[error(
        "there is no {{{0}}}: there are {{tenant}}, {{batch}}, {{item}} and {{metadata.KEY}}, with a \
         key of 1 to {PAIR_KEY_BYTES_MAX} bytes"
    )]
    Place(String),
    /// Nothing is sent of what follows a `#`.
    #[error("a path has no fragment")]
    Fragment,
}

impl Template {
    /// Reads a path.
    ///
    /// # Errors
    /// [`BadPath`]
    pub(super) fn parse(text: &str) -> Result<Template, BadPath> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let path = path.strip_prefix('/').ok_or(BadPath::NoSlash)?;
        let segments = path.split('/').map(parts).collect::<Result<Vec<_>, _>>()?;
        for segment in &segments {
            if let [Part::Text(text)] = &segment[..]
                && is_dots(text)
            {
                return Err(BadPath::Dots);
            }
        }
        Ok(Template { segments, query: query.map(parts).transpose()? })
    }

    /// The path and the query for an item.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`, naming the value at fault.
    pub(super) fn fill(&self, ctx: &Context) -> Result<String, Error> {
        let mut out = String::with_capacity(64);
        for segment in &self.segments {
            out.push('/');
            let begin = out.len();
            for part in segment {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Place(place) => {
                        let value = place.value(ctx)?;
                        place.judge(&value)?;
                        escape(&value, &mut out);
                    }
                }
            }
            let has_places = segment.iter().any(|p| matches!(p, Part::Place(_)));
            if has_places && is_dots(&out[begin..]) {
                return Err(refused(&segment_name(segment), "`.` and `..` are no segments"));
            }
        }
        if let Some(query) = &self.query {
            out.push('?');
            for part in query {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Place(place) => escape(&place.value(ctx)?, &mut out),
                }
            }
        }
        if out.len() > FILLED_BYTES_MAX {
            let message = format!("the path would have {} bytes", out.len());
            return Err(Error::validation(message)
                .detail("field", "metadata")
                .detail("limit", FILLED_BYTES_MAX)
                .side_effect_free()
                .permanent());
        }
        Ok(out)
    }
}

impl Place {
    fn parse(name: &str) -> Option<Place> {
        match name {
            "tenant" => Some(Place::Tenant),
            "batch" => Some(Place::Batch),
            "item" => Some(Place::Item),
            _ => {
                let key = name.strip_prefix("metadata.")?;
                let fits = (1..=limits::PAIR_KEY_BYTES_MAX).contains(&key.len());
                fits.then(|| Place::Metadata(key.to_owned()))
            }
        }
    }

    fn value(&self, ctx: &Context) -> Result<String, Error> {
        match self {
            Place::Tenant => Ok(ctx.tenant().as_str().to_owned()),
            Place::Batch => Ok(ctx.batch_id().to_string()),
            Place::Item => Ok(ctx.item_id().to_string()),
            Place::Metadata(key) => {
                let value = ctx.metadata().find(key).map(str::to_owned);
                value.ok_or_else(|| refused(key, "the recipe needs this metadata"))
            }
        }
    }

    /// What may not stand in a path, even escaped: upstreams undo it too early.
    fn judge(&self, value: &str) -> Result<(), Error> {
        let Place::Metadata(key) = self else { return Ok(()) };
        if value.is_empty() {
            return Err(refused(key, "is empty, and stands in a path"));
        }
        let bad = value.chars().find(|c| matches!(c, '/' | '\\') || c.is_control());
        match bad {
            Some(c) => Err(refused(key, &format!("stands in a path, which may not have {c:?}"))),
            None => Ok(()),
        }
    }
}

fn refused(key: &str, why: &str) -> Error {
    Error::validation(format!("metadata `{key}`: {why}"))
        .detail("field", format_args!("metadata.{key}"))
        .side_effect_free()
        .permanent()
}

fn segment_name(segment: &[Part]) -> String {
    let key = segment.iter().find_map(|p| match p {
        Part::Place(Place::Metadata(key)) => Some(key.clone()),
        _ => None,
    });
    key.unwrap_or_default()
}

/// Cuts text at its places.
fn parts(text: &str) -> Result<Vec<Part>, BadPath> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        if rest.as_bytes()[open] == b'}' {
            return Err(BadPath::Brace);
        }
        push_text(&rest[..open], &mut parts)?;
        let inside = &rest[open + 1..];
        let close = inside.find('}').ok_or(BadPath::Brace)?;
        let name = &inside[..close];
        let place = Place::parse(name).ok_or_else(|| BadPath::Place(name.to_owned()))?;
        parts.push(Part::Place(place));
        rest = &inside[close + 1..];
    }
    push_text(rest, &mut parts)?;
    Ok(parts)
}

fn push_text(text: &str, parts: &mut Vec<Part>) -> Result<(), BadPath> {
    let bytes = text.as_bytes();
    for (at, c) in text.char_indices() {
        match c {
            '#' => return Err(BadPath::Fragment),
            '%' => {
                let digits = bytes.get(at + 1..at + 3);
                if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(BadPath::Escape);
                }
            }
            c if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@?".contains(c) => {}
            c => return Err(BadPath::Character(c)),
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
}

/// Whether a segment means "here" or "one up", however it is written.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// Escapes everything that has, or might have, a meaning in a URL.
fn escape(value: &str, out: &mut String) {
    for &b in value.as_bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(b));
            }
            _ => write!(out, "%{b:02X}").expect("a string takes all that is written to it"),
        }
    }
}

/// The longest path with its query, filled in, in bytes: what most servers take.
const FILLED_BYTES_MAX: usize = 8_000;
const PAIR_KEY_BYTES_MAX: usize = limits::PAIR_KEY_BYTES_MAX;

#[cfg(test)]
mod tests;
