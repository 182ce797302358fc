//! Everything that `serve` would read, read without serving, and all that is wrong with it at once.

use crate::running::require_one_store;
use crate::settings::{self, Settings};
use crate::{outgoing, verification};
use daemon::findings::{Findings, fine};
use std::path::Path;

/// Reads the settings file `config` and the files that it names.
#[must_use]
pub async fn check(config: &Path) -> Findings {
    let mut findings = Findings::default();
    match settings::load(config) {
        Ok(settings) => {
            check_files(config, &settings, &mut findings);
            let stores = require_one_store(&settings).await;
            findings.note(stores.map(|()| "store: fine".to_owned()));
        }
        Err(error) => findings.note(Err(error)),
    }
    findings
}

fn check_files(config: &Path, settings: &Settings, findings: &mut Findings) {
    let mistakes = settings.mistakes(config);
    if mistakes.is_empty() {
        findings.note(Ok::<_, String>(fine(config, "settings")));
    }
    for mistake in mistakes {
        findings.note(Err(mistake));
    }
    let clickhouse = &settings.clickhouse;
    let login = clickhouse.login();
    findings.note(login.map(|_| format!("ClickHouse: fine, user {}", clickhouse.user)));
    if clickhouse.ca_file.is_some() {
        let authorities = clickhouse.authorities();
        findings.note(authorities.map(|_| "ClickHouse: fine, authorities".to_owned()));
    }
    let certificates = settings.tls.check();
    findings.note(certificates.map(|()| fine(&settings.tls.dir, "certificates")));
    if let Some(outgoing) = &settings.outgoing {
        let checked = outgoing::check(outgoing);
        findings.note(checked.map(|()| fine(&outgoing.postbacks, "postbacks to affiliates")));
    }
    if let Some(reports) = &settings.reports {
        let mistakes = verification::mistakes(reports);
        if mistakes.is_empty() {
            findings.note(Ok::<_, String>(fine(
                &reports.advertisers,
                "files of [reports]",
            )));
        }
        for mistake in mistakes {
            findings.note(Err(mistake));
        }
    }
}
