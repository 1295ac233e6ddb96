//! A tenant's topic over all runs: made when it is not there, with the producers that append to it
//! and the connections of those who read it; deleted at the end if it was made here.

use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use tokio::{sync::Mutex, time::timeout};
use tollgate_client::{BatchId, Client, Code, Producer, Retention, TopicError};

use crate::scenario::{BadScenario, Topic};

/// Messages of a producer that are sent and not answered: what the broker reads on one stream.
const PRODUCER_WINDOW: usize = 4_096;
/// How long each part of good-bye may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// A topic, connected.
pub(super) struct TopicLinks {
    pub(super) name: String,
    /// The connections of its readers.
    pub(super) readers: Vec<Client>,
    producers: Vec<Line>,
    /// How long a broker that is out of reach is looked for.
    pub(super) patience: Duration,
    /// Whether it is to be deleted at the end.
    delete: bool,
}

/// A producer, opened again when it is over.
struct Line {
    client: Client,
    /// Rises with every producer, so that only the one that failed is given up.
    producer: Mutex<(u64, Option<Producer>)>,
}

impl TopicLinks {
    /// Makes the topic if it is not there, and opens a producer on each of `clients`.
    pub(super) async fn open(
        topic: &Topic,
        clients: &[Client],
        readers: &[Client],
        patience: Duration,
    ) -> anyhow::Result<TopicLinks> {
        let name = topic.name.clone().unwrap_or_else(made_up);
        let made = make(&clients[0], &name, topic.partitions).await?;
        let line = |client: &Client| Line { client: client.clone(), producer: Mutex::default() };
        let links = TopicLinks {
            readers: readers.to_vec(),
            producers: clients.iter().map(line).collect(),
            patience,
            delete: made && !topic.keep,
            name,
        };
        for at in 0..clients.len() as u64 {
            if let Err(e) = links.producer(at).await {
                links.close().await;
                return Err(e).with_context(|| format!("cannot produce to {:?}", links.name));
            }
        }
        Ok(links)
    }

    /// The producer of an operation, and what to [give up](Self::give_up) should it be over.
    pub(super) async fn producer(&self, number: u64) -> Result<(Producer, u64), TopicError> {
        let line = self.line(number);
        let mut held = line.producer.lock().await;
        if let (turn, Some(producer)) = &*held {
            return Ok((producer.clone(), *turn));
        }
        let producer = line.client.producer(self.name.as_str());
        let producer = producer.in_flight_max(PRODUCER_WINDOW).patience(self.patience);
        let producer = producer.open().await?;
        *held = (held.0 + 1, Some(producer.clone()));
        Ok((producer, held.0))
    }

    /// A producer is over: the next operation opens another.
    pub(super) async fn give_up(&self, number: u64, turn: u64) {
        let mut held = self.line(number).producer.lock().await;
        if held.0 == turn {
            held.1 = None;
        }
    }

    fn line(&self, number: u64) -> &Line {
        &self.producers[(number % self.producers.len() as u64) as usize]
    }

    /// Ends the producers, and deletes the topic if it was made here.
    pub(super) async fn close(&self) {
        let end = async |line: &Line| {
            if let Some(producer) = line.producer.lock().await.1.take() {
                // What is left of operations that were given up concerns nobody any more.
                let _ = timeout(GOODBYE, producer.close()).await;
            }
        };
        join_all(self.producers.iter().map(end)).await;
        if !self.delete {
            return;
        }
        let topics = self.producers[0].client.topics();
        let why = match timeout(GOODBYE, topics.delete(&self.name)).await {
            Ok(Ok(())) => return,
            Ok(Err(e)) if e.code() == Some(Code::NotFound) => return,
            Ok(Err(e)) => e.to_string(),
            Err(_) => "no answer in time".into(),
        };
        eprintln!("the topic {:?} is left with the broker: {why}", self.name);
    }

    /// Forgets the group of a run. One that stays goes with the topic, or costs a place of the quota.
    pub(super) async fn forget(&self, group: &str) {
        let topics = self.producers[0].client.topics();
        let _ = timeout(GOODBYE, topics.delete_group(&self.name, group)).await;
    }
}

/// A name that nothing else has.
pub(super) fn made_up() -> String {
    format!("loadgen-{}", BatchId::random())
}

/// Makes a topic. False if it was there.
async fn make(client: &Client, name: &str, partitions: Option<u32>) -> anyhow::Result<bool> {
    let topics = client.topics();
    let there = match topics.create(name, partitions.unwrap_or(1), Retention::default()).await {
        Ok(_) => return Ok(true),
        Err(e) if e.code() == Some(Code::Conflict) => topics.get(name).await,
        Err(e) => Err(e),
    };
    let there = there.with_context(|| format!("cannot make the topic {name:?}"))?;
    let n = there.partitions.len();
    if partitions.is_some_and(|wanted| wanted as usize != n) {
        let problem = format!("`partitions`: the topic {name:?} is there, and has {n}");
        return Err(BadScenario::Value(problem).into());
    }
    Ok(false)
}
