//! Lists in pages: a limit, and an opaque cursor that says where the next page begins.
//!
//! A cursor holds the key of the last thing that was listed, so it stays good while things come and
//! go.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Answer, Problem};

/// Things listed at once, unless asked otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Things listed at once, at most.
const LIMIT_MAX: usize = 1_000;
/// What tells our cursors from other text.
const MARK: u8 = b'1';

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins: pass it as `cursor`. Null on the last page.
    pub next_cursor: Option<String>,
}

/// How many things a page may have.
pub(super) fn limit(asked: Option<usize>) -> Answer<usize> {
    match asked {
        None => Ok(LIMIT_DEFAULT),
        Some(n) if (1..=LIMIT_MAX).contains(&n) => Ok(n),
        Some(_) => Err(Problem::validation("limit", format!("limit is from 1 to {LIMIT_MAX}"))),
    }
}

/// The key after which a page begins.
pub(super) fn after(cursor: Option<&str>) -> Answer<Option<String>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let wrong = || Problem::validation("cursor", "cursor is not one that a list gave");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
    match bytes.split_first() {
        Some((&MARK, key)) => String::from_utf8(key.to_vec()).map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// The cursor of a page that begins after a key.
pub(super) fn cursor(key: &str) -> String {
    let mut bytes = vec![MARK];
    bytes.extend_from_slice(key.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

impl<T> Page<T> {
    /// A page of what was found: one thing more than `limit` says that there is another page.
    pub(super) fn of(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| cursor(&key(last)));
        Page { items, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let all: Vec<u32> = (0..5).collect();
        let page = |after: Option<String>| {
            let from = after.map_or(0, |a| a.parse::<u32>().expect("a key") + 1);
            Page::of(all.iter().copied().filter(|n| *n >= from).take(3).collect(), 2, |n| {
                n.to_string()
            })
        };
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = page(after(cursor.as_deref()).expect("a good cursor"));
            seen.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for wrong in ["", "x", "!!", "MA", "Mf8"] {
            assert!(after(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err());
        assert_eq!(limit(Some(1_000)).expect("the most"), 1_000);
    }
}
