//! Splits invalid TOML by tables, so that a syntax error in one advertiser's table hides no error in others.

use super::{Mistake, of_parser};
use std::borrow::Cow;
use std::ops::Range;
use toml::de::DeTable;

/// Maximum number of reported syntax errors.
const MAX_SLIPS: usize = 64;

/// A header line and the lines up to the next one.
struct Section {
    place: Range<usize>,
    /// The advertiser; `None` if the header is invalid.
    advertiser: Option<String>,
}

/// The syntax errors, one per section, and the text without these sections. All other sections keep their
/// positions.
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
    // Errors that only appear in the whole text, such as a duplicate table.
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

/// A line that starts with a bracket starts a section: nothing else in the file starts with one.
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

/// The first syntax error in a text.
fn first_slip(text: &str) -> Option<Mistake> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let whole = 0..0;
    let slips = errors.iter().map(|error| of_parser(error, &whole));
    let mut first = slips.min_by_key(|slip| slip.offset)?;
    // An unclosed value is reported at the end of the text, which belongs to another section.
    let last = text.trim_end().len().saturating_sub(1);
    first.offset = text.floor_char_boundary(first.offset.min(last));
    Some(first)
}

/// Replaces a section and the advertiser's other sections by spaces: they may depend on the invalid one.
fn blank(text: &mut String, sections: &[Section], wrong: &Section) {
    let same = |it: &&Section| it.advertiser.is_some() && it.advertiser == wrong.advertiser;
    for section in sections.iter().filter(same).chain([wrong]) {
        let place = section.place.clone();
        text.replace_range(place.clone(), &" ".repeat(place.len()));
    }
}
