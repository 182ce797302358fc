//! Destinations of links, with their macros.
//!
//! Invariant: a destination's host comes from the links file only; no parameter of a visitor can change it.

use bytes::BytesMut;
use macro_url::{MacroUrl, MacroUrlError};
use serde::Deserialize;
use tracking_events::SUB_COUNT;

/// The destination of a link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Destination {
    url: MacroUrl<Macro>,
    needs: RequiredValues,
}

/// Values that are formatted only for destinations that use them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequiredValues {
    /// The address as text.
    pub ip: bool,
    /// The autonomous system's number as text.
    pub asn: bool,
    /// The time as text.
    pub timestamp: bool,
}

/// The values of macros; an unknown value is empty.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The click's id.
    pub click_id: &'a str,
    /// The link's slug.
    pub link: &'a str,
    /// The campaign's name.
    pub campaign: &'a str,
    /// The offer's name.
    pub offer: &'a str,
    /// The affiliate's name.
    pub affiliate: &'a str,
    /// `sub1` to `sub10`, in their original encoding.
    pub subs: &'a [&'a [u8]; SUB_COUNT],
    /// Two capitals.
    pub country: &'a str,
    /// Subdivision code.
    pub region: &'a str,
    /// The autonomous system's number.
    pub asn: &'a str,
    /// Kind of device.
    pub device: &'a str,
    /// Operating system.
    pub os: &'a str,
    /// Browser.
    pub browser: &'a str,
    /// Language tag.
    pub language: &'a str,
    /// The address, as stored.
    pub ip: &'a str,
    /// Seconds since 1970.
    pub timestamp: &'a str,
    /// The traffic source, as sent.
    pub source: &'a [u8],
    /// The affiliate's own id, as sent.
    pub external_id: &'a [u8],
}

macro_rules! macros {
    ($($variant:ident $name:literal $field:ident;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Macro { $($variant,)* Sub(usize) }

        impl macro_url::Macro for Macro {
            const NAMES: &'static str = concat!($("{", $name, "} ",)* "{sub1} to {sub10}");

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => macro_url::sub_index(name, SUB_COUNT).map(Self::Sub),
                }
            }

            /// The click id is in every destination.
            fn is_url_safe(self) -> bool {
                self == Self::ClickId
            }
        }

        impl Macro {
            fn value<'a>(self, values: &Values<'a>) -> &'a [u8] {
                match self {
                    $(Self::$variant => values.$field.as_ref(),)*
                    Self::Sub(n) => values.subs[n],
                }
            }
        }
    };
}

macros! {
    ClickId "click_id" click_id;
    Link "link" link;
    Campaign "campaign" campaign;
    Offer "offer" offer;
    Affiliate "affiliate" affiliate;
    Country "country" country;
    Region "region" region;
    Asn "asn" asn;
    Device "device" device;
    Os "os" os;
    Browser "browser" browser;
    Language "language" language;
    Ip "ip" ip;
    Timestamp "timestamp" timestamp;
    Source "source" source;
    ExternalId "external_id" external_id;
}

impl TryFrom<String> for Destination {
    type Error = MacroUrlError;

    fn try_from(text: String) -> Result<Self, MacroUrlError> {
        let url = MacroUrl::parse(&text)?;
        Ok(Self {
            needs: RequiredValues {
                ip: url.contains(Macro::Ip),
                asn: url.contains(Macro::Asn),
                timestamp: url.contains(Macro::Timestamp),
            },
            url,
        })
    }
}

impl Destination {
    /// Appends `click_id={click_id}` to the query, unless the destination contains the click id already.
    #[must_use]
    pub fn with_click_id(mut self) -> Self {
        if !self.url.contains(Macro::ClickId) {
            self.url = self.url.with_parameter("click_id", Macro::ClickId);
        }
        self
    }

    /// The values that must be formatted for it.
    #[must_use]
    pub const fn needs(&self) -> RequiredValues {
        self.needs
    }

