//! Everything that `serve` would read, read without serving, and all that is wrong with it at once.

use crate::click_path::Root;
use crate::functions::token::{self, TokensError};
use crate::functions::{self, advertisers};
use crate::settings::{self, FunctionsSettings, Settings};
use crate::visitor::geo;
use crate::{links, secrets};
use daemon::findings::{Findings, fine};
use event_shipping::tls::{self, IdentityFiles, Role, Subject, TlsError};
use std::path::Path;

/// Reads the settings file `config` and the files that it names.
#[must_use]
pub fn check(config: &Path) -> Findings {
    let mut findings = Findings::default();
    let settings = match settings::read(config) {
        Ok(settings) => settings,
        Err(error) => {
            findings.note(Err(error));
            return findings;
        }
    };
    let contradictions = settings.contradictions();
    if contradictions.is_empty() {
        findings.note(Ok::<_, String>(fine(config, "settings")));
    }
    for contradiction in contradictions {
        findings.note(Err(contradiction));
    }
    findings.note(check_secrets(&settings.secrets_file()));
    let file = &settings.links.file;
    findings
        .note(links::load(file).map(|loaded| fine(file, format!("{} links", loaded.table.len()))));
    if let Some(page) = &settings.http.root_page {
        findings.note(Root::read(&settings.http).map(|_| fine(page, "root page")));
    }
    for outcome in geo::check(&settings.geo) {
        findings.note(outcome);
    }
    findings.note(check_certificates(&settings));
    if let Some(functions) = &settings.functions {
        check_functions(functions, &mut findings);
    }
    if let Some(api) = &settings.internal_api {
        findings.note(check_token(&settings.token_file(api)));
    }
    findings
}

fn check_secrets(file: &Path) -> Result<String, secrets::SecretsError> {
    if !file.exists() {
        return Ok(format!("{}: made at the first start", file.display()));
    }
    secrets::load(file).map(|_| fine(file, "click id keys"))
}

fn check_token(file: &Path) -> Result<String, TokensError> {
    if !file.exists() {
        return Ok(format!("{}: made at the first start", file.display()));
    }
    token::load(file).map(|_| fine(file, "token of the internal API"))
}

fn check_certificates(settings: &Settings) -> Result<String, TlsError> {
    let dir = settings.tls_dir();
    if settings.tls.development && !dir.exists() {
        let dir = dir.display();
        return Ok(format!(
            "{dir}: development certificates are made at the first start"
        ));
    }
    let node = settings.node.get();
    tls::require_present(&dir, &Subject::Edge(vec![node]))?;
    let identity = tls::load(&IdentityFiles::of(&dir, Role::Edge))?;
    identity.require_node(node)?;
    identity.require_unexpired()?;
    identity.client_config()?;
    Ok(fine(&dir, "certificates"))
}

fn check_functions(settings: &FunctionsSettings, findings: &mut Findings) {
    if let Some(file) = &settings.advertisers {
        let checked = advertisers::check(file);
        findings.note(checked.map(|count| fine(file, format!("{count} advertisers"))));
    }
    match functions::read_variables(settings) {
        Ok(variables) => {
            if let Some(file) = &settings.variables {
                findings.note(Ok::<_, String>(fine(
                    file,
                    format!("{} variables", variables.len()),
                )));
            }
            let checked = functions::check(settings, &variables);
            findings
                .note(checked.map(|count| fine(&settings.manifest, format!("{count} functions"))));
        }
        Err(error) => findings.note(Err(error)),
    }
}
