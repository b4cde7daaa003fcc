//! Style as a test: directions of dependencies, sizes, headers, and which room may know what.
//!
//! ```text
//!   protocol <- agent/core, hub/core, protocol/link, agent/runtime <- agent, hub <- simulator <- tests
//!   agent/core <- agent/disk <- agent; these and hub/core <- simulator/world <- simulator
//! ```
//!
//! Every failure names the file, the line and the mend. What clippy and `cargo deny` can say is
//! left to them.

mod tree;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use tree::{Source, repository, sources};

/// Files past this many lines are more than one idea.
const FILE_LINES_MAX: usize = 600;

/// Each crate with the crates of ours that it may know; `cargo metadata` says what it does know.
const MAY_DEPEND_ON: [(&str, &[&str]); 13] = [
    ("bellwether-protocol", &[]),
    ("bellwether-link", &["bellwether-protocol"]),
    ("bellwether-database", &[]),
    ("bellwether-fpga", &[]),
    ("bellwether-agent-core", &["bellwether-protocol"]),
    ("bellwether-hub-core", &["bellwether-protocol"]),
    ("bellwether-runtime", &["bellwether-protocol", "bellwether-fpga"]),
    ("bellwether-agent-disk", &["bellwether-protocol", "bellwether-agent-core"]),
    (
        "bellwether-agent",
        &[
            "bellwether-protocol",
            "bellwether-link",
            "bellwether-agent-core",
            "bellwether-agent-disk",
            "bellwether-database",
            "bellwether-fpga",
            "bellwether-runtime",
        ],
    ),
    (
        "bellwether-hub",
        &["bellwether-protocol", "bellwether-link", "bellwether-database", "bellwether-hub-core", "bellwether-runtime"],
    ),
    (
        "bellwether-world",
        &["bellwether-protocol", "bellwether-agent-core", "bellwether-agent-disk", "bellwether-hub-core"],
    ),
    (
        "bellwether-simulator",
        &[
            "bellwether-world",
            "bellwether-protocol",
            "bellwether-link",
            "bellwether-agent-core",
            "bellwether-runtime",
            "bellwether-agent",
            "bellwether-hub-core",
            "bellwether-hub",
        ],
    ),
    (
        "bellwether-tests",
        &[
            "bellwether-world",
            "bellwether-protocol",
            "bellwether-link",
            "bellwether-agent-core",
            "bellwether-fpga",
            "bellwether-runtime",
            "bellwether-agent",
            "bellwether-hub-core",
            "bellwether-hub",
            "bellwether-simulator",
        ],
    ),
];

/// A library that breaks or dies is replaced in one room: the text that betrays it, and the room.
const ONE_ROOM: [(&str, &[&str], &str); 7] = [
    ("cryptoki::", &["hub/src/cli/signer/"], "ask a token through Signer"),
    ("rumqttc::", &["protocol/link/"], "talk MQTT through bellwether-link"),
    ("mqtt5::", &["hub/src/broker/", "agent/tests/", "protocol/link/"], "use the trait of hub/src/broker"),
    ("tract_onnx", &["agent/runtime/"], "score through bellwether-runtime"),
    ("tract_core", &["agent/runtime/"], "score through bellwether-runtime"),
    ("tract_hir", &["agent/runtime/"], "score through bellwether-runtime"),
    ("tract_data", &["agent/runtime/"], "score through bellwether-runtime"),
];

/// Same as [`ONE_ROOM`], for the dependency lists: the library and the one crate that may name it.
const ONE_CRATE: [(&str, &str); 4] = [
    ("rumqttc", "bellwether-link"),
    ("mqtt5", "bellwether-hub"),
    ("tract-onnx", "bellwether-runtime"),
    ("tract-core", "bellwether-runtime"),
];

/// Rooms of words and rules: deterministic, so nothing that differs between two runs.
const RULES: [&str; 5] =
    ["protocol/src/", "agent/core/src/", "agent/disk/src/", "hub/core/src/", "simulator/world/src/"];
