//! Files that a daemon writes and reads at its next start: accepted or set aside.

use crate::input::{Input, piece};
use crate::temp_dir::{empty, temp_dir};
use daemon::settings::HumanDuration;
use domain::{LinkId, Micros, VisitorId};
use edge_tracker::unique::{Filters, LinkUse, UniqueSettings, Uniqueness};
use edge_tracker::visitor::address::Network;
use edge_tracker::visitor::identity::{PreviousId, VisitorIds};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

thread_local! {
    static AGGREGATOR_DIR: TempDir = {
        let dir = temp_dir();
        fs::create_dir(dir.path().join("blocks")).expect("created");
        dir
    };
    static SAVED: Saved = Saved::new();
}

fn sealed(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let mut bytes = [magic, body].concat();
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// Which files exist, then their contents: a checkpoint, the previous one, two blocks.
pub(crate) fn blocks(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.u8();
    let (mut valid, mut file_count) = (Vec::new(), 0);
    AGGREGATOR_DIR.with(|root| {
        let dir = root.path().join("blocks");
        for (bit, name) in [(0, "checkpoint"), (1, "checkpoint.prev")] {
            let body = input.piece();
            if choice >> bit & 1 == 1 {
                let whole = choice >> 6 & 1 == 1;
                let content = if whole {
                    sealed(b"FZCHECK2", body)
                } else {
                    body.to_vec()
                };
                fs::write(dir.join(name), content).expect("writable");
                file_count += 1;
            }
        }
        for bit in [2, 3] {
            let body = if bit == 2 {
                input.piece()
            } else {
                input.take(usize::MAX)
            };
            if choice >> bit & 1 == 0 {
                continue;
            }
            let content = sealed(b"FZBLOCK1", body);
            let hash = blake3::hash(&content[..content.len() - 32]).to_hex();
            let again = aggregator::fuzz_support::block(body.to_vec());
            if let Some(again) = &again {
                // Numbers may be encoded longer than necessary, but never get longer by encoding.
                assert!(again.len() <= body.len());
                assert_eq!(
                    aggregator::fuzz_support::block(again.clone()).as_ref(),
                    Some(again)
                );
            }
            // The name consists of number and hash; with another number it is another block's name.
            let number = again.as_ref().map_or(7, |_| number_in(body));
            let name = format!("{number:016x}-{}.block", &hash[..32]);
            fs::write(dir.join(name), content).expect("writable");
            file_count += 1;
            valid.extend(again);
        }
        fs::write(dir.join("begun.tmp"), b"FZBLOCK1").expect("writable");
        let found = aggregator::fuzz_support::found(root.path()).expect("opens with any files");
        assert!(found.set_aside <= file_count);
        for (token, body) in &found.blocks {
            assert!(valid.contains(body), "{token} was never written");
        }
        let numbers = found.blocks.iter().map(|(token, _)| &token[..16]);
        assert!(numbers.is_sorted(), "blocks are sorted by number");
        // Files that were set aside stay so, and the others stay accepted.
        let again = aggregator::fuzz_support::found(root.path()).expect("opens again");
        assert_eq!((again.taken, &again.blocks), (found.taken, &found.blocks));
        assert_eq!(again.set_aside, 0);
        assert!(!dir.join("begun.tmp").exists());
        empty(&dir);
    });
}

/// A block's number: the first varint after the manifest's length.
fn number_in(body: &[u8]) -> u64 {
    let bytes = body
        .get(4..)
        .unwrap_or_default()
        .iter()
        .take(10)
        .enumerate();
    let mut number = 0;
    for (at, byte) in bytes {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

const HOUR: u64 = 3_600_000_000;
const DAY: u64 = 20_000 * 24 * HOUR;

fn small() -> UniqueSettings {
    UniqueSettings {
        window: HumanDuration(Duration::from_secs(24 * 3600)),
        generations: 3,
        shards: 2,
        expected_visits: 60,
        ..UniqueSettings::default()
    }
}

fn visit(filters: &Filters, visitor: u64, hour: u64) -> bool {
    let ids = VisitorIds {
        current: VisitorId(visitor),
        previous: PreviousId::Computed(VisitorId(!visitor)),
        since: Micros(DAY),
    };
    let network = Network::of(IpAddr::V4(Ipv4Addr::from((visitor as u32) << 8)));
    let now = Micros(DAY + hour * HOUR);
    let known = filters.check_and_set(now, LinkUse::Click(LinkId(1)), &ids, network);
    known != Uniqueness::Unique
}

/// A directory of saved filters, with the header of each kind of file.
struct Saved {
    dir: TempDir,
    manifest: Vec<u8>,
    generations: Vec<(String, Vec<u8>)>,
}

/// Magic, version and fingerprint of the settings.
const HEAD: usize = 18;

impl Saved {
    fn new() -> Self {
        let dir = temp_dir();
        let filters = Filters::new(&small()).expect("valid settings");
        for hour in 0..24 {
            visit(&filters, hour * 0x9e37_79b9, hour);
        }
        filters.save(dir.path(), &[(0, 24), (3, 9)]).expect("saved");
        let mut generations = Vec::new();
        for entry in fs::read_dir(dir.path()).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path
                .file_name()
                .expect("file name")
                .to_string_lossy()
                .into_owned();
            if name.starts_with("generation") {
                generations.push((name, fs::read(path).expect("readable")));
            }
        }
        generations.sort();
        let manifest = fs::read(dir.path().join("manifest")).expect("readable");
        empty(dir.path());
        Self {
            dir,
            manifest,
            generations,
        }
    }
}

/// A file's header, the input's bytes, and a valid checksum.
fn with_checksum(head: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = [&head[..HEAD], rest].concat();
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn write(path: &Path, whole: bool, head: &[u8], rest: &[u8]) {
    let bytes = if whole {
        with_checksum(head, rest)
    } else {
        rest.to_vec()
    };
    fs::write(path, bytes).expect("writable");
}

/// Which files exist, then their contents: the manifest and two generations.
pub(crate) fn filters(bytes: &[u8]) {
    SAVED.with(|saved| {
        let mut input = Input(bytes);
        let (choice, mut file_count) = (input.u8(), 0);
        let whole = choice >> 7 == 0;
        let dir = saved.dir.path();
        let manifest = input.piece();
        if choice & 1 == 1 {
            write(&dir.join("manifest"), whole, &saved.manifest, manifest);
            file_count += 1;
        }
        for (bit, (name, valid)) in (1..3).zip(&saved.generations) {
            let len = input.u16();
            let rest = input.take(len.into());
            if choice >> bit & 1 == 1 {
                write(&dir.join(name), whole, valid, rest);
                file_count += 1;
            }
        }
        let now = Micros(DAY + 23 * HOUR);
        let (filters, snapshot) = Filters::load(&small(), dir, now).expect("valid settings");
        let good = file_count - snapshot.set_aside;
        assert!(snapshot.generations <= good);
        // Journal events may only be skipped if a manifest covers them.
        assert!(choice & 1 == 1 || snapshot.covers.is_empty());
        let stats = filters.stats();
        assert!(stats.generations.len() <= 4 && stats.memory_bytes <= 4_096);
        visit(&filters, 77, 23);
        assert!(visit(&filters, 77, 23), "a second visit is a repeated one");
        filters.save(dir, &[(0, 99)]).expect("saved");
        let (again, snapshot) = Filters::load(&small(), dir, now).expect("valid settings");
        assert_eq!(
            (snapshot.set_aside, &snapshot.covers[..]),
            (0, &[(0, 99)][..])
        );
        assert!(visit(&again, 77, 23));
        empty(dir);
    });
}

pub(crate) mod seeds {
    //! Files that both daemons leave at an orderly shutdown.

    use super::{HEAD, SAVED, piece};

    pub(crate) fn filters() -> Vec<Vec<u8>> {
        let framed = |bytes: &[u8]| {
            let len = u16::try_from(bytes.len()).expect("in range").to_le_bytes();
            [&len, bytes].concat()
        };
        let (manifest, generations) =
            SAVED.with(|saved| (saved.manifest.clone(), saved.generations.clone()));
        let rest = |bytes: &[u8]| bytes[HEAD..bytes.len() - 4].to_vec();
        let parts = [
            piece(&rest(&manifest)),
            framed(&rest(&generations[0].1)),
            framed(&rest(&generations[1].1)),
        ];
        let short = [piece(&[0; 8]), framed(&generations[0].1)];
        vec![
            [&[7][..], &parts.concat()].concat(),
            [&[1][..], &parts.concat()].concat(),
            [&[6][..], &parts.concat()].concat(),
            [&[0x83][..], &short.concat()].concat(),
        ]
    }

    pub(crate) fn blocks() -> Vec<Vec<u8>> {
        // A number without batches; and a number with one batch of four bytes.
        let empty = [&[2, 0, 0, 0][..], &[9, 0]].concat();
        let line = [1, 0, 7, 0, 0, 7, 1, 0, 1, 5, 5, 40, 0, 9, 4];
        let one = [&[17, 0, 0, 0][..], &[10, 1], &line, b"zstd"].concat();
        let checkpoint = [5, 1, 1, 0, 7, 4];
        let with = |choice: u8, one: &[u8], two: &[u8]| {
            let checkpoints = [piece(&checkpoint), piece(&[8, 0])].concat();
            [&[choice][..], &checkpoints, &piece(one), two].concat()
        };
        vec![
            with(0x4f, &empty, &one),
            with(0x4d, &one, &empty),
            with(0x0f, &one, b"no block"),
            with(0x08, &[], &one),
        ]
    }
}
