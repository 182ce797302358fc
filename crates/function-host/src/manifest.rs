//! `spin.toml`, manifest version 2 (<https://spinframework.dev/v3/manifest-reference>): what is read of
//! it, and what is wrong with one.

use crate::outbound::Allowed;
use crate::route::Pattern;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A manifest is not longer than this, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// What a manifest says, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Components by their names.
    pub(crate) components: BTreeMap<String, Component>,
    /// Which path leads to which component.
    pub(crate) routes: Vec<(Pattern, String)>,
}

/// One component.
#[derive(Clone)]
pub(crate) struct Component {
    /// The file of its code.
    pub(crate) source: PathBuf,
    /// Hosts that it may ask.
    pub(crate) allowed: Vec<Allowed>,
    /// Its variables, with values.
    pub(crate) variables: BTreeMap<String, String>,
    /// Stores that it may open.
    pub(crate) stores: Vec<String>,
}

/// Without values of variables, which may be secrets wherever they were filled in.
impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("source", &self.source)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

/// Magic number, version and layer of components, as opposed to core modules.
const COMPONENT_HEAD: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// Functions that can't be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The manifest is wrong.
    #[error("{}: {message}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What would be right.
        message: String,
    },
    /// A component is no component, or wants what this host does not offer.
    #[error("function {name}: {message}")]
    Component {
        /// Which.
        name: String,
        /// Why.
        message: String,
    },
    /// The engine, its threads or its metrics can't be set up.
    #[error("functions can't be run here: {0}")]
    Engine(String),
}

#[derive(Deserialize)]
struct File {
    spin_manifest_version: u32,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    #[serde(default)]
    trigger: Triggers,
    #[serde(default)]
    component: BTreeMap<String, ComponentFile>,
}

#[derive(Deserialize)]
struct Variable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
}

#[derive(Default, Deserialize)]
struct Triggers {
    #[serde(default)]
    http: Vec<HttpTrigger>,
}

#[derive(Deserialize)]
struct HttpTrigger {
    route: Route,
    component: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Route {
    Path(String),
    Private {
        #[expect(dead_code, reason = "its presence says that there is no path")]
        private: bool,
    },
}

#[derive(Deserialize)]
struct ComponentFile {
    source: String,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    key_value_stores: Vec<String>,
}

impl Manifest {
    /// Reads the manifest at `path`; `given` are values of the application's variables, which go before
    /// defaults, `offered` go before those where such a variable is declared.
    ///
    /// # Errors
    /// When it can't be read, is wrong, or a variable that is required has no value.
    pub fn read(
        path: &Path,
        given: &BTreeMap<String, String>,
        offered: &BTreeMap<String, String>,
    ) -> Result<Self, LoadError> {
        let io = |cause| LoadError::Io {
            path: path.into(),
            cause,
        };
        let wrong = |message: String| LoadError::Manifest {
            path: path.into(),
            message,
        };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_MANIFEST_BYTES {
            return Err(wrong(format!("is longer than {MAX_MANIFEST_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let file: File = toml::from_str(&text).map_err(|error| wrong(at_line(&text, &error)))?;
        if file.spin_manifest_version != 2 {
            return Err(wrong("spin_manifest_version = 2 is understood".into()));
        }
        let values = application_variables(&file.variables, given, offered).map_err(wrong)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut components = BTreeMap::new();
        for (name, component) in &file.component {
            let read = Component::of(component, folder, &values);
            let read = read.map_err(|message| wrong(format!("[component.{name}] {message}")))?;
            components.insert(name.clone(), read);
        }
        let routes = routes(file.trigger.http, &components).map_err(wrong)?;
        Ok(Self { components, routes })
    }

    /// Whether each component's file begins as a component of WebAssembly does.
    ///
    /// # Errors
    /// When one can't be read or is none.
    pub fn check_sources(&self) -> Result<(), LoadError> {
        for (name, component) in &self.components {
            let path = &component.source;
            let io = |cause| LoadError::Io {
                path: path.clone(),
                cause,
            };
            let mut head = Vec::new();
            let file = std::fs::File::open(path).map_err(io)?;
            file.take(COMPONENT_HEAD.len() as u64)
                .read_to_end(&mut head)
                .map_err(io)?;
            if head != COMPONENT_HEAD {
                return Err(LoadError::Component {
                    name: name.clone(),
                    message: format!("{} is no component of WebAssembly", path.display()),
                });
            }
        }
        Ok(())
    }

    /// The files that make up the application: who looks at them sees every change.
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
    declared: &BTreeMap<String, Variable>,
    given: &BTreeMap<String, String>,
    offered: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for (name, variable) in declared {
        let value = given.get(name).or(offered.get(name));
        match value.or(variable.default.as_ref()) {
            Some(value) => drop(values.insert(name.clone(), value.clone())),
            None if variable.required => {
                return Err(format!("variable {name} is required and has no value"));
            }
            None => {}
        }
    }
    match given.keys().find(|name| !declared.contains_key(*name)) {
        Some(name) => Err(format!("variable {name} is given a value and not declared")),
        None => Ok(values),
    }
}

fn routes(
    triggers: Vec<HttpTrigger>,
    components: &BTreeMap<String, Component>,
) -> Result<Vec<(Pattern, String)>, String> {
    let mut routes = Vec::new();
    for HttpTrigger { route, component } in triggers {
        if !components.contains_key(&component) {
            return Err(format!(
                "a trigger names component {component}, which there is not"
            ));
        }
        if let Route::Path(path) = route {
            routes.push((Pattern::parse(&path)?, component));
        }
    }
    // The most particular first.
    routes.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.rank()));
    Ok(routes)
}

impl Component {
    fn of(
        file: &ComponentFile,
        folder: &Path,
        values: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let allowed = file.allowed_outbound_hosts.iter();
        // What was filled in may be a secret: the template is shown.
        let wrong = |host: &String| format!("{host:?} in allowed_outbound_hosts is no host");
        let allowed = allowed.map(|host| {
            let filled_in = expand(host, values)?;
            Allowed::parse(&filled_in).map_err(|text| match filled_in == *host {
                true => text,
                false => wrong(host),
            })
        });
        let variables = file.variables.iter();
        let variables = variables.map(|(name, value)| Ok((name.clone(), expand(value, values)?)));
        Ok(Self {
            source: folder.join(&file.source),
            allowed: allowed.collect::<Result<_, String>>()?,
            variables: variables.collect::<Result<_, String>>()?,
            stores: file.key_value_stores.clone(),
        })
    }
}

/// Puts the application's variables where `{{ name }}` stands.
fn expand(template: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .ok_or("a {{ has no }} that ends it")?;
        let name = name.trim();
        let value = values.get(name);
        text.push_str(before);
        text.push_str(value.ok_or_else(|| format!("variable {name} has no value"))?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}
