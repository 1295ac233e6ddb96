//! The two enums of a stream of work: what a worker says after `Work`, and what the broker says.
//!
//! ```text
//! worker -> broker: ClientFrame::Work, then WorkerFrame ... WorkerFrame::Drain
//! broker -> worker: DispatchFrame ... DispatchFrame::End or DispatchFrame::Error
//! ```
//!
//! Framed as every frame is. Variants are only ever added at the end.

use super::{Answer, Dispatch, Failed, Progress, RecipeSpec, open::read_credit};
use crate::{
    batch::{Failure, Notice},
    codec::{Reader, Result, put_u64},
    encode::{Frame, begin, end},
    frame::unknown,
};

/// A frame from a worker to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerFrame<'a> {
    /// 0: offers a recipe; answered with `Registered`, in order.
    Register(RecipeSpec<'a>),
    /// 1: takes more calls at once than before.
    Credit {
        /// How many more.
        add: u32,
    },
    /// 2: how far a call has come.
    Progress(Progress<'a>),
    /// 3: a call succeeded.
    Answer(Answer<'a>),
    /// 4: a call failed.
    Failed(Failed<'a>),
    /// 5: takes no more calls; the broker says `End` once the last one is answered.
    Drain,
}

impl<'a> WorkerFrame<'a> {
    /// Decodes one frame, without its length prefix.
    ///
    /// # Errors
    /// [`DecodeError`](crate::DecodeError), naming the field; when
    /// [`is_out_of_bounds`](crate::DecodeError::is_out_of_bounds) and `item` is set, only the lease
    /// of that number is at fault.
    #[inline]
    pub fn decode(frame: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new(frame);
        let decoded = match r.variant("frame")? {
            3 => WorkerFrame::Answer(Answer::read(&mut r)?),
            0 => WorkerFrame::Register(RecipeSpec::read(&mut r)?),
            1 => WorkerFrame::Credit { add: read_credit("add", &mut r)? },
            2 => WorkerFrame::Progress(Progress::read(&mut r)?),
            4 => WorkerFrame::Failed(Failed::read(&mut r)?),
            5 => WorkerFrame::Drain,
            n => return Err(unknown(n)),
        };
        r.finish()?;
        Ok(decoded)
    }

    /// What the frame is called, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            WorkerFrame::Register(_) => "Register",
            WorkerFrame::Credit { .. } => "Credit",
            WorkerFrame::Progress(_) => "Progress",
            WorkerFrame::Answer(_) => "Answer",
            WorkerFrame::Failed(_) => "Failed",
            WorkerFrame::Drain => "Drain",
        }
    }
}

impl Frame for WorkerFrame<'_> {
    fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            WorkerFrame::Register(x) => {
                out.push(0);
                x.put(out);
            }
            WorkerFrame::Credit { add } => {
                out.push(1);
                put_u64(out, (*add).into());
            }
            WorkerFrame::Progress(x) => {
                out.push(2);
                x.put(out);
            }
            WorkerFrame::Answer(x) => {
                out.push(ANSWER);
                x.put(out);
            }
            WorkerFrame::Failed(x) => {
                out.push(4);
                x.put(out);
            }
            WorkerFrame::Drain => out.push(5),
        }
    }
}

/// A frame from the broker to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatchFrame<'a> {
    /// The empty frame: the broker is alive and has nothing to say.
    Alive,
    /// 0: a recipe was taken.
    Registered {
        /// The number by which dispatches on this stream name it: 0, 1, ... in the order of
        /// `Register`.
        recipe: u32,
    },
    /// 1: a call to run.
    Dispatch(Dispatch<'a>),
    /// 2: nobody wants the result of a call any more. It is still answered.
    Cancel {
        /// Which lease.
        lease: u64,
    },
    /// 3: something is about to happen to the connection.
    Notice(Notice<'a>),
    /// 4: the stream was refused or is over; its last frame.
    Error {
        /// A number of the table of codes.
        code: u16,
        /// Why.
        failure: Failure<'a>,
    },
    /// 5: every call is answered after `Drain`; the last frame.
    End,
}

impl<'a> DispatchFrame<'a> {
    /// Decodes one frame, without its length prefix.
    ///
    /// # Errors
    /// [`DecodeError`](crate::DecodeError), naming the field.
    #[inline]
    pub fn decode(frame: &'a [u8]) -> Result<Self> {
        if frame.is_empty() {
            return Ok(DispatchFrame::Alive);
        }
        let mut r = Reader::new(frame);
        let decoded = match r.variant("frame")? {
            1 => DispatchFrame::Dispatch(Dispatch::read(&mut r)?),
            0 => DispatchFrame::Registered { recipe: r.u32("recipe")? },
            2 => DispatchFrame::Cancel { lease: r.u64("lease")? },
            3 => DispatchFrame::Notice(Notice::read(&mut r)?),
            4 => DispatchFrame::Error { code: r.u16("code")?, failure: Failure::read(&mut r)? },
            5 => DispatchFrame::End,
            n => return Err(unknown(n)),
        };
        r.finish()?;
        Ok(decoded)
    }

    /// Whether nothing follows this frame on its stream.
    pub fn is_final(&self) -> bool {
        matches!(self, DispatchFrame::Error { .. } | DispatchFrame::End)
    }
}

impl Frame for DispatchFrame<'_> {
    fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            DispatchFrame::Alive => {}
            DispatchFrame::Registered { recipe } => {
                out.push(0);
                put_u64(out, (*recipe).into());
            }
            DispatchFrame::Dispatch(x) => {
                out.push(DISPATCH);
                x.put(out);
            }
            DispatchFrame::Cancel { lease } => {
                out.push(2);
                put_u64(out, *lease);
            }
            DispatchFrame::Notice(x) => {
                out.push(3);
                x.put(out);
            }
            DispatchFrame::Error { code, failure } => {
                out.push(4);
                put_u64(out, (*code).into());
                failure.put(out);
            }
            DispatchFrame::End => out.push(5),
        }
    }
}

/// Appends a dispatch with its length prefix but without the bytes of its payload, which must
/// follow: for a sender that hands the payload over apart. `payload` is not looked at.
#[inline]
pub fn encode_dispatch_head(dispatch: &Dispatch<'_>, payload_len: usize, out: &mut Vec<u8>) {
    let start = begin(out);
    out.push(DISPATCH);
    dispatch.put_before_payload(payload_len, out);
    end(out, start, payload_len);
}

/// Appends an answer with its length prefix but without the bytes of its payload, which must
/// follow. `payload` is not looked at.
#[inline]
pub fn encode_answer_head(answer: &Answer<'_>, payload_len: usize, out: &mut Vec<u8>) {
    let start = begin(out);
    out.push(ANSWER);
    answer.put_before_payload(payload_len, out);
    end(out, start, payload_len);
}

const DISPATCH: u8 = 1;
const ANSWER: u8 = 3;