const BANNED_IN_RULES: [(&str, &str); 8] = [
    ("Instant::now", "take the time as an argument"),
    ("SystemTime", "take the time as an argument"),
    ("HashMap", "use BTreeMap: its order is the same in every run"),
    ("HashSet", "use BTreeSet: its order is the same in every run"),
    ("std::net", "return an action and let the hands open sockets"),
    ("std::fs", "return an action and let the hands touch files"),
    ("std::thread", "return a deadline and let the hands wait"),
    ("tokio", "rules are driven, they do not wait"),
];

/// Promises instead of code. Spelled in two halves so that this file passes its own test.
const PROMISES: [&str; 4] =
    [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Names that say nothing, and so collect everything.
const NAMES_SAYING_NOTHING: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "shared"];

const TOP_LEVEL: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "agent",
    "docs",
    "firmware",
    "fpga",
    "hub",
    "protocol",
    "simulator",
    "tests",
];

#[test]
fn crates_know_only_the_crates_below_them() {
    let may: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, knows) in dependencies(Count::Tests) {
        let Some(allowed) = may.get(name.as_str()) else {
            wrong.push(format!("{name} has no line in MAY_DEPEND_ON: say what it may know"));
            continue;
        };
        for other in knows.iter().filter(|other| may.contains_key(other.as_str())) {
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!(
                    "{name} depends on {other}: drop it from its Cargo.toml and hand in what is \
                     needed from above (it may know {allowed:?})"
                ));
            }
        }
    }
    report(&wrong);
}

#[test]
fn a_library_that_one_room_knows_is_named_by_one_crate() {
    let mut wrong = Vec::new();
    for (name, knows) in dependencies(Count::Shipped) {
        for (library, home) in ONE_CRATE {
            if name != home && knows.iter().any(|known| known == library) {
                wrong.push(format!("{name} depends on {library}: only {home} may; go through it"));
            }
        }
    }
    report(&wrong);
}

#[test]
fn a_library_that_one_room_knows_is_used_there_only() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]).iter().filter(|source| !source.is_tidy()) {
        for (library, rooms, mend) in ONE_ROOM {
            if rooms.iter().any(|room| source.path.starts_with(room)) {
                continue;
            }
            let found = source.code().filter(|(_, line)| names_crate(line, library));
            wrong.extend(
                found.map(|(at, _)| format!("{}:{at} uses {}: {mend}", source.path, library.trim_end_matches(':'))),
            );
        }
    }
    report(&wrong);
}

#[test]
fn rules_read_no_clock_no_disk_and_no_socket() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]).iter().filter(|source| source.is_in(&RULES)) {
        for (at, line) in source.shipped() {
            for (banned, mend) in BANNED_IN_RULES {
                if line.contains(banned) {
                    wrong.push(format!("{}:{at} says {banned}: {mend}", source.path));
                }
            }
        }
    }
    report(&wrong);
}

#[test]
fn every_source_file_begins_by_saying_what_it_is_for() {
    let mut wrong = Vec::new();
    for source in sources(&["rs", "js", "css", "py"]) {
        let openings: &[&str] = match source.extension() {
            "rs" => &["//! "],
            "py" => &["\"\"\"", "# ", "#!"],
            _ => &["// ", "/* ", "/** "],
        };
        let first = source.text.lines().next().unwrap_or_default();
        if !openings.iter().any(|opening| first.starts_with(opening)) {
            wrong.push(format!(
                "{}:1 begins with `{first}`: begin with {openings:?} and what the file is for",
                source.path
            ));
        }
    }
    report(&wrong);
}

#[test]
fn no_file_grows_past_its_wall() {
    let mut wrong = Vec::new();
    for source in sources(&["rs", "js", "css", "py"]) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!(
                "{}:{FILE_LINES_MAX} is the wall, the file has {lines} lines: move the second idea \
                 into a file of its own",
                source.path
            ));
        }
    }
    report(&wrong);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let mut wrong = Vec::new();
    for source in sources(&["rs"]) {
        let vague = source.path.trim_end_matches(".rs").split('/');
        for name in vague.filter(|name| NAMES_SAYING_NOTHING.contains(name)) {
            wrong.push(format!("{}:1 is called `{name}`: name it after what it knows", source.path));
        }
    }
    report(&wrong);
}

