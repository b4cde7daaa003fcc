//! The API's client: one method per route. The command line, the simulator's demo and the tests
//! use it; an error carries the problem's detail and hint.

mod approvals;
mod audit;
mod data;
mod trust;
mod watch;
mod webhooks;

use std::time::Duration;

use bellwether_link::tls::Trust;
use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::error::Problem;
use crate::api::types::{
    ActionRequest, DeviceQuery, DeviceTokenRequest, DeviceTokenView, DeviceView, EnrolRequest, EnrolView, EventQuery,
    EventView, FleetView, GrantView, HubView, ImportRequest, ImportView, KeysView, ModelDetail, ModelQuery, ModelView,
    OverviewView, PackageView, Page, RegisterRequest, ReportView, RolloutAction, RolloutRequest, RolloutView, RootView,
    StatementRequest, StatementView, TagsRequest, TokenCreated, TokenRequest, TokenView, VersionView,
};

/// How long the hub may take to accept a connection: it is near, or it is not there.
const CONNECT_SECONDS_MAX: u64 = 5;
/// How long one answer may take; registering repeats the golden check, which takes its time.
const ANSWER_SECONDS_MAX: u64 = 300;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The hub said no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The hub cannot be reached.
    #[error("the hub at {url} cannot be reached: {cause}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// Whatever answered is no hub, or another version of it.
    #[error("{url} answered something else than a hub: {cause}")]
    Foreign {
        /// Who answered.
        url: String,
        /// What was wrong with it.
        cause: String,
    },
    /// There is no TLS with it that we could trust.
    #[error("{0}")]
    Untrusted(String),
}

impl ClientError {
    /// The next step, if there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(problem) => Some(problem.hint.clone()).filter(|hint| !hint.is_empty()),
            Self::Unreachable { .. } => {
                Some("start it with `bellwether-hub serve`, or name another with --hub URL".to_owned())
            }
            Self::Untrusted(_) => {
                Some("name the authority of the hub's certificate with --ca FILE or BELLWETHER_CA".to_owned())
            }
            Self::Foreign { .. } => Some("check --hub; `bellwether doctor` looks at both versions".to_owned()),
        }
    }

    /// The problem, if the hub said no.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::Unreachable { .. } | Self::Foreign { .. } | Self::Untrusted(_) => None,
        }
    }
}

/// A hub's API, with a token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    trust: Trust,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

type Answer<T> = Result<T, ClientError>;

impl Client {
    /// A client of the hub at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// As [`Client::with_trust`].
    pub fn new(base: &str, token: Option<String>) -> Answer<Self> {
        Self::with_trust(base, token, Trust::default())
    }

    /// A client of the hub at `base` that trusts whom it is told to, where that is an `https` address.
    ///
    /// # Errors
    ///
    /// [`ClientError::Foreign`] if `base` is neither an `http` nor an `https` address,
    /// [`ClientError::Untrusted`] if the files of `trust` cannot be used.
    pub fn with_trust(base: &str, token: Option<String>, trust: Trust) -> Answer<Self> {
        let base = base.trim_end_matches('/').to_owned();
        let foreign = |cause: String| ClientError::Foreign { url: base.clone(), cause };
        let url = reqwest::Url::parse(&base).map_err(|fault| foreign(format!("not an address: {fault}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(foreign(format!("this client speaks http and https, not {}", url.scheme())));
        }
        let tls = trust.config_for(url.as_str()).map_err(|why| ClientError::Untrusted(why.to_string()))?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
            .no_proxy()
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|fault| foreign(fault.to_string()))?;
        Ok(Self { http, base, token, trust })
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: Option<String>) -> Self {
        Self { token, ..self.clone() }
    }

    /// The hub's address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = format!("{}/api/v1", self.base);
        for part in path {
            url.push('/');
            url.push_str(&path_segment(part));
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Answer<Response> {
        let unreachable = |fault: reqwest::Error| match bellwether_link::tls::reason(
            &fault,
            &self.trust,
            &format!("the hub at {}", self.base),
        ) {
            Some(why) => ClientError::Untrusted(why),
            None => ClientError::Unreachable { url: self.base.clone(), cause: root_of(&fault) },
        };
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(self.foreign(format!("status {status} without a problem document"))),
        }
    }

    fn foreign(&self, cause: String) -> ClientError {
        ClientError::Foreign { url: self.base.clone(), cause }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Answer<T> {
        let response = self.send(request).await?;
        response.json().await.map_err(|fault| self.foreign(root_of(&fault)))
    }

    async fn fetch<T: DeserializeOwned>(&self, path: &[&str]) -> Answer<T> {
        self.json(self.request(Method::GET, path)).await
    }

    async fn fetch_with<T: DeserializeOwned>(&self, path: &[&str], query: &(impl Serialize + Sync)) -> Answer<T> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &(impl Serialize + Sync)) -> Answer<T> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    async fn delete(&self, path: &[&str]) -> Answer<()> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    async fn bytes(&self, path: &[&str]) -> Answer<Bytes> {
        let response = self.send(self.request(Method::GET, path)).await?;
        response.bytes().await.map_err(|fault| self.foreign(root_of(&fault)))
    }
}

/// The routes. Each fails with what the hub refused, or with why it could not be asked.
#[expect(clippy::missing_errors_doc, reason = "the errors of all are those of `ClientError`, said once above")]
impl Client {
    /// `GET /hub`.
    pub async fn hub(&self) -> Answer<HubView> {
        self.fetch(&["hub"]).await
    }

