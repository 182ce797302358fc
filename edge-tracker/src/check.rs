//! Checks all files that `serve` reads, without serving, and reports all errors at once.

use crate::click_path::Root;
use crate::data_dir::EDGE_DIRECTORY;
use crate::functions::token::{self, TokensError};
use crate::functions::{self, advertisers};
use crate::settings::{self, FunctionsSettings, Settings};
use crate::visitor::agent::RuleFiles;
use crate::visitor::geo;
use crate::{links, secrets};
use daemon::check_report::{CheckReport, usable};
use event_shipping::tls::{self, IdentityFiles, Role, Subject, TlsError};
use std::path::Path;

/// Checks the settings file `config` and the files that it names.
#[must_use]
pub fn check(config: &Path) -> CheckReport {
    let mut report = CheckReport::default();
    let settings = match settings::read(config) {
        Ok(settings) => settings,
        Err(error) => {
            report.record(Err(error));
            return report;
        }
    };
    let contradictions = settings.contradictions();
    if contradictions.is_empty() {
        report.record(Ok::<_, String>(usable(config, "settings")));
    }
    for contradiction in contradictions {
        report.record(Err(contradiction));
    }
    let checked = EDGE_DIRECTORY.check(&settings.data_dir, Some(settings.node.get()));
    report.record(checked.map(|_| usable(&settings.data_dir, "data directory")));
    report.record(check_secrets(&settings.secrets_file()));
    if let Some(file) = &settings.links.file {
        let links = links::load(file);
        report.record(links.map(|links| usable(file, format!("{} links", links.len()))));
    } else {
        report.record(Ok::<_, String>(
            "[links]: from the control plane".to_owned(),
        ));
    }
    if let Some(page) = &settings.http.root_page {
        report.record(Root::read(&settings.http).map(|_| usable(page, "root page")));
    }
    for outcome in geo::check(&settings.geo) {
        report.record(outcome);
    }
    if settings.visitor.agents != RuleFiles::default() {
        let rules = settings.visitor.agents.load();
        report.record(rules.map(|_| "[visitor.agents]: fine, agent rules".to_owned()));
    }
    report.record(check_certificates(&settings));
    if let Some(functions) = &settings.functions {
        check_functions(functions, &mut report);
    }
    if let Some(api) = &settings.internal_api {
        report.record(check_token(&settings.token_file(api)));
    }
    report
}

fn check_secrets(file: &Path) -> Result<String, secrets::SecretsError> {
    if !file.exists() {
        return Ok(format!("{}: created at the first start", file.display()));
    }
    secrets::load(file).map(|_| usable(file, "click id keys"))
}

fn check_token(file: &Path) -> Result<String, TokensError> {
    if !file.exists() {
        return Ok(format!("{}: created at the first start", file.display()));
    }
    token::load(file).map(|_| usable(file, "token of the internal API"))
}

fn check_certificates(settings: &Settings) -> Result<String, TlsError> {
    let dir = settings.tls_dir();
    if settings.tls.development && !dir.exists() {
        let dir = dir.display();
        return Ok(format!(
            "{dir}: development certificates are created at the first start"
        ));
    }
    let node = settings.node.get();
    tls::require_present(&dir, &Subject::Edge(vec![node]))?;
    let identity = tls::load(&IdentityFiles::of(&dir, Role::Edge))?;
    identity.require_node(node)?;
    identity.require_unexpired()?;
    identity.client_config()?;
    Ok(usable(&dir, "certificates"))
}

fn check_functions(settings: &FunctionsSettings, report: &mut CheckReport) {
    if let Some(file) = &settings.advertisers {
        let checked = advertisers::check(file);
        report.record(checked.map(|count| usable(file, format!("{count} advertisers"))));
    }
    match functions::read_variables(settings) {
        Ok(variables) => {
            if let Some(file) = &settings.variables {
                report.record(Ok::<_, String>(usable(
                    file,
                    format!("{} variables", variables.len()),
                )));
            }
            let checked = functions::check(settings, &variables);
            report.record(
                checked.map(|count| usable(&settings.manifest, format!("{count} functions"))),
            );
        }
        Err(error) => report.record(Err(error)),
    }
}