#[test]
fn nothing_is_promised_instead_of_done() {
    let mut wrong = Vec::new();
    for source in sources(&["rs", "js", "css", "py"]) {
        for (at, line) in source.lines() {
            for promise in PROMISES.iter().filter(|promise| line.contains(**promise)) {
                wrong.push(format!("{}:{at} says {promise}: do it, or refuse with an error that says so", source.path));
            }
        }
    }
    report(&wrong);
}

#[test]
fn topics_are_spelled_in_one_file() {
    let prefix = concat!("bw", "/v1");
    let mut wrong = Vec::new();
    for source in sources(&["rs"]) {
        if source.path == "protocol/src/topic.rs" || source.path.starts_with("tests/") {
            continue;
        }
        for (at, _) in source.shipped().filter(|(_, line)| line.contains(prefix)) {
            wrong.push(format!("{}:{at} spells {prefix}: build the topic with protocol::topic", source.path));
        }
    }
    report(&wrong);
}

#[test]
fn the_top_level_holds_only_what_the_map_names() {
    let wrong: Vec<String> = tree::entries(&repository())
        .into_iter()
        .filter(|(name, _)| !TOP_LEVEL.contains(&name.as_str()))
        .map(|(name, _)| format!("{name}:1 is not on the map: move it into the folder it belongs to"))
        .collect();
    report(&wrong);
}

#[test]
fn every_top_level_folder_has_a_readme() {
    let root = repository();
    let wrong: Vec<String> = tree::entries(&root)
        .into_iter()
        .filter(|(name, is_folder)| *is_folder && !root.join(name).join("README.md").is_file())
        .map(|(name, _)| {
            format!(
                "{name}/README.md:1 is missing: say what the folder is, what it is not, a line \
                 per room, how to run it"
            )
        })
        .collect();
    report(&wrong);
}

/// Fails with every finding at once, one a line.
fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

/// Whether `line` uses `library` as a crate, not as the tail of a longer name.
fn names_crate(line: &str, library: &str) -> bool {
    let bare = library.trim_end_matches(':');
    let imported = [format!("use {bare};"), format!("use {bare} as"), format!("crate {bare};")];
    if imported.iter().any(|way| line.contains(way)) {
        return true;
    }
    line.match_indices(library).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

/// Whether dependencies of tests count as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Shipped,
    Tests,
}

/// Each workspace crate with the names of everything it depends on.
fn dependencies(count: Count) -> Vec<(String, Vec<String>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let asked = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(repository())
        .output();
    let answer = match asked {
        Ok(output) if output.status.success() => output.stdout,
        other => unreachable!("cargo metadata must answer in a checkout: {other:?}"),
    };
    let metadata: Value = match serde_json::from_slice(&answer) {
        Ok(metadata) => metadata,
        Err(why) => unreachable!("cargo metadata must answer in JSON: {why}"),
    };
    let name = |of: &Value| of.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |of: &Value, key: &str| of.get(key).and_then(Value::as_array).cloned();
    let crates: Vec<_> = list(&metadata, "packages")
        .unwrap_or_default()
        .iter()
        .map(|package| {
            let mut knows = list(package, "dependencies").unwrap_or_default();
            knows.retain(|one| count == Count::Tests || one.get("kind").and_then(Value::as_str) != Some("dev"));
            // Itself with more features, for its tests, is nobody else.
            knows.retain(|one| name(one) != name(package));
            (name(package), knows.iter().map(name).collect())
        })
        .collect();
    assert!(crates.len() > 1, "cargo metadata named {} crates: is this the workspace?", crates.len());
    crates
}

/// The checks themselves, on text that breaks them.
#[test]
fn the_reader_tells_code_from_comment_and_test() {
    let text = "//! HashMap in prose\nlet a = 1; // tokio\nlet url = \"mqtt://x\";\n\
                #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    let source = Source { path: "hub/core/src/x.rs".into(), text: text.into() };
    let shipped: Vec<_> = source.shipped().collect();
    assert_eq!(shipped, [(1, ""), (2, "let a = 1; "), (3, "let url = \"mqtt://x\";")]);
    assert_eq!(source.code().count(), 7);
    assert!(names_crate("use rumqttc::Client;", "rumqttc::"));
    assert!(names_crate("use mqtt5 as broker;", "mqtt5::"));
    assert!(!names_crate("my_mqtt5::x()", "mqtt5::"));
}
