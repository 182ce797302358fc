//! Client hints: what a browser says in `Sec-CH-UA`, `Sec-CH-UA-Mobile` and `Sec-CH-UA-Platform`.
//!
//! <https://wicg.github.io/ua-client-hints/>. Browsers freeze their agents; the hints still tell brand,
//! system and form.

/// The headers as sent; empty ones are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentHints<'r> {
    /// `Sec-CH-UA`.
    pub brands: &'r [u8],
    /// `Sec-CH-UA-Mobile`.
    pub mobile: &'r [u8],
    /// `Sec-CH-UA-Platform`.
    pub platform: &'r [u8],
}

/// What the headers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints<'r> {
    /// The brand that is neither the engine nor a made-up one.
    pub brand: Option<&'r str>,
    /// Whether the browser wants pages for phones.
    pub mobile: Option<bool>,
    /// The system.
    pub platform: Option<&'r str>,
}

/// The most that is looked at of each header, in bytes.
const MAX_HEADER_BYTES: usize = 256;

impl<'r> SentHints<'r> {
    /// Whether none was sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.brands.is_empty() && self.mobile.is_empty() && self.platform.is_empty()
    }

    /// The headers, each as far as it is looked at.
    pub(super) fn parts(&self) -> [&'r [u8]; 3] {
        [self.brands, self.mobile, self.platform]
            .map(|header| &header[..header.len().min(MAX_HEADER_BYTES)])
    }

    /// What the headers say; what is not as the standard has it says nothing.
    #[must_use]
    pub fn read(&self) -> Hints<'r> {
        let [brands, mobile, platform] = self.parts();
        Hints {
            brand: strings(brands).find(|brand| is_brand(brand)),
            mobile: match mobile.trim_ascii() {
                b"?1" => Some(true),
                b"?0" => Some(false),
                _ => None,
            },
            platform: strings(platform).next(),
        }
    }
}

/// The quoted texts of a structured header.
fn strings(header: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(header).unwrap_or_default();
    text.split('"').skip(1).step_by(2)
}

/// The engine is in every list, and so is a brand that is made up of changing words such as
/// `Not;A=Brand`, so that sites don't rely on the list. Versions are strings as well.
fn is_brand(name: &str) -> bool {
    let is_made_up = name.contains("Not") && name.contains("Brand");
    let is_version = name.starts_with(|first: char| first.is_ascii_digit());
    !is_made_up && !is_version && !matches!(name, "" | "Chromium")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_and_malformed_ones_ignored() {
        let brands = br#""Not;A=Brand";v="99", "Chromium";v="139", "Brave";v="139""#;
        for (brands, mobile, platform, brand, is_mobile, system) in [
            (
                &brands[..],
                "?1",
                "\"Android\"",
                Some("Brave"),
                Some(true),
                Some("Android"),
            ),
            (
                br#""Chromium";v="139""#,
                "?0",
                "\"Chrome OS\"",
                None,
                Some(false),
                Some("Chrome OS"),
            ),
            (
                br#""Google Chrome";v="1"#,
                "1",
                "Windows",
                Some("Google Chrome"),
                None,
                None,
            ),
            (b"\xff\"Brave\"", "", "", None, None, None),
            (b"", "", "\"", None, None, Some("")),
        ] {
            let sent = SentHints {
                brands,
                mobile: mobile.as_bytes(),
                platform: platform.as_bytes(),
            };
            let expected = Hints {
                brand,
                mobile: is_mobile,
                platform: system,
            };
            assert_eq!(sent.read(), expected, "{sent:?}");
        }
    }
}