    /// Writes the URL with its macros expanded and the parameters `passed_on` appended as sent; false when it is too
    /// long.
    #[must_use]
    pub fn expand<'a>(
        &self,
        values: &Values<'_>,
        passed_on: impl Iterator<Item = &'a str>,
        out: &mut BytesMut,
    ) -> bool {
        let value = |which: Macro| which.value(values);
        self.url.expand(value, passed_on, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values<'a>(subs: &'a [&'a [u8]; SUB_COUNT]) -> Values<'a> {
        Values {
            click_id: "CLICK",
            link: "spring",
            campaign: "campaign 1",
            offer: "offer",
            affiliate: "ann",
            subs,
            country: "NO",
            region: "03",
            asn: "64500",
            device: "phone",
            os: "Android",
            browser: "Chrome",
            language: "en-us",
            ip: "192.0.2.0",
            timestamp: "1800000000",
            source: b"newsletter",
            external_id: b"x-1",
        }
    }

    fn expanded(text: &str, sub1: &[u8], passed_on: &[&str]) -> String {
        let destination = Destination::try_from(String::from(text))
            .expect("valid")
            .with_click_id();
        let mut subs: [&[u8]; SUB_COUNT] = [b""; SUB_COUNT];
        (subs[0], subs[9]) = (sub1, b"ten");
        let mut out = BytesMut::new();
        assert!(destination.expand(&values(&subs), passed_on.iter().copied(), &mut out));
        String::from_utf8(out.to_vec()).expect("ASCII")
    }

    fn refused(text: &str) -> MacroUrlError {
        Destination::try_from(String::from(text)).expect_err("refused")
    }

    fn unknown(name: &str) -> MacroUrlError {
        MacroUrlError::UnknownMacro {
            name: name.into(),
            names: <Macro as macro_url::Macro>::NAMES,
        }
    }

    #[test]
    fn macros_are_expanded_encoded_or_raw() {
        let text = "https://shop.example/{_sub1}/x?c={click_id}&a={campaign}&s={sub1}&t={sub10}";
        assert_eq!(
            expanded(text, b"a/b c&d", &[]),
            "https://shop.example/a/b%20c&d/x?c=CLICK&a=campaign%201&s=a%2Fb%20c%26d&t=ten"
        );
    }

    #[test]
    fn parameters_are_appended_to_the_query_before_the_fragment() {
        assert_eq!(
            expanded("https://shop.example/p#top", b"", &["a+b=%FC", "c"]),
            "https://shop.example/p?click_id=CLICK&a+b=%FC&c#top"
        );
        assert_eq!(
            expanded("https://shop.example/?x=1", b"", &[]),
            "https://shop.example/?x=1&click_id=CLICK"
        );
    }

    #[test]
    fn invalid_destinations_are_rejected() {
        assert_eq!(refused("javascript:alert(1)"), MacroUrlError::Scheme);
        assert_eq!(refused("ftp://shop.example/"), MacroUrlError::Scheme);
        assert_eq!(refused("https:///path"), MacroUrlError::Host);
        assert_eq!(refused("https://user@evil.example/"), MacroUrlError::Host);
        assert_eq!(
            refused("https://{sub1}.example/"),
            MacroUrlError::MacroInHost
        );
        assert_eq!(
            refused("https://shop.example{_sub1}"),
            MacroUrlError::MacroInHost
        );
        assert_eq!(refused("https://shop.example/{sub11}"), unknown("sub11"));
        assert_eq!(refused("https://shop.example/{nope}"), unknown("nope"));
        assert_eq!(
            refused("https://shop.example/{sub1"),
            MacroUrlError::Unclosed
        );
        assert_eq!(
            refused("https://shop.example/\r\nX: y"),
            MacroUrlError::Character('\r')
        );
        assert_eq!(
            refused("https://shop.example/ü"),
            MacroUrlError::Character('ü')
        );
        let message = refused("https://shop.example/{nope}").to_string();
        assert!(
            message.contains("{click_id}") && message.contains("{sub1} to {sub10}"),
            "{message}"
        );
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_header_or_changes_the_host(sub1 in any::<Vec<u8>>(), other in any::<String>()) {
            let out = expanded("https://shop.example/{_sub1}?s={sub1}", &sub1, &[&other]);
            prop_assert!(out.bytes().all(|byte| byte.is_ascii_graphic()), "{out:?}");
            prop_assert!(out.starts_with("https://shop.example/"));
            prop_assert!(http::HeaderValue::from_str(&out).is_ok());
        }

        #[test]
        fn arbitrary_destination_does_not_panic(text in "https?://[ -~]{0,40}") {
            let _ = Destination::try_from(text);
        }
    }
}
