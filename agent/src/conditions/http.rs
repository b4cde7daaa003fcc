//! How applications on the device ask installs to wait: `PUT /holds/busy?seconds=600`.

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::{ASKED_SECONDS_MAX, Asked, Reason};
use crate::clock::Clock;

/// What the service answers to.
pub(crate) const ROUTES: &str = "GET /holds; PUT /holds/{busy|metered|power}?seconds=600, DELETE likewise";

/// The service.
pub(crate) fn router(asked: Asked, clock: Clock) -> Router {
    Router::new()
        .route("/holds", get(all))
        .route("/holds/{reason}", put(ask).delete(release))
        .with_state((asked, clock))
}

type Here = State<(Asked, Clock)>;

#[derive(Deserialize)]
struct Asks {
    seconds: Option<String>,
}

async fn all(State((asked, clock)): Here) -> Response {
    let holds: Vec<_> = asked
        .left(clock.now())
        .into_iter()
        .map(|(reason, seconds)| json!({ "reason": reason.to_string(), "seconds": seconds }))
        .collect();
    Json(json!({ "holds": holds })).into_response()
}

async fn ask(State((asked, clock)): Here, Path(reason): Path<String>, Query(asks): Query<Asks>) -> Response {
    let Ok(reason) = reason.parse::<Reason>() else { return unknown(&reason) };
    let seconds = asks.seconds.as_deref().and_then(|text| text.parse().ok());
    let Some(seconds) = seconds.filter(|seconds| (1..=ASKED_SECONDS_MAX).contains(seconds)) else {
        let text = format!("`seconds` says how long, from 1 to {ASKED_SECONDS_MAX}: PUT /holds/{reason}?seconds=600");
        return refused(StatusCode::BAD_REQUEST, &text);
    };
    asked.ask(reason, seconds, clock.now());
    tracing::info!(%reason, seconds, "an application asks installs to wait");
    all(State((asked, clock))).await
}

async fn release(State((asked, clock)): Here, Path(reason): Path<String>) -> Response {
    let Ok(reason) = reason.parse::<Reason>() else { return unknown(&reason) };
    asked.ask(reason, 0, clock.now());
    all(State((asked, clock))).await
}

fn unknown(reason: &str) -> Response {
    let reason: String = reason.chars().take(32).collect();
    refused(StatusCode::NOT_FOUND, &format!("`{reason}` is no reason to wait: there is busy, metered, power"))
}

fn refused(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json!({ "error": text }).to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn an_application_asks_and_takes_it_back() {
        let asked = Asked::default();
        let ask = async |method: &str, path: &str| {
            let service = router(asked.clone(), Clock::start());
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = service.oneshot(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice::<Value>(&body).unwrap())
        };
        assert_eq!(ask("GET", "/holds").await, (StatusCode::OK, json!({ "holds": [] })));
        let held = json!({ "holds": [{ "reason": "busy", "seconds": 600 }] });
        assert_eq!(ask("PUT", "/holds/busy?seconds=600").await, (StatusCode::OK, held));
        for (path, status, says) in [
            ("/holds/busy", StatusCode::BAD_REQUEST, "seconds=600"),
            ("/holds/busy?seconds=0", StatusCode::BAD_REQUEST, "from 1 to 86400"),
            ("/holds/busy?seconds=99999999999999999999", StatusCode::BAD_REQUEST, "from 1 to 86400"),
            ("/holds/window?seconds=5", StatusCode::NOT_FOUND, "busy, metered, power"),
        ] {
            let (got, body) = ask("PUT", path).await;
            assert_eq!(got, status, "{path}");
            assert!(body["error"].as_str().unwrap().contains(says), "{path}: {body}");
        }
        assert_eq!(ask("DELETE", "/holds/busy").await, (StatusCode::OK, json!({ "holds": [] })));
    }
}
