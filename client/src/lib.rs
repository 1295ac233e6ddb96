//! A client of the Tollgate broker: batches of work over QUIC, under a client certificate.
//!
//! [`Client`] is where everything begins. [`Client::execute`] runs a whole batch,
//! [`Client::call`] one typed item, and [`Client::batch`] opens a batch whose items and events
//! come one by one. Items fail one by one: a failure is a result, an error is about the batch.
//! [`Client::submit`] hands over a [`Job`], which outlives the connection and the program that
//! submitted it; [`Client::attach`] reads on from jobs and batches, and [`Client::jobs`] acts on
//! them.
//! [`Worker`] is the other side: it serves recipes, in this process, for a broker.
//! Nothing here runs a broker, and nothing is retried that may have happened.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//! use tollgate_client::{Client, ClientCredentials, Event, Request};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // `tollgate cert issue --tenant acme --role client --out certs/acme` writes these.
//!     let credentials = ClientCredentials::load_dir(Path::new("certs/acme"))?;
//!     let client = Client::connect("127.0.0.1:4433".parse()?, "localhost", credentials).await?;
//!
//!     // A whole batch: partial success is the rule, and failures cannot be overlooked.
//!     let words = ["to", "be", "or"];
//!     let result = client.execute(words.map(|w| Request::new("sha256", w))).await?;
//!     for item in &result {
//!         match &item.outcome {
//!             Ok(payload) => println!("{}: {} bytes", item.id, payload.len()),
//!             Err(failure) => println!("{}: {failure}", item.id),
//!         }
//!     }
//!     result.into_result()?;
//!
//!     // One typed call, with progress.
//!     let echoed: Vec<u32> = client
//!         .call("echo", &[1, 2, 3])
//!         .deadline(Duration::from_secs(5))
//!         .on_progress(|p| println!("{}/{}", p.done, p.total))
//!         .await?;
//!     assert_eq!(echoed, [1, 2, 3]);
//!
//!     // A batch whose events are read as they come. Dropping it would cancel it.
//!     let mut batch = client.batch().deadline(Duration::from_secs(30)).open().await?;
//!     for n in 0..1_000 {
//!         batch.send(Request::new("delay", "").json(&n)).await?;
//!     }
//!     batch.finish().await?;
//!     while let Some(event) = batch.next().await {
//!         if let Event::Summary(summary) = event? {
//!             println!("{} of {} succeeded", summary.succeeded, summary.total);
//!         }
//!     }
//!
//!     client.close().await;
//!     Ok(())
//! }
//! ```

mod attach;
mod batch;
mod builder;
mod call;
mod client;
mod describe;
mod error;
mod event;
mod item;
mod job;
mod link;
mod request;
mod retry;
mod topic;
mod transport;
pub mod worker;

pub use attach::{Attachment, JobEvent};
pub use batch::{Batch, BatchBuilder, BatchEvents, BatchResult, BatchSender};
pub use builder::{ClientBuilder, Config};
pub use call::Call;
pub use client::Client;
pub use describe::{Limits, Questions, Recipe, Usage, UsageLine, Version};
pub use error::{
    BatchError, CallError, ConnectError, DescribeError, Disconnected, JobError, TopicError,
    Violation,
};
pub use event::{Accepted, Event, EventRef, JobAccepted, Notice, Progress, Summary, Throttled};
pub use item::{Failure, ItemResult, Metadata, QuotaRefusal, ReadError};
pub use job::{
    AttemptError, Job, JobFilter, JobInfo, JobPage, JobProgress, JobWhich, Jobs, Submit,
};
pub use request::Request;
pub use retry::{Backoff, RetryPolicy};
pub use topic::{
    Appending, Consumer, ConsumerBuilder, ConsumerEvent, GroupInfo, GroupPartition, Message,
    PartitionInfo, Position, Producer, ProducerBuilder, ReceivedMessage, Retention, TopicInfo,
    TopicPage, Topics,
};
pub use transport::{SocketBuffers, Transport};
pub use worker::Worker;

pub use tollgate_certs::ClientCredentials;
pub use tollgate_protocol::{
    Code,
    batch::{CancelScope, Durability, Ended, Mode, NoticeKind, Number, Order, Scope},
    close::{CloseCode, StreamCode},
    describe::{Encoding, RecipeKind},
    id::{BatchId, JobId, MessageId},
    job::{JobState, JobTarget},
    topic::StartAt,
};

/// The frames as they stand on the wire: what [`BatchSender::send_raw`] takes and
/// [`BatchEvents::for_each`] shows.
pub mod wire {
    pub use tollgate_protocol::{
        Pairs, PairsBuf,
        batch::{Accepted, Body, Failure, ItemResult, Notice, Progress, Request, Throttled},
        job::JobAccepted,
    };
}

/// What a frame of the broker is called, for messages.
fn frame_name(frame: &tollgate_protocol::BrokerFrame<'_>) -> &'static str {
    use tollgate_protocol::BrokerFrame as F;
    match frame {
        F::Alive => "Alive",
        F::Accepted(_) => "Accepted",
        F::Progress(_) => "Progress",
        F::Result(_) => "Result",
        F::Throttled(_) => "Throttled",
        F::Notice(_) => "Notice",
        F::JobAccepted(_) => "JobAccepted",
        F::Gap(_) => "Gap",
        F::Summary(_) => "Summary",
        F::Error { .. } => "Error",
        F::Version(_) => "Version",
        F::Recipe(_) => "Recipe",
        F::Limits(_) => "Limits",
        F::Usage(_) => "Usage",
        F::End => "End",
        F::Job(_) => "Job",
        F::Jobs(_) => "Jobs",
        F::Topic(_) => "Topic",
        F::Group(_) => "Group",
        F::Listed(_) => "Listed",
        F::ProduceAccepted(_) => "ProduceAccepted",
        F::Produced(_) => "Produced",
        F::Received(_) => "Received",
        F::ProduceFailed(_) => "ProduceFailed",
        F::ConsumeAccepted(_) => "ConsumeAccepted",
        F::Delivery(_) => "Delivery",
        F::Assigned(_) => "Assigned",
        F::Committed(_) => "Committed",
    }
}
