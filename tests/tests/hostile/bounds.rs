//! Fields at their bounds and beyond: names, maps, extensions.

use tollgate_protocol::{
    ClientFrame, Code, Extension, ExtensionsBuf, PairsBuf,
    batch::{BatchOpen, Request},
    describe::{Describe, Subject},
    limits,
};

use super::{Scene, bytes, framed, open};

/// An item with such a recipe name, among good ones: its code, and the field at fault.
async fn check_names(names: &[&[u8]], code: Code) {
    let scene = Scene::new().await;
    let mut batch = scene.raw.batch().await;
    let last = names.len() as u64 + 1;
    for (id, name) in (1..).zip(names) {
        // By hand: a name that is not text can not be written otherwise.
        let mut content = vec![9, id as u8];
        let len = name.len();
        content.extend(if len < 128 { vec![len as u8] } else { vec![len as u8 | 0x80, 1] });
        content.extend_from_slice(name);
        content.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
        batch.bytes(&framed(&content)).await;
    }
    batch.request(last, "echo", b"good").await;
    batch.seal(last).await;
    let told = batch.failures().await;
    assert_eq!(told.len(), names.len(), "{told:?}");
    for (told, name) in told.iter().zip(names) {
        let shown = String::from_utf8_lossy(name);
        assert_eq!(told.code(), Some(code), "{shown:?}: {told:?}");
        assert!(told.side_effect_free && told.attempts == 0, "{told:?}");
        if code == Code::ValidationError {
            assert_eq!(told.detail("field"), "recipe", "{shown:?}");
        }
        let said = format!("{}{:?}", told.message, told.details.values());
        assert!(!said.contains(|c: char| c.is_control()), "nothing is echoed raw: {told:?}");
    }
    scene.end().await;
}

#[tokio::test]
async fn names_that_are_not_names_are_that_items_fault() {
    let long = "a".repeat(129);
    let names: &[&[u8]] = &[
        b"",
        b"Echo",
        b"echo\0",
        b"ec\nho",
        b"\x1b[31mecho\x1b[0m",
        b"\x07\x08",
        b"../echo",
        b"/etc/passwd",
        b"..",
        b".echo",
        b"-echo",
        b"*",
        b"echo*",
        b"echo?",
        b"e%63ho",
        b"echo echo",
        "\u{202e}ohce".as_bytes(),
        "ech\u{43e}".as_bytes(),
        b"\xff\xfe",
        b"ech\xc3",
        long.as_bytes(),
    ];
    check_names(names, Code::ValidationError).await;
}

#[tokio::test]
async fn names_of_nothing_are_not_found() {
    let longest = "a".repeat(128);
    let names: &[&[u8]] = &[longest.as_bytes(), b"nope", b"a..b", b"0", b"echo.", b"con"];
    check_names(names, Code::RecipeNotFound).await;
}

async fn metadata(pairs: &PairsBuf) -> Vec<(Option<u64>, Option<Code>, String)> {
    let scene = Scene::new().await;
    let mut batch = scene.raw.batch().await;
    let request = Request { metadata: pairs.as_pairs(), ..Request::new(1, "echo", b"x") };
    batch.frame(&ClientFrame::Request(request)).await;
    batch.request(2, "quick", b"y").await;
    batch.seal(2).await;
    let told = batch.failures().await;
    scene.end().await;
    told.iter().map(|t| (t.id, t.code(), t.detail("field").to_owned())).collect()
}

#[tokio::test]
async fn metadata_up_to_its_bounds_passes() {
    let mut many = PairsBuf::new();
    for n in 0..limits::PAIRS_MAX {
        many.push(&format!("key {n} \u{1b}[2J"), "\0\r\n").expect("within bounds");
    }
    assert_eq!(metadata(&many).await, []);
    let mut long = PairsBuf::new();
    let key = "k".repeat(limits::PAIR_KEY_BYTES_MAX);
    let value = "v".repeat(limits::PAIR_VALUE_BYTES_MAX - limits::PAIR_KEY_BYTES_MAX - 8);
    for _ in 0..4 {
        long.push(&key, &value).expect("within bounds");
    }
    assert_eq!(metadata(&long).await, [], "repeated keys are allowed");
}

/// A request whose map is written by hand: `count`, then so many times `pair`.
async fn check_map(count: u8, pair: &[u8], times: usize) {
    let scene = Scene::new().await;
    let mut batch = scene.raw.batch().await;
    let content =
        [&[9, 1, 4][..], b"echo", &[0, 0, 0, 0, count], &pair.repeat(times), &[0]].concat();
    batch.bytes(&framed(&content)).await;
    batch.request(2, "echo", b"2").await;
    batch.seal(2).await;
    let told = batch.failures().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].id, told[0].code()), (Some(1), Some(Code::ValidationError)));
    assert_eq!(told[0].detail("field"), "metadata");
    scene.end().await;
}

