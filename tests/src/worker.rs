//! A worker without manners: frames, to say what no worker would.

use bytes::Bytes;
use tollgate_certs::{ClientCredentials, Identity};
use tollgate_protocol::{
    ClientFrame, Code, DispatchFrame, WorkerFrame,
    batch::NoticeKind,
    encode,
    work::{Answer, Deliver, Dispatch, Failed, Fetch, Progress, RecipeSpec, WorkOpen},
};

use crate::{
    Rig,
    raw::{self, Ending, Raw, RawStream, Told},
};

/// A worker on a connection of its own.
pub struct RawWorker {
    /// Its connection.
    pub raw: Raw,
    /// Its stream of work.
    pub stream: RawStream,
}

/// A call, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// As in the frame.
    pub lease: u64,
    /// As in the frame.
    pub recipe: u32,
    /// As in the frame.
    pub attempt: u32,
    /// As in the frame.
    pub timeout_ms: u64,
    /// As in the frame.
    pub item_id: u64,
    /// As in the frame.
    pub tenant: String,
    /// As in the frame.
    pub metadata: Vec<(String, String)>,
    /// As in the frame.
    pub apart: Option<u64>,
    /// As in the frame.
    pub payload: Vec<u8>,
}

/// What the broker says to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A recipe was taken.
    Registered(u32),
    /// Run this.
    Call(Call),
    /// Nobody wants it any more.
    Cancel(u64),
    /// Something is about to happen.
    Notice(NoticeKind),
    /// The stream failed.
    Error(Told),
    /// Everything is answered.
    End,
    /// The stream ended.
    Over(Ending),
}

impl From<Dispatch<'_>> for Call {
    fn from(d: Dispatch<'_>) -> Self {
        Call {
            lease: d.lease,
            recipe: d.recipe,
            attempt: d.attempt,
            timeout_ms: d.timeout_ms,
            item_id: d.item_id,
            tenant: d.tenant.to_owned(),
            metadata: d.metadata.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            apart: d.apart,
            payload: d.payload.to_vec(),
        }
    }
}

impl From<DispatchFrame<'_>> for Said {
    fn from(frame: DispatchFrame<'_>) -> Self {
        match frame {
            DispatchFrame::Alive => unreachable!("passed over"),
            DispatchFrame::Registered { recipe } => Said::Registered(recipe),
            DispatchFrame::Dispatch(d) => Said::Call(d.into()),
            DispatchFrame::Cancel { lease } => Said::Cancel(lease),
            DispatchFrame::Notice(n) => Said::Notice(n.kind),
            DispatchFrame::Error { code, failure } => {
                Said::Error(Told::new(None, code, 0, &failure))
            }
            DispatchFrame::End => Said::End,
        }
    }
}

impl Rig {
    /// Credentials of a worker: of a tenant, or of the platform.
    pub fn worker_credentials(&self, tenant: Option<&str>) -> ClientCredentials {
        let identity = match tenant {
            Some(tenant) => {
                let id = tollgate_protocol::id::TenantId::parse(tenant).expect("a tenant id");
                Identity::tenant_worker(id, Some("w")).expect("an identity")
            }
            None => Identity::platform_worker("w").expect("an identity"),
        };
        self.credentials_of(&identity)
    }

    /// A worker that has opened its stream and serves nothing yet.
    pub async fn worker(&self, tenant: Option<&str>, credit: u32) -> RawWorker {
        let raw = raw::connect(self.addr(), &self.worker_credentials(tenant)).await;
        let mut stream = raw.stream().await;
        stream.frame(&ClientFrame::Work(WorkOpen::new(credit))).await;
        RawWorker { raw, stream }
    }

    /// A platform worker that serves these recipes, each as its name says no more.
    pub async fn serving(&self, credit: u32, recipes: &[&str]) -> RawWorker {
        let mut worker = self.worker(None, credit).await;
        for name in recipes {
            worker.register(RecipeSpec::new(name)).await;
        }
        worker
    }
}

impl RawWorker {
    /// Says anything.
    pub async fn say(&mut self, frame: &WorkerFrame<'_>) {
        let mut out = Vec::new();
        encode(frame, &mut out);
        self.stream.bytes(&out).await;
    }

    /// Offers a recipe that is taken; its number.
    ///
    /// # Panics
    /// When it is not.
    pub async fn register(&mut self, spec: RecipeSpec<'_>) -> u32 {
        self.say(&WorkerFrame::Register(spec)).await;
        match self.next().await {
            Said::Registered(recipe) => recipe,
            other => panic!("not taken: {other:?}"),
        }
    }

    /// What the broker says next.
    pub async fn next(&mut self) -> Said {
        let decode =
            |f: &[u8]| Said::from(DispatchFrame::decode(f).expect("the broker's frames decode"));
        self.stream.try_bytes(decode).await.unwrap_or_else(Said::Over)
    }

    /// The next call.
    ///
    /// # Panics
    /// When something else is said.
    pub async fn call(&mut self) -> Call {
        match self.next().await {
            Said::Call(call) => call,
            other => panic!("no call: {other:?}"),
        }
    }

    /// The failure that ends the stream, past whatever is said before.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub async fn error(&mut self) -> Told {
        loop {
            match self.next().await {
                Said::Error(told) => return told,
                Said::Over(end) => panic!("ended without an error: {end:?}"),
                _ => {}
            }
        }
    }

    /// Answers a call well.
    pub async fn answer(&mut self, lease: u64, payload: &[u8]) {
        let metadata = tollgate_protocol::Pairs::EMPTY;
        self.say(&WorkerFrame::Answer(Answer { lease, metadata, payload })).await;
    }

    /// Answers a call with a failure.
    pub async fn fail(&mut self, lease: u64, code: Code, message: &str) {
        self.say(&WorkerFrame::Failed(Failed::new(lease, code, message))).await;
    }

    /// Says how far a call has come.
    pub async fn progress(&mut self, lease: u64, done: u64, total: u64) {
        let message = "";
        self.say(&WorkerFrame::Progress(Progress { lease, done, total, message })).await;
    }

    /// Answers so many calls, each with its own payload.
    pub async fn echo(&mut self, calls: usize) {
        for _ in 0..calls {
            let call = self.call().await;
            self.answer(call.lease, &call.payload).await;
        }
    }

    /// Fetches a payload that was dispatched apart.
    pub async fn fetch(&self, lease: u64) -> Result<Vec<u8>, quinn::ReadToEndError> {
        let mut stream = self.raw.stream().await;
        let work = self.stream.recv.id().into();
        stream.frame(&ClientFrame::Fetch(Fetch { work, lease })).await;
        stream.fin();
        stream.reader.recv.read_to_end(17 << 20).await
    }

    /// Opens a stream for a large answer and sends its head.
    pub async fn deliver(&self, lease: u64, size: u64) -> RawStream {
        let mut stream = self.raw.stream().await;
        let work = self.stream.recv.id().into();
        let metadata = tollgate_protocol::Pairs::EMPTY;
        stream.frame(&ClientFrame::Deliver(Deliver { work, lease, size, metadata })).await;
        stream
    }
}

/// A payload of some length that shows where it was cut or mixed up.
pub fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}
