//! What the API says in JSON: one plain struct per answer and per request.
//!
//! Digests, keys and fleets are lower-case hexadecimal; statements are base64 of a frame holding a
//! `trust::Signed`; times are milliseconds since 1970 in fields that end in `_ms`. These types hold
//! no rules: the facade makes them from the hub's inside, the dashboard renders them, the client
//! reads them back.

mod audit;
mod data;
mod device;
mod drift;
mod event;
mod interchange;
mod model;
mod offload;
mod rollout;
mod system;
mod trust;
mod webhook;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use audit::{AuditHeadView, AuditQuery, DayQuery, DeviceAuditView, GrantedView, RanView, SignedByView};
pub use data::{CollectedView, Elements, ExportFormat, ExportQuery, PartitionView, RowView, RowsQuery, TensorValues};
pub use device::{
    DeviceQuery, DeviceTokenRequest, DeviceTokenView, DeviceView, EnrolBroker, EnrolRequest, EnrolView, FailedView,
    ImportRequest, ImportView, ImportedDevice, LogView, ModelOnDevice, Presence, RejectView, ReportView, RunningView,
    ShadowView, TagsRequest, TroublesView,
};
pub use drift::{
    ColumnView, GroupQuery, HistogramView, MonitorDetail, MonitorQuery, MonitorState, MonitorView, PointView,
};
pub use event::{EventQuery, EventView, WAIT_SECONDS_MAX};
pub use interchange::{
    AttestationView, AttestedSigner, EnvelopeSignature, EnvelopeView, PREDICATE_TYPE, ReleasePredicate, STATEMENT_TYPE,
    SubjectView,
};
pub use model::{
    ApprovalView, ApprovalsView, BadCohort, CohortView, FactsView, FileView, GitView, GoldenView, GrantView,
    ModelDetail, ModelQuery, ModelView, PackageView, PolicyView, RegisterRequest, RequiresView, StatementRequest,
    StatementView, TensorView, VersionState, VersionView,
};
pub use offload::{Accelerator, OffloadView, ScoredBy};
pub use rollout::{
    ActionRequest, ActionsView, CountsView, FailureAction, FailureView, RolloutAction, RolloutMode, RolloutPhase,
    RolloutRequest, RolloutState, RolloutView, StageState, StageView, TimelineView,
};
pub use system::{
    BrokerView, CheckpointView, DeviceState, DeviceTotals, FleetView, FloorView, HubView, KeyView, KeysView, NeedView,
    OverviewView, RecallView, Role, RootView, SiteDevice, SiteView, ThresholdsView, TokenCreated, TokenRequest,
    TokenView,
};
pub use trust::{ApprovalDetail, ApprovalPolicyView, KeyRequestRequest, KeyRequestView, RejectRequest, RejectionView};
pub use webhook::{
    DeadLetterView, RedeliverRequest, RedeliverView, WebhookCreated, WebhookRequest, WebhookState, WebhookTestView,
    WebhookView,
};

/// Most items of one page of a list: bounds memory per request.
pub const LIMIT_MAX: u32 = 500;
/// Items of a page when the request does not say.
pub const LIMIT_DEFAULT: u32 = 100;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the list's own order.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The only page of a list.
    #[must_use]
    pub const fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}
