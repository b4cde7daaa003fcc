//! A signing key inside the visitor's browser: where it is made, what it protects, and what it
//! cannot. The keys themselves are the business of `assets/browser-key.js`.

use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{KeyRequestView, Role};

use super::format::{digest, moment};
use super::pieces::{empty, shell};

/// The panel in which a key is made. Without a script, or at an address that is not secure, it
/// names the command instead.
pub(super) fn panel(caller: &Caller, offline: Option<bool>) -> Markup {
    let may = caller.role.may(Role::Approver) || caller.role.may(Role::Publisher);
    let refusal =
        (!may).then(|| format!("Asking takes the role approver or publisher; you are {}.", caller.role.name()));
    html! {
        section.panel id="browser-key" data-refusal=[refusal] {
            h2 { "A key in this browser" span.soft { "to approve on these pages" } }
            div id="browser-key-here" hidden {
                dl.facts {
                    dt { "Person" } dd { b id="browser-key-person" {} }
                    dt { "Name" } dd id="browser-key-name" {}
                    dt { "Key" } dd.mono.wrap id="browser-key-id" {}
                }
                p.below id="browser-key-state" role="status" {}
                div id="browser-key-next" hidden {
                    p.soft { "Whoever holds the root makes sure that it is yours, then lists it:" }
                    code.shell { span.prompt aria-hidden="true" { "$ " } span id="browser-key-command" {} }
                }
                button.btn id="browser-key-again" type="button" hidden { "Ask for it to be listed" }
                button.quiet id="browser-key-forget" type="button" { "Forget this key" }
            }
            form.stack id="browser-key-form" hidden {
                div.pair {
                    label { "Whose key" input type="text" name="person" id="key-person" maxlength="48" required autocomplete="name" placeholder="Bo Brown"; }
                    label { "What to call it" input type="text" name="name" id="key-name" maxlength="64" required autocomplete="off" placeholder="bo-laptop"; }
                }
                button.btn.main id="browser-key-make" type="submit" { "Make the key" }
            }
            p.soft id="browser-key-note" role="status" { "Making a key here takes a script." }
            p.soft { "A key outside browsers is made in a terminal:" }
            (shell("bellwether key new NAME --person PERSON --role approve"))
            (protects(offline))
        }
    }
}

/// What such a key protects and what it does not, in plain words.
pub(super) fn protects(offline: Option<bool>) -> Markup {
    html! {
        details.plain id="browser-key-protects" {
            summary { "What a key in a browser protects, and what it does not" }
            p.soft { "The private half cannot be copied out of this browser, and the hub never sees it: whoever steals the hub's data cannot sign with it." }
            p.soft {
                "But the hub serves this page. A hub that was taken over could serve a script that has this browser sign other bytes than it shows. "
                "Therefore a root can ask that one approval of every release comes from a key outside browsers (" code { "offline_approval" } ")."
                @match offline {
                    Some(true) => " This root does.",
                    Some(false) => " This root does not.",
                    None => "",
                }
            }
        }
    }
}

/// The keys that ask to be listed, and the command that lists each.
pub(super) fn requests(requests: &[KeyRequestView], caller: &Caller) -> Markup {
    if requests.is_empty() {
        return empty(
            "No key asks to be listed",
            "A key that is made in a browser, or posted by the command line, waits here until the root lists it.",
            &["bellwether key enroll --request ID --role approve"],
        );
    }
    html! {
        table.cards {
            thead { tr { th { "Person" } th { "Name" } th { "Kept in" } th { "Asked" } th { "Key" } th { "" } } }
            tbody {
                @for request in requests {
                    tr {
                        td data-label="Person" { b { (request.person) } }
                        td data-label="Name" { (request.name) }
                        td.soft data-label="Kept in" { (request.class) }
                        td.soft data-label="Asked" { (moment(request.at_ms)) " by " (request.by) }
                        td data-label="Key" { (digest(&request.id)) }
                        td {
                            @if request.by == caller.name || caller.role.may(Role::Admin) {
                                form method="post" action=(format!("/keys/requests/{}/withdraw", request.id)) {
                                    button.quiet type="submit" { "Withdraw" span.vh { " the request of " (request.person) } }
                                }
                            }
                        }
                    }
                }
            }
        }
        p.soft.below { "Make sure that a key is its person's, over another way than this page, then list it:" }
        @for request in requests { (shell(&format!("bellwether key enroll --request {} --role approve", request.id))) }
    }
}
