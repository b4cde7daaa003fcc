//! The whole HTTP surface on one screen: API, dashboard, health and figures.
//!
//! Every handler is one call of the facade, which checks the caller's role, so that page and API
//! share one door. What comes in is read in [`input`], what is refused leaves as [`error::Problem`].

pub mod attempts;
pub mod auth;
pub mod error;
pub mod input;
pub mod scope;
pub mod types;

mod approvals;
mod audit;
mod chain;
mod data;
mod devices;
mod drift;
mod events;
mod guard;
mod interchange;
mod keys;
mod models;
mod rollouts;
mod system;
mod webhooks;

use axum::Router;
use axum::routing::{MethodFilter, get, on};
use utoipa::OpenApi;

use crate::drive::Hub;
use guard::Bearer;

/// One table makes the router, the list of routes and the OpenAPI document.
macro_rules! surface {
    ($($method:ident $path:literal => $module:ident::$handler:ident,)+) => {
        /// The API as an OpenAPI 3.1 document.
        #[derive(Debug, OpenApi)]
        #[openapi(
            info(title = "Bellwether hub", description = "Registry, approvals, rollouts and devices of one fleet."),
            modifiers(&Bearer),
            security(("token" = [])),
            paths($($module::$handler),+)
        )]
        pub struct Document;

        /// Every route of the API: method and path below `/api/v1`.
        pub const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),+];

        fn surface() -> Router<Hub> {
            Router::new()$(.route($path, on(MethodFilter::$method, $module::$handler).layer(guard::limit_of($path))))+
        }
    };
}

surface! {
    GET    "/openapi.json" => system::openapi,
    GET    "/hub" => system::hub,
    GET    "/overview" => system::overview,
    GET    "/backup" => system::backup,
    GET    "/tokens" => system::tokens,
    POST   "/tokens" => system::create_token,
    DELETE "/tokens/{id}" => system::delete_token,

    GET    "/root" => system::root,
    PUT    "/root" => system::put_root,
    GET    "/root/keys" => system::root_keys,
    GET    "/keys/requests" => keys::requests,
    POST   "/keys/requests" => keys::request,
    DELETE "/keys/requests/{id}" => keys::withdraw,

    GET    "/approvals" => approvals::waiting,
    GET    "/approvals/{name}/{version}" => approvals::detail,
    POST   "/root/versions" => chain::add_root,
    GET    "/recalls" => chain::recalls,
    POST   "/recalls" => chain::add_recall,
    GET    "/checkpoints/latest" => chain::checkpoint,
    POST   "/checkpoints" => chain::add_checkpoint,

    POST   "/packages" => models::put_package,
    GET    "/packages/{digest}" => models::package,
    GET    "/models" => models::list,
    GET    "/models/{name}" => models::show,
    POST   "/models/{name}/versions" => models::register,
    GET    "/models/{name}/versions/{version}" => models::version,
    DELETE "/models/{name}/versions/{version}" => models::delete,
    GET    "/models/{name}/versions/{version}/release" => approvals::release,
    POST   "/models/{name}/versions/{version}/release" => approvals::post_release,
    POST   "/models/{name}/versions/{version}/signatures" => approvals::add_signature,
    POST   "/models/{name}/versions/{version}/rejection" => approvals::reject,
    GET    "/models/{name}/versions/{version}/dsse" => interchange::dsse,
    GET    "/models/{name}/versions/{version}/grants" => approvals::grants,
    POST   "/models/{name}/versions/{version}/grants" => approvals::post_grant,

    GET    "/rollouts" => rollouts::list,
    POST   "/rollouts" => rollouts::start,
    GET    "/rollouts/{id}" => rollouts::show,
    POST   "/rollouts/{id}/{action}" => rollouts::act,

    GET    "/devices" => devices::list,
    POST   "/devices/tokens" => devices::token,
    POST   "/devices/import" => devices::import,
    GET    "/devices/{id}" => devices::show,
    DELETE "/devices/{id}" => devices::delete,
    PUT    "/devices/{id}/tags" => devices::set_tags,
    POST   "/devices/{id}/report" => devices::ask_report,
    GET    "/devices/{id}/rows" => data::latest_rows,
    GET    "/devices/{id}/troubles" => devices::troubles,
    POST   "/devices/{id}/log" => devices::ask_log,
    GET    "/reports" => devices::reports,
    POST   "/enrol" => devices::enrol,

    GET    "/monitors" => drift::list,
    GET    "/monitors/{name}/{version}" => drift::show,

    GET    "/data" => data::collected,
    GET    "/data/export" => data::export,

    GET    "/events" => events::list,

    GET    "/audit" => audit::lines,
    GET    "/audit/head" => audit::head,
    GET    "/audit/devices/{id}" => audit::device,

    GET    "/webhooks" => webhooks::list,
    POST   "/webhooks" => webhooks::create,
    DELETE "/webhooks/{id}" => webhooks::delete,
    GET    "/webhooks/{id}/dead" => webhooks::dead,
    POST   "/webhooks/{id}/redeliver" => webhooks::redeliver,
    POST   "/webhooks/{id}/test" => webhooks::test,
}

/// Everything the hub answers over HTTP. Serve it with `ConnectInfo<SocketAddr>`, by which
/// `/metrics` knows a caller on this machine.
pub fn router(hub: Hub) -> Router {
    let all = Router::new()
        .nest("/api/v1", surface())
        .route("/healthz", get(system::healthz))
        .route("/metrics", get(system::metrics))
        .merge(crate::dashboard::routes());
    guard::around(all).with_state(hub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_openapi_document() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        for (method, path) in ROUTES {
            let operation = &paths[&format!("/api/v1{path}")][method.to_lowercase()];
            assert!(operation["responses"].is_object(), "{method} {path} is not described");
            assert!(operation["summary"].is_string(), "{method} {path} says nothing of itself");
        }
        let described: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, ROUTES.len(), "a described route is not served");
    }
}
