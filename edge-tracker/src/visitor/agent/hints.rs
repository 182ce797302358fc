//! Client hints: the headers `Sec-CH-UA`, `Sec-CH-UA-Mobile` and `Sec-CH-UA-Platform`.
//!
//! <https://wicg.github.io/ua-client-hints/>. Browsers freeze their user agents; the hints still contain brand, system
//! and form factor.

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

/// The content of the headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints<'r> {
    /// The brand that is neither the engine nor invented.
    pub brand: Option<&'r str>,
    /// Whether the browser wants pages for phones.
    pub mobile: Option<bool>,
    /// The system.
    pub platform: Option<&'r str>,
}

/// The maximum length parsed of each header.
const MAX_HEADER_BYTES: usize = 256;

impl<'r> SentHints<'r> {
    /// Whether none was sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.brands.is_empty() && self.mobile.is_empty() && self.platform.is_empty()
    }

    /// The headers, each truncated to the parsed length.
    pub(super) fn parts(&self) -> [&'r [u8]; 3] {
        [self.brands, self.mobile, self.platform]
            .map(|header| &header[..header.len().min(MAX_HEADER_BYTES)])
    }

    /// Parses the headers; parts that deviate from the standard are ignored.
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

/// Every list contains the engine and an invented brand of changing words such as `Not;A=Brand`, so that sites don't
/// rely on the list. Versions are strings, too.
fn is_brand(name: &str) -> bool {
    let is_invented = name.contains("Not") && name.contains("Brand");
    let is_version = name.starts_with(|first: char| first.is_ascii_digit());
    !is_invented && !is_version && !matches!(name, "" | "Chromium")
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
