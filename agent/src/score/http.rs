//! Scoring over HTTP on loopback: the Open Inference Protocol v2, as Triton's and KServe's clients
//! speak it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use bellwether_runtime::ScoreError;

use super::{Active, ScoreFault, Scoring};
use crate::local::ROUTES as LOCAL;
use crate::score::{json, wire};

/// Largest request: a thousand small images.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

const HEADER_LENGTH: &str = "inference-header-content-length";
const ROUTES: &str = "GET /v2, /v2/health/live, /v2/health/ready, /v2/models/{name}, /v2/models/{name}/ready; \
    POST /v2/models/{name}/infer; each model route also as /v2/models/{name}/versions/{version}...";

/// The service for the models of one device.
pub fn router(scoring: Scoring) -> Router {
    let model = |router: Router<Scoring>, base: &str| {
        router
            .route(base, get(metadata))
            .route(&format!("{base}/ready"), get(model_ready))
            .route(&format!("{base}/infer"), post(infer))
    };
    let router = Router::new()
        .route("/", get(index))
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(live));
    let router = model(router, "/v2/models/{name}");
    model(router, "/v2/models/{name}/versions/{version}")
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(scoring)
}

/// An error as the protocol wants it: `{"error": "..."}`.
fn error(status: StatusCode, text: impl Into<String>) -> Response {
    answer(status, &json!({ "error": text.into() }))
}

fn answer(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

impl IntoResponse for ScoreFault {
    fn into_response(self) -> Response {
        if let Self::Score(ScoreError::Away(_)) = &self {
            let mut response = error(StatusCode::SERVICE_UNAVAILABLE, self.to_string());
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
            return response;
        }
        let status = match &self {
            Self::NoModel { .. } | Self::OtherVersion { .. } => StatusCode::NOT_FOUND,
            Self::Score(why) if why.is_callers() => StatusCode::BAD_REQUEST,
            Self::Score(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        error(status, self.to_string())
    }
}

async fn nowhere() -> Response {
    error(StatusCode::NOT_FOUND, format!("there is nothing here; there is {ROUTES}; {LOCAL}"))
}

async fn wrong_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, format!("this route takes another method; there is {ROUTES}; {LOCAL}"))
}

async fn index(State(scoring): State<Scoring>) -> Response {
    let models: Vec<_> = scoring
        .all()
        .iter()
        .map(|active| json!({ "name": active.name.as_str(), "version": active.running.version.number() }))
        .collect();
    answer(StatusCode::OK, &json!({ "agent": env!("CARGO_PKG_VERSION"), "models": models, "routes": ROUTES }))
}

async fn server() -> Response {
    let (name, version) = ("bellwether-agent", env!("CARGO_PKG_VERSION"));
    answer(StatusCode::OK, &json!({ "name": name, "version": version, "extensions": ["binary_tensor_data"] }))
}

async fn live() -> Response {
    answer(StatusCode::OK, &json!({ "live": true, "ready": true }))
}

/// A model and, on the routes that have it, a version.
#[derive(serde::Deserialize)]
struct Which {
    name: String,
    version: Option<String>,
}

impl Which {
    fn find(&self, scoring: &Scoring) -> Result<Arc<Active>, ScoreFault> {
        scoring.find(&self.name, self.version.as_deref())
    }
}

async fn metadata(State(scoring): State<Scoring>, Path(which): Path<Which>) -> Result<Response, ScoreFault> {
    let active = which.find(&scoring)?;
    let specs = |side: &[bellwether_protocol::manifest::TensorSpec]| -> Vec<json::Spec> {
        side.iter().map(Into::into).collect()
    };
    let body = json!({
        "name": active.name.as_str(),
        "versions": [active.running.version.to_string()],
        "platform": "onnx_tract",
        "inputs": specs(&active.signature.inputs),
        "outputs": specs(&active.signature.outputs),
    });
    Ok(answer(StatusCode::OK, &body))
}

async fn model_ready(State(scoring): State<Scoring>, Path(which): Path<Which>) -> Result<Response, ScoreFault> {
    let active = which.find(&scoring)?;
    let is_ready = active.is_ready();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(answer(status, &json!({ "name": active.name.as_str(), "ready": is_ready })))
}

async fn infer(State(scoring): State<Scoring>, Path(which): Path<Which>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let text = format!("Content-Encoding {encoding:?} is not supported: send the body as it is");
        return error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    let too_large = || {
        let text = format!("the body is cut short or larger than {BODY_BYTES_MAX} bytes: send fewer rows at once");
        error(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    // Whoever says beforehand that it is too much need not send it.
    let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if said.is_some_and(|bytes: usize| bytes > BODY_BYTES_MAX) {
        return too_large();
    }
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return too_large();
    };
    match which.find(&scoring) {
        Ok(active) if active.is_quick() => respond(&active, &parts.headers, &body),
        Ok(active) => {
            let headers = parts.headers;
            let work = tokio::task::spawn_blocking(move || respond(&active, &headers, &body));
            work.await.unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "scoring was broken off"))
        }
        Err(fault) => fault.into_response(),
    }
}

