//! One version before its approvers: what changes, what the root asks, who signed, what is signed,
//! and the two answers: sign, or reject with a reason.

use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{ApprovalDetail, Role, VersionState, VersionView};

use super::approvals::persons;
use super::format::{digest, moment};
use super::pieces::{Tone, button, devices, empty, shell, tag, version_tag};
use super::shell::{Page, Parts, Section};
use super::{browser_key, compare, model};

/// The page.
pub(super) fn page(detail: &ApprovalDetail, caller: &Caller) -> Page {
    let mut parts = Parts::default();
    let version = &detail.version;
    let name = format!("{} {}", version.name, version.version);
    let body = html! {
        p.crumb { a href="/approvals" { "Approvals" } " / " a href=(format!("/models/{}/{}", version.name, version.version)) { (name) } }
        header.head {
            div { h1 { "Approval of " (name) } (parts.live("approval-line", "sub", headline(detail))) }
            (parts.live("reject-form", "actions", reject(version, caller)))
        }
        div.columns {
            div.column {
                @if !version.description.is_empty() {
                    section.panel { h2 { "What its publisher says" } p.comment id="comment" { (version.description) } }
                }
                section.panel {
                    h2 { "What changes" span.soft { @match &detail.running {
                        Some(before) => { "against " (before.version) ", which runs on " (devices(u64::from(before.running_on))) },
                        None => "nothing of this model runs yet",
                    } } }
                    (compare::table(version, detail.running.as_ref(), detail.floor))
                }
                section.panel { h2 { "Where it came from" } (model::lineage(version)) }
                section.panel { h2 { "Files" } (model::files(version)) }
            }
            div.column {
                section.panel { h2 { "Who must sign" } (parts.live("slots", "", slots(detail))) }
                (signing(detail, caller, &mut parts))
                section.panel { h2 { "What is signed" } (signed_bytes(detail)) }
            }
        }
    };
    Page { title: format!("Approval of {name}"), section: Section::Approvals, body, parts }
}

fn headline(detail: &ApprovalDetail) -> Markup {
    let version = &detail.version;
    html! {
        (version_tag(version.state)) " "
        b { (version.approvals.given.len()) } " given, " b { (version.approvals.needed) } " needed"
        @if let Some(publisher) = &version.publisher { " · published by " b { (publisher) } }
        @if detail.floor > 0 { p.warn-text { "! No way back below version " (detail.floor) " once a device has committed it." } }
        @if let Some(rejection) = &version.rejection {
            p.bad-text { "✕ Rejected by " (rejection.person) ", " (moment(rejection.at_ms)) ": " (rejection.why) }
        }
    }
}

/// The policy in words, then a slot for each signature.
fn slots(detail: &ApprovalDetail) -> Markup {
    let (version, policy) = (&detail.version, &detail.policy);
    let given = u32::try_from(version.approvals.given.len()).unwrap_or(u32::MAX);
    html! {
        p id="policy" { (policy_words(detail)) }
        ul.slots.below {
            li.slot.filled[version.publisher.is_some()] {
                @match &version.publisher {
                    Some(person) => { (tag(Tone::Ok, "published")) div { b { (person) } p.soft { "the publisher; may not approve it too" } } },
                    None => { (tag(Tone::Off, "open")) div { b { "publisher" } p.soft { "no release is signed yet" } } },
                }
            }
            @for approval in &version.approvals.given {
                li.slot.filled {
                    (tag(Tone::Ok, "approved"))
                    div { b { (approval.person) } p.soft { "key " (digest(&approval.key)) " · " (moment(approval.at_ms)) } }
                }
            }
            @for _ in 0..version.approvals.needed.saturating_sub(given) {
                li.slot { (tag(Tone::Off, "open")) div { b { "one more person" } p.soft { (still(detail)) } } }
            }
        }
        @if policy.offline && !policy.offline_given && version.state == VersionState::AwaitingApproval {
            p.warn-text { "! Still missing: a signature with a key outside browsers." }
        }
    }
}

fn policy_words(detail: &ApprovalDetail) -> Markup {
    let policy = &detail.policy;
    let able = u32::try_from(policy.persons.len()).unwrap_or(u32::MAX);
    html! {
        b { (policy.needed) " of " (persons(able)) }
        @if policy.offline { ", one with a key outside browsers" }
        ". The publisher does not count; two keys of one person count once."
    }
}

/// Who has not signed yet, by name.
fn still(detail: &ApprovalDetail) -> String {
    let signed = |person: &&String| detail.version.approvals.given.iter().any(|given| given.person == **person);
    let open: Vec<&str> = detail.policy.persons.iter().filter(|person| !signed(person)).map(String::as_str).collect();
    match open.as_slice() {
        [] => "nobody else holds an approver's key for this model".to_owned(),
        open => open.join(", "),
    }
}

