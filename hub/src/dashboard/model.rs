//! One version of a model: what it is, who approved it, what it takes and gives, and the form that
//! rolls it out.

use maud::{Markup, html};

use crate::api::auth::Caller;
use crate::api::types::{CohortView, GrantView, ModelDetail, Role, TensorView, VersionState, VersionView};

use super::format::{bytes, count, digest, kib, micros, moment, percent};
use super::pieces::{Tone, button, devices, empty, shell, tag, version_tag};
use super::shell::{Page, Parts, Section};

/// The page of one version, among the others of its model.
pub(super) fn page(model: &ModelDetail, version: &VersionView, grants: &[GrantView], caller: &Caller) -> Page {
    let mut parts = Parts::default();
    let body = html! {
        p.crumb { a href="/models" { "Models" } " / " a href=(format!("/models/{}", version.name)) { (version.name) } " / " (version.version) }
        header.head { div { h1 { (version.name) " " (version.version) } (parts.live("version-line", "sub", headline(version))) } }
        (parts.live("versions", "versions-strip", strip(model, version)))
        @if let Some(advice) = &version.advice { p.advice { b { "! Devices cannot run this file. " } (advice) } }
        div.row.two {
            section.panel { h2 { "Approval" } (parts.live("approval", "", approval(version))) }
            section.panel { h2 { "Roll out" } (parts.live("rollout-form", "", rollout_form(version, grants, caller))) }
        }
        div.row.two {
            section.panel { h2 { "What it takes and gives" } (tensors(version)) (golden(version)) }
            section.panel { h2 { "Where it came from" } (lineage(version)) h2.inner { "How it is watched" } (watched(version)) }
        }
        div.row.two {
            section.panel { h2 { "Files" } (files(version)) }
            section.panel { h2 { "Grants" span.soft { "whom a stage may reach" } } (parts.live("grants", "", grant_list(version, grants))) }
        }
    };
    Page { title: format!("{} {}", version.name, version.version), section: Section::Models, body, parts }
}

fn headline(version: &VersionView) -> Markup {
    html! {
        (version_tag(version.state)) " " (golden_tag(version)) " "
        @if !version.deployable { (tag(Tone::Bad, "not deployable")) " " }
        "runs on " (devices(u64::from(version.running_on))) " · desired on " (version.desired_on)
        @if !version.description.is_empty() { p { (version.description) } }
    }
}

fn golden_tag(version: &VersionView) -> Markup {
    if version.golden.checked { tag(Tone::Ok, "golden check passed") } else { tag(Tone::Warn, "unchecked") }
}

fn strip(model: &ModelDetail, here: &VersionView) -> Markup {
    html! {
        @for version in &model.items {
            a href=(format!("/models/{}/{}", version.name, version.version))
                aria-current=[(version.version == here.version).then_some("page")] {
                b { (version.version) } " " span.soft { (version.state.label()) }
                @if version.running_on > 0 { span.n { (version.running_on) span.vh { " devices run it" } } }
            }
        }
    }
}

