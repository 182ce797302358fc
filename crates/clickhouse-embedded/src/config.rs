//! The engine's configuration: loopback only, three users, and sizes for a small machine.

use crate::credentials::{Credentials, User};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the system database's directory; any constant value works.
const SYSTEM_UUID: &str = "5f2cbb1c-8e0c-4c6f-9d0b-8f6f3a1e7c11";

/// The free disk space below which ClickHouse starts no further write. ClickHouse 26.7 as a library
/// misses a full disk at the end of a file, so a started write must find enough space.
const KEEP_FREE_BYTES: u64 = 64 << 20;

/// Writes configuration and users into `data`; returns the configuration's path.
pub(crate) fn write(data: &Path, port: u16, credentials: &Credentials) -> io::Result<PathBuf> {
    // Without it the library keeps system tables in memory, and query_log has nowhere to go.
    let metadata = data.join("store").join("metadata");
    std::fs::create_dir_all(&metadata)?;
    let system = metadata.join("system.sql");
    if !system.exists() {
        let text = format!("ATTACH DATABASE system UUID '{SYSTEM_UUID}' ENGINE = Atomic\n");
        replace_file(&system, &text)?;
    }
    let users = data.join("users.xml");
    replace_file(&users, &users_xml(credentials))?;
    let config = data.join("config.xml");
    replace_file(&config, &config_xml(data, port, &users))?;
    Ok(config)
}

/// Replaces a file atomically: a full disk must not destroy the old one, which the engine needs to start.
fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

/// The server configuration. Column statistics are off: they only help joins, which are not used here,
/// and slow down each insert.
fn config_xml(data: &Path, port: u16, users: &Path) -> String {
    let store = data.join("store");
    let (store, users, data) = (store.display(), users.display(), data.display());
    format!(
        "<clickhouse>
  <umask>077</umask>
  <logger><level>warning</level><console>1</console></logger>
  <path>{store}/</path>
  <tmp_path>{data}/tmp/</tmp_path>
  <user_files_path>{data}/user_files/</user_files_path>
  <format_schema_path>{data}/format_schemas/</format_schema_path>
  <users_config>{users}</users_config>
  <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{port}</http_port>
  <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
  <mark_cache_size>67108864</mark_cache_size>
  <background_schedule_pool_size>8</background_schedule_pool_size>
  <max_concurrent_queries>100</max_concurrent_queries>
  <asynchronous_metrics_update_period_s>15</asynchronous_metrics_update_period_s>
  <keep_alive_timeout>30</keep_alive_timeout>
  <storage_configuration><disks><default>
    <keep_free_space_bytes>{KEEP_FREE_BYTES}</keep_free_space_bytes>
  </default></disks></storage_configuration>
  <merge_tree><auto_statistics_types></auto_statistics_types></merge_tree>
  <access_control_improvements>
    <select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>
    <select_from_information_schema_requires_grant>true</select_from_information_schema_requires_grant>
  </access_control_improvements>
</clickhouse>
"
    )
}

/// The users. The library opens its port as `default`, which must exist and has no password. That user
/// may only open the port, and its quota of one query per year is used up before any client connects.
fn users_xml(credentials: &Credentials) -> String {
    let tracker = user(
        &credentials.tracker,
        "default",
        &[
            "GRANT ALL ON tracking.*",
            "GRANT CREATE DATABASE ON *.*",
            "GRANT TABLE ENGINE ON *",
            "GRANT SELECT ON system.*",
        ],
    );
    let analyst = user(
        &credentials.analyst,
        "analyst",
        &[
            "GRANT SELECT, SHOW ON tracking.*",
            "GRANT SELECT ON system.*",
        ],
    );
    format!(
        "<clickhouse>
  <profiles>
    <default>
      <async_insert>0</async_insert>
      <deduplicate_blocks_in_dependent_materialized_views>1</deduplicate_blocks_in_dependent_materialized_views>
    </default>
    <analyst>
      <readonly>2</readonly>
      <max_execution_time>60</max_execution_time>
      <max_memory_usage>4000000000</max_memory_usage>
      <constraints>
        <max_execution_time><min>1</min><max>60</max></max_execution_time>
        <max_memory_usage><min>1</min><max>4000000000</max></max_memory_usage>
      </constraints>
    </analyst>
  </profiles>
  <quotas>
    <default/>
    <once><interval><duration>31536000</duration><queries>1</queries></interval></once>
  </quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>once</quota>
      <grants><query>GRANT SYSTEM LISTEN ON *.*</query></grants>
    </default>
{tracker}{analyst}  </users>
</clickhouse>
"
    )
}

fn user(user: &User, profile: &str, grants: &[&str]) -> String {
    let name = &user.user;
    let mut password = String::new();
    for byte in Sha256::digest(user.password.as_bytes()) {
        write!(password, "{byte:02x}").expect("writing to a String can't fail");
    }
    let grants: String = grants
        .iter()
        .map(|grant| format!("<query>{grant}</query>"))
        .collect();
    format!(
        "    <{name}>
      <password_sha256_hex>{password}</password_sha256_hex>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>{profile}</profile>
      <quota>default</quota>
      <grants>{grants}</grants>
    </{name}>
"
    )
}
