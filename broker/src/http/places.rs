//! Who may be connected: places for those that are known, and some for those that are not yet.
//!
//! Whoever connects is unknown until a certificate or a request says who it is. When the places of
//! the unknown are taken, of one address or of all, the oldest of them gives its place to who comes:
//! connections that say nothing keep nobody out, and need no address to be told apart by. Tenants
//! leave a part of the places to operators and to whoever asks how the broker is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use foldhash::HashMap;
use tokio_util::sync::CancellationToken;

/// All places of a listener. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    /// Of them, those that tenants do not get.
    kept: usize,
    of_source: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    /// By when they came.
    unknown: BTreeMap<u64, Unknown>,
    by_source: HashMap<IpAddr, BTreeSet<u64>>,
    tenants: usize,
    operators: usize,
}

#[derive(Debug)]
struct Unknown {
    source: IpAddr,
    ended: CancellationToken,
}

/// Who is connected, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Whoever runs the broker.
    Operator,
    /// Anyone else with a credential.
    Other,
}

/// A connection's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    known: Mutex<Option<Known>>,
    /// Whether a request has come.
    asked: AtomicBool,
    /// Cancelled when another one gets the place.
    ended: CancellationToken,
}

impl Places {
    /// So many places; of those that are unknown, so many of one source.
    pub(super) fn new(max: usize, of_source: usize) -> Places {
        let kept = (max / KEPT_OF).max(1).min(max.saturating_sub(1));
        Places(Arc::new(Inner { max, kept, of_source, book: Mutex::default() }))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for who comes from this address; none when all are taken by those that are known.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Arc<Place>> {
        let Inner { max, kept, of_source, .. } = *self.0;
        let source = source(from);
        let mut book = self.book();
        let known = book.tenants + book.operators;
        let unknown_max = max.saturating_sub(kept + known).max(kept);
        let of_source = of_source.min(unknown_max).max(1);
        let mut replaced = Vec::new();
        let of_this = book.by_source.get(&source).filter(|numbers| numbers.len() >= of_source);
        if let Some(oldest) = of_this.and_then(|numbers| numbers.first().copied()) {
            replaced.extend(book.take(oldest));
        }
        // None is there to be taken only when all places are those of who is known.
        while book.unknown.len() >= unknown_max || book.unknown.len() + known >= max {
            let oldest = *book.unknown.first_key_value()?.0;
            replaced.extend(book.take(oldest));
        }
        let number = book.next;
        book.next += 1;
        let ended = CancellationToken::new();
        book.unknown.insert(number, Unknown { source, ended: ended.clone() });
        book.by_source.entry(source).or_default().insert(number);
        drop(book);
        replaced.iter().for_each(|unknown| unknown.ended.cancel());
        let (known, asked) = (Mutex::new(None), AtomicBool::new(false));
        Some(Arc::new(Place { places: self.clone(), number, known, asked, ended }))
    }
}

impl Book {
    /// Takes one that is unknown out of the book, if it is in it.
    fn take(&mut self, number: u64) -> Option<Unknown> {
        let unknown = self.unknown.remove(&number)?;
        if let Some(numbers) = self.by_source.get_mut(&unknown.source) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_source.remove(&unknown.source);
            }
        }
        Some(unknown)
    }

    fn of(&mut self, known: Known) -> &mut usize {
        match known {
            Known::Operator => &mut self.operators,
            Known::Other => &mut self.tenants,
        }
    }
}

impl Place {
    /// Says who is connected: from then on nobody else gets the place. False when there is none for
    /// such as these; then nothing changed. Who is known stays who it is.
    pub(super) fn is(&self, who: Known) -> bool {
        let mut known = self.known();
        if known.is_some() {
            return true;
        }
        let Inner { max, kept, .. } = *self.places.0;
        let mut book = self.places.book();
        if who == Known::Other && book.tenants >= max - kept {
            return false;
        }
        // One that was sent away is on its way out.
        if book.take(self.number).is_none() {
            return true;
        }
        *book.of(who) += 1;
        *known = Some(who);
        true
    }

