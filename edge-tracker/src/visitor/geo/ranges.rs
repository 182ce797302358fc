//! An index of a file's IPv4 networks: a lookup takes two or three memory accesses instead of the two dozen of a walk
//! down the file's tree, nearly all of which miss the caches while serving.
//!
//! Built once when a file is loaded. IPv6 is looked up in the file itself.

use super::Location;
use ahash::AHashMap;
use maxminddb::Reader;
use std::net::{IpAddr, Ipv4Addr};

/// Addresses with the same upper half share a bucket.
const BUCKETS: usize = 1 << 16;

/// Locations by ranges of addresses.
pub(super) struct Ranges {
    /// The index of each bucket's first range, and the end of the last one.
    first: Box<[u32]>,
    ranges: Box<[Range]>,
    /// The distinct locations; unknown first.
    places: Box<[Location]>,
}

/// A range of a bucket; it ends where the next one starts. Six bytes, so that a bucket's ranges are mostly in one cache
/// line.
#[derive(Clone, Copy)]
struct Range {
    /// The lower half of the first address.
    start: u16,
    /// The index in `places`, low half first.
    number: [u16; 2],
}

impl std::fmt::Debug for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranges")
            .field("ranges", &self.ranges.len())
            .field("places", &self.places.len())
            .finish()
    }
}

impl Ranges {
    /// Indexes every IPv4 network of `reader`; `place_of` returns the location of an address.
    pub(super) fn of(reader: &Reader<Vec<u8>>, place_of: impl Fn(IpAddr) -> Location) -> Self {
        let mut places = LocationTable::default();
        let mut networks = Vec::new();
        let all = "0.0.0.0/0".parse().expect("network");
        let within = reader.within(all, Default::default());
        // A damaged part of a file that passed validation is unknown, like a missing record.
        for found in within.into_iter().flatten().flatten() {
            let (Some(offset), Ok(network)) = (found.offset(), found.network()) else {
                continue;
            };
            if let (IpAddr::V4(first), prefix @ 0..=32) = (network.ip(), network.prefix()) {
                let first = u32::from(first);
                let last = first | u32::MAX.checked_shr(prefix.into()).unwrap_or_default();
                let number = places.number(offset, || place_of(Ipv4Addr::from(first).into()));
                networks.push((first, last, number));
            }
        }
        networks.sort_unstable();
        Self::index(&networks, places.list.into())
    }

    fn index(networks: &[(u32, u32, u32)], places: Box<[Location]>) -> Self {
        let mut first = Vec::with_capacity(BUCKETS + 1);
        let mut ranges = Vec::new();
        let mut networks = networks.iter().peekable();
        for bucket in 0..BUCKETS as u32 {
            let (begin, end) = (bucket << 16, bucket << 16 | 0xffff);
            first.push(ranges.len() as u32);
            let mut add = |start: u32, number: u32| ranges.push(Range::new(start, number));
            // Addresses from here on are unknown up to the next network.
            let mut next = u64::from(begin);
            while let Some((from, to, number)) = networks.peek().filter(|it| it.0 <= end) {
                let from = (*from).max(begin);
                if next < u64::from(from) {
                    add(next as u32, 0);
                }
                if u64::from(*to) >= next {
                    add(from.max(next as u32), *number);
                    next = u64::from(*to) + 1;
                }
                if *to > end {
                    break;
                }
                networks.next();
            }
            if next <= u64::from(end) {
                add(next as u32, 0);
            }
        }
        first.push(ranges.len() as u32);
        Self {
            first: first.into(),
            ranges: ranges.into(),
            places,
        }
    }

    /// The location of `address`.
    pub(super) fn lookup(&self, address: Ipv4Addr) -> Location {
        let address = u32::from(address);
        let bucket = (address >> 16) as usize;
        let (from, to) = (self.first[bucket] as usize, self.first[bucket + 1] as usize);
        let low = (address & 0xffff) as u16;
        let ranges = &self.ranges[from..to];
        let after = ranges.partition_point(|range| range.start <= low);
        // Each bucket has a range that starts with its first address.
        self.places[ranges[after - 1].number()]
    }
}

impl Range {
    fn new(start: u32, number: u32) -> Self {
        Self {
            start: start as u16,
            number: [number as u16, (number >> 16) as u16],
        }
    }

    fn number(self) -> usize {
        usize::from(self.number[1]) << 16 | usize::from(self.number[0])
    }
}

/// Assigns numbers to distinct locations.
struct LocationTable {
    list: Vec<Location>,
    by_offset: AHashMap<usize, u32>,
    by_place: AHashMap<Location, u32>,
}

impl Default for LocationTable {
    fn default() -> Self {
        let unknown = Location::default();
        Self {
            list: vec![unknown],
            by_offset: AHashMap::new(),
            by_place: AHashMap::from_iter([(unknown, 0)]),
        }
    }
}

impl LocationTable {
    /// The number of the location in the record at `offset`, which is read once.
    fn number(&mut self, offset: usize, place: impl FnOnce() -> Location) -> u32 {
        let Self {
            list,
            by_offset,
            by_place,
        } = self;
        *by_offset.entry(offset).or_insert_with(|| {
            *by_place.entry(place()).or_insert_with_key(|place| {
                list.push(*place);
                list.len() as u32 - 1
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(asn: u32) -> Location {
        Location {
            asn,
            ..Location::default()
        }
    }

    proptest! {
        #[test]
        fn range_keeps_its_start_and_number(start: u16, number: u32) {
            let range = Range::new(start.into(), number);
            prop_assert_eq!((range.start, range.number()), (start, number as usize));
        }

        /// Disjoint networks as in a tree, from single addresses to large parts.
        #[test]
        fn address_has_the_location_of_its_network(seeds in proptest::collection::vec((any::<u32>(), 1_u8..=32), 0..60)) {
            let mut networks: Vec<(u32, u32, u32)> = Vec::new();
            for (address, prefix) in seeds {
                let host = u32::MAX.checked_shr(prefix.into()).unwrap_or_default();
                let (first, last) = (address & !host, address | host);
                if networks.iter().all(|(f, l, _)| last < *f || first > *l) {
                    networks.push((first, last, networks.len() as u32 + 1));
                }
            }
            networks.sort_unstable();
            let places = (0..=networks.len() as u32).map(place).collect();
            let ranges = Ranges::index(&networks, places);
            let edges = networks.iter().flat_map(|(first, last, _)| {
                [*first, *last, first.wrapping_sub(1), last.wrapping_add(1), first / 2 + last / 2]
            });
            for address in edges.chain([0, u32::MAX]) {
                let expected = networks
                    .iter()
                    .find(|(first, last, _)| (*first..=*last).contains(&address))
                    .map_or(0, |(_, _, number)| *number);
                prop_assert_eq!(ranges.lookup(address.into()).asn, expected, "{}", Ipv4Addr::from(address));
            }
        }
    }
}