#[tokio::test]
async fn metadata_beyond_its_bounds_is_that_items_fault() {
    let pair = |key: usize, value: usize| {
        let mut pair = Vec::new();
        for (n, byte) in [(key, b'k'), (value, b'v')] {
            pair.extend([n as u8 | 0x80, (n >> 7) as u8]);
            pair.extend(vec![byte; n]);
        }
        pair
    };
    check_map(65, &[1, b'k', 1, b'v'], 65).await;
    check_map(1, &pair(129, 1), 1).await;
    check_map(1, &pair(1, 4_097), 1).await;
    check_map(5, &pair(128, 4_000), 5).await;
    check_map(1, &[1, 0xff, 1, b'v'], 1).await;
}

#[tokio::test]
async fn a_tenant_name_or_a_key_beyond_its_bound_is_that_items_fault() {
    let long = "t".repeat(64);
    let key = "k".repeat(257);
    let requests = [
        (Request { tenant: Some(&long), ..Request::new(1, "echo", b"") }, "tenant"),
        (
            Request { idempotency_key: Some(&key), ..Request::new(1, "echo", b"") },
            "idempotency_key",
        ),
    ];
    for (request, field) in requests {
        let scene = Scene::new().await;
        let mut batch = scene.raw.batch().await;
        batch.frame(&ClientFrame::Request(request)).await;
        batch.seal(1).await;
        let told = batch.failures().await;
        assert_eq!((told[0].id, told[0].code()), (Some(1), Some(Code::ValidationError)));
        assert_eq!(told[0].detail("field"), field);
        scene.end().await;
    }
}

/// An opening with such a change is refused for such a field.
async fn check_open<'a>(change: impl FnOnce(&mut BatchOpen<'a>), field: &str) {
    let scene = Scene::new().await;
    let ClientFrame::Batch(mut batch) = open() else { unreachable!("it is one") };
    change(&mut batch);
    let told = scene.refused(&bytes(&[ClientFrame::Batch(batch)])).await;
    assert_eq!(told.code(), Some(Code::ValidationError), "{told:?}");
    assert_eq!(told.detail("field"), field);
    assert!(told.side_effect_free, "{told:?}");
    scene.end().await;
}

#[tokio::test]
async fn an_opening_beyond_its_bounds_is_refused() {
    check_open(|open| open.priority = 8, "priority").await;
    check_open(|open| open.priority = 255, "priority").await;
    let long = "t".repeat(257);
    check_open(|open| open.traceparent = Some(&long), "traceparent").await;
    check_open(|open| open.tenant = Some(&long[..64]), "tenant").await;
}

fn extensions(critical: &[bool], len: usize) -> ExtensionsBuf {
    let mut all = ExtensionsBuf::default();
    for (number, &critical) in (7..).zip(critical) {
        all.push(Extension { number, critical, body: &vec![0; len] }).expect("within bounds");
    }
    all
}

#[tokio::test]
async fn unknown_extensions_are_ignored_unless_they_are_critical() {
    let scene = Scene::new().await;
    let fine = extensions(&[false; 16], 1_024);
    let mut batch = scene.raw.batch_with(|open| open.extensions = fine.as_extensions()).await;
    batch.request(1, "echo", b"1").await;
    batch.seal(1).await;
    batch.until("summary Sealed 1/1").await;
    for (critical, number) in [(vec![true], "7"), (vec![false, false, true, true], "9")] {
        let buf = extensions(&critical, 3);
        let ClientFrame::Batch(mut open) = open() else { unreachable!("it is one") };
        open.extensions = buf.as_extensions();
        let describe =
            Describe { subject: Subject::Limits, tenant: None, extensions: buf.as_extensions() };
        for frame in [ClientFrame::Batch(open), ClientFrame::Describe(describe)] {
            let told = scene.refused(&bytes(&[frame])).await;
            assert_eq!(told.code(), Some(Code::ValidationError), "{told:?}");
            assert_eq!(told.detail("extension"), number);
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn extensions_beyond_their_bounds_are_refused() {
    let scene = Scene::new().await;
    let one = |len: usize| {
        let mut out = vec![7, 0, len as u8 | 0x80, (len >> 7) as u8];
        out.extend(vec![0; len]);
        out
    };
    for (count, body) in [(17u8, one(1).repeat(17)), (1, one(1_025))] {
        let mut content = bytes(&[open()])[4..].to_vec();
        content.pop();
        content.push(count);
        content.extend(body);
        let told = scene.refused(&framed(&content)).await;
        assert_eq!(told.code(), Some(Code::ValidationError), "{told:?}");
        assert!(told.detail("field").starts_with("extensions"), "{told:?}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_trace_context_that_does_not_parse_is_ignored() {
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let scene = Scene::new().await;
    let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    let bad = ["", "\u{1b}[31mred\r\n", "00-abc", zeros, &GOOD.to_uppercase(), &GOOD[..54]];
    for (text, expected) in bad.iter().map(|t| (*t, "-")).chain([(GOOD, GOOD)]) {
        let mut batch = scene.raw.batch_with(|open| open.traceparent = Some(text)).await;
        batch.request(1, "who", b"").await;
        batch.until(&format!("result 1 OK acme {expected}")).await;
    }
    scene.end().await;
}