    /// A request has come.
    pub(super) fn asks(&self) {
        self.asked.store(true, Relaxed);
    }

    /// Whether a request has come.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// Cancelled when another one gets the place.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let known = *self.known();
        let mut book = self.places.book();
        match known {
            Some(known) => *book.of(known) -= 1,
            None => drop(book.take(self.number)),
        }
    }
}

/// What counts as one source: an IPv4 address, an IPv6 /64.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// One place of so many is not for tenants.
const KEPT_OF: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    fn left(places: &[Arc<Place>]) -> usize {
        places.iter().filter(|place| !place.ended().is_cancelled()).count()
    }

    #[test]
    fn the_oldest_unknown_one_of_a_source_gives_its_place_to_the_next() {
        let places = Places::new(32, 4);
        let mut held: Vec<_> = (0..4).map(|_| places.enter(from(1)).expect("free")).collect();
        held.push(places.enter(from(2)).expect("free"));
        assert_eq!(left(&held), 5);
        held.push(places.enter(from(1)).expect("the oldest one's"));
        assert!(held[0].ended().is_cancelled());
        assert_eq!(left(&held), 5, "one came, one went");
        // Who is known does not count, and keeps its place.
        assert!(held[1].is(Known::Other) && held[2].is(Known::Operator));
        held.extend((0..20).map(|_| places.enter(from(1)).expect("the oldest one's")));
        assert!(!held[1].ended().is_cancelled() && !held[2].ended().is_cancelled());
        assert_eq!(left(&held), 7, "two that are known, four, and the other source's");
    }

    #[test]
    fn those_that_say_nothing_keep_nobody_out() {
        let places = Places::new(32, 4);
        let silent: Vec<_> =
            (0..200).map(|n| places.enter(from(n)).expect("the oldest one's")).collect();
        assert_eq!(left(&silent), 30, "two are kept");
        let operator = places.enter(from(250)).expect("the oldest one's");
        assert!(operator.is(Known::Operator));
        let more: Vec<_> =
            (0..200).map(|n| places.enter(from(n)).expect("the oldest one's")).collect();
        assert_eq!(left(&more), 29);
        assert!(!operator.ended().is_cancelled());
    }

    #[test]
    fn tenants_leave_a_part_to_operators() {
        let places = Places::new(32, 100);
        let mut held = Vec::new();
        for _ in 0..30 {
            let place = places.enter(from(1)).expect("free");
            assert!(place.is(Known::Other));
            held.push(place);
        }
        let one_more = places.enter(from(1)).expect("to ask how the broker is");
        assert!(!one_more.is(Known::Other), "it gets no place that is kept");
        assert!(one_more.is(Known::Operator));
        held.push(one_more);
        let last = places.enter(from(1)).expect("the last");
        let next = places.enter(from(2)).expect("the last one's");
        assert!(last.ended().is_cancelled());
        assert!(next.is(Known::Operator));
        assert!(places.enter(from(3)).is_none(), "all are known");
        held.pop();
        assert!(places.enter(from(3)).is_some(), "one that leaves makes room");
        let book = places.book();
        assert_eq!((book.tenants, book.operators, book.unknown.len()), (30, 1, 0));
    }

    #[test]
    fn a_handful_of_places_is_possible() {
        for max in 1..4 {
            let places = Places::new(max, 64);
            let mut held = Vec::new();
            for _ in 0..max {
                let place = places.enter(from(1)).expect("free");
                assert!(place.is(Known::Operator), "{max}");
                held.push(place);
            }
            assert_eq!(left(&held), max);
            assert!(places.enter(from(2)).is_none(), "{max}");
        }
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let at = |text: &str| source(text.parse().expect("an address"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::2:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), from(1));
    }
}
