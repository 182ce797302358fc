//! Queries ClickHouse as the analyst, for verification and for the demo's tables.

use anyhow::{Context as _, bail};
use clickhouse_embedded::{Credentials, User};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A connection to ClickHouse as the analyst.
#[derive(Debug, Clone)]
pub struct Analyst {
    url: String,
    user: User,
    agent: ureq::Agent,
}

/// A connection to ClickHouse as the tracker, which may insert.
#[derive(Debug, Clone)]
pub struct Writer {
    url: String,
    user: User,
    agent: ureq::Agent,
}

/// A result with named columns; all values are text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryResult {
    /// Column names.
    pub columns: Vec<String>,
    /// Rows of values.
    pub rows: Vec<Vec<String>>,
}

/// ClickHouse's counts of one run, over clicks and impressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Counted clicks.
    pub clicks: u64,
    /// Counted impressions.
    pub impressions: u64,
    /// Counted clicks that are a visitor's first on a link.
    pub unique_clicks: u64,
    /// Counted clicks that are not a visitor's first on a link.
    pub repeated_clicks: u64,
    /// Bots' clicks, without prefetches and `HEAD`.
    pub bot_clicks: u64,
    /// Bots' impressions, without prefetches and `HEAD`.
    pub bot_impressions: u64,
    /// Prefetches among clicks and impressions, without `HEAD`.
    pub prefetch: u64,
    /// `HEAD` requests among clicks and impressions.
    pub head: u64,
    /// Clicks and impressions that are not counted.
    pub flagged: u64,
}

fn credentials(file: &Path) -> anyhow::Result<Credentials> {
    let dir = file
        .parent()
        .context("the credentials file has no directory")?;
    Credentials::load(dir).with_context(|| format!("failed to read {}", file.display()))
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
    /// Connects to ClickHouse at `url` with the credentials in `file`'s directory.
    ///
    /// # Errors
    /// If the credentials can't be read.
    pub fn new(url: &str, file: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.into(),
            user: credentials(file)?.tracker,
            agent: agent(),
        })
    }

    /// Inserts `rows`, in the format named in `sql`, into the database `tracking`.
    ///
    /// # Errors
    /// If ClickHouse does not respond or rejects the rows.
    pub fn insert(&self, sql: &str, rows: Vec<u8>) -> anyhow::Result<()> {
        let mut response = self
            .agent
            .post(format!("{}/?database=tracking&async_insert=0", self.url))
            .query("query", sql)
            .header("X-ClickHouse-User", &self.user.user)
            .header("X-ClickHouse-Key", &self.user.password)
            .send(rows)
            .context("ClickHouse does not respond")?;
        let body = response.body_mut().read_to_string()?;
        if !response.status().is_success() {
            bail!("ClickHouse rejected the insert: {}", body.trim());
        }
        Ok(())
    }
}

impl Analyst {
    /// Connects to ClickHouse at `url` with the credentials in `file`'s directory.
    ///
    /// # Errors
    /// If the credentials can't be read.
    pub fn new(url: &str, file: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.into(),
            user: credentials(file)?.analyst,
            agent: agent(),
        })
    }

    /// Runs a query in the database `tracking`.
    ///
    /// # Errors
    /// If ClickHouse does not respond or rejects the query.
    pub fn query(&self, sql: &str) -> anyhow::Result<QueryResult> {
        let url = format!(
            "{}/?database=tracking&default_format=JSONCompactStrings",
            self.url
        );
        let mut response = self
            .agent
            .post(&url)
            .header("X-ClickHouse-User", &self.user.user)
            .header("X-ClickHouse-Key", &self.user.password)
            .send(sql)
            .context("ClickHouse does not respond")?;
        let body = response
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string()?;
        if !response.status().is_success() {
            bail!("ClickHouse rejected the query: {}", body.trim());
        }
        let parsed: Json = serde_json::from_str(&body)
            .context("ClickHouse's response has an unexpected format")?;
        let columns = parsed.meta.into_iter().map(|column| column.name).collect();
        Ok(QueryResult {
            columns,
            rows: parsed.data,
        })
    }

    fn numbers(&self, sql: &str) -> anyhow::Result<Vec<u64>> {
        let response = self.query(sql)?;
        let row = response.rows.first().context("a row")?;
        row.iter()
            .map(|value| value.parse().with_context(|| value.clone()))
            .collect()
    }

    /// Counts the rows of `run`.
    ///
    /// # Errors
    /// If ClickHouse does not respond.
    pub fn counts(&self, run: &str) -> anyhow::Result<Counts> {
        let counts_of = |table: &str| {
            self.numbers(&format!(
                "SELECT countIf(counted), countIf(counted AND NOT repeated), \
                 countIf(counted AND repeated), countIf(bot AND NOT prefetch AND NOT head), \
                 countIf(prefetch AND NOT head), countIf(head), countIf(NOT counted) \
                 FROM {table} WHERE source = '{run}'"
            ))
        };
        let (clicks, impressions) = (counts_of("clicks")?, counts_of("impressions")?);
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

    /// Number of rows for each `external_id` of `run`.
    ///
    /// # Errors
    /// If ClickHouse does not respond.
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

    /// The click ids of `run` by `external_id`.
    ///
    /// # Errors
    /// If ClickHouse does not respond.
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