fn approval(version: &VersionView) -> Markup {
    let approvals = &version.approvals;
    let given = u32::try_from(approvals.given.len()).unwrap_or(u32::MAX);
    let open = approvals.needed.saturating_sub(given);
    let name = format!("{}:{}", version.name, version.version);
    html! {
        p.figure { b.big { (given) } " given, " b { (approvals.needed) } " needed" }
        ul.slots {
            li.slot.filled[version.publisher.is_some()] {
                @match &version.publisher {
                    Some(person) => { (tag(Tone::Ok, "published")) div { b { (person) } p.soft { "the publisher; may not approve it too" } } },
                    None => { (tag(Tone::Off, "open")) div { b { "publisher" } p.soft { "no release is signed yet" } } },
                }
            }
            @for approval in &approvals.given {
                li.slot.filled {
                    (tag(Tone::Ok, "approved"))
                    div { b { (approval.person) } p.soft { "key " (digest(&approval.key)) " · " (moment(approval.at_ms)) } }
                }
            }
            @for _ in 0..open { li.slot { (tag(Tone::Off, "open")) div { b { "one more person" } p.soft { "with an approver's key" } } } }
        }
        @match version.state {
            VersionState::AwaitingApproval => { p.soft { "An approver checks what changes and signs, " a href=(super::approvals::address(version)) { "in a browser" } " or in a terminal:" } (shell(&format!("bellwether approve {name} --key KEY"))) },
            VersionState::Draft => { p.soft { "The publisher signs its release when registering; this one was registered without." } (shell(&format!("bellwether model register {} FILE --key KEY", version.name))) },
            VersionState::Rejected => { @if let Some(rejection) = &version.rejection { p.bad-text { "✕ Rejected by " (rejection.person) ": " (rejection.why) } } },
            VersionState::Approved | VersionState::Retired => {},
        }
        @if let Some(release) = &version.release { p.soft { "release " (digest(release)) } }
    }
}

/// Why no rollout can start here, and the command that helps.
fn obstacle(version: &VersionView, grants: &[GrantView], caller: &Caller) -> Option<(String, Option<String>)> {
    let name = format!("{}:{}", version.name, version.version);
    if !version.deployable {
        return Some(("devices cannot run this file".to_owned(), None));
    }
    let given = version.approvals.given.len();
    match version.state {
        VersionState::Retired => return Some(("this version is retired".to_owned(), None)),
        VersionState::Rejected => return Some(("an approver rejected it".to_owned(), None)),
        VersionState::Draft => return Some(("its release is not signed yet".to_owned(), None)),
        VersionState::AwaitingApproval => {
            let why = format!("{given} of {} approvals given", version.approvals.needed);
            return Some((why, Some(format!("bellwether approve {name} --key KEY"))));
        }
        VersionState::Approved => {}
    }
    if !caller.role.may(Role::Operator) {
        return Some((format!("needs the role operator; you are {}", caller.role.name()), None));
    }
    if grants.is_empty() {
        let command = format!("bellwether grant {name} --device gw-1 --percent 25 --percent 100 --key KEY");
        return Some(("no stage is granted yet".to_owned(), Some(command)));
    }
    None
}

/// The grants, named devices first, then growing shares.
fn by_size(grants: &[GrantView]) -> Vec<&GrantView> {
    let mut sorted: Vec<&GrantView> = grants.iter().collect();
    sorted.sort_by(|a, b| size(&a.cohort).total_cmp(&size(&b.cohort)));
    sorted
}

/// The granted cohorts as stages, smallest first.
fn stages(grants: &[GrantView]) -> Vec<String> {
    let mut lines: Vec<String> = by_size(grants).into_iter().map(|grant| grant.cohort.as_stage()).collect();
    lines.dedup();
    lines
}

fn size(cohort: &CohortView) -> f64 {
    match cohort {
        CohortView::Devices(_) => 0.0,
        CohortView::Percent(percent) => *percent,
    }
}

