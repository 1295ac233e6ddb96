//! `kill -9` while tenants change: what was answered is there, and nothing is half changed.
//!
//! Several clients change tenants of their own over HTTP until the process is killed; the next one,
//! on the same directory, is asked what there is. `TOLLGATE_LONG=1` kills it 200 times.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tollgate_tests::process::Served;

/// Clients at once, with so many tenants each.
const CLIENTS: usize = 6;
const TENANTS: usize = 3;

/// A sequence that its seed decides.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        // Xorshift: good enough to choose.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A tenant as its only client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    /// Stands in several fields, which belong together.
    mark: u64,
    suspended: bool,
    revision: u64,
}

impl Kept {
    fn read(tenant: &Value) -> Kept {
        let mark = tenant["weight"].as_u64().expect("a weight");
        let same = [&tenant["name"], &tenant["metadata"]["mark"]];
        assert_eq!(same, [&json!(mark.to_string()); 2], "it is mixed: {tenant}");
        assert_eq!(tenant["quotas"]["topics"], json!(mark), "it is mixed: {tenant}");
        let revision = tenant["revision"].as_u64().expect("a revision");
        Kept { mark, suspended: tenant["state"] == "Suspended", revision }
    }
}

/// What one client knows: of each of its tenants what was answered, and what was asked for and not
/// answered.
#[derive(Debug, Default)]
struct Known {
    answered: [Option<Kept>; TENANTS],
    asked: Option<(usize, Option<Kept>)>,
}

/// What was answered so far, in all; and who waits for it to be enough.
#[derive(Default)]
struct Answers {
    count: AtomicU64,
    enough: Notify,
}

struct Api {
    client: reqwest::Client,
    base: String,
}

impl Api {
    fn of(served: &Served) -> Api {
        let provider = tollgate_certs::crypto::provider();
        // The default of a process can be set once; the first cycle does it.
        let _ = provider.as_ref().clone().install_default();
        let client = reqwest::Client::builder().build().expect("a client");
        Api { client, base: format!("http://{}/api/v1/tenants", served.http()) }
    }

    /// The status and the body, when there is an answer.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }
}

fn id(client: usize, tenant: usize) -> String {
    format!("c{client}-t{tenant}")
}

fn settings(mark: u64) -> Value {
    let text = mark.to_string();
    json!({ "weight": mark, "name": text, "metadata": { "mark": text }, "quotas": { "topics": mark } })
}

/// Changes tenants until there is no answer any more.
async fn change(api: Api, me: usize, mut known: Known, seed: u64, answers: Arc<Answers>) -> Known {
    let mut random = Seeded(seed);
    loop {
        let at = random.below(TENANTS as u64) as usize;
        let (id, now) = (id(me, at), known.answered[at].clone());
        let mark = 1 + random.below(1_000);
        let path = format!("/{id}");
        let next = |kept: &Kept, change: fn(&mut Kept, u64)| {
            let mut next = kept.clone();
            change(&mut next, mark);
            if next != *kept {
                next.revision += 1;
            }
            Some(next)
        };
        let (method, path, body, will_be) = match (&now, random.below(4)) {
            (None, _) => {
                let mut body = settings(mark);
                body["id"] = json!(id);
                let new = Kept { mark, suspended: false, revision: 1 };
                (Method::POST, String::new(), Some(body), Some(new))
            }
            (Some(kept), 0) if kept.suspended => (Method::DELETE, path, None, None),
            (Some(kept), 0 | 1) if kept.suspended => {
                let will_be = next(kept, |k, _| k.suspended = false);
                (Method::POST, format!("{path}/activate"), None, will_be)
            }
            (Some(kept), 0) => {
                let will_be = next(kept, |k, _| k.suspended = true);
                (Method::POST, format!("{path}/suspend"), None, will_be)
            }
            (Some(kept), _) => {
                let will_be = next(kept, |k, mark| k.mark = mark);
                (Method::PATCH, path, Some(settings(mark)), will_be)
            }
        };
        known.asked = Some((at, will_be.clone()));
        let Some((status, answer)) = api.ask(method.clone(), &path, body).await else {
            return known;
        };
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        if let Some(will_be) = &will_be {
            assert_eq!(Kept::read(&answer), *will_be, "{method} {path}");
        }
        (known.answered[at], known.asked) = (will_be, None);
        answers.count.fetch_add(1, Relaxed);
        answers.enough.notify_one();
    }
}

/// Shows that what was answered is there, and that what was not is there wholly or not at all.
async fn check(api: &Api, me: usize, known: &mut Known) {
    for at in 0..TENANTS {
        let (status, answer) =
            api.ask(Method::GET, &format!("/{}", id(me, at)), None).await.expect("an answer");
        let found = match status {
            200 => Some(Kept::read(&answer)),
            404 => None,
            other => panic!("{other}: {answer}"),
        };
        let asked = known.asked.take_if(|(asked, _)| *asked == at).map(|(_, will_be)| will_be);
        let answered = &known.answered[at];
        assert!(
            found == *answered || Some(&found) == asked.as_ref(),
            "{}: answered was {answered:?}, asked for was {asked:?}, there is {found:?}",
            id(me, at)
        );
        known.answered[at] = found;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_kill() {
    let (cycles, seed) = match std::env::var_os("TOLLGATE_LONG") {
        Some(_) => (200, 0x9e37_79b9_7f4a_7c15),
        None => (15, 0x2545_f491_4f6c_dd1d),
    };
    let mut random = Seeded(seed);
    let mut known: Vec<_> = (0..CLIENTS).map(|_| Known::default()).collect();
    let mut dir = tempfile::tempdir().expect("a directory");
    let mut all = 0;
    for cycle in 0..cycles {
        let served = Served::start_in(dir, "127.0.0.1:0", &[]);
        let api = Api::of(&served);
        for (me, known) in known.iter_mut().enumerate() {
            check(&api, me, known).await;
        }
        let answers = Arc::new(Answers::default());
        let clients: Vec<_> = known
            .drain(..)
            .enumerate()
            .map(|(me, known)| {
                let seed = 1 + random.below(u64::MAX - 1);
                tokio::spawn(change(Api::of(&served), me, known, seed, answers.clone()))
            })
            .collect();
        let until = random.below(60);
        while answers.count.load(Relaxed) < until {
            let wait = tokio::time::timeout(tollgate_tests::SOON, answers.enough.notified());
            assert!(wait.await.is_ok(), "cycle {cycle}: the clients are not served");
        }
        // Anywhere between two answers.
        for _ in 0..random.below(50) {
            tokio::task::yield_now().await;
        }
        dir = served.kill();
        for client in clients {
            known.push(client.await.expect("no client was told anything wrong"));
        }
        all += answers.count.load(Relaxed);
    }
    let served = Served::start_in(dir, "127.0.0.1:0", &[]);
    for (me, known) in known.iter_mut().enumerate() {
        check(&Api::of(&served), me, known).await;
    }
    assert!(all > 0, "something was answered");
    println!("{cycles} kills, {all} changes answered");
}
