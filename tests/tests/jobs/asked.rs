//! What may be asked about jobs, by whom, and what others learn: nothing.

use tollgate_client::{Code, JobEvent, JobFilter, JobState, JobTarget};
use tollgate_tests::SOON;

use crate::{staged, until};

#[tokio::test]
async fn jobs_are_listed_in_pages_filtered_and_purged() {
    let (_rig, stage, client) = staged().await;
    let mut ids = Vec::new();
    for n in 0..25 {
        let recipe = if n % 5 == 0 { "fail" } else { "echo" };
        let recipe = if n == 24 { "hang" } else { recipe };
        ids.push(client.submit_bytes(recipe, format!("{n}")).await.expect("accepted"));
    }
    stage.running(1).await;
    // A first attempt runs before its start is kept.
    until(&client, ids[24].id(), JobState::Running).await;
    for job in &ids[..24] {
        if job.info().await.expect("there").recipe.as_ref() == "echo" {
            assert!(job.result_within(SOON).await.expect("over").is_success());
        }
    }
    let (mut listed, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page =
            client.jobs().page(&JobFilter::new(), cursor.as_deref(), 7).await.expect("a page");
        assert!(page.jobs.len() <= 7);
        listed.extend(page.jobs.iter().map(|job| job.id));
        match page.next {
            Some(next) => cursor = Some(next.to_string()),
            None => break,
        }
    }
    assert_eq!(listed, ids.iter().map(|job| job.id()).collect::<Vec<_>>(), "each once, in order");
    let running = JobFilter::new().state(JobState::Running).recipe("hang");
    assert_eq!(client.jobs().list(&running).await.expect("a list").len(), 1);
    let done = JobFilter::new().state(JobState::Succeeded).recipe("echo");
    assert_eq!(client.jobs().purge(done).await.expect("purged"), 19);
    assert_eq!(client.jobs().list(&JobFilter::new().recipe("echo")).await.expect("list").len(), 0);
}

#[tokio::test]
async fn another_tenants_job_is_like_none() {
    let (rig, _stage, client) = staged().await;
    let job = client.submit_bytes("echo", "secret").await.expect("accepted");
    assert!(job.result_within(SOON).await.expect("over").is_success());
    let batch = job.info().await.expect("there").batch_id;
    let globex = rig.client("globex").await;
    let nobody = tollgate_client::JobId([7; 16]);
    for id in [job.id(), nobody] {
        let refused = globex.jobs().get(id).await.expect_err("not theirs");
        assert_eq!(refused.code(), Some(Code::NotFound));
        let refused = globex.jobs().purge(id).await.expect_err("not theirs");
        assert_eq!(refused.code(), Some(Code::NotFound));
        let mut attached = globex.attach(JobTarget::Job(id));
        let refused = attached.next().await.expect("an answer").expect_err("not theirs");
        assert_eq!(refused.code(), Some(Code::NotFound));
    }
    let mut attached = globex.attach(JobTarget::Batch(batch));
    let refused = attached.next().await.expect("an answer").expect_err("not theirs");
    assert_eq!(refused.code(), Some(Code::NotFound));
    assert!(globex.jobs().list(&JobFilter::new()).await.expect("a list").is_empty());
}

#[tokio::test]
async fn any_number_of_readers_see_the_same_numbers_in_the_same_order() {
    let (_rig, stage, client) = staged().await;
    let mut batch = client.batch().durable().open().await.expect("open");
    let id = batch.id();
    for n in 0..20 {
        let request = tollgate_client::Request::new("gate", format!("{n}"));
        batch.send(request).await.expect("sent");
    }
    batch.seal().await.expect("sealed");
    batch.detach().await.expect("detached");
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { read(&client, id).await })
        })
        .collect();
    stage.open(20);
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.expect("read"));
    }
    // Late, when all is over.
    seen.push(read(&client, id).await);
    assert_eq!(seen[0].len(), 41, "20 accepted, 20 results, a summary");
    assert!(seen.iter().all(|s| *s == seen[0]));
}

/// The numbered frames of a batch, as a reader sees them.
async fn read(
    client: &tollgate_client::Client,
    id: tollgate_client::BatchId,
) -> Vec<(u64, String)> {
    let mut attached = client.attach(JobTarget::Batch(id));
    let mut seen = Vec::new();
    while let Some(event) = attached.next().await {
        match event.expect("an event") {
            JobEvent::Accepted(a) => seen.push((a.number.sequence, format!("accepted {}", a.id))),
            JobEvent::Result(r) => {
                let payload = r.payload().map(|p| String::from_utf8_lossy(p).into_owned());
                seen.push((r.number.sequence, format!("result {} {payload:?}", r.id)));
            }
            JobEvent::Summary(s) => {
                seen.push((s.number.sequence, format!("summary {} {}", s.total, s.succeeded)));
            }
            _ => {}
        }
    }
    assert!(seen.iter().map(|s| s.0).is_sorted(), "in the order of their numbers");
    seen
}
