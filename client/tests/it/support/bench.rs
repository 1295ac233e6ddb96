//! The broker's side of a stream of work, by hand: a test says line by line what the broker does.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use quinn::{ReadError, TransportConfig, VarInt};
use tokio::{sync::mpsc, task::JoinHandle};
use tollgate_client::{
    Code,
    worker::{Served, Stopper, Worker, WorkerBuilder, WorkerError},
};
use tollgate_protocol::{
    DispatchFrame, Pairs, WorkerFrame, batch::Failure, encode, id::BatchId, work::Dispatch,
};

use super::{Broker, In, Peer, credentials};

/// A broker whose streams of work, and those beside them, come to the test one by one.
pub struct Bench {
    pub broker: Broker,
    streams: mpsc::UnboundedReceiver<Peer>,
}

impl Bench {
    pub fn start() -> Bench {
        let (tell, streams) = mpsc::unbounded_channel();
        let tell = Arc::new(Mutex::new(tell));
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(256 << 10));
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let broker = Broker::start_with(addr, transport, None, move |peer| {
            let tell = tell.lock().expect("nobody panics here").clone();
            async move { drop(tell.send(peer)) }
        });
        Bench { broker, streams }
    }

    pub fn worker(&self) -> WorkerBuilder {
        Worker::builder(self.broker.addr).server_name("localhost").credentials(credentials())
    }

    /// The next stream that is not a question.
    pub async fn stream(&mut self) -> Peer {
        self.streams.recv().await.expect("the broker runs")
    }

    /// The next stream of work, with its recipes taken; their names, and the credit.
    pub async fn work(&mut self, recipes: u32) -> (Peer, Vec<String>) {
        let mut desk = self.stream().await;
        assert!(matches!(desk.first, Some(In::Work { .. })), "{:?}", desk.first);
        let mut names = Vec::new();
        for recipe in 0..recipes {
            match desk.said().await {
                Said::Register(name) => names.push(name),
                other => panic!("{other:?} instead of a recipe"),
            }
            desk.tell(&[DispatchFrame::Registered { recipe }]).await;
        }
        (desk, names)
    }
}

/// A worker that runs beside the test.
pub struct Running {
    pub stopper: Stopper,
    task: JoinHandle<Result<Served, WorkerError>>,
}

impl Running {
    pub fn start(builder: WorkerBuilder) -> Running {
        let worker = builder.build().expect("good settings");
        Running { stopper: worker.stopper(), task: tokio::spawn(worker.run()) }
    }

    pub async fn end(self) -> Result<Served, WorkerError> {
        self.task.await.expect("no panic")
    }

    /// Stops it as a broker lets it that has nothing against it.
    pub async fn stop(self, mut desk: Peer) -> Served {
        self.stopper.stop();
        assert_eq!(desk.said().await, Said::Drain);
        desk.tell(&[DispatchFrame::End]).await;
        let _ = desk.send.finish();
        self.end().await.expect("stopped in good order")
    }
}

/// What a worker says after its first frame, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Register(String),
    Progress { lease: u64, done: u64, total: u64 },
    Answer { lease: u64, payload: Bytes, metadata: Vec<(String, String)> },
    Failed { lease: u64, code: Code, message: String, permanent: bool },
    Drain,
    Fin,
    Reset,
    Lost,
}

pub fn answer(lease: u64, payload: &str) -> Said {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Said::Answer { lease, payload, metadata: vec![] }
}

pub fn cancelled(lease: u64) -> Said {
    let message = "given up as asked".into();
    Said::Failed { lease, code: Code::Cancelled, message, permanent: false }
}

/// A call of the first recipe.
pub fn call(lease: u64, payload: &[u8]) -> Dispatch<'_> {
    Dispatch {
        lease,
        recipe: 0,
        attempt: 1,
        timeout_ms: 5_000,
        item_id: lease + 100,
        batch_id: BatchId([7; 16]),
        tenant: "acme",
        traceparent: None,
        metadata: Pairs::EMPTY,
        apart: None,
        payload,
    }
}

pub fn refusal(code: Code) -> DispatchFrame<'static> {
    let failure = Failure {
        message: "as the test wants it",
        retryable: code.retryable(),
        side_effect_free: true,
        retry_after_ms: None,
        app_code: None,
        quota: None,
        details: Pairs::EMPTY,
    };
    DispatchFrame::Error { code: code.number(), failure }
}

impl Peer {
    pub async fn said(&mut self) -> Said {
        loop {
            if let Some(frame) = self.splitter.peek().expect("a frame within its limit") {
                let said = own(&WorkerFrame::decode(frame).expect("a frame"));
                self.splitter.advance();
                return said;
            }
            match self.recv.read_chunks(self.splitter.buffers()).await {
                Ok(Some(n)) => self.splitter.filled(n),
                Ok(None) => return Said::Fin,
                Err(ReadError::Reset(_)) => return Said::Reset,
                Err(_) => return Said::Lost,
            }
        }
    }

    pub async fn tell(&mut self, frames: &[DispatchFrame<'_>]) {
        let mut out = Vec::new();
        frames.iter().for_each(|f| encode(f, &mut out));
        self.raw(&out).await;
    }

    pub async fn dispatch(&mut self, call: Dispatch<'_>) {
        self.tell(&[DispatchFrame::Dispatch(call)]).await;
    }

    /// The raw bytes that follow the first frame, to the end of the stream.
    pub async fn everything(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.recv.read_chunk(1 << 20, true).await.expect("not reset") {
            bytes.extend_from_slice(&chunk.bytes);
        }
        bytes
    }

    /// Ends the stream of work with a final frame.
    pub async fn last(mut self, frame: DispatchFrame<'_>) {
        self.tell(&[frame]).await;
        let _ = self.send.finish();
        let _ = self.send.stopped().await;
    }
}

fn own(frame: &WorkerFrame<'_>) -> Said {
    match frame {
        WorkerFrame::Register(r) => Said::Register(r.name.into()),
        WorkerFrame::Progress(p) => Said::Progress { lease: p.lease, done: p.done, total: p.total },
        WorkerFrame::Answer(a) => Said::Answer {
            lease: a.lease,
            payload: Bytes::copy_from_slice(a.payload),
            metadata: a.metadata.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        },
        WorkerFrame::Failed(f) => Said::Failed {
            lease: f.lease,
            code: Code::from_number(f.code).expect("a code"),
            message: f.message.into(),
            permanent: f.permanent,
        },
        WorkerFrame::Drain => Said::Drain,
        WorkerFrame::Credit { .. } => panic!("{frame:?} is not expected"),
    }
}
