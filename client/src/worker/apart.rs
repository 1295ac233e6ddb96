//! Large payloads, each on a stream of its own: taken in and handed over.

use bytes::Bytes;
use quinn::{Connection, VarInt};
use tollgate_protocol::{
    ClientFrame,
    close::StreamCode,
    encode, limits,
    work::{Deliver, Fetch},
};

use super::{Answer, WorkError};

/// What a transfer has to name.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) connection: Connection,
    /// The stream of work.
    pub(super) work: u64,
}

impl Way {
    /// The payload of a call that was dispatched apart. Memory grows with what arrives.
    pub(super) async fn fetch(&self, lease: u64, size: u64) -> Result<Bytes, WorkError> {
        let size = usize::try_from(size).ok().filter(|n| *n <= limits::FRAME_BYTES_HARD_MAX);
        let Some(size) = size else {
            return Err(WorkError::failed("the payload is larger than any can be"));
        };
        let (mut send, mut recv) = self.connection.open_bi().await?;
        let mut ask = Vec::with_capacity(32);
        encode(&ClientFrame::Fetch(Fetch { work: self.work, lease }), &mut ask);
        send.write_all(&ask).await?;
        let _ = send.finish();
        let payload = recv.read_to_end(size).await?;
        if payload.len() != size {
            let found = payload.len();
            return Err(WorkError::failed(format!("{found} of {size} bytes of payload came")));
        }
        Ok(payload.into())
    }

    /// Hands an answer over; true when the broker took all of it.
    pub(super) async fn deliver(&self, lease: u64, answer: Answer) -> bool {
        let Ok((mut send, mut recv)) = self.connection.open_bi().await else { return false };
        let mut head = Vec::with_capacity(64);
        let deliver = Deliver {
            work: self.work,
            lease,
            size: answer.payload.len() as u64,
            metadata: answer.metadata.0.as_pairs(),
        };
        encode(&ClientFrame::Deliver(deliver), &mut head);
        let mut pieces = [Bytes::from(head), answer.payload];
        if send.write_all_chunks(&mut pieces).await.is_err() {
            // The lease ended meanwhile, or the connection did.
            return false;
        }
        let _ = send.finish();
        // The broker writes nothing, and ends its side once it has everything; or wants no more.
        let ended = matches!(recv.read(&mut [0]).await, Ok(None));
        let taken = ended && matches!(send.stopped().await, Ok(None));
        if !ended {
            let _ = recv.stop(VarInt::from_u32(StreamCode::CancelAll.number()));
        }
        taken
    }
}