    /// `GET /root`.
    pub async fn root(&self) -> Answer<RootView> {
        self.fetch(&["root"]).await
    }

    /// `PUT /root`.
    pub async fn put_root(&self, statement: String) -> Answer<FleetView> {
        self.json(self.request(Method::PUT, &["root"]).json(&StatementRequest { statement })).await
    }

    /// `GET /root/keys`.
    pub async fn root_keys(&self) -> Answer<KeysView> {
        self.fetch(&["root", "keys"]).await
    }

    /// `POST /packages`. `body` may stream.
    pub async fn put_package(&self, body: impl Into<reqwest::Body>) -> Answer<PackageView> {
        let request = self.request(Method::POST, &["packages"]);
        self.json(request.header(header::CONTENT_TYPE, "application/octet-stream").body(body)).await
    }

    /// `GET /packages/{digest}`.
    pub async fn package(&self, digest: &str) -> Answer<Bytes> {
        self.bytes(&["packages", digest]).await
    }

    /// `POST /models/{name}/versions`.
    pub async fn register(&self, name: &str, request: &RegisterRequest) -> Answer<VersionView> {
        self.post(&["models", name, "versions"], request).await
    }

    /// `GET /models`.
    pub async fn models(&self, query: &ModelQuery) -> Answer<Page<ModelView>> {
        self.fetch_with(&["models"], query).await
    }

    /// `GET /models/{name}`.
    pub async fn model(&self, name: &str) -> Answer<ModelDetail> {
        self.fetch(&["models", name]).await
    }

    /// `GET /models/{name}/versions/{version}`.
    pub async fn version(&self, name: &str, version: u32) -> Answer<VersionView> {
        self.fetch(&["models", name, "versions", &version.to_string()]).await
    }

    /// `DELETE /models/{name}/versions/{version}`.
    pub async fn delete_version(&self, name: &str, version: u32) -> Answer<()> {
        self.delete(&["models", name, "versions", &version.to_string()]).await
    }

    /// `GET /models/{name}/versions/{version}/release`.
    pub async fn release(&self, name: &str, version: u32) -> Answer<StatementView> {
        self.fetch(&["models", name, "versions", &version.to_string(), "release"]).await
    }

    /// `POST /models/{name}/versions/{version}/release`.
    pub async fn post_release(&self, name: &str, version: u32, statement: String) -> Answer<VersionView> {
        self.post(&["models", name, "versions", &version.to_string(), "release"], &StatementRequest { statement }).await
    }

    /// `POST /models/{name}/versions/{version}/signatures`.
    pub async fn add_signature(&self, name: &str, version: u32, statement: String) -> Answer<VersionView> {
        let path = ["models", name, "versions", &version.to_string(), "signatures"];
        self.post(&path, &StatementRequest { statement }).await
    }

    /// `POST /models/{name}/versions/{version}/grants`.
    pub async fn post_grant(&self, name: &str, version: u32, statement: String) -> Answer<GrantView> {
        self.post(&["models", name, "versions", &version.to_string(), "grants"], &StatementRequest { statement }).await
    }

    /// `GET /models/{name}/versions/{version}/grants`.
    pub async fn grants(&self, name: &str, version: u32) -> Answer<Page<GrantView>> {
        self.fetch(&["models", name, "versions", &version.to_string(), "grants"]).await
    }

    /// `POST /rollouts`.
    pub async fn start_rollout(&self, request: &RolloutRequest) -> Answer<RolloutView> {
        self.post(&["rollouts"], request).await
    }

    /// `GET /rollouts`.
    pub async fn rollouts(&self) -> Answer<Page<RolloutView>> {
        self.fetch(&["rollouts"]).await
    }

    /// `GET /rollouts/{id}`.
    pub async fn rollout(&self, id: &str) -> Answer<RolloutView> {
        self.fetch(&["rollouts", id]).await
    }

