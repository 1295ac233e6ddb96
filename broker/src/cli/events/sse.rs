//! Server-sent events: bytes as they come to events as they are meant.
//!
//! Only what a broker sends: `id`, `event` and `data` lines; comments keep the stream alive.

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: String,
}

/// Puts events together from chunks that know nothing of lines.
#[derive(Debug, Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    id: Option<String>,
    name: String,
    data: Option<String>,
}

/// The longest line; one that is longer is no event of a broker.
const LINE_MAX: usize = 1 << 20;

impl Parser {
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() > LINE_MAX && !self.buffer.contains(&b'\n') {
            self.buffer.clear();
        }
    }

    /// The next event that is whole.
    pub(super) fn next(&mut self) -> Option<Event> {
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            if let Some(event) = self.line(line.trim_end_matches('\r')) {
                return Some(event);
            }
        }
        None
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (id, name) = (self.id.take(), std::mem::take(&mut self.name));
            return self.data.take().map(|data| Event { id, name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, name: &str, data: &str) -> Event {
        Event { id: id.map(str::to_owned), name: name.into(), data: data.into() }
    }

    #[test]
    fn events_are_put_together_however_they_are_cut() {
        let text = ": alive\n\nid: 1\nevent: drift\ndata: {\"a\":\ndata: 1}\n\nretry: 5\nid:2\r\n\
                    data:x\r\n\r\nid: 3\n\ndata: unfinished";
        let expected = [event(Some("1"), "drift", "{\"a\":\n1}"), event(Some("2"), "", "x")];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                parser.feed(chunk);
                found.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(found, expected, "in chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut parser = Parser::default();
        for _ in 0..40 {
            parser.feed(&[b'x'; 1 << 16]);
            assert!(parser.buffer.len() <= LINE_MAX + (1 << 16));
        }
    }
}
