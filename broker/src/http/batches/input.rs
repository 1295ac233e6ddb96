//! The body of a batch: from the listener's thread to the engine's, and there cut into lines.

use std::time::Duration;

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

/// Hands a body over, as fast as it is taken. What is no longer wanted is read and dropped for a
/// while: a connection that is closed with bytes unread may take the answer with it.
pub(super) async fn pump(mut body: Body, to: mpsc::Sender<Piece>) {
    /// How long, and how much of, what nobody wants is read.
    const LINGER: Duration = Duration::from_secs(2);
    const LINGER_BYTES: usize = 16 << 20;
    loop {
        let piece = tokio::select! {
            // Fair: neither can keep the other waiting.
            frame = body.frame() => match frame {
                None => Piece::End,
                Some(Err(_)) => return,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => Piece::Bytes(bytes),
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
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
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
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
