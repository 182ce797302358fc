//! Decodes rows of the Native format, column by column, for the column types of the tables.

use std::collections::BTreeMap;

/// The columns that are checked; others are skipped.
const COLUMNS: [&str; 9] = [
    "id",
    "time",
    "visitor",
    "link_id",
    "user_agent",
    "external_id",
    "node",
    "lane",
    "seq",
];

/// A row: each column's bytes as in the block, strings without their length.
pub(crate) type Row = BTreeMap<&'static str, Vec<u8>>;

/// The rows of a block.
pub(crate) fn read(block: &[u8]) -> Vec<Row> {
    let mut rest = block;
    let (columns, rows) = (length(&mut rest), length(&mut rest));
    let mut read = vec![Row::new(); rows];
    for _ in 0..columns {
        let (name, kind) = (text(&mut rest), text(&mut rest));
        let name = COLUMNS.into_iter().find(|it| it.as_bytes() == name);
        let width = width(kind);
        for row in &mut read {
            let value = match width {
                Some(width) => take(&mut rest, width),
                None => text(&mut rest),
            };
            if let Some(name) = name {
                row.insert(name, value.to_vec());
            }
        }
    }
    assert!(rest.is_empty(), "bytes after the last column");
    read
}

/// Bytes of a value; `None` for strings, which have a length prefix.
fn width(kind: &[u8]) -> Option<usize> {
    match kind {
        b"String" => None,
        b"UInt8" => Some(1),
        b"UInt16" => Some(2),
        b"UInt32" => Some(4),
        b"UInt64" | b"DateTime64(6, 'UTC')" | b"Decimal(18, 6)" => Some(8),
        b"IPv6" => Some(16),
        other => panic!("unknown column type: {}", String::from_utf8_lossy(other)),
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = length(rest);
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn length(rest: &mut &[u8]) -> usize {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = take(rest, 1)[0];
        number |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}
