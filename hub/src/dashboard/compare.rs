//! What changes: a version beside the one that runs, line by line, each change marked by a word.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::api::types::{PolicyView, TensorView, VersionView};

use super::format::{bytes, count, digest, kib, micros};
use super::pieces::{Tone, tag};

/// One line: what it is about, how it was, how it will be, and what that means.
struct Line {
    about: String,
    before: Option<String>,
    after: String,
    mark: Mark,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Same,
    Changed,
    /// Changed, and somebody should ask why.
    Doubt,
}

/// The table, the lines that changed first; without a version before, what there is to know.
pub(super) fn table(after: &VersionView, before: Option<&VersionView>, floor: u32) -> Markup {
    let mut lines = lines(after, before, floor);
    lines.sort_by_key(|line| line.mark == Mark::Same);
    let Some(before) = before else { return alone(&lines) };
    html! {
        table.cards.compare {
            thead { tr {
                th { "" }
                th { "Running: " (before.version) }
                th { "This: " (after.version) }
                th { "" }
            } }
            tbody {
                @for line in &lines {
                    tr.same[line.mark == Mark::Same] {
                        th scope="row" data-label="What" { (line.about) }
                        td.soft.wrap data-label="Running" { (line.before.as_deref().unwrap_or("–")) }
                        td.wrap data-label="This" { (line.after) }
                        td { (word(line.mark)) }
                    }
                }
            }
        }
    }
}

fn alone(lines: &[Line]) -> Markup {
    html! {
        dl.facts {
            @for line in lines {
                dt { (line.about) }
                dd { (line.after) @if line.mark == Mark::Doubt { " " (word(line.mark)) } }
            }
        }
    }
}

fn word(mark: Mark) -> Markup {
    match mark {
        Mark::New => tag(Tone::Busy, "new"),
        Mark::Same => html! { span.faint { "same" } },
        Mark::Changed => tag(Tone::Busy, "changed"),
        Mark::Doubt => tag(Tone::Warn, "look"),
    }
}

fn lines(after: &VersionView, before: Option<&VersionView>, floor: u32) -> Vec<Line> {
    let line = |about: &str, say: &dyn Fn(&VersionView) -> String| {
        let (was, is) = (before.map(say), say(after));
        let mark = match &was {
            None => Mark::New,
            Some(was) if *was == is => Mark::Same,
            Some(_) => Mark::Changed,
        };
        Line { about: about.to_owned(), before: was, after: is, mark }
    };
    let doubt = |line: Line, doubtful: bool| Line { mark: if doubtful { Mark::Doubt } else { line.mark }, ..line };
    let takes = line("Takes", &|version| signature(&version.inputs));
    let gives = line("Gives", &|version| signature(&version.outputs));
    let (other_in, other_out) = (takes.mark == Mark::Changed, gives.mark == Mark::Changed);
    let mut lines = vec![
        doubt(takes, other_in),
        doubt(gives, other_out),
        line("Package", &|version| bytes(version.package.size)),
        line("Memory", &|version| kib(version.requires.memory_kib)),
        line("Latency budget", &|version| budget(&version.policy)),
        line("Weights", &|version| facts(version).0),
        line("Operators", &|version| facts(version).1),
        line("Requires", &|version| {
            format!("agent {}, operator set {}", version.requires.agent, version.requires.operators)
        }),
        line("Collects", &|version| collects(&version.policy)),
        line("Data", &|version| version.dataset.clone().unwrap_or_else(|| "not said".to_owned())),
        line("Run", &|version| version.run.clone().unwrap_or_else(|| "not said".to_owned())),
        doubt(line("Git", &git), after.git.as_ref().is_some_and(|git| git.dirty)),
        doubt(line("Baseline", &baseline), after.baseline_columns == 0),
        doubt(line("Golden vectors", &golden), !after.golden.checked),
        line("File", &|version| format!("{} {}", version.file_name, short(&version.source))),
    ];
    let nothing = BTreeMap::new();
    let tags_before = before.map_or(&nothing, |before| &before.tags);
    let names: std::collections::BTreeSet<&String> = after.tags.keys().chain(tags_before.keys()).collect();
    lines.extend(names.into_iter().map(|name| {
        line(&format!("tag {name}"), &|version| version.tags.get(name).cloned().unwrap_or_else(|| "absent".to_owned()))
    }));
    if floor > 0 {
        let after = format!("no way back below version {floor}");
        lines.push(Line { about: "Security floor".to_owned(), before: None, after, mark: Mark::Doubt });
    }
    lines
}

fn signature(tensors: &[TensorView]) -> String {
    let one =
        |tensor: &TensorView| format!("{} {} {}", tensor.name, tensor.datatype, super::model::shape(&tensor.shape));
    if tensors.is_empty() {
        "nothing that could be read".to_owned()
    } else {
        tensors.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn budget(policy: &PolicyView) -> String {
    policy.max_p95_us.map_or_else(|| "none".to_owned(), |most| format!("p95 at most {}", micros(most)))
}

fn facts(version: &VersionView) -> (String, String) {
    let Some(facts) = &version.facts else { return ("not known".to_owned(), "not known".to_owned()) };
    let operators: Vec<&str> = facts.operators.keys().map(String::as_str).collect();
    (count(facts.parameters), operators.join(", "))
}

fn collects(policy: &PolicyView) -> String {
    match (policy.collect_one_in, policy.collect_below) {
        (0, 0) => "no rows".to_owned(),
        (0, below) => format!("rows answered with less than {} ‰", below),
        (one_in, 0) => format!("one row in {one_in}, at most {} a minute", policy.collect_per_minute),
        (one_in, below) => {
            format!("one row in {one_in} and those below {below} ‰, at most {} a minute", policy.collect_per_minute)
        }
    }
}

fn git(version: &VersionView) -> String {
    version.git.as_ref().map_or_else(
        || "not known".to_owned(),
        |git| {
            let dirty = if git.dirty { ", with uncommitted changes" } else { "" };
            format!("{} on {}{dirty}", short(&git.commit), git.branch)
        },
    )
}

fn baseline(version: &VersionView) -> String {
    match version.baseline_columns {
        0 => "none, so its drift is not seen".to_owned(),
        columns => format!("{columns} columns"),
    }
}

fn golden(version: &VersionView) -> String {
    let golden = &version.golden;
    let runtime = golden.runtime.as_deref().map(|runtime| format!(" of {runtime}")).unwrap_or_default();
    match (golden.checked, golden.rows) {
        (true, Some(rows)) => format!("{rows} rows{runtime} reproduced"),
        (true, None) => format!("reproduced{runtime}"),
        (false, _) => "none: unchecked".to_owned(),
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// The digest of what is signed, to be compared: whole, and as words.
pub(super) fn said(release: &str, words: &str) -> Markup {
    html! {
        dl.facts {
            dt { "Digest" } dd.mono.wrap id="release-digest" { (release) }
            dt { "In words" } dd id="release-words" { b { (words) } }
        }
        p.soft.below { "Compare it with what " code { "bellwether approve" } " shows, or read the words to the others. Short: " (digest(release)) }
    }
}
