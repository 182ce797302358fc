//! The edge's description of itself for docs/: settings, metrics and refusals.

use crate::functions::{api, rejections};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::settings::Settings;
use daemon::process_metrics;
use daemon::reference::{ANY_VALUE, Reference, RefusalReference, RefusalTable};
use daemon::retention::{Retention, RetentionSettings};
use edge_config::UpdateRefusal;
use function_host::Failure;
use postback::Reason;
use tracker_api::Problem;

/// Describes this program.
///
/// # Errors
/// When two metrics have one name.
pub fn describe() -> prometheus::Result<Reference> {
    let metrics = Metrics::new();
    let registry = metrics.registry();
    metrics.describe(ANY_VALUE);
    api::start_series(&metrics.reports);
    rejections::start_series(&metrics.rejections);
    function_host::describe_metrics(&registry, ANY_VALUE)?;
    process_metrics::register(&registry, ANY_VALUE, ANY_VALUE)?;
    Retention::new(Vec::new(), &RetentionSettings::default(), "edge", &registry)?;
    let tables = vec![requests(), reports(), calls(), messages(), updates()];
    Ok(Reference::new::<Settings>(&registry, tables))
}

fn requests() -> RefusalTable {
    let refusals = Refusal::ALL.iter().map(|refusal| RefusalReference {
        number: refusal.number(),
        name: refusal.name(),
        status: refusal.has_response().then(|| refusal.status().as_u16()),
        meaning: refusal.meaning(),
    });
    RefusalTable {
        title: "Requests and connections of an edge",
        introduction: "The response's text ends with `(reason NUMBER)`. Counted in `edge_refused_total{reason}`.",
        refusals: refusals.collect(),
        retired: &[
            (7, "too many parameters; the excess is cut off"),
            (8, "a parameter is too long; it is cut off"),
            (9, "a control character in a parameter; it is removed"),
            (24, "too many connections; counted in `edge_shed_total`"),
        ],
    }
}

fn calls() -> RefusalTable {
    let refusals = Failure::ALL.iter().map(|failure| RefusalReference {
        number: failure.number(),
        name: failure.name(),
        status: (*failure != Failure::ClientGone).then(|| failure.status().as_u16()),
        meaning: failure.meaning(),
    });
    RefusalTable {
        title: "Calls of functions",
        introduction: "The edge responds in place of a function that fails, with number and name; the cause is in the \
                       log. A response that has begun breaks off. Counted in `function_errors_total{function,reason}`.",
        refusals: refusals.collect(),
        retired: &[],
    }
}

fn messages() -> RefusalTable {
    let refusals = Problem::ALL.iter().map(|problem| RefusalReference {
        number: problem.number(),
        name: problem.name(),
        status: Some(problem.status()),
        meaning: problem.meaning(),
    });
    RefusalTable {
        title: "Messages to the internal API",
        introduction: "The internal API responds to a function with number and cause, and the function responds 503 to \
                       its own sender. Counted in `edge_reports_total{kind,outcome}`.",
        refusals: refusals.collect(),
        retired: &[],
    }
}

fn updates() -> RefusalTable {
    let refusals = UpdateRefusal::ALL.iter().map(|reason| RefusalReference {
        number: reason.number(),
        name: reason.name(),
        status: None,
        meaning: reason.meaning(),
    });
    RefusalTable {
        title: "Updates of an edge's configuration",
        introduction: "The edge sends the number to the aggregator and keeps the version that it has; both log it with the \
                       resource that is wrong. Counted in `edge_config_updates_total{outcome}` and \
                       `aggregator_config_updates_total{outcome}`; `aggregator_edge_config_refused_version{node}` \
                       names the version.",
        refusals: refusals.collect(),
        retired: &[],
    }
}

fn reports() -> RefusalTable {
    let refusals = Reason::ALL.iter().map(|reason| RefusalReference {
        number: reason.number(),
        name: reason.name(),
        status: Some(reason.status()),
        meaning: reason.meaning(),
    });
    RefusalTable {
        title: "Postbacks and webhooks",
        introduction: "A function responds `refused: NUMBER NAME: CAUSE` to the sender. Each refusal is a row of the \
                       table `rejections` with the masked request. It is counted in \
                       `edge_rejections_total{reason,outcome}`. Numbers 100 to 149 are refusals of postbacks, 200 to \
                       249 of webhooks of the identity service.",
        refusals: refusals.collect(),
        retired: &[],
    }
}
