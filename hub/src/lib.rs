//! The hub: registry, approvals, rollouts, dashboard; and the operator's command line.
