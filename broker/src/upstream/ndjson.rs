//! A streamed answer: lines of progress, then one line with the result or the error.
//!
//! Every line is an object with one member. Memory is bounded by the longest line that is allowed;
//! of progress only the newest is kept.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_protocol::Code;

use super::answer::{MESSAGE_BYTES_MAX, Words, clean};
use crate::batch::Error;

/// What a stream comes to: the payload, or the upstream's own error.
pub(super) type Answer = Result<Vec<u8>, Error>;

/// How far the upstream says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub done: u64,
    pub total: u64,
    pub message: String,
}

/// Why a stream of lines is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadStream {
    #[error("line {line} is longer than {max} bytes")]
    TooLong { line: u64, max: usize },
    #[error("line {line} is not an object with one of progress, result, result_base64, error")]
    Malformed { line: u64 },
    #[error("line {line} comes after the result")]
    AfterTheEnd { line: u64 },
    #[error("it ended without a result")]
    NoResult,
}

/// Reads a stream as it comes.
#[derive(Debug)]
pub(super) struct Reader {
    /// The line that is not whole yet.
    buffer: Vec<u8>,
    line: u64,
    line_bytes_max: usize,
    progress: Option<Progress>,
    end: Option<Answer>,
}

/// One line.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Progress(ProgressLine<'a>),
    #[serde(borrow)]
    Result(&'a RawValue),
    #[serde(borrow)]
    ResultBase64(Cow<'a, str>),
    Error(Words),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgressLine<'a> {
    done: u64,
    #[serde(default)]
    total: u64,
    #[serde(default, borrow)]
    message: Cow<'a, str>,
}

impl Reader {
    /// For an answer whose result may have so many bytes.
    pub(super) fn new(result_bytes_max: usize) -> Self {
        // Base64 makes four bytes of three.
        let line_bytes_max = LINE_BYTES_MIN.max(result_bytes_max.div_ceil(3) * 4 + LINE_HEAD_BYTES);
        Reader { buffer: Vec::new(), line: 0, line_bytes_max, progress: None, end: None }
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// [`BadStream`]: nothing more needs to be read.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), BadStream> {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            bytes = rest;
            self.fits(line.len())?;
            if self.buffer.is_empty() {
                self.read(line)?;
            } else {
                self.buffer.extend_from_slice(line);
                let whole = std::mem::take(&mut self.buffer);
                self.read(&whole)?;
            }
        }
        self.fits(bytes.len())?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// How many bytes it keeps: of a line, and of the result.
    pub(super) fn kept(&self) -> usize {
        self.buffer.len() + self.end.as_ref().map_or(0, |end| end.as_ref().map_or(0, Vec::len))
    }

    /// The newest progress since the last time.
    pub(super) fn progress(&mut self) -> Option<Progress> {
        self.progress.take()
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`BadStream`], when it was no answer.
    pub(super) fn finish(mut self) -> Result<Answer, BadStream> {
        let last = std::mem::take(&mut self.buffer);
        self.read(&last)?;
        self.end.ok_or(BadStream::NoResult)
    }

    fn fits(&self, more: usize) -> Result<(), BadStream> {
        match self.buffer.len() + more > self.line_bytes_max {
            true => Err(BadStream::TooLong { line: self.line + 1, max: self.line_bytes_max }),
            false => Ok(()),
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), BadStream> {
        self.line += 1;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.end.is_some() {
            return Err(BadStream::AfterTheEnd { line: self.line });
        }
        let malformed = BadStream::Malformed { line: self.line };
        match serde_json::from_slice(line).map_err(|_| malformed.clone())? {
            Line::Progress(p) => {
                let message = clean(&p.message, MESSAGE_BYTES_MAX);
                self.progress = Some(Progress { done: p.done, total: p.total, message });
            }
            Line::Result(json) => self.end = Some(Ok(json.get().as_bytes().to_vec())),
            Line::ResultBase64(text) => {
                let bytes = BASE64_STANDARD.decode(text.as_bytes()).map_err(|_| malformed)?;
                self.end = Some(Ok(bytes));
            }
            Line::Error(words) => self.end = Some(Err(error(words))),
        }
        Ok(())
    }
}

/// An error that the upstream says in its own words; its code is one that any recipe may answer.
fn error(words: Words) -> Error {
    let code = words.code.as_deref().and_then(Code::from_name);
    let code = code.filter(|code| MAY_ANSWER.contains(code)).unwrap_or(Code::RecipeExecution);
    let message = words.message.as_deref().map(|m| clean(m, MESSAGE_BYTES_MAX));
    let message = message.filter(|m| !m.is_empty());
    let message = message.unwrap_or_else(|| "the upstream failed without a word".to_owned());
    words.tell(Error::with_code(code, message))
}

/// What an upstream may say in a line; anything else is `RECIPE_EXECUTION`.
const MAY_ANSWER: [Code; 6] = [
    Code::ValidationError,
    Code::NotFound,
    Code::Unauthorized,
    Code::Forbidden,
    Code::RateLimited,
    Code::InternalError,
];
/// A line may always have so many bytes, however small the result is.
const LINE_BYTES_MIN: usize = 64 << 10;
/// What stands around a result in its line.
const LINE_HEAD_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]], max: usize) -> (Vec<Progress>, Result<Answer, BadStream>) {
        let mut reader = Reader::new(max);
        let mut seen = Vec::new();
        for piece in pieces {
            if let Err(e) = reader.take(piece) {
                return (seen, Err(e));
            }
            seen.extend(reader.progress());
        }
        (seen, reader.finish())
    }

    #[track_caller]
    fn result(stream: &str) -> Vec<u8> {
        read(&[stream.as_bytes()], 1_000).1.expect("an answer").expect("a result")
    }

    #[track_caller]
    fn bad(stream: &[u8], expected: &BadStream) {
        let read = read(&[stream], 1_000).1;
        assert_eq!(read.expect_err("no answer"), *expected, "{}", stream.escape_ascii());
    }

    #[test]
    fn progress_then_a_result() {
        let stream = "{\"progress\": {\"done\": 1, \"total\": 3, \"message\": \"a\\u0007b\"}}\r\n\n\
                      {\"progress\": {\"done\": 2}}\n{\"result\": {\"a\":  1.50}}\n";
        let (seen, end) = read(&[stream.as_bytes()], 1_000);
        assert_eq!(seen, [Progress { done: 2, total: 0, message: String::new() }], "the newest");
        assert_eq!(end.expect("an answer").expect("a result"), b"{\"a\":  1.50}");
        let (seen, _) = read(&[&stream.as_bytes()[..70], &stream.as_bytes()[70..]], 1_000);
        assert_eq!(seen[0], Progress { done: 1, total: 3, message: "a b".into() });
    }

    #[test]
    fn a_result_is_json_or_bytes_and_needs_no_end_of_line() {
        assert_eq!(result("{\"result\":null}"), b"null");
        assert_eq!(result("\n{\"result_base64\":\"AP8=\"}\n \n"), [0, 255]);
        assert_eq!(result("{\"result\":\"x\"}\n"), b"\"x\"");
    }

    #[test]
    fn an_error_has_a_code_that_a_recipe_may_answer() {
        let error = |stream: &str| {
            let (_, end) = read(&[stream.as_bytes()], 1_000);
            end.expect("an answer").expect_err("an error").into_inner()
        };
        let e = error(
            "{\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"no\\nsuch\",\"app_code\":\"X\",\
             \"permanent\":true,\"retry_after_ms\":5,\"details\":{\"id\":7}}}",
        );
        assert_eq!((e.code, &*e.message, e.permanent), (Code::NotFound, "no such", true));
        assert_eq!(e.details.as_pairs().find("id"), Some("7"));
        for code in ["QUOTA_EXCEEDED", "OK", "DRAINING", "made up"] {
            let e = error(&format!("{{\"error\":{{\"code\":\"{code}\"}}}}"));
            assert_eq!(e.code, Code::RecipeExecution, "{code}");
        }
    }

    #[test]
    fn what_is_no_answer_is_named_with_its_line() {
        bad(b"", &BadStream::NoResult);
        bad(b"{\"progress\":{\"done\":1}}\n", &BadStream::NoResult);
        bad(b"{\"result\":1}\n{\"result\":2}\n", &BadStream::AfterTheEnd { line: 2 });
        for line in [
            "{}",
            "[]",
            "1",
            "nope",
            "{\"result\":1",
            "{\"result\":1,\"progress\":{\"done\":1}}",
            "{\"Result\":1}",
            "{\"progress\":{\"done\":-1}}",
            "{\"progress\":{\"done\":1,\"x\":2}}",
            "{\"result_base64\":\"!\"}",
            "{\"result\":1}{\"result\":1}",
            "\u{0}",
        ] {
            bad(format!("\n{line}\n").as_bytes(), &BadStream::Malformed { line: 2 });
        }
        bad(b"\n\xff\n", &BadStream::Malformed { line: 2 });
    }

    #[test]
    fn a_line_is_bounded_whether_it_ends_or_not() {
        let too_long = BadStream::TooLong { line: 1, max: LINE_BYTES_MIN };
        bad(&[b' '; LINE_BYTES_MIN + 1], &too_long);
        let mut ends = vec![b' '; LINE_BYTES_MIN + 1];
        ends.push(b'\n');
        bad(&ends, &too_long);
        bad(&[b' '; LINE_BYTES_MIN], &BadStream::NoResult);
        let pieces: Vec<&[u8]> = vec![&[b'x'; 1_000]; 66];
        assert_eq!(read(&pieces, 0).1.expect_err("too long"), too_long);
        // The largest result fits, as text and as base64.
        let max = 1 << 20;
        let text = format!("{{\"result\":\"{}\"}}\n", "x".repeat(max - 2));
        assert_eq!(read(&[text.as_bytes()], max).1.expect("fits").expect("a result").len(), max);
        let text = format!("{{\"result_base64\":\"{}\"}}", BASE64_STANDARD.encode(vec![7; max]));
        assert_eq!(read(&[text.as_bytes()], max).1.expect("fits").expect("a result").len(), max);
    }

    proptest! {
        /// Where the network cuts a stream makes no difference.
        #[test]
        fn pieces_are_as_the_whole(cuts in prop::collection::vec(0..90_usize, 0..8)) {
            let stream: &[u8] = b"{\"progress\":{\"done\":1}}\n{\"progress\":{\"done\":2}}\n\n{\"result\":[1,2]}\n";
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(stream.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&stream[from..cut]);
                from = cut;
            }
            pieces.push(&stream[from..]);
            let (seen, end) = read(&pieces, 100);
            prop_assert_eq!(end.expect("an answer").expect("a result"), b"[1,2]");
            prop_assert_eq!(seen.last().map(|p| p.done), Some(2));
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = read(&[&bytes], 10);
        }
    }
}
