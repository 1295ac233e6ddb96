//! The state of the live view, and what keys do to it. Knows no terminal.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    rows::{Picture, Sort},
    sample::Sample,
};

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pub api: String,
    pub sort: Sort,
    pub smallest_first: bool,
    pub filter: String,
    /// Keys are letters of the filter now.
    pub typing: bool,
    pub paused: bool,
    /// The first row that is shown.
    pub scroll: usize,
    /// Rows that fit, as of the last drawing.
    pub page: usize,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
    before: Option<Sample>,
    now: Option<Sample>,
    pub picture: Picture,
}

/// What a key comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    Draw,
    Quit,
}

impl Screen {
    pub(super) fn new(api: String, sort: Sort, filter: String) -> Screen {
        Screen { api, sort, filter, ..Screen::default() }
    }

    /// Takes a new look, or why there is none.
    pub(super) fn saw(&mut self, sample: anyhow::Result<Sample>) {
        match sample {
            Ok(sample) if !self.paused => {
                self.trouble = None;
                self.before = self.now.replace(sample);
                self.arrange();
            }
            Ok(_) => self.trouble = None,
            Err(e) => self.trouble = Some(format!("{e:#}")),
        }
    }

    /// Does what a key says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Then {
        if key.kind == KeyEventKind::Release {
            return Then::Draw;
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if ctrl => return Then::Quit,
            code if self.typing => self.type_filter(code),
            KeyCode::Char('q') | KeyCode::Esc => return Then::Quit,
            KeyCode::Char('s') => self.sort = self.sort.step(1),
            KeyCode::Char('S') => self.sort = self.sort.step(-1),
            KeyCode::Char('r') => self.smallest_first = !self.smallest_first,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Down | KeyCode::Char('j') => self.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += self.page.max(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page.max(1)),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = usize::MAX / 2,
            _ => {}
        }
        self.arrange();
        Then::Draw
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            // Longer ones match no id.
            KeyCode::Char(c) if self.filter.len() < 64 => self.filter.push(c),
            _ => {}
        }
    }

    fn arrange(&mut self) {
        if let Some(now) = &self.now {
            self.picture = Picture::between(self.before.as_ref(), now);
            self.picture.arrange(self.sort, self.smallest_first, &self.filter);
        }
        // What is shown ends with the last row.
        let last = self.picture.rows.len().saturating_sub(self.page.max(1));
        self.scroll = self.scroll.min(last);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{super::rows::tests::sample, *};

    fn press(screen: &mut Screen, keys: &str) {
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            assert_eq!(screen.key(code.into()), Then::Draw, "{c:?}");
        }
    }

    fn shown(screen: &Screen) -> Vec<&str> {
        screen.picture.rows.iter().map(|r| r.tenant.as_str()).collect()
    }

    #[test]
    fn keys_sort_filter_pause_and_quit() {
        let mut screen = Screen::new("here".into(), Sort::Load, String::new());
        let at = Instant::now();
        let tenants: &[_] = &[("acme", 1, 0, 1), ("globex", 9, 0, 2), ("quiet", 0, 0, 0)];
        screen.saw(Ok(sample(at, &[("acme", 0, 0, 0), ("globex", 0, 0, 0), ("quiet", 0, 0, 0)])));
        screen.saw(Ok(sample(at + Duration::from_secs(1), tenants)));
        assert_eq!(shown(&screen), ["globex", "acme", "quiet"]);
        press(&mut screen, "r");
        assert_eq!(shown(&screen), ["quiet", "acme", "globex"]);
        press(&mut screen, "rS");
        assert_eq!((screen.sort, shown(&screen)), (Sort::Tenant, vec!["acme", "globex", "quiet"]));
        press(&mut screen, "/qui");
        assert_eq!((screen.typing, shown(&screen)), (true, vec!["quiet"]));
        press(&mut screen, "\n");
        assert_eq!((screen.typing, shown(&screen)), (false, vec!["quiet"]));
        press(&mut screen, "/\u{1b}p");
        assert_eq!((screen.paused, shown(&screen).len()), (true, 3));
        screen.saw(Ok(sample(at + Duration::from_secs(2), &[("other", 0, 0, 0)])));
        assert_eq!(shown(&screen).len(), 3, "nothing moves while it is paused");
        screen.saw(Err(anyhow::anyhow!("gone")));
        assert_eq!(screen.trouble.as_deref(), Some("gone"));
        assert_eq!(screen.key(KeyCode::Char('q').into()), Then::Quit);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.key(ctrl_c), Then::Quit);
    }

    #[test]
    fn scrolling_ends_at_the_last_row() {
        let mut screen = Screen { page: 2, ..Screen::default() };
        screen.saw(Ok(sample(Instant::now(), &[("a", 0, 0, 0), ("b", 0, 0, 0), ("c", 0, 0, 0)])));
        screen.key(KeyCode::End.into());
        assert_eq!(screen.scroll, 1);
        screen.key(KeyCode::Up.into());
        screen.key(KeyCode::Up.into());
        assert_eq!(screen.scroll, 0);
        screen.key(KeyCode::PageDown.into());
        assert_eq!(screen.scroll, 1);
    }
}