/// Reads, scores, writes.
fn respond(active: &Active, headers: &HeaderMap, body: &Bytes) -> Response {
    let header = headers.get(HEADER_LENGTH).map(|value| value.to_str().unwrap_or("?"));
    let asked = match wire::read(body, header) {
        Ok(asked) => asked,
        Err(text) => return error(StatusCode::BAD_REQUEST, text),
    };
    let outputs = match active.score(&asked.inputs) {
        Ok(outputs) => outputs,
        Err(why) => return ScoreFault::Score(why).into_response(),
    };
    active.watch(&asked.inputs, &outputs);
    match wire::write(active, &asked, &outputs) {
        Ok((body, None)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Ok((body, Some(length))) => {
            let mut response = Response::new(Body::from(body));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(HEADER_LENGTH, HeaderValue::from(length));
            response
        }
        Err(text) => error(StatusCode::BAD_REQUEST, text),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::score::tests::{Constant, running};

    fn service() -> Router {
        let scoring = Scoring::default();
        scoring.swap(&"digits".parse().unwrap(), running(3), Constant::boxed(7.0));
        router(scoring)
    }

    async fn ask(
        method: &str,
        path: &str,
        header: Option<usize>,
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(length) = header {
            request = request.header("Inference-Header-Content-Length", length);
        }
        let response = service().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }

    async fn json_of(method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let (status, _, body) = ask(method, path, None, body).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn request(shape: &str, datatype: &str, data: &str) -> String {
        format!(r#"{{"id":"a","inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#)
    }

    #[tokio::test]
    async fn rows_are_scored_nested_or_flat() {
        for data in ["[[1, 2.5],[3,4]]", "[1,2,3,4]"] {
            for path in ["/v2/models/digits/infer", "/v2/models/digits/versions/3/infer"] {
                let (status, body) = json_of("POST", path, request("[2,2]", "FP32", data)).await;
                assert_eq!(status, StatusCode::OK, "{body}");
                let expected = json!({"name":"y","datatype":"FP32","shape":[2,1],"data":[7.0,7.0]});
                assert_eq!(
                    (&body["outputs"][0], &body["model_version"], &body["id"]),
                    (&expected, &json!("3"), &json!("a"))
                );
            }
        }
    }

    #[tokio::test]
    async fn raw_tensors_go_in_and_out_as_triton_clients_send_them() {
        let head = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#;
        let body = [head.as_bytes(), &1f32.to_le_bytes(), &2f32.to_le_bytes()].concat();
        let (status, headers, body) = ask("POST", "/v2/models/digits/infer", Some(head.len()), body).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let length: usize = headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
        let answer: Value = serde_json::from_slice(&body[..length]).unwrap();
        assert_eq!(answer["outputs"][0]["parameters"]["binary_data_size"], 4);
        assert_eq!(body[length..], 7f32.to_le_bytes());
        for (header, cut, says) in [(head.len(), 1, "only 7 bytes follow"), (9999, 0, "9999"), (head.len(), 0, "")] {
            let mut body = [head.as_bytes(), &[0; 8]].concat();
            body.truncate(body.len() - cut);
            let (status, _, body) = ask("POST", "/v2/models/digits/infer", Some(header), body).await;
            assert_eq!(status.is_success(), says.is_empty());
            assert!(String::from_utf8_lossy(&body).contains(says));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_refused_with_what_was_expected() {
        for (body, says) in [
            (request("[1,3]", "FP32", "[1,2,3]"), "shape [1, 3]: expected [-1, 2]"),
            (request("[1,2]", "FP32", "[1]"), "1 elements: expected 2"),
            (request("[1,2]", "INT8", "[1,2]"), "type INT8: expected FP32"),
            (request("[1,2]", "FP16", "[1,2]"), "expected one of BOOL"),
            (request("[1,2]", "INT8", "[1,300]"), "element 1 of `data` is no INT8"),
            (request("[1,2]", "FP32", r#"["a","b"]"#), "expected numbers or booleans"),
            (request("[1,2]", "FP32", "[[[[[[[[[1,2]]]]]]]]]"), "nested at most 6"),
            (request("[-1,2]", "FP32", "[1,2]"), "not the JSON of an inference request"),
            (request("[9223372036854775807,9]", "FP32", "[1,2]"), "2 elements"),
            ("{".to_owned(), "not the JSON of an inference request"),
            (r#"{"inputs":[]}"#.to_owned(), "input `x` is missing: expected FP32 [-1, 2]"),
            (r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32"}]}"#.to_owned(), "neither `data`"),
        ] {
            let (status, answer) = json_of("POST", "/v2/models/digits/infer", body.clone()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            assert!(answer["error"].as_str().unwrap().contains(says), "{body}: {answer}");
        }
        let (status, answer) = json_of("POST", "/v2/models/digits/infer", vec![b' '; BODY_BYTES_MAX + 1]).await;
        assert_eq!(
            (status, answer["error"].as_str().unwrap().contains("fewer rows")),
            (StatusCode::PAYLOAD_TOO_LARGE, true)
        );
    }

    #[tokio::test]
    async fn the_service_tells_what_it_has() {
        for (path, expected) in [
            (
                "/v2/models/digits",
                json!({"name":"digits","versions":["3"],"platform":"onnx_tract",
                "inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,1]}]}),
            ),
            ("/v2/models/digits/versions/3/ready", json!({"name":"digits","ready":true})),
            ("/v2/health/ready", json!({"live":true,"ready":true})),
        ] {
            assert_eq!(json_of("GET", path, "").await, (StatusCode::OK, expected), "{path}");
        }
        for (method, path, status, says) in [
            ("GET", "/v2/models/faces", StatusCode::NOT_FOUND, "there is digits"),
            ("GET", "/v2/models/digits/versions/2/ready", StatusCode::NOT_FOUND, "version 3 does"),
            ("GET", "/v1/predict", StatusCode::NOT_FOUND, "/v2/health/live"),
            ("GET", "/v2/models/digits/infer", StatusCode::METHOD_NOT_ALLOWED, "another method"),
        ] {
            let (got, body) = json_of(method, path, "").await;
            assert_eq!(got, status, "{path}");
            assert!(body["error"].as_str().unwrap().contains(says), "{path}: {body}");
        }
        assert_eq!(json_of("GET", "/", "").await.1["models"][0]["name"], "digits");
    }
}
