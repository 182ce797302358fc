//! The operator's files for verification: advertisers, variables, click id keys and links, with the same content as on
//! edges.

use super::evidence::{Evidence, UnsignedLimits};
use crate::settings::Reports;
use daemon::files::{PrivateFileError, WatchedFiles, read_private};
use daemon::settings::{SettingsErrors, offset_of_key, redacted_error_at};
use kyc_webhook::Scheme;
use postback::{Advertiser, Keys};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The longest file of secrets, in bytes.
const MAX_SECRET_FILE_BYTES: u64 = 256 << 10;

/// Why files of `[reports]` can't be used.
#[derive(Debug, Error)]
pub enum ReportsError {
    /// A file can't be read, or other users can read it.
    #[error("[reports] {0}")]
    File(#[from] PrivateFileError),
    /// A file is invalid. Its text is not shown: it may contain secrets.
    #[error("[reports] {}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The fault, or the expected content.
        message: String,
    },
    /// The functions would refuse the advertisers or variables.
    #[error("[reports] {0}")]
    Mistakes(#[from] SettingsErrors),
    /// An advertiser converts clicks by offers, but there is no links file.
    #[error(
        "[reports] links is missing: the advertiser {0} converts clicks by offers; name the edges' links file"
    )]
    NoLinks(String),
    /// Metrics can't be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The paths of the files.
#[derive(Debug)]
pub(super) struct Files(Reports);

#[derive(Deserialize)]
struct SecretsFile {
    click_id: ClickIdKeys,
}

#[derive(Deserialize)]
struct ClickIdKeys {
    keys: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct LinksFile {
    #[serde(default)]
    link: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    id: u32,
    offer: Box<str>,
}

/// All errors in the files that `settings` names.
pub(crate) fn mistakes(settings: &Reports) -> Vec<ReportsError> {
    let files = Files::new(settings);
    let (keys, scheme) = (files.keys().err(), files.scheme().err());
    let others = match files.advertisers() {
        Ok(advertisers) => files.offers(&advertisers).err(),
        Err(error) => Some(error),
    };
    [others, keys, scheme].into_iter().flatten().collect()
}

impl Files {
    pub(super) fn new(settings: &Reports) -> Self {
        Self(settings.clone())
    }

    /// Watches the files; to be called before they are loaded.
    pub(super) fn watch(&self) -> WatchedFiles {
        let Reports {
            advertisers,
            secrets,
            variables,
            links,
            ..
        } = &self.0;
        let optional = variables.iter().chain(links);
        WatchedFiles::new([advertisers, secrets].into_iter().chain(optional))
    }

    pub(super) fn load(&self) -> Result<Evidence, ReportsError> {
        let advertisers = self.advertisers()?;
        Ok(Evidence {
            offers: self.offers(&advertisers)?,
            advertisers,
            keys: self.keys()?,
            scheme: self.scheme()?,
            limits: UnsignedLimits {
                reports_per_minute: self.0.unsigned_per_minute.get(),
                amount_per_day: self.0.unsigned_amount_per_day,
                amounts_per_day: self.0.unsigned_amounts_per_day.clone(),
            },
        })
    }

    fn advertisers(&self) -> Result<BTreeMap<String, Vec<u8>>, ReportsError> {
        advertisers(&self.0.advertisers)
    }

    fn keys(&self) -> Result<Option<Keys>, ReportsError> {
        keys(&self.0.secrets)
    }

    fn scheme(&self) -> Result<Result<Scheme, &'static str>, ReportsError> {
        scheme(self.0.variables.as_deref())
    }

    fn offers(
        &self,
        advertisers: &BTreeMap<String, Vec<u8>>,
    ) -> Result<HashMap<u32, Box<str>>, ReportsError> {
        match &self.0.links {
            Some(path) => offers(path),
            None => match by_offer(advertisers) {
                Some(name) => Err(ReportsError::NoLinks(name)),
                None => Ok(HashMap::new()),
            },
        }
    }
}

fn wrong(path: &Path, message: impl Into<String>) -> ReportsError {
    ReportsError::Wrong {
        path: path.into(),
        message: message.into(),
    }
}

fn advertisers(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, ReportsError> {
    let text = read_private(path, MAX_SECRET_FILE_BYTES)?;
    postback::entries(&text).map_err(|mistakes| {
        let mistakes = mistakes.iter();
        let each = mistakes.map(|it| redacted_error_at(path, &text, it.offset, &it.message));
        SettingsErrors(each.collect()).into()
    })
}

/// The name of an advertiser that converts clicks by their links' offers.
fn by_offer(advertisers: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let mut entries = advertisers.iter();
    let named = |entry: &[u8]| Advertiser::read(entry).is_ok_and(|it| it.names_offers());
    let (name, _) = entries.find(|(_, entry)| named(entry))?;
    Some(name.clone())
}

/// The click id keys; `None` while the file does not exist, because the first edge has not created it yet.
fn keys(path: &Path) -> Result<Option<Keys>, ReportsError> {
    if !path.exists() {
        tracing::warn!(file = %path.display(), "the file of click id keys does not exist yet; conversions wait for it");
        return Ok(None);
    }
    let text = read_private(path, MAX_SECRET_FILE_BYTES)?;
    let expected =
        "expected a table [click_id.keys] with lines such as 1 = \"64 hexadecimal digits\"";
    let file: SecretsFile = toml::from_str(&text).map_err(|_| wrong(path, expected))?;
    let each = file.click_id.keys.iter();
    let each: Vec<String> = each.map(|(id, secret)| format!("{id}:{secret}")).collect();
    let keys = Keys::parse(&each.join(",")).ok_or_else(|| wrong(path, expected))?;
    Ok(Some(keys))
}

fn scheme(path: Option<&Path>) -> Result<Result<Scheme, &'static str>, ReportsError> {
    let Some(path) = path else {
        return Ok(Err("[reports] lacks variables"));
    };
    let text = read_private(path, MAX_SECRET_FILE_BYTES)?;
    let expected = "expected lines of name = \"value\"";
    let values: BTreeMap<String, String> =
        toml::from_str(&text).map_err(|_| wrong(path, expected))?;
    match Scheme::given(&values) {
        None => Ok(Err("the variables lack those of identity webhooks")),
        Some(Ok(scheme)) => Ok(Ok(scheme)),
        Some(Err(message)) => {
            let offset = offset_of_key(&text, message);
            Err(SettingsErrors(vec![redacted_error_at(path, &text, offset, message)]).into())
        }
    }
}

fn offers(path: &Path) -> Result<HashMap<u32, Box<str>>, ReportsError> {
    let text = std::fs::read_to_string(path).map_err(|cause| wrong(path, cause.to_string()))?;
    let file: LinksFile = toml::from_str(&text)
        .map_err(|_| wrong(path, "expected tables [[link]] with id and offer"))?;
    let links = file.link.into_iter();
    Ok(links.map(|link| (link.id, link.offer)).collect())
}
