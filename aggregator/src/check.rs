//! Checks every file that `serve` would read, and reports all errors at once. Nothing is connected.

use crate::settings::{self, Settings};
use crate::startup::{require_one_store, state_directories};
use crate::{outgoing, verification};
use daemon::check_report::{CheckReport, usable};
use std::path::Path;

/// Checks the settings file `config` and the files that it names.
#[must_use]
pub async fn check(config: &Path) -> CheckReport {
    let mut report = CheckReport::default();
    match settings::load(config) {
        Ok(mut settings) => {
            check_files(config, &settings, &mut report);
            if let Err(error) = settings.store.add_password() {
                report.record(Err(error));
            }
            let stores = require_one_store(&settings).await;
            let store = match settings.store.url {
                Some(_) => "store: fine; not connected",
                None => "store: fine",
            };
            report.record(stores.map(|()| store.to_owned()));
        }
        Err(error) => report.record(Err(error)),
    }
    report
}

fn check_files(config: &Path, settings: &Settings, report: &mut CheckReport) {
    let mistakes = settings.mistakes(config);
    if mistakes.is_empty() {
        report.record(Ok::<_, String>(usable(config, "settings")));
    }
    for mistake in mistakes {
        report.record(Err(mistake));
    }
    for (directory, dir) in state_directories(settings) {
        let checked = directory.check(&dir, None);
        report.record(checked.map(|_| usable(&dir, "state directory")));
    }
    let clickhouse = &settings.clickhouse;
    let login = clickhouse.login();
    report.record(
        login.map(|_| format!("ClickHouse: fine, user {}; not connected", clickhouse.user)),
    );
    if clickhouse.ca_file.is_some() {
        let authorities = clickhouse.authorities();
        report.record(authorities.map(|_| "ClickHouse: fine, authorities".to_owned()));
    }
    let certificates = settings.tls.check();
    report.record(certificates.map(|()| usable(&settings.tls.dir, "certificates")));
    if let Some(outgoing) = &settings.outgoing {
        let checked = outgoing::check(outgoing);
        report.record(checked.map(|()| usable(&outgoing.postbacks, "postbacks to affiliates")));
    }
    if let Some(reports) = &settings.reports {
        let mistakes = verification::mistakes(reports);
        if mistakes.is_empty() {
            report.record(Ok::<_, String>(usable(
                &reports.advertisers,
                "files of [reports]",
            )));
        }
        for mistake in mistakes {
            report.record(Err(mistake));
        }
    }
}
