//! Reads and validates `spin.toml`, manifest version 2 (<https://spinframework.dev/v3/manifest-reference>).

use crate::outbound::AllowedHost;
use crate::route::RoutePattern;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A valid manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Components by name.
    pub(crate) components: BTreeMap<String, Component>,
    /// Routes and the components they lead to, in order of precedence.
    pub(crate) routes: Vec<(RoutePattern, String)>,
}

/// One component.
#[derive(Clone)]
pub(crate) struct Component {
    /// The path of its WebAssembly file.
    pub(crate) source: PathBuf,
    /// The hosts it may send requests to.
    pub(crate) allowed_hosts: Vec<AllowedHost>,
    /// The values of its variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// The labels of the stores it may open.
    pub(crate) stores: Vec<String>,
}

/// Omits everything that values of variables were inserted in: they may be secrets.
impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("source", &self.source)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

/// The first bytes of a component: magic number, version and layer. The layer of core modules differs.
const COMPONENT_HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Why functions could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file could not be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        cause: std::io::Error,
    },
    /// The manifest is invalid.
    #[error("{}: {message}", path.display())]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// The fault and its correction.
        message: String,
    },
    /// A file is not a component, or the component imports an interface that this host lacks.
    #[error("function {name}: {message}")]
    Component {
        /// The component's name.
        name: String,
        /// The fault.
        message: String,
    },
    /// The engine, its threads or its metrics could not be set up.
    #[error("failed to set up the function host: {0}")]
    Engine(String),
}

#[derive(Deserialize)]
struct ManifestFile {
    spin_manifest_version: u32,
    #[serde(default)]
    variables: BTreeMap<String, VariableDeclaration>,
    #[serde(default)]
    trigger: TriggerTables,
    #[serde(default)]
    component: BTreeMap<String, ComponentTable>,
}

#[derive(Deserialize)]
struct VariableDeclaration {
    default: Option<String>,
    #[serde(default)]
    required: bool,
}

#[derive(Default, Deserialize)]
struct TriggerTables {
    #[serde(default)]
    http: Vec<HttpTrigger>,
}

#[derive(Deserialize)]
struct HttpTrigger {
    route: TriggerRoute,
    component: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TriggerRoute {
    Path(String),
    Private {
        #[expect(
            dead_code,
            reason = "its presence means that the component has no path"
        )]
        private: bool,
    },
}

#[derive(Deserialize)]
struct ComponentTable {
    source: String,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    key_value_stores: Vec<String>,
}

