//! Sections of `PROTOCOL.md` that the tests generate and hold it to.

use std::fmt::Write as _;

use tollgate_protocol::{Frame, encode};

const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/PROTOCOL.md");

/// The document must hold these sections to the letter; `UPDATE_VECTORS=1` writes them anew.
pub fn hold(sections: &[(&str, String)]) {
    let old = std::fs::read_to_string(SPEC).expect("PROTOCOL.md is readable");
    let mut new = old.clone();
    for (name, content) in sections {
        put_section(&mut new, name, content);
    }
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(SPEC, &new).expect("PROTOCOL.md is writable");
    } else {
        for (at, (found, expected)) in old.lines().zip(new.lines()).enumerate() {
            assert_eq!(found, expected, "PROTOCOL.md line {}", at + 1);
        }
        assert_eq!(old.len(), new.len());
    }
}

fn put_section(text: &mut String, name: &str, content: &str) {
    let (begin, end) = (format!("<!-- begin: {name} -->\n"), format!("<!-- end: {name} -->"));
    let from = text.find(&begin).expect("the section begins") + begin.len();
    let to = text.find(&end).expect("the section ends");
    text.replace_range(from..to, &format!("\n{content}\n"));
}

/// Frames as hex, every byte with its meaning.
#[derive(Default)]
pub struct Walk {
    text: String,
    in_block: bool,
}

/// Bytes shown on one line; enough for a UUID.
const LINE_BYTES: usize = 16;

impl Walk {
    pub fn say(&mut self, line: &str) {
        self.close();
        writeln!(self.text, "{line}\n").expect("writing to a string");
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.in_block) {
            self.text.push_str("```\n\n");
        }
    }

    pub fn end(mut self) -> String {
        self.close();
        self.text.trim_end().to_owned() + "\n"
    }

    /// Every byte of the frame, cut into the parts named; the parts must cover it.
    pub fn frame(&mut self, frame: &impl Frame, parts: &[(usize, &str)]) {
        let mut wire = Vec::new();
        encode(frame, &mut wire);
        self.text.push_str(if std::mem::replace(&mut self.in_block, true) {
            "\n"
        } else {
            "```text\n"
        });
        let length = format!("length: {}", wire.len() - 4);
        let mut rest = &wire[..];
        for (len, what) in [(4, &*length)].into_iter().chain(parts.iter().copied()) {
            let (part, after) = rest.split_at(len);
            rest = after;
            let hex: Vec<_> = part.iter().map(|b| format!("{b:02x}")).collect();
            writeln!(self.text, "{:<w$} | {what}", hex.join(" "), w = LINE_BYTES * 3 - 1)
                .expect("writing to a string");
        }
        assert!(rest.is_empty(), "{} bytes are not explained: {rest:02x?}", rest.len());
    }
}
