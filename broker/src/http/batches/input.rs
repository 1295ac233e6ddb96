//! The body of a batch: from the listener's thread to the engine's, and there cut into lines.

use std::{task::Poll, time::Duration};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use tokio::{sync::mpsc, time::timeout};

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    /// The body ended as it should. Without it the client hung up.
    End,
}

/// A body, and what of it came while its client was told to send it.
pub(super) struct Begun {
    body: Body,
    first: Option<Data>,
}

/// The next bytes; `Some(Ok(None))` is none of them: trailers say nothing here.
type Data = Option<Result<Option<Bytes>, axum::Error>>;

impl Begun {
    /// Asks for a body before anything is answered. A client that `asks_first`
    /// (`Expect: 100-continue`) sends nothing until it is told to, and it is told to only by a server
    /// that wants the body and has not begun to answer; otherwise it waits for a second.
    pub(super) async fn with(mut body: Body, asks_first: bool) -> Begun {
        let mut first = None;
        if asks_first {
            let next = futures::poll!(body.frame());
            if let Poll::Ready(frame) = next {
                first = Some(frame.map(|frame| frame.map(|frame| frame.into_data().ok())));
            }
            // Now the connection has its turn, and sees that the body is wanted.
            tokio::task::yield_now().await;
        }
        Begun { body, first }
    }

    /// Cancel-safe.
    async fn data(&mut self) -> Data {
        if let Some(first) = self.first.take() {
            return first;
        }
        let frame = self.body.frame().await;
        frame.map(|frame| frame.map(|frame| frame.into_data().ok()))
    }
}

/// Hands a body over, as fast as it is taken. What is no longer wanted is read and dropped for a
/// while: a connection that is closed with bytes unread may take the answer with it.
pub(super) async fn pump(mut body: Begun, to: mpsc::Sender<Piece>) {
    /// How long, and how much of, what nobody wants is read.
    const LINGER: Duration = Duration::from_secs(2);
    const LINGER_BYTES: usize = 16 << 20;
    loop {
        let piece = tokio::select! {
            // Fair: neither can keep the other waiting.
            data = body.data() => match data {
                None => Piece::End,
                Some(Err(_)) => return,
                Some(Ok(Some(bytes))) => Piece::Bytes(bytes),
                Some(Ok(None)) => continue,
            },
            () = to.closed() => break,
        };
        let last = matches!(piece, Piece::End);
        if to.send(piece).await.is_err() {
            break;
        }
        if last {
            return;
        }
    }
    let drain = async {
        let mut left = LINGER_BYTES;
        while let Some(Ok(data)) = body.data().await {
            let len = data.map_or(0, |data| data.len());
            left = match left.checked_sub(len) {
                Some(left) => left,
                None => return,
            };
        }
    };
    let _ = timeout(LINGER, drain).await;
}

/// Bytes that have come, cut into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buf: Vec<u8>,
    /// Where the next line begins.
    begin: usize,
    /// Up to where there is no end of a line.
    looked: usize,
    ended: bool,
}

impl Lines {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.begin > 0 {
            self.buf.drain(..self.begin);
            self.looked -= self.begin;
            self.begin = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// No more bytes come: what is left is the last line.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.begin == self.buf.len()
    }

    /// Bytes of a line that is not whole yet.
    pub(super) fn partial(&self) -> usize {
        self.buf.len() - self.begin
    }

    /// The next line that is whole and not blank, without its end.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let found = self.buf[self.looked..].iter().position(|b| *b == b'\n');
            let (begin, end, next) = match found {
                Some(at) => (self.begin, self.looked + at, self.looked + at + 1),
                None if self.ended && self.begin < self.buf.len() => {
                    (self.begin, self.buf.len(), self.buf.len())
                }
                None => {
                    self.looked = self.buf.len();
                    return None;
                }
            };
            (self.begin, self.looked) = (next, next);
            if !self.buf[begin..end].trim_ascii().is_empty() {
                return Some(&self.buf[begin..end]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_bytes_are_cut() {
        let text = b"one\n\n  \r\ntwo\r\nthree";
        for cut in 0..=text.len() {
            let mut lines = Lines::default();
            let mut all = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines.push(part);
                while let Some(line) = lines.next() {
                    all.push(String::from_utf8_lossy(line).trim().to_owned());
                }
            }
            assert!(!lines.has_ended());
            assert_eq!(lines.partial(), 5);
            lines.end();
            all.extend(lines.next().map(|l| String::from_utf8_lossy(l).into_owned()));
            assert_eq!(all, ["one", "two", "three"], "cut at {cut}");
            assert!(lines.has_ended() && lines.next().is_none());
        }
    }
}
