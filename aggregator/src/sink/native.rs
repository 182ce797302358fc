//! ClickHouse's Native format: a block is its columns one after another, each with name and type.
//!
//! The format: <https://clickhouse.com/docs/interfaces/formats/Native>. The client library's own
//! builder and writer keep every value apart and send each text by itself, which cost several times
//! as much. Which columns there are never belongs here.

use ahash::AHashMap;
use bytes::Bytes;

/// Rows are taken so many at a time, so that they stay in the cache while each column reads them.
const ROWS_AT_ONCE: usize = 128;
/// Columns up to this size, in bytes, are sent together.
const PART_BYTES: usize = 256 << 10;

/// How a LowCardinality column's parts are laid out: keys of its own for each block.
const KEYS_VERSION: u64 = 1;
/// The keys follow, and they are all there are.
const KEYS_FOLLOW: u64 = 1 << 9 | 1 << 10;

/// The columns of a block while they are written; `R` is what a row is made of.
pub(super) struct Block<'r, R: 'r> {
    columns: Vec<Box<dyn Column<'r, R> + 'r>>,
}

trait Column<'r, R: 'r> {
    fn add(&mut self, rows: &[&'r R]);
    fn finish(self: Box<Self>) -> Vec<u8>;
}

impl<'r, R: 'r> Block<'r, R> {
    pub(super) const fn new() -> Self {
        Self {
            columns: Vec::new(),
        }
    }

    /// Adds a column whose values take `N` bytes each.
    pub(super) fn fixed<const N: usize>(
        &mut self,
        name: &str,
        kind: &str,
        value: impl Fn(&'r R) -> [u8; N] + 'r,
    ) {
        let out = head(name, kind);
        self.columns.push(Box::new(Fixed { out, value }));
    }

    /// Adds a `String` column.
    pub(super) fn text(&mut self, name: &str, value: impl Fn(&'r R) -> &'r str + 'r) {
        let out = head(name, "String");
        self.columns.push(Box::new(Text { out, value }));
    }

    /// Adds a `LowCardinality(String)` column: each different text once, and their numbers.
    pub(super) fn word(&mut self, name: &str, value: impl Fn(&'r R) -> &'r str + 'r) {
        self.columns.push(Box::new(Words {
            out: head(name, "LowCardinality(String)"),
            value,
            numbers: AHashMap::new(),
            words: Vec::new(),
            last: 0,
            indexes: Vec::new(),
        }));
    }

    /// The block of `rows` in their `order`, as pieces to be sent one after another.
    pub(super) fn write(mut self, rows: &'r [R], order: &[u32]) -> Vec<Bytes> {
        let mut some = Vec::with_capacity(ROWS_AT_ONCE);
        for numbers in order.chunks(ROWS_AT_ONCE) {
            some.clear();
            some.extend(numbers.iter().map(|number| &rows[*number as usize]));
            self.columns.iter_mut().for_each(|column| column.add(&some));
        }
        let mut part = Vec::new();
        length(&mut part, self.columns.len());
        length(&mut part, order.len());
        let mut parts = Vec::new();
        for column in self.columns {
            let column = column.finish();
            if part.len() + column.len() > PART_BYTES {
                parts.push(std::mem::replace(&mut part, column).into());
            } else {
                part.extend_from_slice(&column);
            }
        }
        parts.push(part.into());
        parts
    }
}

struct Fixed<F> {
    out: Vec<u8>,
    value: F,
}

impl<'r, R: 'r, const N: usize, F: Fn(&'r R) -> [u8; N]> Column<'r, R> for Fixed<F> {
    fn add(&mut self, rows: &[&'r R]) {
        for row in rows {
            self.out.extend_from_slice(&(self.value)(row));
        }
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.out
    }
}

struct Text<F> {
    out: Vec<u8>,
    value: F,
}

impl<'r, R: 'r, F: Fn(&'r R) -> &'r str> Column<'r, R> for Text<F> {
    fn add(&mut self, rows: &[&'r R]) {
        for row in rows {
            string(&mut self.out, (self.value)(row));
        }
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.out
    }
}

struct Words<'r, F> {
    out: Vec<u8>,
    value: F,
    numbers: AHashMap<&'r str, u32>,
    words: Vec<&'r str>,
    /// The number of the row before, whose word is often the next one's too.
    last: u32,
    indexes: Vec<u32>,
}

impl<'r, F> Words<'r, F> {
    fn number(&mut self, word: &'r str) -> u32 {
        if self.words.get(self.last as usize) != Some(&word) {
            self.last = *self.numbers.entry(word).or_insert_with(|| {
                self.words.push(word);
                self.words.len() as u32 - 1
            });
        }
        self.last
    }
}

impl<'r, R: 'r, F: Fn(&'r R) -> &'r str> Column<'r, R> for Words<'r, F> {
    fn add(&mut self, rows: &[&'r R]) {
        for row in rows {
            let word = (self.value)(row);
            let number = self.number(word);
            self.indexes.push(number);
        }
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        let Self {
            mut out,
            words,
            indexes,
            ..
        } = *self;
        // Numbers are as wide as the largest needs.
        let width = match words.len() {
            ..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        for number in [KEYS_VERSION, KEYS_FOLLOW | width, words.len() as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        words.iter().for_each(|word| string(&mut out, word));
        out.extend_from_slice(&(indexes.len() as u64).to_le_bytes());
        for index in indexes {
            out.extend_from_slice(&index.to_le_bytes()[..1 << width]);
        }
        out
    }
}

fn head(name: &str, kind: &str) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, name);
    string(&mut out, kind);
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A length as LEB128.
fn length(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
