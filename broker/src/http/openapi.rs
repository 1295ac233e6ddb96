//! The document that describes the API, made from the code: what the macros say of each handler,
//! completed by what holds for all of them.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa::{
    OpenApi as _,
    openapi::{
        ContentBuilder, Info, OpenApi, Ref, RefOr, ResponseBuilder,
        path::{Operation, PathItem},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    access::{ROWS, Row, Who},
    api::Api,
    problem::Document,
};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/openapi.json", get(serve))
}

async fn serve(State(api): State<Api>) -> Response {
    ([(CONTENT_TYPE, "application/json")], api.openapi.clone()).into_response()
}

#[derive(utoipa::OpenApi)]
#[openapi(
    components(schemas(Document)),
    tags(
        (name = "broker", description = "The broker itself"),
        (name = "tenants", description = "Who may use it, and how much"),
        (name = "quotas", description = "What is used of it"),
        (name = "batches", description = "Work"),
        (name = "jobs", description = "Work that outlives its connection"),
        (name = "topics", description = "Durable logs, and who reads them together"),
        (name = "messages", description = "What is in them, one at a time"),
        (name = "recipes", description = "What can be run"),
        (name = "workers", description = "Who runs it"),
        (name = "connections", description = "Who is connected"),
        (name = "revocations", description = "Who is turned away"),
        (name = "events", description = "What happens"),
    )
)]
struct Frame;

/// The document without any route.
pub(super) fn frame() -> OpenApi {
    let mut document = Frame::openapi();
    let mut info = Info::new("Tollgate", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.into());
    document.info = info;
    document
}

/// Adds to every operation who may ask it, and every problem that it may answer with.
pub(super) fn complete(document: &mut OpenApi) {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert("bearer".into(), RefOr::T(bearer));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let row = ROWS.iter().find(|row| row.path == path && row.method == method);
            if let Some(row) = row {
                finish(operation, row);
            }
        }
    }
}

/// The operations of a path, by their methods.
pub(super) fn operations(
    item: &mut PathItem,
) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let all = [
        ("GET", &mut item.get),
        ("PUT", &mut item.put),
        ("POST", &mut item.post),
        ("DELETE", &mut item.delete),
        ("PATCH", &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn finish(operation: &mut Operation, row: &Row) {
    let mut add = |status: &str, description: &str| {
        let answers = &mut operation.responses.responses;
        if answers.contains_key(status) {
            return;
        }
        let content = ContentBuilder::new();
        let content = content.schema(Some(Ref::from_schema_name("Problem"))).build();
        let problem = ResponseBuilder::new().description(description);
        let problem = problem.content("application/problem+json", content).build();
        answers.insert(status.to_owned(), RefOr::T(problem));
    };
    let who = match row.who {
        Who::Anyone => "whoever reaches the listener",
        Who::Operator => "operators",
        Who::Tenants => "operators, and whoever has a tenant's credential",
        Who::Own(_) => "operators, and the tenant's own clients",
    };
    for (status, description) in PROBLEMS {
        add(status, description);
    }
    if row.who != Who::Anyone {
        add("401", "Who asks is not known");
        operation.security =
            Some(vec![SecurityRequirement::new("bearer", [""; 0]), SecurityRequirement::default()]);
    }
    if matches!(row.who, Who::Own(_)) {
        add("404", "There is no such tenant, or none that the caller may know of");
    }
    if operation.request_body.is_some() {
        add("413", "The body is too large");
        add("415", "The body has another type");
    }
    let about = operation.description.get_or_insert_default();
    if !about.is_empty() {
        about.push_str("\n\n");
    }
    about.push_str(&format!("For {who}."));
}

/// The document as JSON.
pub(super) fn bytes(document: &OpenApi) -> Bytes {
    document.to_pretty_json().expect("a document is made of text, numbers and tables").into()
}

/// What every route may answer.
const PROBLEMS: &[(&str, &str)] = &[
    ("400", "A value is wrong"),
    ("403", "The caller may not do this"),
    ("500", "The broker failed"),
    ("503", "The broker is shutting down, or has no room now"),
    ("504", "It took too long"),
];

const ABOUT: &str = "\
Every error is a problem document (RFC 9457) with the code that QUIC would give. Lists come in pages: \
pass `next_cursor` as `cursor` until it is null. On a loopback address without credentials everything \
is open to this machine; elsewhere a bearer token or a client certificate says who asks.";
