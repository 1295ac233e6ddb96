use proptest::prelude::*;

use super::*;
use crate::tenancy::Profiles;

fn limit() -> impl Strategy<Value = Option<Limit>> {
    prop_oneof![
        Just(None),
        Just(Some(Limit::UNLIMITED)),
        (0..=i64::MAX as u64).prop_map(|n| Some(Limit::at_most(n)))
    ]
}

fn overrides() -> impl Strategy<Value = Overrides> {
    prop::collection::vec(limit(), Quota::ALL.len()).prop_map(|limits| {
        let mut overrides = Overrides::NOTHING;
        Quota::ALL.iter().zip(limits).for_each(|(&quota, limit)| overrides.set(quota, limit));
        overrides
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let texts = ("\\PC{0,40}", "[a-z]{1,10}");
    let lists = (
        prop::collection::vec("[a-z]{1,9}", 0..5),
        prop::collection::btree_map("\\PC{1,9}", ".{0,30}", 0..5),
    );
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>());
    (texts, any::<(bool, bool)>(), numbers, overrides(), lists).prop_map(
        |((name, profile), (active, pace), (concurrency, workers, weight), overrides, lists)| {
            Settings {
                name,
                state: if active { State::Active } else { State::Suspended },
                profile: profile.into(),
                overrides,
                policy: if pace { Policy::Pace } else { Policy::Reject },
                concurrency,
                workers,
                weight,
                gateways: lists.0,
                metadata: lists.1,
            }
        },
    )
}

fn record(settings: Settings, revision: u64, created: u64, updated: u64) -> Record {
    Record {
        quotas: Profiles::default().quotas(&settings),
        settings: Arc::new(settings),
        revision,
        created_at: from_ms(created),
        updated_at: from_ms(updated),
    }
}

proptest! {
    #[test]
    fn what_is_stored_comes_back(
        settings in settings(),
        number: u32,
        revision: u64,
        times in (0..1_u64 << 42, 0..1_u64 << 42),
        id in "[a-z0-9][a-z0-9-]{0,62}",
    ) {
        let id = TenantId::parse(&id).expect("an id");
        let record = record(settings.clone(), revision, times.0, times.1);
        let bytes = encode(&id, number, &record);
        let back = decode(LAYOUT, &bytes).expect("it was stored");
        let (created_at, updated_at) = (record.created_at, record.updated_at);
        let expected = StoredTenant { id, number, settings, revision, created_at, updated_at };
        prop_assert_eq!(back, expected);
        let mut longer = bytes.clone();
        longer.push(0);
        prop_assert!(matches!(decode(LAYOUT, &longer), Err(BadRecord::Trailing(1))));
        prop_assert!(decode(LAYOUT, &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn nothing_that_is_read_panics(bytes: Vec<u8>) {
        let _ = decode(LAYOUT, &bytes);
        let _ = decode_deletion(LAYOUT, &bytes);
    }
}

/// On disks already: these bytes are read for ever.
#[test]
fn layout_1_is_frozen() {
    let settings = Settings {
        name: "Acme".into(),
        state: State::Suspended,
        profile: "free".into(),
        overrides: Overrides {
            topics: Some(Limit::at_most(300)),
            batch_items: Some(Limit::UNLIMITED),
            ..Overrides::NOTHING
        },
        policy: Policy::Reject,
        concurrency: 16,
        workers: 5,
        weight: 4,
        gateways: vec!["edge".into()],
        metadata: [("tier".to_owned(), "gold".to_owned())].into(),
    };
    let id = TenantId::parse("acme").expect("an id");
    let bytes = encode(&id, 7, &record(settings, 3, 1_000, 2_000));
    let frozen: &[u8] = b"\x07\x04acme\x03\xe8\x07\xd0\x0f\x01\x01\x10\x05\x04\x04Acme\x04free\
        \x02\x06topics\xd8\x04\x0bbatch_items\x01\x01\x04edge\x01\x04tier\x04gold";
    assert_eq!(bytes, frozen);
    let gone = StoredDeletion { id: "acme", number: 7 };
    assert_eq!(gone.encode(), b"\x04acme\x07");
    assert_eq!(decode_deletion(1, b"\x04acme\x07").expect("it was stored"), gone);
}

#[test]
fn what_means_nothing_is_refused() {
    let id = TenantId::parse("acme").expect("an id");
    let bytes = encode(&id, 7, &record(Settings::default(), 1, 0, 0));
    assert!(matches!(decode(2, &bytes), Err(BadRecord::Layout(2))));
    // number, id, revision, created, updated: then the state and the policy.
    let at = 1 + 5 + 1 + 1 + 1;
    for (at, field) in [(at, "state"), (at + 1, "policy")] {
        let mut wrong = bytes.clone();
        wrong[at] = 9;
        let error = decode(1, &wrong).expect_err("it means nothing").to_string();
        assert!(error.contains(field) && error.contains('9'), "{error}");
    }
    let mut wrong = bytes;
    wrong[2] = b'A';
    assert!(matches!(decode(1, &wrong), Err(BadRecord::Id(_))));
}
