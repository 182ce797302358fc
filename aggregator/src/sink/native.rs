//! ClickHouse's Native format: a block is its columns one after another, each with name and type.
//!
//! The wire carries plain types; ClickHouse converts them to LowCardinality where the table has it.
//! The format: <https://clickhouse.com/docs/interfaces/formats/Native>. The client library's own
//! builder and writer keep every value separately and send each text by itself, which costs several times
//! as much. Which columns there are never belongs here.

use bytes::Bytes;

/// The number of rows that each column encodes at once, so that they stay in the cache for the next column.
const ROWS_PER_PASS: usize = 128;
/// Columns up to this size are sent together, in bytes.
const PART_BYTES: usize = 256 << 10;

/// The most memory reserved for a value in advance, in bytes.
const ROOM_BYTES: usize = 256;

/// A block of columns; `R` is the type of its rows.
pub(super) struct NativeBlock<'r, R> {
    columns: Vec<Column<'r, R>>,
}

struct Column<'r, R> {
    out: Vec<u8>,
    add: AppendColumn<'r, R>,
}

/// Appends the values of rows to a column.
type AppendColumn<'r, R> = Box<dyn Fn(&'r [R], &mut Vec<u8>) + 'r>;

impl<'r, R> NativeBlock<'r, R> {
    pub(super) const fn new() -> Self {
        Self {
            columns: Vec::new(),
        }
    }

    /// Adds a column with `N` bytes per value.
    pub(super) fn fixed<const N: usize>(
        &mut self,
        name: &str,
        kind: &str,
        value: impl Fn(&'r R) -> [u8; N] + 'r,
    ) {
        self.column(name, kind, move |rows, out| {
            for row in rows {
                out.extend_from_slice(&value(row));
            }
        });
    }

    /// Adds a `String` column.
    pub(super) fn text(&mut self, name: &str, value: impl Fn(&'r R) -> &'r str + 'r) {
        self.column(name, "String", move |rows, out| {
            for row in rows {
                string(out, value(row).as_bytes());
            }
        });
    }

    /// Adds a `String` column of texts that are computed from a row.
    pub(super) fn made_text<T: AsRef<[u8]>>(
        &mut self,
        name: &str,
        value: impl Fn(&'r R) -> T + 'r,
    ) {
        self.column(name, "String", move |rows, out| {
            for row in rows {
                string(out, value(row).as_ref());
            }
        });
    }

    fn column(&mut self, name: &str, kind: &str, add: impl Fn(&'r [R], &mut Vec<u8>) + 'r) {
        let mut out = Vec::new();
        string(&mut out, name.as_bytes());
        string(&mut out, kind.as_bytes());
        let add = Box::new(add);
        self.columns.push(Column { out, add });
    }

    /// The encoded block of `rows`, in consecutive pieces.
    pub(super) fn write(mut self, rows: &'r [R]) -> Vec<Bytes> {
        for (number, some) in rows.chunks(ROWS_PER_PASS).enumerate() {
            for Column { out, add } in &mut self.columns {
                add(some, out);
                if number == 0 {
                    // A similar size for the remaining rows: growing step by step copies everything twice.
                    let each = (out.len() / some.len() + 1).min(ROOM_BYTES);
                    out.reserve(each * (rows.len() - some.len()));
                }
            }
        }
        let mut part = Vec::new();
        length(&mut part, self.columns.len());
        length(&mut part, rows.len());
        let mut parts = Vec::new();
        for Column { out, .. } in self.columns {
            if part.len() + out.len() > PART_BYTES {
                parts.push(std::mem::replace(&mut part, out).into());
            } else {
                part.extend_from_slice(&out);
            }
        }
        parts.push(part.into());
        parts
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    length(out, text.len());
    out.extend_from_slice(text);
}

/// Appends a length as LEB128.
fn length(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
