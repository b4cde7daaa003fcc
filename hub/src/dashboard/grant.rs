//! The stage of a rollout that waits for a grant, and the form in which this browser's key signs it.

use bellwether_protocol::limit::BUCKETS;
use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{CohortView, Role, RolloutPhase, RolloutView, StageState, StageView};

use super::shell::Parts;

/// The panel. What waits is pushed as it changes; the form around it stays.
pub(super) fn panel(rollout: &RolloutView, caller: &Caller, parts: &mut Parts) -> Markup {
    let role = caller.role;
    let refusal =
        (!role.may(Role::Approver)).then(|| format!("Granting takes the role approver; you are {}.", role.name()));
    html! {
        section.panel id="grant-panel" data-model=(rollout.model) data-version=(rollout.version) data-refusal=[refusal] {
            h2 { "Grant" span.soft { "how far an approver lets it go" } }
            (parts.live("grant-facts", "", facts(rollout)))
            form.stack.below id="grant-form" hidden {
                p.soft id="grant-key" {}
                label { "Type the version, " (rollout.version) ", to sign" input type="text" id="grant-typed" inputmode="numeric" autocomplete="off" maxlength="10" disabled; }
                div.actions.start {
                    button.btn id="grant-now" type="submit" disabled aria-describedby="grant-why" { "Sign the grant" }
                    span.why id="grant-why" role="status" {}
                }
                p id="grant-done" role="status" {}
            }
            p.soft id="grant-unable" { "Signing on this page takes a script." }
        }
    }
}

/// The stage that waits for a grant, if one does.
pub(super) fn waiting(rollout: &RolloutView) -> Option<&StageView> {
    let waits = rollout.phase == Some(RolloutPhase::WaitingForGrant);
    rollout.stages.iter().find(|stage| waits && !stage.granted && stage.state == StageState::Now)
}

fn facts(rollout: &RolloutView) -> Markup {
    let Some(stage) = waiting(rollout) else {
        return html! {
            p.soft { "Grants that were signed are listed with the version." }
            span hidden data-facts data-obstacle="No stage waits for a grant." {}
        };
    };
    let label = stage.cohort.label();
    match &stage.cohort {
        CohortView::Percent(percent) => html! {
            p { "Waits for a grant: " b { (label) } " of the fleet." }
            span hidden data-facts data-buckets=(buckets(*percent)) {}
        },
        CohortView::Devices(_) => html! {
            p { "Waits for a grant: " b { (label) } ", by the keys of the devices." }
            span hidden data-facts data-obstacle="A grant that names devices is signed in a terminal, which looks up their keys." {}
        },
    }
}

/// A share in percent as buckets of a thousand, as the command line writes it.
fn buckets(percent: f64) -> String {
    let most = f64::from(BUCKETS);
    format!("{:.0}", (percent * most / 100.0).round().clamp(1.0, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_as_many_buckets_as_the_command_line_makes_of_it() {
        assert_eq!([25.0, 100.0, 0.5, 0.01].map(buckets), ["250", "1000", "5", "1"]);
    }
}
