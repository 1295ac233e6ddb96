//! Questions about the broker: its recipes, limits and version, and what the tenant uses.
//!
//! Every question is a stream of its own and may be asked again at will.

use std::{sync::Arc, time::Duration};

use quinn::ReadError;
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Extensions, Splitter,
    describe::{self, Describe, Encoding, RecipeKind, Subject},
    encode,
};

use crate::{
    client::Client,
    error::{DescribeError, Disconnected, Violation},
    frame_name,
    item::Failure,
    link::Session,
};

/// A recipe and what it promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its name.
    pub name: Box<str>,
    /// Where it runs.
    pub kind: RecipeKind,
    /// How it reads its payload.
    pub encoding: Encoding,
    /// The longest an attempt may run.
    pub timeout: Duration,
    /// The longest an item waits to be started.
    pub queue_timeout: Duration,
    /// How long it usually takes.
    pub estimated_duration: Duration,
    /// How many run at once; 0 when only the tenant's and the broker's bounds apply.
    pub concurrency_max: u32,
    /// Whether it blocks a core while it runs.
    pub blocking: bool,
    /// Whether running it twice does no more than running it once.
    pub idempotent: bool,
    /// How often a job of it is tried.
    pub attempts_max: u32,
    /// The largest payload it takes, in bytes.
    pub payload_bytes_max: u64,
    /// The largest result it may give, in bytes.
    pub result_bytes_max: u64,
    /// For people.
    pub description: Box<str>,
    /// JSON Schema of its payload, as JSON text.
    pub schema: Option<Box<str>>,
    /// Workers that serve it now; `None` for one that is not workers'.
    pub workers: Option<u32>,
}

impl Recipe {
    fn own(r: &describe::Recipe<'_>) -> Self {
        Recipe {
            name: r.name.into(),
            kind: r.kind,
            encoding: r.encoding,
            timeout: Duration::from_millis(r.timeout_ms),
            queue_timeout: Duration::from_millis(r.queue_timeout_ms),
            estimated_duration: Duration::from_millis(r.estimated_duration_ms),
            concurrency_max: r.concurrency_max,
            blocking: r.blocking,
            idempotent: r.idempotent,
            attempts_max: r.attempts_max,
            payload_bytes_max: r.payload_bytes_max,
            result_bytes_max: r.result_bytes_max,
            description: r.description.into(),
            schema: r.schema.map(Into::into),
            workers: r.workers(),
        }
    }
}

/// The limits that apply to a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame the broker reads, in bytes after the length prefix.
    pub frame_bytes_max: u32,
    /// The largest payload of an item, in bytes.
    pub payload_bytes_max: u64,
    /// Items a batch may have.
    pub batch_items_max: u64,
    /// Items of the tenant that run at once.
    pub concurrency_max: u32,
    /// Batches of the tenant that are open at once.
    pub batches_in_flight_max: u64,
}

/// What a tenant uses of one quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageLine {
    /// The quota's name.
    pub quota: Box<str>,
    /// What is used now, in the quota's unit.
    pub current: u64,
    /// What is allowed; `None` when there is no limit.
    pub limit: Option<u64>,
}

/// What a tenant uses of its quotas: a line a quota.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// The lines, in the broker's order.
    pub lines: Vec<UsageLine>,
}

impl Usage {
    /// The line of a quota, if the broker gave one.
    pub fn quota(&self, name: &str) -> Option<&UsageLine> {
        self.lines.iter().find(|l| &*l.quota == name)
    }
}

/// The version of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The protocol, as its ALPN name.
    pub protocol: Box<str>,
    /// The broker's own version.
    pub broker: Box<str>,
}

/// Questions, perhaps in another tenant's name; made by [`Client::describe`].
#[derive(Debug, Clone)]
pub struct Questions {
    client: Client,
    tenant: Option<Arc<str>>,
}

impl Questions {
    pub(crate) fn new(client: Client) -> Self {
        Questions { client, tenant: None }
    }

    /// Gateways only: the tenant in whose name it is asked.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The recipes that the tenant can name.
    ///
    /// # Errors
    /// [`DescribeError`]. Cancel-safe, as every question.
    pub async fn recipes(&self) -> Result<Vec<Recipe>, DescribeError> {
        let mut recipes = Vec::new();
        self.ask(Subject::Recipes, |frame| match frame {
            BrokerFrame::Recipe(r) => {
                recipes.push(Recipe::own(r));
                true
            }
            _ => false,
        })
        .await?;
        Ok(recipes)
    }

