//! What a root says, in words, and what the next one changes.

use bellwether_protocol::trust::{KeyClass, KeyEntry, KeyStatus, RoleSet, Root};

const ROLES: [(&str, RoleSet); 8] = [
    ("root", RoleSet::ROOT),
    ("publish", RoleSet::PUBLISH),
    ("approve", RoleSet::APPROVE),
    ("grant", RoleSet::GRANT),
    ("registry", RoleSet::REGISTRY),
    ("director", RoleSet::DIRECTOR),
    ("time", RoleSet::TIME),
    ("witness", RoleSet::WITNESS),
];

/// The roles of a set, in order.
pub(in crate::cli) fn roles(set: RoleSet) -> Vec<String> {
    ROLES.iter().filter(|(_, role)| set.contains(*role)).map(|(name, _)| (*name).to_owned()).collect()
}

/// Where a private half lives.
pub(in crate::cli) const fn class(class: KeyClass) -> &'static str {
    match class {
        KeyClass::File => "file",
        KeyClass::SshAgent => "ssh-agent",
        KeyClass::Pkcs11 => "pkcs11",
        KeyClass::Browser => "browser",
        KeyClass::Hub => "hub",
    }
}

/// Whether a key counts.
pub(in crate::cli) const fn status(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Active => "active",
        KeyStatus::Retired => "retired",
        KeyStatus::Revoked => "revoked",
    }
}

/// A key in a line.
pub(in crate::cli) fn key(entry: &KeyEntry) -> String {
    let only = if entry.prefix.is_empty() { String::new() } else { format!(", only {}*", entry.prefix) };
    format!(
        "{} may {}{only}, kept in {} ({})",
        entry.person,
        roles(entry.roles).join(" and "),
        class(entry.class),
        entry.id()
    )
}

/// A root whole: what whoever signs it agrees to.
pub(in crate::cli) fn whole(root: &Root) -> Vec<String> {
    let now = &root.thresholds;
    let mut lines = vec![
        format!("root version {}", root.version),
        format!(
            "a root takes {} persons, a release {} beside its publisher, a grant {}",
            now.root, now.approve, now.grant
        ),
    ];
    if root.offline_approval {
        lines.push("one approval of a release must come from a key outside browsers".to_owned());
    }
    lines.extend(root.keys.iter().map(|entry| {
        let ended =
            if entry.status == KeyStatus::Active { String::new() } else { format!("{}: ", status(entry.status)) };
        format!("{ended}{}", key(entry))
    }));
    lines
}

/// What the next root changes.
pub(in crate::cli) fn differences(old: &Root, new: &Root) -> Vec<String> {
    let mut lines = vec![format!("root version {} after {}", new.version, old.version)];
    for entry in &new.keys {
        match old.key(entry.id()) {
            None => lines.push(format!("+ {}", key(entry))),
            Some(before) if before == entry => {}
            Some(before) if KeyEntry { status: entry.status, ..before.clone() } == *entry => {
                let effect = match entry.status {
                    KeyStatus::Active => "counts again",
                    KeyStatus::Retired => "retired: it signs no more, what it signed counts",
                    KeyStatus::Revoked => "REVOKED: nothing it ever signed counts",
                };
                lines.push(format!("- the key of {}, {effect} ({})", entry.person, entry.id()));
            }
            Some(before) => lines.push(format!("! {} becomes: {}", key(before), key(entry))),
        }
    }
    for before in old.keys.iter().filter(|before| new.key(before.id()).is_none()) {
        lines.push(format!("! left out: {}", key(before)));
    }
    for (what, before, after) in [
        ("a root takes", old.thresholds.root, new.thresholds.root),
        ("a release takes, beside its publisher,", old.thresholds.approve, new.thresholds.approve),
        ("a grant takes", old.thresholds.grant, new.thresholds.grant),
    ] {
        if before != after {
            lines.push(format!("! {what} {after} persons, not {before}"));
        }
    }
    if old.offline_approval != new.offline_approval {
        let now = if new.offline_approval { "must" } else { "need no longer" };
        lines.push(format!("! one approval {now} come from a key outside browsers"));
    }
    for (what, before, after) in [
        ("director", old.director_generation, new.director_generation),
        ("time", old.time_generation, new.time_generation),
    ] {
        if before != after {
            lines.push(format!("! {what} generation {after}, not {before}: the hub's {what} key is another"));
        }
    }
    if old.nonce != new.nonce {
        lines.push("! its nonce differs: this is no successor of the old root".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::{person, small};
    use super::super::body::{Changes, next};
    use super::*;

    #[test]
    fn every_change_of_a_root_is_said() {
        let old = small();
        let mut new = next(
            &old,
            &Changes {
                add: vec![person(4, "Dee", RoleSet::APPROVE)],
                end: vec![(old.keys[2].id(), KeyStatus::Revoked)],
                root: Some(1),
                ..Changes::default()
            },
        )
        .unwrap();
        new.offline_approval = true;
        new.keys[0].prefix = "vision-".try_into().unwrap();
        let said = differences(&old, &new).join("\n");
        for part in
            ["+ Dee may approve", "key of Cy, REVOKED", "a root takes 1 persons, not 2", "must come", "only vision-*"]
        {
            assert!(said.contains(part), "`{part}` is not in\n{said}");
        }
        assert_eq!(differences(&old, &old).len(), 1, "nothing changes");
        assert!(whole(&old).join("\n").contains("Bo may root and approve and grant"));
    }
}