    /// `POST /rollouts/{id}/{action}`.
    pub async fn act_on_rollout(&self, id: &str, action: RolloutAction, reason: Option<String>) -> Answer<RolloutView> {
        self.post(&["rollouts", id, action.verb()], &ActionRequest { reason }).await
    }

    /// `GET /devices`, one page.
    pub async fn devices(&self, query: &DeviceQuery) -> Answer<Page<DeviceView>> {
        self.fetch_with(&["devices"], query).await
    }

    /// `GET /reports`, one page.
    pub async fn reports(&self, query: &DeviceQuery) -> Answer<Page<ReportView>> {
        self.fetch_with(&["reports"], query).await
    }

    /// `GET /devices/{id}`.
    pub async fn device(&self, id: &str) -> Answer<DeviceView> {
        self.fetch(&["devices", id]).await
    }

    /// `DELETE /devices/{id}`.
    pub async fn delete_device(&self, id: &str) -> Answer<()> {
        self.delete(&["devices", id]).await
    }

    /// `PUT /devices/{id}/tags`.
    pub async fn set_tags(&self, id: &str, request: &TagsRequest) -> Answer<DeviceView> {
        self.json(self.request(Method::PUT, &["devices", id, "tags"]).json(request)).await
    }

    /// `POST /devices/{id}/report`.
    pub async fn ask_report(&self, id: &str) -> Answer<()> {
        self.send(self.request(Method::POST, &["devices", id, "report"])).await.map(drop)
    }

    /// `POST /devices/tokens`.
    pub async fn device_token(&self, request: &DeviceTokenRequest) -> Answer<DeviceTokenView> {
        self.post(&["devices", "tokens"], request).await
    }

    /// `POST /devices/import`.
    pub async fn import_devices(&self, request: &ImportRequest) -> Answer<ImportView> {
        self.post(&["devices", "import"], request).await
    }

    /// `POST /enrol`.
    pub async fn enrol(&self, request: &EnrolRequest) -> Answer<EnrolView> {
        self.post(&["enrol"], request).await
    }

    /// `GET /events`, one page.
    pub async fn events(&self, query: &EventQuery) -> Answer<Page<EventView>> {
        self.fetch_with(&["events"], query).await
    }

    /// `GET /overview`.
    pub async fn overview(&self) -> Answer<OverviewView> {
        self.fetch(&["overview"]).await
    }

    /// `POST /tokens`.
    pub async fn create_token(&self, request: &TokenRequest) -> Answer<TokenCreated> {
        self.post(&["tokens"], request).await
    }

    /// `GET /tokens`.
    pub async fn tokens(&self) -> Answer<Page<TokenView>> {
        self.fetch(&["tokens"]).await
    }

    /// `DELETE /tokens/{id}`.
    pub async fn delete_token(&self, id: &str) -> Answer<()> {
        self.delete(&["tokens", id]).await
    }

    /// `GET /backup`: read the body piece by piece.
    pub async fn backup(&self) -> Answer<Response> {
        self.send(self.request(Method::GET, &["backup"])).await
    }
}

/// A path segment with everything encoded that is not unreserved (RFC 3986, section 2.3).
/// Dots alone are encoded twice: an address with `%2E%2E` would still climb.
fn path_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => encoded.push(char::from(byte)),
            b'.' if text.bytes().any(|other| other != b'.') => encoded.push('.'),
            b'.' => encoded.push_str("%252E"),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The innermost cause: what a person needs to read.
fn root_of(fault: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = fault;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_part_cannot_leave_its_place() {
        assert_eq!(path_segment("a/b c?d"), "a%2Fb%20c%3Fd");
        assert_eq!(path_segment(".."), "%252E%252E");
        assert_eq!(path_segment("digits.v2"), "digits.v2");
    }

    #[tokio::test]
    async fn a_hub_that_is_not_there_is_named_with_the_way_to_start_it() {
        let client = Client::new("http://127.0.0.1:9", None).unwrap();
        let error = client.hub().await.unwrap_err();
        assert!(error.to_string().contains("http://127.0.0.1:9"), "{error}");
        assert!(error.hint().unwrap().contains("bellwether-hub serve"));
        assert!(Client::new("ftp://x", None).is_err());
        let missing = Trust::in_ca(Some("missing/ca.pem".into()));
        let error = Client::with_trust("https://127.0.0.1:9", None, missing).unwrap_err();
        assert!(error.to_string().contains("missing/ca.pem") && error.hint().unwrap().contains("--ca"), "{error}");
        assert!(Client::new("nonsense", None).is_err());
    }
}
