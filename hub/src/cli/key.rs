//! Keys of people: make or adopt, list, show; and the drafts of roots that take them in or out.

use std::path::Path;

use bellwether_protocol::id::{FileName, Person};
use bellwether_protocol::trust::{KeyClass, PublicKey};
use serde::{Deserialize, Serialize};

use super::Context;
use super::ceremony::{KeyCommand, KeyRole, NewKey};
use super::failure::{Exit, Failure};
use super::home::{Home, folder, read, write_new};
use super::root;
use super::signer::{self, Agent, Found, Identity, Signer, Token};

/// What keeps a private half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Class {
    /// A file, for its owner only
    #[default]
    File,
    /// An ssh-agent that holds it already
    SshAgent,
    /// A token behind a PKCS#11 module
    Pkcs11,
    /// A browser; made on the dashboard's page
    #[value(skip)]
    Browser,
}

impl Class {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::SshAgent => "ssh-agent",
            Self::Pkcs11 => "pkcs11",
            Self::Browser => "browser",
        }
    }
}

impl From<Class> for KeyClass {
    fn from(class: Class) -> Self {
        match class {
            Class::File => Self::File,
            Class::SshAgent => Self::SshAgent,
            Class::Pkcs11 => Self::Pkcs11,
            Class::Browser => Self::Browser,
        }
    }
}

/// The public half of a key, as it is handed to colleagues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What keeps the private half; a file if nothing is said.
    #[serde(default = "in_a_file")]
    pub(super) class: String,
    /// The library of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) module: Option<String>,
    /// The label of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
}

fn in_a_file() -> String {
    Class::File.name().to_owned()
}

impl PublicFile {
    pub(super) fn key(&self) -> Result<PublicKey, Failure> {
        self.public.parse().map_err(|bad| Failure::error(format!("key {}: {bad}", self.name)))
    }

    pub(super) fn person(&self) -> Result<Person, Failure> {
        self.person.parse().map_err(|bad| Failure::error(format!("key {}: {bad}", self.name)))
    }

    pub(super) fn class(&self) -> Result<Class, Failure> {
        let all = [Class::File, Class::SshAgent, Class::Pkcs11, Class::Browser];
        all.into_iter().find(|class| class.name() == self.class).ok_or_else(|| {
            let known = all.map(Class::name).join(", ");
            Failure::error(format!("key {}: `{}` is no class of keys; there are {known}", self.name, self.class))
        })
    }
}

pub(super) async fn run(context: &Context, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::New(given) => {
            let made = new(&context.home, &given)?;
            show(context, &made)?;
        }
        KeyCommand::List => list(context)?,
        KeyCommand::Show { key } => show(context, &public(&context.home, &key)?)?,
        KeyCommand::Enroll(given) => return root::enroll(context, *given).await,
        KeyCommand::Retire { key, draft } => return root::end(context, &key, root::End::Retire, draft).await,
        KeyCommand::Revoke { key, draft } => return root::end(context, &key, root::End::Revoke, draft).await,
    }
    Ok(Exit::Ok)
}

fn list(context: &Context) -> Result<(), Failure> {
    context.output.list(
        &all(&context.home)?,
        &[
            ("KEY", &|key| key.name.clone()),
            ("PERSON", &|key| key.person.clone()),
            ("KEPT IN", &|key| key.class.clone()),
            ("MEANT FOR", &|key| key.roles.join(",")),
            ("ID", &|key| key.id.clone()),
        ],
        |key| key.name.clone(),
        "no key here yet; make one: bellwether key new NAME --person PERSON",
    )
}

fn show(context: &Context, key: &PublicFile) -> Result<(), Failure> {
    let fields = [
        ("key", key.name.clone()),
        ("person", key.person.clone()),
        ("kept in", key.class.clone()),
        ("module", key.module.clone().unwrap_or_default()),
        ("token", key.token.clone().unwrap_or_default()),
        ("meant for", key.roles.join(",")),
        ("id", key.id.clone()),
        ("public", key.public.clone()),
        ("saved in", context.home.keys().display().to_string()),
    ];
    context.output.one(key, &fields, &key.name)
}

fn new(home: &Home, given: &NewKey) -> Result<PublicFile, Failure> {
    let name = &given.name;
    FileName::parse(name).map_err(|bad| Failure::new(Exit::Usage, format!("`{name}`: {bad}")))?;
    folder(home.keys())?;
    let half = home.keys().join(format!("{name}.pub"));
    if half.exists() {
        return Err(Failure::new(Exit::Conflict, format!("{} exists already", half.display()))
            .next("choose another name, or move it away"));
    }
    let public = match given.class {
        Class::SshAgent => adopted(&Agent::identities()?, name, given.identity.as_deref())?,
        Class::Pkcs11 => {
            let (module, token) = token_of(given)?;
            match Token::find_or_make(module, token, given.identity.as_deref().unwrap_or(name))? {
                Found::Adopted(key) => {
                    eprintln!("the token {token} held this key already; it is adopted");
                    key
                }
                Found::Made(key) => key,
            }
        }
        Class::File | Class::Browser => {
            let taken: Vec<String> = all(home)?.into_iter().map(|key| key.id).collect();
            let key = signer::make(&home.keys().join(format!("{name}.key")), &taken)?;
            PublicKey(key.verifying_key().to_bytes())
        }
    };
    let is_token = given.class == Class::Pkcs11;
    let file = PublicFile {
        name: name.clone(),
        public: public.to_string(),
        id: public.id().to_string(),
        person: given.person.to_string(),
        roles: given.roles.iter().map(|role| role.name().to_owned()).collect(),
        class: given.class.name().to_owned(),
        module: given.module.clone().filter(|_| is_token),
        token: given.token.clone().filter(|_| is_token),
    };
    let text = serde_json::to_string_pretty(&file).map_err(|fault| Failure::error(fault.to_string()))?;
    write_new(&half, format!("{text}\n").as_bytes(), 0o644)?;
    Ok(file)
}