/// Why nobody can sign now, if so.
fn obstacle(version: &VersionView) -> Option<String> {
    match version.state {
        VersionState::Draft => Some("Its publisher has not signed it yet.".to_owned()),
        VersionState::AwaitingApproval => None,
        VersionState::Approved => Some("It is approved: nothing more is needed.".to_owned()),
        VersionState::Retired => Some("It was taken out of use.".to_owned()),
        VersionState::Rejected => Some("It was rejected: its publisher registers a better version.".to_owned()),
    }
}

/// The panel in which this browser's key signs; what it needs to know comes with the page.
fn signing(detail: &ApprovalDetail, caller: &Caller, parts: &mut Parts) -> Markup {
    let version = &detail.version;
    let role = caller.role;
    let refusal =
        (!role.may(Role::Approver)).then(|| format!("Signing takes the role approver; you are {}.", role.name()));
    html! {
        section.panel id="sign-panel" data-model=(version.name) data-version=(version.version) data-fleet=(detail.fleet)
            data-digest=(version.release.as_deref().unwrap_or_default()) data-refusal=[refusal] {
            h2 { "Sign" }
            (parts.live("sign-facts", "", facts(version)))
            form.stack id="sign-form" hidden {
                p.soft id="sign-key" {}
                label { "Type the version, " (version.version) ", to sign" input type="text" id="sign-typed" inputmode="numeric" autocomplete="off" maxlength="10" disabled; }
                div.actions.start {
                    button.btn.main id="sign-now" type="submit" disabled aria-describedby="sign-why" { "Sign " (version.name) " " (version.version) }
                    span.why id="sign-why" role="status" {}
                }
                p id="sign-done" role="status" {}
            }
            p.soft id="sign-unable" { "Signing on this page takes a script." }
            p.soft { "In a terminal, where the package is checked again before anything is signed:" }
            (shell(&format!("bellwether approve {}:{} --key KEY", version.name, version.version)))
            (browser_key::protects(Some(detail.policy.offline)))
        }
    }
}

fn facts(version: &VersionView) -> Markup {
    let signed: Vec<&str> = version.approvals.given.iter().map(|given| given.person.as_str()).collect();
    let signed = serde_json::to_string(&signed).unwrap_or_default();
    html! {
        span hidden data-facts data-version=(format!("{} {}", version.name, version.version)) data-obstacle=[obstacle(version)] data-signed=(signed)
            data-publisher=(version.publisher.as_deref().unwrap_or_default()) {}
    }
}

fn signed_bytes(detail: &ApprovalDetail) -> Markup {
    let version = &detail.version;
    let (Some(bytes), Some(words), Some(release)) = (&detail.bytes, &detail.words, &version.release) else {
        return empty(
            "Nothing to sign yet",
            "Its publisher signs the release first; it says what exactly the others sign.",
            &[&format!("bellwether model publish {}:{} --key KEY", version.name, version.version)],
        );
    };
    html! {
        (compare::said(release, words))
        details.plain id="signed-bytes" {
            summary { "The exact bytes, " (bytes.len() / 2) " of them" }
            pre.mono id="signed-hex" { (bytes) }
        }
        div.below { a.btn href=(format!("/approvals/{}/{}/bytes", version.name, version.version)) download { "Download the bytes" } }
    }
}

fn reject(version: &VersionView, caller: &Caller) -> Markup {
    let refusal = match (version.state, caller.role.may(Role::Approver)) {
        (_, false) => Some(format!("needs the role approver; you are {}", caller.role.name())),
        (VersionState::AwaitingApproval, true) => None,
        (state, true) => Some(format!("it is {}", state.label())),
    };
    if let Some(refusal) = &refusal {
        return html! {
            (button("reject", "btn stop", None, "Reject…", Some(refusal)))
            p.why { "Reject: " (refusal) }
        };
    }
    html! {
        details.menu id="reject-sheet" {
            summary.btn.stop id="reject" { "Reject…" }
            form.sheet method="post" action=(format!("/approvals/{}/{}/reject", version.name, version.version)) {
                b { "Reject " (version.name) " " (version.version) "?" }
                p { "It takes no more signatures. Its publisher reads why, and registers a better version." }
                label { "Why" textarea name="reason" id="reject-reason" rows="3" maxlength="500" required {} }
                button.btn.danger type="submit" id="reject-now" { "Reject" }
                p.soft { "In a terminal:" }
                (shell(&format!("bellwether reject {}:{} --reason WHY", version.name, version.version)))
            }
        }
    }
}