    /// The limits that apply to the tenant.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub async fn limits(&self) -> Result<Limits, DescribeError> {
        let mut limits = None;
        self.ask(Subject::Limits, |frame| match frame {
            BrokerFrame::Limits(l) => limits
                .replace(Limits {
                    frame_bytes_max: l.frame_bytes_max,
                    payload_bytes_max: l.payload_bytes_max,
                    batch_items_max: l.batch_items_max,
                    concurrency_max: l.concurrency_max,
                    batches_in_flight_max: l.batches_in_flight_max,
                })
                .is_none(),
            _ => false,
        })
        .await?;
        limits.ok_or(DescribeError::Protocol(Violation::Unexpected("End")))
    }

    /// What the tenant uses of its quotas.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub async fn usage(&self) -> Result<Usage, DescribeError> {
        let mut usage = None;
        self.ask(Subject::Usage, |frame| match frame {
            BrokerFrame::Usage(u) => {
                let line = |l: &describe::UsageLine<'_>| UsageLine {
                    quota: l.quota.into(),
                    current: l.current,
                    limit: l.limit,
                };
                usage.replace(Usage { lines: u.lines.iter().map(line).collect() }).is_none()
            }
            _ => false,
        })
        .await?;
        usage.ok_or(DescribeError::Protocol(Violation::Unexpected("End")))
    }

    /// The broker's version.
    ///
    /// # Errors
    /// [`DescribeError`].
    pub async fn version(&self) -> Result<Version, DescribeError> {
        let session = self.client.session().await?;
        version(&session, self.tenant.as_deref()).await
    }

    async fn ask(
        &self,
        subject: Subject,
        take: impl FnMut(&BrokerFrame<'_>) -> bool,
    ) -> Result<(), DescribeError> {
        let session = self.client.session().await?;
        ask(&session, subject, self.tenant.as_deref(), take).await
    }
}

/// Shows that the broker accepted the client.
pub(crate) async fn confirm(session: &Session) -> Result<Version, DescribeError> {
    version(session, None).await
}

async fn version(session: &Session, tenant: Option<&str>) -> Result<Version, DescribeError> {
    let mut version = None;
    ask(session, Subject::Version, tenant, |frame| match frame {
        BrokerFrame::Version(v) => version
            .replace(Version { protocol: v.protocol.into(), broker: v.broker.into() })
            .is_none(),
        _ => false,
    })
    .await?;
    version.ok_or(DescribeError::Protocol(Violation::Unexpected("End")))
}

/// Asks one question; `take` says whether a frame belongs to its answer.
async fn ask(
    session: &Session,
    subject: Subject,
    tenant: Option<&str>,
    mut take: impl FnMut(&BrokerFrame<'_>) -> bool,
) -> Result<(), DescribeError> {
    let (mut send, mut recv) = session.connection.open_bi().await.map_err(Disconnected)?;
    let mut question = Vec::with_capacity(32);
    let describe = Describe { subject, tenant, extensions: Extensions::EMPTY };
    encode(&ClientFrame::Describe(describe), &mut question);
    // A stream that was stopped before it was read is no error: the answer says why.
    if let Err(quinn::WriteError::ConnectionLost(e)) = send.write_all(&question).await {
        return Err(Disconnected(e).into());
    }
    let _ = send.finish();
    let mut splitter = Splitter::new(session.receive_frame_max);
    loop {
        while let Some(frame) = splitter.peek().map_err(Violation::from)? {
            let frame = BrokerFrame::decode(frame).map_err(Violation::from)?;
            match frame {
                BrokerFrame::End => return Ok(()),
                BrokerFrame::Error { code, failure } => {
                    return Err(DescribeError::Failed(Box::new(Failure::own(code, &failure))));
                }
                BrokerFrame::Alive => {}
                ref answer if take(answer) => {}
                other => return Err(Violation::Unexpected(frame_name(&other)).into()),
            }
            splitter.advance();
        }
        match recv.read_chunks(splitter.buffers()).await {
            Ok(Some(n)) => splitter.filled(n),
            Ok(None) => return Err(DescribeError::Cut),
            Err(ReadError::ConnectionLost(e)) => return Err(Disconnected(e).into()),
            Err(ReadError::Reset(code)) => return Err(DescribeError::Reset(code.into_inner())),
            // Only 0-RTT and unordered reads give the others, and there are none here.
            Err(_) => return Err(DescribeError::Cut),
        }
    }
}
