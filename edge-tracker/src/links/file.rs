//! Reads `links.toml`. A file is accepted or rejected as a whole, with the line and the reason of the error.

use super::{Destination, Link, LinkState, Name, Slug, Table};
use ahash::AHashMap;
use daemon::settings::{self, SettingsError};
use domain::LinkId;
use http::StatusCode;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinksFile {
    #[serde(default)]
    link: Vec<LinkEntry>,
    /// Confirms that the file has no links on purpose.
    #[serde(default)]
    empty: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkEntry {
    id: Spanned<u32>,
    slug: Spanned<Slug>,
    offer: Name,
    campaign: Name,
    affiliate: Name,
    destination: Destination,
    #[serde(default)]
    code: Code,
    #[serde(default)]
    state: StateName,
    fallback: Option<Destination>,
    #[serde(default)]
    pass_query: bool,
    #[serde(default = "yes")]
    append_click_id: bool,
    /// The previous slug of its id.
    renamed_from: Option<Slug>,
}

const fn yes() -> bool {
    true
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateName {
    #[default]
    Active,
    Paused,
}

#[derive(Deserialize)]
#[serde(try_from = "u16")]
struct Code(StatusCode);

impl Default for Code {
    fn default() -> Self {
        Self(StatusCode::FOUND)
    }
}

impl TryFrom<u16> for Code {
    type Error = &'static str;

    fn try_from(code: u16) -> Result<Self, Self::Error> {
        redirect_status(code).map(Self)
    }
}

/// The status of a redirect.
///
/// # Errors
/// When `code` is no redirect to another URL.
pub fn redirect_status(code: u16) -> Result<StatusCode, &'static str> {
    match code {
        301 => Ok(StatusCode::MOVED_PERMANENTLY),
        302 => Ok(StatusCode::FOUND),
        303 => Ok(StatusCode::SEE_OTHER),
        307 => Ok(StatusCode::TEMPORARY_REDIRECT),
        308 => Ok(StatusCode::PERMANENT_REDIRECT),
        _ => Err("a redirect's code is 301, 302, 303, 307 or 308"),
    }
}

const EMPTY: &str = "a file without [[link]] must contain empty = true, and no other file may: an emptied file would \
     answer every visitor 404";

/// Reads and checks the links file at `path`.
///
/// # Errors
/// When it can't be read or contains any error.
pub fn load(path: &Path) -> Result<Table, SettingsError> {
    let unreadable = |cause| SettingsError::Unreadable {
        path: path.into(),
        cause,
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let wrong = |at: usize, message: &str| settings::error_at(path, &text, at, message);
    let file: LinksFile = settings::parse(path, &text)?;
    if file.link.is_empty() != file.empty {
        return Err(wrong(0, EMPTY));
    }
    let mut table = Table::default();
    let mut ids = AHashMap::with_capacity(file.link.len());
    for entry in file.link {
        let (id_at, slug_at) = (entry.id.span().start, entry.slug.span().start);
        let id = LinkId(*entry.id.get_ref());
        if let Some(first) = ids.insert(id, entry.slug.get_ref().clone()) {
            let message = format!("id {id} is already used by the link {:?}", &*first);
            return Err(wrong(id_at, &message));
        }
        table
            .insert(Arc::new(link_of(entry)))
            .map_err(|_| wrong(slug_at, "another link above has the same slug"))?;
    }
    Ok(table)
}

fn link_of(entry: LinkEntry) -> Link {
    let destination = if entry.append_click_id {
        entry.destination.with_click_id()
    } else {
        entry.destination
    };
    let state = match entry.state {
        StateName::Active => LinkState::Active,
        StateName::Paused => LinkState::Paused {
            fallback: entry.fallback,
        },
    };
    Link {
        id: LinkId(entry.id.into_inner()),
        slug: entry.slug.into_inner(),
        domain: None,
        offer: entry.offer,
        campaign: entry.campaign,
        affiliate: entry.affiliate,
        destination,
        code: entry.code.0,
        state,
        pass_query: entry.pass_query,
        renamed_from: entry.renamed_from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "[[link]]\nid = 1\nslug = \"a\"\noffer = \"o\"\ncampaign = \"c\"\naffiliate = \"f\"\ndestination = \"https://shop.example/\"\n";

    fn loaded(text: &str) -> Result<Table, String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("writable");
        load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn link_is_found_by_its_slug() {
        let table = loaded(LINK).expect("valid");
        let link = table.find("a", "").expect("found");
        assert_eq!(
            (&*link.slug, link.id, link.code),
            ("a", LinkId(1), StatusCode::FOUND)
        );
        assert!(table.find("A", "").is_none());
    }

    #[test]
    fn slug_is_found_in_any_case_when_unambiguous() {
        let slugs = ["small", "Large", "both", "BOTH", "Two", "tWo"];
        let entries = slugs.iter().enumerate().map(|(id, slug)| {
            LINK.replace("id = 1", &format!("id = {id}"))
                .replace("\"a\"", &format!("{slug:?}"))
        });
        let table = loaded(&entries.collect::<String>()).expect("valid");
        for (asked, found) in [
            ("SMALL", Some("small")),
            ("large", Some("Large")),
            ("Both", None),
            ("two", None),
            ("none", None),
        ] {
            let slug = table.find_in_any_case(asked, "").map(|link| &*link.slug);
            assert_eq!(slug, found, "{asked}");
        }
        assert!(slugs.iter().all(|slug| table.find(slug, "").is_some()));
    }

    #[test]
    fn invalid_links_are_rejected_with_line_and_reason() {
        for (from, to, line, reason) in [
            ("id = 1", "id = -1", 2, "expected u32"),
            ("slug = \"a\"", "slug = \"a b\"", 3, "a slug is 1 to 64"),
            (
                "https://shop",
                "gopher://shop",
                7,
                "must start with https://",
            ),
            (
                "shop.example/",
                "shop.example/{nope}",
                7,
                "there is no macro {nope}",
            ),
            ("offer =", "ofer =", 4, "unknown field `ofer`"),
            (
                "id = 1",
                "id = 1\ncode = 200",
                3,
                "301, 302, 303, 307 or 308",
            ),
        ] {
            let error = loaded(&LINK.replace(from, to)).expect_err(to);
            assert!(error.contains(&format!(":{line}: ")), "{error}");
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn ids_and_slugs_are_unique() {
        let error = loaded(&format!("{LINK}{LINK}")).expect_err("refused");
        assert!(
            error.contains(":9: id 1 is already used by the link \"a\""),
            "{error}"
        );
        let error =
            loaded(&format!("{LINK}{}", LINK.replace("id = 1", "id = 2"))).expect_err("refused");
        assert!(
            error.contains(":10: another link above has the same slug"),
            "{error}"
        );
    }
}
