//! One attached stream: opened, written to and read; lost ones are not its part.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tollgate_protocol::Splitter;

use crate::{
    client::Client,
    error::{Disconnected, JobError},
};

pub(crate) struct Stream {
    send: SendStream,
    recv: RecvStream,
    pub(crate) splitter: Splitter,
    /// Frames to be written.
    say: Vec<u8>,
}

impl Stream {
    /// Opens a stream; `first` is to be written first.
    pub(crate) async fn open(client: &Client, first: Vec<u8>) -> Result<Self, JobError> {
        let session = client.session().await?;
        let (send, recv) = session.connection.open_bi().await.map_err(Disconnected)?;
        Ok(Stream { send, recv, splitter: Splitter::new(session.receive_frame_max), say: first })
    }

    /// Has another frame written, with its prefix, by whoever polls next.
    pub(crate) fn say(&mut self, frame: &[u8]) {
        self.say.extend_from_slice(frame);
    }

    /// Writes what is to be said and reads what has arrived, once: into the splitter.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), JobError>> {
        while !self.say.is_empty() {
            match Pin::new(&mut self.send).poll_write(cx, &self.say) {
                Poll::Ready(Ok(n)) => drop(self.say.drain(..n)),
                Poll::Ready(Err(WriteError::ConnectionLost(e))) => {
                    return Poll::Ready(Err(Disconnected(e).into()));
                }
                // A stream that was stopped is no error here: what is read tells why.
                Poll::Ready(Err(_)) => self.say.clear(),
                Poll::Pending => break,
            }
        }
        let read = pin!(self.recv.read_chunks(self.splitter.buffers())).poll(cx);
        Poll::Ready(match ready!(read) {
            Ok(Some(n)) => {
                self.splitter.filled(n);
                Ok(())
            }
            Err(ReadError::ConnectionLost(e)) => Err(Disconnected(e).into()),
            Err(ReadError::Reset(code)) => Err(JobError::Reset(code.into_inner())),
            // Only 0-RTT and unordered reads give the others, and there are none here.
            Ok(None) | Err(_) => Err(JobError::Cut),
        })
    }
}
