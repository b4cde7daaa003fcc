//! What the comment of a bitstream says: of which build the engine in it is.

/// What the string of the engine's bitstreams begins with, written by `rtl/build`; eight digits follow.
const BEFORE: &[u8] = b"bellwether up5k build=";
/// Hexadecimal, lower case.
const DIGITS: usize = 8;

/// Reads the strings of a comment, of which each ends with 00, byte by byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comment {
    /// Bytes of this string that are as they should be; none, once one is not.
    matched: Option<usize>,
    /// Of the digits so far.
    value: u32,
    /// What the first whole string said.
    build: Option<u32>,
}

impl Comment {
    /// Before the first byte of the first string.
    pub(super) const fn new() -> Self {
        Self { matched: Some(0), value: 0, build: None }
    }

    /// The build, if a string has said it.
    pub(super) const fn build(&self) -> Option<u32> {
        self.build
    }

    /// Reads the next byte.
    pub(super) fn push(&mut self, byte: u8) {
        if byte == 0 {
            let whole = self.matched == Some(BEFORE.len() + DIGITS);
            let build = self.build.or(whole.then_some(self.value));
            *self = Self { build, ..Self::new() };
        } else {
            self.matched = self.matched.and_then(|at| self.fit(at, byte));
        }
    }

    /// How much is matched with `byte` as the string's number `at`.
    fn fit(&mut self, at: usize, byte: u8) -> Option<usize> {
        if at < BEFORE.len() {
            return (BEFORE.get(at) == Some(&byte)).then_some(at + 1);
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        self.value = self.value << 4 | u32::from(digit);
        (at < BEFORE.len() + DIGITS).then_some(at + 1)
    }
}