fn token_of(given: &NewKey) -> Result<(&str, &str), Failure> {
    match (&given.module, &given.token) {
        (Some(module), Some(token)) => Ok((module, token)),
        _ => Err(Failure::new(Exit::Usage, "a key in a token needs --module FILE and --token LABEL")
            .next("the module is the library that came with the token, such as /usr/lib/softhsm/libsofthsm2.so")),
    }
}

/// The identity that is meant: by fingerprint or comment; the only one if none was named.
fn adopted(identities: &[Identity], name: &str, named: Option<&str>) -> Result<PublicKey, Failure> {
    let meant = named.unwrap_or(name);
    let found: Vec<&Identity> =
        identities.iter().filter(|one| one.comment == meant || one.fingerprint() == meant).collect();
    match (found.as_slice(), identities) {
        ([one], _) => Ok(one.key),
        ([], [one]) if named.is_none() => Ok(one.key),
        ([], []) => Err(Failure::new(Exit::NotFound, "the ssh-agent holds no Ed25519 key")
            .next("make one and add it: ssh-keygen -t ed25519 -f FILE, then ssh-add FILE")),
        _ => {
            let there: Vec<String> =
                identities.iter().map(|one| format!("{} {}", one.fingerprint(), one.comment)).collect();
            Err(Failure::new(Exit::Conflict, format!("which key of the ssh-agent? It holds {}", there.join("; ")))
                .next("name one by fingerprint or comment: --identity SHA256:..."))
        }
    }
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
    let file: PublicFile = serde_json::from_str(&read(path)?).map_err(|fault| {
        Failure::error(format!("{} is no public key file: {fault}", path.display()))
            .next("`bellwether key new` writes such files")
    })?;
    if file.key()?.id().to_string() != file.id {
        return Err(Failure::error(format!("{}: the id is not that of the public key", path.display()))
            .next("ask its owner for the file again, and compare the id by another way"));
    }
    Ok(file)
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

/// The keys given, ready to sign.
pub(super) fn signers(home: &Home, keys: &[String]) -> Result<Vec<Signer>, Failure> {
    keys.iter().map(|key| Signer::find(home, key)).collect()
}

impl KeyRole {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Approve => "approve",
            Self::Grant => "grant",
            Self::Root => "root",
            Self::Witness => "witness",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn given(name: &str) -> NewKey {
        NewKey {
            name: name.to_owned(),
            person: "Bob".parse().unwrap(),
            roles: vec![KeyRole::Approve],
            class: Class::File,
            identity: None,
            module: None,
            token: None,
        }
    }

    #[test]
    fn a_private_half_is_for_its_owner_only_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let made = new(&home, &given("bob")).unwrap();
        let path = home.keys().join("bob.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Signer::find(&home, "bob").unwrap().public(), made.key().unwrap());
        assert_eq!(all(&home).unwrap(), [made]);
        assert!(new(&home, &given("bob")).is_err());
        assert!(new(&home, &given("../bob")).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Signer::find(&home, "bob").is_err());
        assert!(Signer::find(&home, "nobody").is_err());
    }

    #[test]
    fn a_public_half_without_a_class_is_that_of_a_file_and_one_with_a_wrong_id_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let made = new(&home, &given("bob")).unwrap();
        let path = folder.path().join("old.pub");
        let text = std::fs::read_to_string(home.keys().join("bob.pub")).unwrap();
        std::fs::write(&path, text.replace(",\n  \"class\": \"file\"", "")).unwrap();
        let old = public(&home, &path.to_string_lossy()).unwrap();
        assert_eq!((old.class().unwrap(), &old.id), (Class::File, &made.id));
        std::fs::write(&path, text.replace(&made.id, &"00".repeat(16))).unwrap();
        assert!(public(&home, &path.to_string_lossy()).is_err());
    }

    #[test]
    fn an_identity_is_adopted_by_fingerprint_by_comment_or_when_it_is_the_only_one() {
        let one = |seed, comment: &str| Identity { key: PublicKey([seed; 32]), comment: comment.to_owned() };
        let both = [one(1, "bo@desk"), one(2, "bo@laptop")];
        assert_eq!(adopted(&both, "bo", Some("bo@laptop")).unwrap(), both[1].key);
        assert_eq!(adopted(&both, "bo", Some(&both[0].fingerprint())).unwrap(), both[0].key);
        assert_eq!(adopted(&both[..1], "bo", None).unwrap(), both[0].key);
        assert!(adopted(&both[..1], "bo", Some("cy@desk")).is_err(), "never another than the one named");
        assert!(adopted(&both, "bo", None).is_err(), "which one is meant is not guessed");
        assert!(adopted(&[], "bo", None).is_err());
        assert!(adopted(&[one(1, "x"), one(2, "x")], "x", None).is_err());
    }
}
