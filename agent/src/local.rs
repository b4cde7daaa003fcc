//! What applications on the device can ask the agent beside scores: how it is, and that installs wait
//! (`PUT /holds/busy?seconds=600`).

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bellwether_protocol::trust::ModelReport;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::conditions::{ASKED_SECONDS_MAX, Asked, Reason};
use crate::run::Status;

/// What the service answers to.
pub(crate) const ROUTES: &str = "GET /status, /holds; PUT /holds/{busy|metered|power}?seconds=600, DELETE likewise";

/// The service.
pub(crate) fn router(status: watch::Receiver<Status>, asked: Asked, clock: Clock) -> Router {
    let holds = Router::new()
        .route("/holds", get(all))
        .route("/holds/{reason}", put(ask).delete(release))
        .with_state((asked, clock));
    Router::new().route("/status", get(how)).with_state(status).merge(holds)
}

/// How the device is: whom it reaches, what it runs, what waits.
async fn how(State(status): State<watch::Receiver<Status>>) -> Response {
    let status = status.borrow().clone();
    let hub = match (status.stale, status.connected) {
        (true, _) => "stale",
        (false, true) => "connected",
        (false, false) => "away",
    };
    let models: Vec<_> = status.models.iter().map(model).collect();
    Json(json!({
        "device": status.device.as_str(),
        "hub": hub,
        "refused": status.refused.map(|reject| reject.text()),
        "models": models,
        "waiting": status.waiting,
    }))
    .into_response()
}

fn model(model: &ModelReport) -> Value {
    json!({
        "name": model.name.as_str(),
        "active": model.active.map(|running| running.version.number()),
        "target": model.target.map(|running| running.version.number()),
        "phase": model.phase.name(),
        "reject": model.reject.map(|reject| reject.text()),
    })
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
    use bellwether_protocol::trust::{Hold, Order, Phase};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    fn status() -> Status {
        let running = |version| Some(crate::score::tests::running(version));
        let digits = ModelReport {
            name: "digits".parse().unwrap(),
            active: running(1),
            target: running(2),
            phase: Phase::Held(Hold::Busy),
            reject: None,
            progress: 0,
        };
        Status {
            device: "gw-1".parse().unwrap(),
            connected: false,
            stale: false,
            seen: Order::default(),
            refused: None,
            models: vec![digits],
            waiting: 3,
        }
    }

    #[tokio::test]
    async fn an_application_asks_and_takes_it_back() {
        let asked = Asked::default();
        let (told, status) = watch::channel(status());
        let ask = async |method: &str, path: &str| {
            let service = router(status.clone(), asked.clone(), Clock::start());
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
        let (_, how) = ask("GET", "/status").await;
        let digits = json!({ "name": "digits", "active": 1, "target": 2, "phase": "held_busy", "reject": null });
        assert_eq!(how, json!({ "device": "gw-1", "hub": "away", "refused": null, "models": [digits], "waiting": 3 }));
        told.send_modify(|status| (status.connected, status.stale) = (true, true));
        assert_eq!(ask("GET", "/status").await.1["hub"], "stale", "whoever is reached holds the time back");
    }
}
