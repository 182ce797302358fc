//! Writes small MaxMind-format files for the tests (24-bit records, no pointers).

use std::net::IpAddr;

/// A value of a record.
pub(super) enum Value {
    Text(&'static str),
    Short(u16),
    Number(u32),
    Long(u64),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

/// A record: a map of these.
pub(super) type Record = Vec<(&'static str, Value)>;

/// The bytes of a file of IP version `version` with these networks, such as `1.2.0.0/16`.
pub(super) fn file(version: u16, kind: &'static str, networks: Vec<(&str, Record)>) -> Vec<u8> {
    let mut data = Vec::new();
    let mut tree = Tree {
        nodes: vec![[TreeEntry::Empty; 2]],
    };
    for (network, record) in networks {
        let offset = data.len();
        write(&Value::Map(record), &mut data);
        tree.insert(&bits(version, network), offset);
    }
    let mut out = tree.bytes();
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let nodes = u32::try_from(tree.nodes.len()).expect("small tree");
    write(&metadata(version, kind, nodes), &mut out);
    out
}

fn metadata(version: u16, kind: &'static str, nodes: u32) -> Value {
    Value::Map(vec![
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1_700_000_000)),
        ("database_type", Value::Text(kind)),
        ("description", Value::Map(vec![])),
        ("ip_version", Value::Short(version)),
        ("languages", Value::List(vec![])),
        ("node_count", Value::Number(nodes)),
        ("record_size", Value::Short(24)),
    ])
}

#[derive(Clone, Copy)]
enum TreeEntry {
    Empty,
    Node(usize),
    Data(usize),
}

struct Tree {
    nodes: Vec<[TreeEntry; 2]>,
}

impl Tree {
    fn insert(&mut self, bits: &[bool], offset: usize) {
        let (last, path) = bits.split_last().expect("prefix of at least one bit");
        let mut node = 0;
        for bit in path {
            let side = usize::from(*bit);
            node = match self.nodes[node][side] {
                TreeEntry::Node(next) => next,
                _ => {
                    self.nodes.push([TreeEntry::Empty; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = TreeEntry::Node(next);
                    next
                }
            };
        }
        self.nodes[node][usize::from(*last)] = TreeEntry::Data(offset);
    }

    fn bytes(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let record = |slot: &TreeEntry| match slot {
            TreeEntry::Empty => count,
            TreeEntry::Node(node) => *node,
            TreeEntry::Data(offset) => count + 16 + offset,
        };
        let slots = self.nodes.iter().flatten();
        slots
            .flat_map(|slot| record(slot).to_be_bytes()[5..].to_vec())
            .collect()
    }
}

/// The bits of a prefix; IPv4 lies under ::/96 in a tree of version 6.
fn bits(version: u16, network: &str) -> Vec<bool> {
    let (address, length) = network.split_once('/').expect("address/length");
    let length: usize = length.parse().expect("length");
    let (value, width) = match (address.parse().expect("address"), version) {
        (IpAddr::V4(v4), 4) => (u128::from(u32::from(v4)) << 96, length),
        (IpAddr::V4(v4), _) => (u128::from(u32::from(v4)), 96 + length),
        (IpAddr::V6(v6), _) => (u128::from(v6), length),
    };
    (0..width).map(|bit| value << bit >> 127 == 1).collect()
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            control(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Short(number) => {
            control(5, 2, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        // Types above 7 stand in a second byte, less 7.
        Value::Long(number) => {
            out.extend_from_slice(&[8, 9 - 7]);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Number(number) => {
            control(6, 4, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Map(pairs) => {
            control(7, pairs.len(), out);
            for (key, value) in pairs {
                write(&Value::Text(key), out);
                write(value, out);
            }
        }
        Value::List(values) => {
            let length = u8::try_from(values.len()).expect("short list");
            out.extend_from_slice(&[length, 11 - 7]);
            values.iter().for_each(|value| write(value, out));
        }
    }
}

fn control(kind: u8, length: usize, out: &mut Vec<u8>) {
    let length = u8::try_from(length).expect("short value");
    if length < 29 {
        out.push(kind << 5 | length);
    } else {
        out.extend_from_slice(&[kind << 5 | 29, length - 29]);
    }
}
