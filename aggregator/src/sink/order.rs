//! Rows in the order of the tables' key, which spares ClickHouse sorting them and moving every column
//! to its place.

use super::decode::Row;
use ahash::AHashMap;

const MICROS_PER_HOUR: u64 = 3_600_000_000;

/// The numbers of `rows` ordered by campaign, link, hour and id. Rows of equal keys stay as they are.
pub(super) fn by_key(rows: &[Row<'_>]) -> Vec<u32> {
    let mut numbers = AHashMap::new();
    let mut groups: Vec<(Key<'_>, Vec<u32>)> = Vec::new();
    for (row, number) in rows.iter().zip(0..) {
        let key = key(row);
        let group = *numbers.entry(key).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(number);
    }
    groups.sort_unstable_by_key(|group| group.0);
    let mut order = Vec::with_capacity(rows.len());
    for (_, mut group) in groups {
        // A lane's ids ascend, so there is mostly nothing to do.
        group.sort_by_key(|number| rows[*number as usize].visit.id);
        order.append(&mut group);
    }
    order
}

/// Campaign, link and hour.
type Key<'a> = (&'a str, u32, u64);

const fn key<'a>(row: &Row<'a>) -> Key<'a> {
    let visit = &row.visit;
    (
        visit.link.campaign,
        visit.link.id.0,
        visit.time.0 / MICROS_PER_HOUR,
    )
}
