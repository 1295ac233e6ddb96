use proptest::prelude::*;
use tollgate_certs::{Authority, IssueOptions, Paths, Rotator, Snapshot};

use super::*;
use crate::{events::News, store::record::system::REVOCATIONS};

/// A broker's trust, and a store.
struct Home {
    _dir: tempfile::TempDir,
    paths: Paths,
    store: Store,
    events: Events,
}

impl Home {
    fn new() -> Home {
        let dir = tempfile::tempdir().expect("a directory");
        let domain = TrustDomain::default();
        let authority = Authority::create("dev", &domain).expect("created");
        authority.save(dir.path()).expect("saved");
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let server = authority.issue_server(&[name], &IssueOptions::default()).expect("issued");
        server.write(&dir.path().join("server")).expect("written");
        let paths = Paths {
            certificate: dir.path().join("server/cert.pem"),
            key: dir.path().join("server/key.pem"),
            roots: vec![dir.path().join("ca.pem")],
            crls: Vec::new(),
            deny: None,
            domain,
        };
        Home { _dir: dir, paths, store: Store::memory(), events: Events::default() }
    }

    async fn open(&self) -> (Revocations, rotate::Handle) {
        let (mut rotator, trust) = Rotator::new(self.paths.clone()).expect("good files");
        let fence = self.store.system().claim().await.expect("a fence");
        let (domain, events) = (self.paths.domain.clone(), self.events.clone());
        let all = Revocations::open(&self.store, fence, domain, trust.clone(), events).await;
        let all = all.expect("good records");
        rotator.deny(all.entries().collect()).expect("of this domain");
        tokio::spawn(rotator.run());
        (all, trust)
    }
}

fn entry(text: &str) -> Entry {
    text.parse().expect("an entry")
}

/// Whether the trust in force denies something.
fn denies(Snapshot { trust, .. }: Snapshot) -> bool {
    format!("{trust:?}").contains("spiffe://tollgate.local/gateway/lost")
}

const LOST: &str = "spiffe://tollgate.local/gateway/lost";

#[tokio::test]
async fn what_is_revoked_is_in_force_at_once_and_after_a_restart() {
    let home = Home::new();
    let (all, trust) = home.open().await;
    assert!(all.is_empty() && !denies(trust.current()));
    let new = all.revoke(entry(LOST), "a lost laptop".into()).await.expect("kept");
    assert!(denies(trust.current()));
    let by_serial = all.revoke(entry("00:AB:cd"), String::new()).await.expect("kept");

    let (again, trust) = home.open().await;
    assert!(denies(trust.current()), "before the first handshake");
    assert_eq!(again.page(None, 9), [new.clone(), by_serial.clone()]);
    assert_eq!(again.page(Some(new.id), 9), [by_serial]);
    assert_eq!(again.page(None, 1), std::slice::from_ref(&new));
    again.reinstate(new.id).await.expect("there is one");
    assert!(!denies(trust.current()) && again.get(new.id).is_none());
    let unknown = again.reinstate(new.id).await.expect_err("it is gone");
    assert_eq!(unknown.code(), Code::NotFound);

    let (third, trust) = home.open().await;
    assert!(!denies(trust.current()));
    assert_eq!(third.len(), 1);
    let told: Vec<_> = home.events.recent().iter().map(|e| e.kind.name()).collect();
    assert_eq!(told, ["revocation_added", "revocation_added", "revocation_removed"]);
    let late = home.events.subscribe(Some(0)).try_next();
    assert!(matches!(late, Some(News::Event(e)) if e.kind.name() == "revocation_added"));
}

#[tokio::test]
async fn what_would_refuse_nobody_or_is_refused_already_is_no_revocation() {
    let home = Home::new();
    let (all, _) = home.open().await;
    let refused = async |text: &str, reason: String| {
        all.revoke(entry(text), reason).await.expect_err("it is refused")
    };
    let foreign = refused("spiffe://other.example/gateway/a", String::new()).await;
    assert_eq!(foreign.code(), Code::ValidationError);
    assert!(foreign.to_string().contains("other.example"), "{foreign}");
    assert_eq!(refused("ab", "x".repeat(256)).await.code(), Code::ValidationError);
    assert_eq!(refused("ab", "\u{1b}".into()).await.code(), Code::ValidationError);
    let first = all.revoke(entry("00ab"), String::new()).await.expect("kept");
    let again = refused("AB", String::new()).await;
    assert!(matches!(again, RevokeError::Exists(id) if id == first.id), "{again}");
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn a_start_reads_what_is_there_however_much_came_and_went() {
    let home = Home::new();
    let (all, _) = home.open().await;
    let keep = all.revoke(entry(LOST), "kept".into()).await.expect("kept");
    for n in 1..=300 {
        let gone = all.revoke(entry(&format!("{n:x}")), String::new()).await.expect("kept");
        all.reinstate(gone.id).await.expect("there is one");
    }
    let ends = home.store.system().ends(REVOCATIONS).await.expect("readable");
    assert!(ends.next.0 == 601 && ends.first.0 >= 512, "{ends:?}: it is trimmed");
    let (again, trust) = home.open().await;
    assert_eq!(again.page(None, 9), [keep]);
    assert!(denies(trust.current()));
}

#[tokio::test]
async fn without_room_nothing_is_revoked() {
    let (store, disk) = Store::memory_with_faults();
    let home = Home { store, ..Home::new() };
    let (all, trust) = home.open().await;
    disk.full(true);
    let some = all.revoke(entry("00ab"), String::new()).await.expect("the reserve is for this");
    all.reinstate(some.id).await.expect("and for that");
    disk.full_to_the_last();
    let error = all.revoke(entry(LOST), String::new()).await.expect_err("no room");
    assert_eq!(error.code(), Code::StorageFull);
    assert!(all.is_empty() && !denies(trust.current()));
    disk.full(false);
    all.revoke(entry(LOST), String::new()).await.expect("there is room again");
}

proptest! {
    #[test]
    fn what_is_stored_comes_back(
        id: [u8; 16],
        ms in 0..1_u64 << 42,
        serial in "[1-9a-f][0-9a-f]{0,39}",
        holder: bool,
        reason in "\\PC{0,255}",
    ) {
        let r = Revocation {
            id: RevocationId(Uuid::from_bytes(id)),
            entry: entry(if holder { LOST } else { &serial }),
            reason,
            created_at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms),
        };
        let bytes = stored::encode(&r);
        prop_assert_eq!(stored::decode(1, &bytes).expect("it was stored"), r.clone());
        prop_assert!(stored::decode(1, &bytes[..bytes.len() - 1]).is_err());
        let removal = stored::encode_removal(r.id);
        prop_assert_eq!(stored::decode_removal(1, &removal).expect("it was stored"), r.id);
    }

    #[test]
    fn nothing_that_is_read_panics(bytes: Vec<u8>) {
        let _ = stored::decode(1, &bytes);
        let _ = stored::decode_removal(1, &bytes);
    }
}

/// On disks already: these bytes are read for ever.
#[test]
fn layout_1_is_frozen() {
    let r = Revocation {
        id: RevocationId(Uuid::from_bytes(*b"0123456789abcdef")),
        entry: entry("ab01"),
        reason: "lost".into(),
        created_at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_000),
    };
    assert_eq!(stored::encode(&r), b"0123456789abcdef\xe8\x07\x04ab01\x04lost");
    assert_eq!(stored::encode_removal(r.id), b"0123456789abcdef");
}
