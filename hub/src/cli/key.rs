//! Signing keys in files: make, list, find.

use std::path::Path;

use bellwether_protocol::SigningKey;
use bellwether_protocol::id::{FileName, Person};
use bellwether_protocol::trust::PublicKey;
use serde::{Deserialize, Serialize};

use super::Context;
use super::args::{KeyCommand, KeyRole};
use super::failure::{Exit, Failure};
use super::home::{Home, folder, private, read, write_new};

/// The public half of a key, as it is handed to colleagues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublicFile {
    /// Name of the key's files.
    pub(super) name: String,
    /// The public key, in hexadecimal.
    pub(super) public: String,
    /// The key's id.
    pub(super) id: String,
    /// Whose it is.
    pub(super) person: String,
    /// What it is meant for; the root decides.
    #[serde(default)]
    pub(super) roles: Vec<String>,
}

impl PublicFile {
    pub(super) fn key(&self) -> Result<PublicKey, Failure> {
        self.public.parse().map_err(|bad| Failure::error(format!("key {}: {bad}", self.name)))
    }

    pub(super) fn person(&self) -> Result<Person, Failure> {
        self.person.parse().map_err(|bad| Failure::error(format!("key {}: {bad}", self.name)))
    }
}

pub(super) fn run(context: &Context, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::New { name, person, roles } => {
            let made = make(&context.home, &name, &person, &roles)?;
            context.output.one(
                &made,
                &[
                    ("key", made.name.clone()),
                    ("person", made.person.clone()),
                    ("id", made.id.clone()),
                    ("public", made.public.clone()),
                    ("saved in", context.home.keys().display().to_string()),
                ],
                &made.name,
            )?;
        }
        KeyCommand::List => {
            let keys = all(&context.home)?;
            context.output.list(
                &keys,
                &[
                    ("KEY", &|key| key.name.clone()),
                    ("PERSON", &|key| key.person.clone()),
                    ("MEANT FOR", &|key| key.roles.join(",")),
                    ("ID", &|key| key.id.clone()),
                ],
                |key| key.name.clone(),
                "no key here yet; make one: bellwether key new NAME --person PERSON",
            )?;
        }
    }
    Ok(Exit::Ok)
}

fn make(home: &Home, name: &str, person: &Person, roles: &[KeyRole]) -> Result<PublicFile, Failure> {
    FileName::parse(name).map_err(|bad| Failure::new(Exit::Usage, format!("`{name}`: {bad}")))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|fault| Failure::error(format!("no randomness: {fault}")))?;
    let key = SigningKey::from_bytes(&seed);
    let public = PublicKey(key.verifying_key().to_bytes());
    let role = |role: &KeyRole| match role {
        KeyRole::Publish => "publish",
        KeyRole::Approve => "approve",
        KeyRole::Grant => "grant",
        KeyRole::Root => "root",
    };
    let file = PublicFile {
        name: name.to_owned(),
        public: public.to_string(),
        id: public.id().to_string(),
        person: person.to_string(),
        roles: roles.iter().map(|given| role(given).to_owned()).collect(),
    };
    folder(home.keys())?;
    let text = serde_json::to_string_pretty(&file).map_err(|fault| Failure::error(fault.to_string()))?;
    write_new(&home.keys().join(format!("{name}.key")), format!("{}\n", hex::encode(seed)).as_bytes(), 0o600)?;
    write_new(&home.keys().join(format!("{name}.pub")), format!("{text}\n").as_bytes(), 0o644)?;
    Ok(file)
}

/// The public halves in the key folder, by name.
pub(super) fn all(home: &Home) -> Result<Vec<PublicFile>, Failure> {
    if !home.keys().exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(home.keys()).map_err(|fault| Failure::file(home.keys(), &fault))?;
    let mut keys = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|kind| kind == "pub") {
            keys.push(read_public(&path)?);
        }
    }
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(keys)
}

fn read_public(path: &Path) -> Result<PublicFile, Failure> {
    serde_json::from_str(&read(path)?).map_err(|fault| {
        Failure::error(format!("{} is no public key file: {fault}", path.display()))
            .next("`bellwether key new` writes such files")
    })
}

/// The public half of a key given by name, or by the path of a `.pub` file.
pub(super) fn public(home: &Home, key: &str) -> Result<PublicFile, Failure> {
    let named = home.keys().join(format!("{key}.pub"));
    let path = if named.exists() { named } else { Path::new(key).to_owned() };
    if !path.exists() {
        return Err(Failure::new(Exit::NotFound, format!("there is no key `{key}` in {}", home.keys().display()))
            .next(format!(
                "make it: bellwether key new {key} --person PERSON; `bellwether key list` shows the others"
            )));
    }
    read_public(&path)
}

/// The private half of a key on this machine.
pub(super) fn private_half(home: &Home, key: &str) -> Result<SigningKey, Failure> {
    let named = home.keys().join(format!("{key}.key"));
    let path = if named.exists() { named } else { Path::new(key).to_owned() };
    if !path.exists() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no private key `{key}` in {}", home.keys().display()),
        )
        .next("`bellwether key list` shows the keys here; BELLWETHER_KEYS names another folder"));
    }
    private(&path)?;
    let text = read(&path)?;
    let bytes = hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(|seed| SigningKey::from_bytes(&seed)).ok_or_else(|| {
        Failure::error(format!("{} is no private key: 64 hexadecimal digits are expected", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_half_is_for_its_owner_only_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let person: Person = "Bob".parse().unwrap();
        let made = make(&home, "bob", &person, &[KeyRole::Approve]).unwrap();
        let path = home.keys().join("bob.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let key = private_half(&home, "bob").unwrap();
        assert_eq!(PublicKey(key.verifying_key().to_bytes()), made.key().unwrap());
        assert_eq!(all(&home).unwrap(), [made]);
        assert!(make(&home, "bob", &person, &[]).is_err());
        assert!(make(&home, "../bob", &person, &[]).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(private_half(&home, "bob").is_err());
        assert!(private_half(&home, "nobody").is_err());
    }
}