impl Manifest {
    /// Reads the manifest at `path`. A declared variable has its value in `given`, else that in `provided`, else its
    /// default.
    ///
    /// # Errors
    /// When the manifest can't be read or is invalid, `given` has a variable that is not declared, or a required
    /// variable has no value.
    pub fn read(
        path: &Path,
        given: &BTreeMap<String, String>,
        provided: &BTreeMap<String, String>,
    ) -> Result<Self, LoadError> {
        let io = |cause| LoadError::Io {
            path: path.into(),
            cause,
        };
        let invalid = |message: String| LoadError::Manifest {
            path: path.into(),
            message,
        };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_MANIFEST_BYTES {
            return Err(invalid(format!(
                "the manifest exceeds {MAX_MANIFEST_BYTES} bytes"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let file: ManifestFile =
            toml::from_str(&text).map_err(|error| invalid(at_line(&text, &error)))?;
        if file.spin_manifest_version != 2 {
            return Err(invalid(
                "unsupported spin_manifest_version; write spin_manifest_version = 2".into(),
            ));
        }
        let values = application_variables(&file.variables, given, provided).map_err(invalid)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut components = BTreeMap::new();
        for (name, component) in &file.component {
            let read = Component::from_table(component, directory, &values);
            let read = read.map_err(|message| invalid(format!("[component.{name}] {message}")))?;
            components.insert(name.clone(), read);
        }
        let routes = routes(file.trigger.http, &components).map_err(invalid)?;
        Ok(Self { components, routes })
    }

    /// Checks that each component's file starts with the header of a WebAssembly component.
    ///
    /// # Errors
    /// When a file can't be read or is not a component.
    pub fn check_sources(&self) -> Result<(), LoadError> {
        for (name, component) in &self.components {
            let path = &component.source;
            let io = |cause| LoadError::Io {
                path: path.clone(),
                cause,
            };
            let mut header = Vec::new();
            let file = std::fs::File::open(path).map_err(io)?;
            file.take(COMPONENT_HEADER.len() as u64)
                .read_to_end(&mut header)
                .map_err(io)?;
            if header != COMPONENT_HEADER {
                return Err(LoadError::Component {
                    name: name.clone(),
                    message: format!("{} is not a WebAssembly component", path.display()),
                });
            }
        }
        Ok(())
    }

    /// The components' files; together with the manifest they make up the application.
    #[must_use]
    pub fn sources(&self) -> Vec<PathBuf> {
        let sources = self.components.values().map(|it| it.source.clone());
        sources.collect()
    }
}

fn at_line(text: &str, error: &toml::de::Error) -> String {
    let offset = error.span().map_or(0, |span| span.start);
    let line = text.get(..offset).unwrap_or_default().matches('\n').count() + 1;
    format!("line {line}: {}", error.message())
}

fn application_variables(
    declared: &BTreeMap<String, VariableDeclaration>,
    given: &BTreeMap<String, String>,
    provided: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for (name, variable) in declared {
        let value = given.get(name).or(provided.get(name));
        match value.or(variable.default.as_ref()) {
            Some(value) => drop(values.insert(name.clone(), value.clone())),
            None if variable.required => {
                return Err(format!("variable {name} is required but has no value"));
            }
            None => {}
        }
    }
    match given.keys().find(|name| !declared.contains_key(*name)) {
        Some(name) => Err(format!(
            "variable {name} has a value but is not declared in [variables]"
        )),
        None => Ok(values),
    }
}

fn routes(
    triggers: Vec<HttpTrigger>,
    components: &BTreeMap<String, Component>,
) -> Result<Vec<(RoutePattern, String)>, String> {
    let mut routes = Vec::new();
    for HttpTrigger { route, component } in triggers {
        if !components.contains_key(&component) {
            return Err(format!(
                "a trigger names component {component}, but there is no [component.{component}]"
            ));
        }
        if let TriggerRoute::Path(path) = route {
            routes.push((RoutePattern::parse(&path)?, component));
        }
    }
    // The most specific first.
    routes.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.rank()));
    Ok(routes)
}

impl Component {
    fn from_table(
        table: &ComponentTable,
        directory: &Path,
        values: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let allowed = table.allowed_outbound_hosts.iter();
        // The error shows the template: inserted values may be secrets.
        let invalid = |host: &String| {
            format!("{host:?} in allowed_outbound_hosts is not scheme://host[:port]")
        };
        let allowed = allowed.map(|host| {
            let expanded = expand(host, values)?;
            AllowedHost::parse(&expanded).ok_or_else(|| invalid(host))
        });
        let variables = table.variables.iter();
        let variables = variables.map(|(name, value)| Ok((name.clone(), expand(value, values)?)));
        Ok(Self {
            source: directory.join(&table.source),
            allowed_hosts: allowed.collect::<Result<_, String>>()?,
            variables: variables.collect::<Result<_, String>>()?,
            stores: table.key_value_stores.clone(),
        })
    }
}

/// Replaces each `{{ name }}` by the value of the application's variable.
fn expand(template: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a {{ lacks its closing }}")?;
        let name = name.trim();
        let value = values.get(name);
        text.push_str(before);
        text.push_str(value.ok_or_else(|| format!("variable {name} has no value"))?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_not_shown() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let manifest = directory.path().join("spin.toml");
        let text = "spin_manifest_version = 2\n[variables]\nkey = { required = true }\n\
             [component.guest]\nsource = \"guest.wasm\"\n\
             allowed_outbound_hosts = [\"https://{{ key }}\"]\n\
             [component.guest.variables]\nkey = \"{{ key }}\"\n";
        std::fs::write(&manifest, text).expect("file written");
        let with = |value: &str| BTreeMap::from([("key".to_owned(), value.to_owned())]);
        let valid = Manifest::read(&manifest, &with("s3cret"), &with("s3cret"));
        let shown = format!("{:?}", valid.expect("valid manifest"));
        assert!(!shown.contains("s3cret"), "{shown}");
        let invalid = Manifest::read(&manifest, &with("s3cret@"), &BTreeMap::new());
        let shown = invalid.expect_err("not a host").to_string();
        assert!(
            shown.contains("key") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
