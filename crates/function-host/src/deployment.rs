//! The functions that are active together, with their routes. A deployment never changes; a new one replaces it.

use crate::LoadError;
use crate::function::Function;
use crate::route::RoutePattern;
use http::HeaderValue;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Active functions by route, in order of precedence.
#[derive(Default)]
pub(crate) struct Deployment {
    routes: Vec<Route>,
}

/// A route, and the function it leads to.
struct Route {
    pattern: RoutePattern,
    /// The pattern, as Spin's headers contain it.
    header: HeaderValue,
    function: Arc<Function>,
}

/// A function that a path was routed to.
#[derive(Clone)]
pub struct MatchedFunction {
    pub(crate) function: Arc<Function>,
    /// The route's pattern.
    pub(crate) route: HeaderValue,
    /// The part of the path that `/...` matched.
    pub(crate) path_rest: HeaderValue,
}

impl fmt::Debug for MatchedFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MatchedFunction")
            .field(&self.function.name)
            .finish()
    }
}

impl Deployment {
    /// A deployment of `functions`; `routes` name only these.
    ///
    /// # Errors
    /// When a route can't be written in a header.
    pub(crate) fn new(
        routes: Vec<(RoutePattern, String)>,
        functions: &BTreeMap<String, Arc<Function>>,
    ) -> Result<Self, LoadError> {
        let routes = routes.into_iter().map(|(pattern, name)| {
            let header = HeaderValue::from_str(pattern.as_str());
            let function = functions[&name].clone();
            Ok(Route {
                header: header.map_err(|error| LoadError::Component {
                    name,
                    message: format!(
                        "its route is not valid in the header spin-matched-route: {error}"
                    ),
                })?,
                pattern,
                function,
            })
        });
        Ok(Self {
            routes: routes.collect::<Result<_, LoadError>>()?,
        })
    }

    pub(crate) fn functions(&self) -> impl Iterator<Item = &Function> {
        self.routes.iter().map(|route| route.function.as_ref())
    }

    /// The function that `path` is routed to.
    pub(crate) fn find(&self, path: &str) -> Option<MatchedFunction> {
        self.routes.iter().find_map(|route| {
            let rest = route.pattern.rest(path)?;
            Some(MatchedFunction {
                function: route.function.clone(),
                route: route.header.clone(),
                path_rest: HeaderValue::from_str(rest).ok()?,
            })
        })
    }
}