fn rollout_form(version: &VersionView, grants: &[GrantView], caller: &Caller) -> Markup {
    let obstacle = obstacle(version, grants, caller);
    let refusal = obstacle.as_ref().map(|(why, _)| why.as_str());
    let stages = stages(grants);
    html! {
        form.stack method="post" action=(format!("/models/{}/{}/rollout", version.name, version.version)) {
            label {
                "Stages, one a line" small.soft { " device=gw-1,gw-2 or a share such as 25%" }
                textarea name="stages" id="stages" rows=(stages.len().clamp(3, 8)) spellcheck="false" disabled[refusal.is_some()] required { (stages.join("\n")) }
            }
            div.pair {
                label { "Soak, seconds" input type="number" name="soak_seconds" id="soak" min="0" max="604800" placeholder="hub's default" disabled[refusal.is_some()]; }
                label { "Failures tolerated" input type="number" name="max_failures" id="max-failures" min="0" max="100000" placeholder="hub's default" disabled[refusal.is_some()]; }
            }
            div.pair {
                label {
                    "If more fail or are slow"
                    select name="on_failure" id="on-failure" disabled[refusal.is_some()] {
                        option value="rollback" { "roll back" }
                        option value="pause" { "pause for a person" }
                    }
                }
                label { "Slowest p95, ms" input type="number" name="max_p95_ms" id="max-p95" min="0.001" max="3600000" step="0.001" placeholder=(budget(version)) disabled[refusal.is_some()]; }
            }
            label {
                "How devices run it"
                select name="mode" id="mode" disabled[refusal.is_some()] {
                    option value="active" { "it answers, when a device may be disturbed" }
                    option value="patient" { "likewise, and not before the device knows the time" }
                    option value="urgent" { "it answers, without waiting for anything" }
                    option value="shadow" { "in the shadow of what answers" }
                }
            }
            div.actions.start {
                (button("start-rollout", "btn main", None, "Start the rollout", refusal))
                @if let Some(why) = refusal { span.why { "! " (why) } }
            }
        }
        @if let Some((_, Some(command))) = &obstacle { (shell(command)) }
    }
}

/// What stands in the empty field: the version's own budget.
fn budget(version: &VersionView) -> String {
    version.policy.max_p95_us.map_or_else(|| "no budget".to_owned(), |most| format!("{} of the version", micros(most)))
}

fn watched(version: &VersionView) -> Markup {
    let policy = &version.policy;
    let address = format!(
        "/monitors?{}",
        super::query(&[("model", Some(version.name.clone())), ("version", Some(version.version.to_string()))])
    );
    html! {
        dl.facts {
            dt { "Latency budget" } dd { @match policy.max_p95_us {
                Some(most) => { "p95 at most " b { (micros(most)) } ", or a device in probation goes back" },
                None => span.faint { "none" },
            } }
            dt { "Collects" } dd { (collects(version)) }
            dt { "Baseline" } dd {
                @if version.baseline_columns == 0 { span.faint { "none, so its drift is not seen" } }
                @else { b { (version.baseline_columns) } " columns · " a.quiet href=(address) { "its monitors" } }
            }
        }
    }
}

fn collects(version: &VersionView) -> Markup {
    let policy = &version.policy;
    let (turn, unsure) = (policy.collect_one_in > 0, policy.collect_below > 0);
    html! {
        @if !turn && !unsure { span.faint { "no rows" } } @else {
            @if policy.collect_one_in == 1 { "every row" } @else if turn { "one row in " b { (count(u64::from(policy.collect_one_in))) } }
            @if turn && unsure { ", and " }
            @if unsure { "rows answered with less than " b { (percent(u64::from(policy.collect_below) * 1000)) } }
            ", at most " (policy.collect_per_minute) " a minute where the device allows it"
        }
    }
}

fn grant_list(version: &VersionView, grants: &[GrantView]) -> Markup {
    if grants.is_empty() {
        let command =
            format!("bellwether grant {}:{} --percent 25 --percent 100 --key KEY", version.name, version.version);
        return empty(
            "No grant yet",
            "A stage reaches only devices that an approver granted by signature.",
            &[&command],
        );
    }
    html! {
        table.cards {
            thead { tr { th { "Reaches" } th { "Signed by" } th { "When" } } }
            tbody {
                @for grant in by_size(grants) {
                    tr {
                        td data-label="Reaches" { b { (grant.cohort.label()) } }
                        td data-label="Signed by" { (grant.persons.join(", ")) }
                        td data-label="When" { (moment(grant.at_ms)) }
                    }
                }
            }
        }
    }
}

