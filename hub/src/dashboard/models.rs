//! The models, and how to register one.

use maud::{Markup, html};

use crate::api::types::{ModelQuery, ModelView};

use super::format::moment;
use super::overview::versions;
use super::pieces::{empty, shell, version_tag};
use super::shell::{Page, Parts, Section};

/// The page.
pub(super) fn page(query: &ModelQuery, models: &[ModelView]) -> Page {
    let mut parts = Parts::default();
    let body = html! {
        header.head {
            div { h1 { "Models" } p.sub { "Names and versions, who approved them, where they run." } }
            div.actions { a.btn.main href="#register" { "Register a model" } }
        }
        form.filter method="get" action="/models" role="search" {
            label { "Tag" input type="text" name="tag" value=(query.tag.as_deref().unwrap_or_default()) placeholder="team=vision" autocomplete="off"; }
            button.btn type="submit" { "Filter" }
            a.quiet href="/models" { "Clear" }
        }
        section.panel { (parts.live("models", "", table(query, models))) }
        section.panel id="register" {
            h2 { "Register a version" }
            p.soft { "Preparing, checking and signing happen on your machine; the hub repeats the checks. The version is given by the registry." }
            (shell("bellwether model register digits model.onnx --vectors digits.npz --tag team=vision --key publisher"))
            p.soft { "Golden vectors made by a second runtime keep a model that scores wrongly off the fleet." }
        }
    };
    Page { title: "Models".to_owned(), section: Section::Models, body, parts }
}

fn table(query: &ModelQuery, models: &[ModelView]) -> Markup {
    if models.is_empty() && query.tag.is_some() {
        return empty("No such model", "No model's latest version carries this tag.", &["bellwether model list"]);
    }
    if models.is_empty() {
        return empty(
            "No model yet",
            "Register the first one; its name is yours to choose, its version is given.",
            &["bellwether model register digits model.onnx --vectors digits.npz --tag team=vision"],
        );
    }
    html! {
        table.cards {
            thead { tr { th { "Model" } th { "Latest" } th { "State" } th { "Running" } th { "Tags" } th { "Updated" } } }
            tbody {
                @for model in models {
                    tr {
                        td data-label="Model" { a.strong href=(format!("/models/{}", model.name)) { (model.name) } }
                        td data-label="Latest" { span.mono { (model.latest) } span.soft { " of " (model.versions) } }
                        td data-label="State" { (version_tag(model.state_of_latest)) }
                        td data-label="Running" { (versions(&model.running, model.latest)) }
                        td data-label="Tags" { @for (tag, value) in &model.tags_of_latest { span.chip { (tag) "=" (value) } } }
                        td data-label="Updated" { (moment(model.updated_ms)) }
                    }
                }
            }
        }
    }
}
