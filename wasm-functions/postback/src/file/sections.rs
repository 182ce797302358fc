//! A text that is no TOML, table by table: a slip in one advertiser's table hides nothing that is wrong in others.

use super::{Mistake, of_parser};
use std::borrow::Cow;
use std::ops::Range;
use toml::de::DeTable;

/// Beyond this many nothing more is looked for.
const MAX_SLIPS: usize = 64;

/// A header line with what follows on it, up to the next one.
struct Section {
    place: Range<usize>,
    /// The advertiser; none where the header can't be read.
    advertiser: Option<String>,
}

/// What the parser finds wrong, once for each section; and the text without these, in which all others have the place
/// that they had.
pub(super) fn without_slips(text: &str) -> (Vec<Mistake>, Cow<'_, str>) {
    let mut mistakes = Vec::new();
    if first_slip(text).is_none() {
        return (mistakes, Cow::Borrowed(text));
    }
    let sections = sections(text);
    let mut rest = text.to_owned();
    for section in &sections {
        if mistakes.len() == MAX_SLIPS {
            break;
        }
        if let Some(mut mistake) = first_slip(&text[section.place.clone()]) {
            mistake.offset += section.place.start;
            mistakes.push(mistake);
            blank(&mut rest, &sections, section);
        }
    }
    // What only shows in the whole text, such as a table that is there twice.
    while mistakes.len() < MAX_SLIPS {
        let Some(mistake) = first_slip(&rest) else {
            return (mistakes, Cow::Owned(rest));
        };
        let place = sections
            .iter()
            .find(|it| it.place.contains(&mistake.offset));
        mistakes.push(mistake);
        match place {
            Some(section) => blank(&mut rest, &sections, section),
            None => break,
        }
    }
    (mistakes, Cow::Borrowed(""))
}

/// A line that begins with a bracket begins a section: nothing else in the file has reason to.
fn sections(text: &str) -> Vec<Section> {
    let headers = text
        .match_indices('[')
        .filter(|(at, _)| text[..*at].ends_with('\n'));
    let mut starts = vec![0];
    starts.extend(headers.map(|(at, _)| at));
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let places = starts.iter().zip(ends).map(|(start, end)| *start..end);
    places
        .map(|place| Section {
            advertiser: advertiser(&text[place.clone()]),
            place,
        })
        .collect()
}

fn advertiser(section: &str) -> Option<String> {
    let header = section.lines().next().filter(|it| it.starts_with('['))?;
    let header = DeTable::parse(header).ok()?;
    let (name, _) = header.get_ref().iter().next()?;
    Some(name.get_ref().to_string())
}

/// The first thing that is wrong with a text, within it.
fn first_slip(text: &str) -> Option<Mistake> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let whole = 0..0;
    let slips = errors.iter().map(|error| of_parser(error, &whole));
    let mut first = slips.min_by_key(|slip| slip.offset)?;
    // What is not closed is missing at the end, which is another section's place.
    let last = text.trim_end().len().saturating_sub(1);
    first.offset = text.floor_char_boundary(first.offset.min(last));
    Some(first)
}

/// Makes spaces of a section, and of its advertiser's others: what these lack may be in it.
fn blank(text: &mut String, sections: &[Section], wrong: &Section) {
    let same = |it: &&Section| it.advertiser.is_some() && it.advertiser == wrong.advertiser;
    for section in sections.iter().filter(same).chain([wrong]) {
        let place = section.place.clone();
        text.replace_range(place.clone(), &" ".repeat(place.len()));
    }
}
