//! Questions to ClickHouse as the analyst: what the proof and the demo's tables are read from.

use anyhow::{Context as _, bail};
use clickhouse_embedded::{Credentials, User};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The analyst's access to one engine.
#[derive(Debug, Clone)]
pub struct Analyst {
    url: String,
    user: User,
    agent: ureq::Agent,
}

/// The tracker's access to one engine: it may insert.
#[derive(Debug, Clone)]
pub struct Writer {
    url: String,
    user: User,
    agent: ureq::Agent,
}

/// A result with named columns, every value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// What ClickHouse has of one run, over clicks and impressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows of `clicks` that count.
    pub clicks: u64,
    /// Rows of `impressions` that count.
    pub impressions: u64,
    /// Counted clicks of a visitor's first use of a link.
    pub unique_clicks: u64,
    /// Counted clicks of later uses.
    pub repeated_clicks: u64,
    /// Programs' clicks, neither prefetch nor `HEAD`.
    pub bot_clicks: u64,
    /// Programs' impressions, neither prefetch nor `HEAD`.
    pub bot_impressions: u64,
    /// Prefetches of either kind, without `HEAD`.
    pub prefetch: u64,
    /// `HEAD` requests of either kind.
    pub head: u64,
    /// Rows of either kind that do not count.
    pub flagged: u64,
}

fn credentials(file: &Path) -> anyhow::Result<Credentials> {
    let folder = file.parent().context("credentials lie in a folder")?;
    Credentials::load(folder).with_context(|| format!("cannot read {}", file.display()))
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .proxy(None)
        .build();
    ureq::Agent::new_with_config(config)
}

impl Writer {
    /// Access to the engine at `url` with the credentials in `file`'s folder.
    ///
    /// # Errors
    /// When the credentials can't be read.
    pub fn new(url: &str, file: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.into(),
            user: credentials(file)?.tracker,
            agent: agent(),
        })
    }

    /// Inserts `rows`, in the format that `sql` names, into the database `tracking`.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub fn insert(&self, sql: &str, rows: Vec<u8>) -> anyhow::Result<()> {
        let mut answer = self
            .agent
            .post(format!("{}/?database=tracking&async_insert=0", self.url))
            .query("query", sql)
            .header("X-ClickHouse-User", &self.user.user)
            .header("X-ClickHouse-Key", &self.user.password)
            .send(rows)
            .context("ClickHouse does not answer")?;
        let body = answer.body_mut().read_to_string()?;
        if !answer.status().is_success() {
            bail!("ClickHouse refused: {}", body.trim());
        }
        Ok(())
    }
}

impl Analyst {
    /// Access to the engine at `url` with the credentials in `file`'s folder.
    ///
    /// # Errors
    /// When the credentials can't be read.
    pub fn new(url: &str, file: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.into(),
            user: credentials(file)?.analyst,
            agent: agent(),
        })
    }

    /// Runs one query on the database `tracking`.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub fn query(&self, sql: &str) -> anyhow::Result<Answer> {
        let url = format!(
            "{}/?database=tracking&default_format=JSONCompactStrings",
            self.url
        );
        let mut answer = self
            .agent
            .post(&url)
            .header("X-ClickHouse-User", &self.user.user)
            .header("X-ClickHouse-Key", &self.user.password)
            .send(sql)
            .context("ClickHouse does not answer")?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string()?;
        if !answer.status().is_success() {
            bail!("ClickHouse refused: {}", body.trim());
        }
        let parsed: Json = serde_json::from_str(&body).context("not ClickHouse's JSON")?;
        let columns = parsed.meta.into_iter().map(|column| column.name).collect();
        Ok(Answer {
            columns,
            rows: parsed.data,
        })
    }

    fn numbers(&self, sql: &str) -> anyhow::Result<Vec<u64>> {
        let answer = self.query(sql)?;
        let row = answer.rows.first().context("a row")?;
        row.iter()
            .map(|value| value.parse().with_context(|| value.clone()))
            .collect()
    }

    /// Counts what there is of `run`.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub fn counts(&self, run: &str) -> anyhow::Result<Counts> {
        let of = |table: &str| {
            self.numbers(&format!(
                "SELECT countIf(counted), countIf(counted AND NOT repeated), \
                 countIf(counted AND repeated), countIf(bot AND NOT prefetch AND NOT head), \
                 countIf(prefetch AND NOT head), countIf(head), countIf(NOT counted) \
                 FROM {table} WHERE source = '{run}'"
            ))
        };
        let (clicks, impressions) = (of("clicks")?, of("impressions")?);
        Ok(Counts {
            clicks: clicks[0],
            impressions: impressions[0],
            unique_clicks: clicks[1],
            repeated_clicks: clicks[2],
            bot_clicks: clicks[3],
            bot_impressions: impressions[3],
            prefetch: clicks[4] + impressions[4],
            head: clicks[5] + impressions[5],
            flagged: clicks[6] + impressions[6],
        })
    }

    /// How many rows there are of each `external_id` of `run`.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub fn external_ids(&self, run: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let sql = format!(
            "SELECT external_id, count() FROM (SELECT external_id FROM clicks WHERE source = '{run}' \
             UNION ALL SELECT external_id FROM impressions WHERE source = '{run}') \
             GROUP BY external_id"
        );
        let rows = self.query(&sql)?.rows.into_iter();
        let pair = |row: Vec<String>| {
            let [id, count] = <[String; 2]>::try_from(row).ok()?;
            Some((id, count.parse().ok()?))
        };
        rows.map(|row| pair(row).context("an id and a count"))
            .collect()
    }

    /// The click ids of `run`'s clicks, by `external_id`.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub fn click_ids(&self, run: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let sql = format!("SELECT external_id, id FROM clicks WHERE source = '{run}'");
        let rows = self.query(&sql)?.rows.into_iter();
        let pair = |row: Vec<String>| <[String; 2]>::try_from(row).ok().map(<(_, _)>::from);
        rows.map(|row| pair(row).context("two ids")).collect()
    }
}

#[derive(serde::Deserialize)]
struct Json {
    meta: Vec<Column>,
    data: Vec<Vec<String>>,
}

#[derive(serde::Deserialize)]
struct Column {
    name: String,
}