fn tensors(version: &VersionView) -> Markup {
    let rows = |way: &'static str, tensors: &[TensorView]| {
        html! {
            @for tensor in tensors {
                tr {
                    td.soft data-label="Way" { (way) }
                    td.mono data-label="Name" { (tensor.name) }
                    td.mono data-label="Type" { (tensor.datatype) }
                    td.mono data-label="Shape" { (shape(&tensor.shape)) }
                }
            }
        }
    };
    if version.inputs.is_empty() && version.outputs.is_empty() {
        return html! { p.soft { "No tensors could be read from this file." } };
    }
    html! {
        table.cards {
            thead { tr { th { "Way" } th { "Name" } th { "Type" } th { "Shape" } } }
            tbody { (rows("in", &version.inputs)) (rows("out", &version.outputs)) }
        }
    }
}

/// `[any, 64]`.
pub(super) fn shape(dimensions: &[i64]) -> String {
    let words: Vec<String> =
        dimensions.iter().map(|size| if *size < 0 { "any".to_owned() } else { size.to_string() }).collect();
    format!("[{}]", words.join(", "))
}

fn golden(version: &VersionView) -> Markup {
    let golden = &version.golden;
    html! {
        h2.inner { "Golden check" }
        @if golden.checked {
            p {
                (tag(Tone::Ok, "passed")) " reproduces"
                @if let Some(rows) = golden.rows { " " b { (rows) } " rows" }
                @if let Some(runtime) = &golden.runtime { " of " span.mono { (runtime) } }
            }
        } @else {
            p { (tag(Tone::Warn, "unchecked")) " " span.soft { "It came without golden vectors; register again with them:" } }
            (shell(&format!("bellwether model register {} FILE --vectors VECTORS.npz", version.name)))
        }
        @if let Some(facts) = &version.facts {
            p.soft { (count(facts.parameters)) " parameters · operator set " (facts.opset) }
            p { @for (operator, times) in &facts.operators { span.chip { (operator) @if *times > 1 { " × " (times) } } } }
        }
    }
}

pub(super) fn lineage(version: &VersionView) -> Markup {
    let requires = &version.requires;
    html! {
        dl.facts {
            dt { "Registered" } dd { (moment(version.registered_ms)) " by " b { (version.registered_by) } }
            dt { "From" } dd { span.mono { (version.file_name) } " " (digest(&version.source)) }
            @if let Some(git) = &version.git {
                dt { "Git" } dd { span.mono { (git.commit.chars().take(10).collect::<String>()) } " on " (git.branch)
                    @if git.dirty { " " (tag(Tone::Warn, "uncommitted changes")) } }
            }
            @if let Some(dataset) = &version.dataset { dt { "Data" } dd { (dataset) } }
            @if let Some(run) = &version.run { dt { "Run" } dd { (run) } }
            @if !version.tags.is_empty() { dt { "Tags" } dd { @for (tag, value) in &version.tags { span.chip { (tag) "=" (value) } } } }
            dt { "Requires" } dd { "agent " (requires.agent) " · operator set " (requires.operators) " · " (kib(requires.memory_kib)) }
            dt { "Attested" } dd { @if version.attestation.is_some() { span.ok-text { "✓" } " by the registry" } @else { span.faint { "not yet" } } }
        }
    }
}

pub(super) fn files(version: &VersionView) -> Markup {
    html! {
        table.cards {
            thead { tr { th { "File" } th { "Role" } th.num { "Size" } th { "Digest" } } }
            tbody {
                @for file in &version.files {
                    tr {
                        td.mono data-label="File" { (file.name) }
                        td.soft data-label="Role" { (file.role) }
                        td.num.mono data-label="Size" { (bytes(file.size)) }
                        td data-label="Digest" { (digest(&file.digest)) }
                    }
                }
            }
        }
        details.plain id="digests" {
            summary { "Package " (bytes(version.package.size)) " · digests in full" }
            p.mono.wrap { "package " (version.package.digest) }
            @for file in &version.files { p.mono.wrap { (file.name) " " (file.digest) } }
        }
    }
}
