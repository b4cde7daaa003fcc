//! Keys that an ssh-agent holds: its protocol (draft-ietf-sshm-ssh-agent) as far as Ed25519 needs
//! it, which is two questions.
//!
//! ```text
//!   request  u32 length, byte type, ...        string = u32 length, bytes
//!     11 identities?           12 count, then per key: string blob, string comment
//!     13 blob, data, flags     14 string { string "ssh-ed25519", string signature }
//! ```

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::trust::PublicKey;

use super::Keeper;
use crate::cli::failure::{Exit, Failure};

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const ALGORITHM: &[u8] = b"ssh-ed25519";
/// Largest answer that is read: the limit of OpenSSH's own agent.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long an agent may take: it may ask its owner to confirm.
const ANSWER_SECONDS_MAX: u64 = 120;

/// An agent, and the key to ask it for.
pub(in crate::cli) struct Agent {
    socket: PathBuf,
    name: String,
    key: PublicKey,
}

/// A key that an agent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Identity {
    pub(in crate::cli) key: PublicKey,
    pub(in crate::cli) comment: String,
}

impl Identity {
    /// As `ssh-add -l` prints it.
    pub(in crate::cli) fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Digest::of(&blob(&self.key)).0))
    }
}

impl Agent {
    /// The agent of this session, which must hold `key`.
    pub(super) fn holding(name: &str, key: PublicKey) -> Result<Self, Failure> {
        let socket = socket()?;
        if !list(&socket)?.iter().any(|identity| identity.key == key) {
            let cause = format!("the ssh-agent at {} does not hold the key {name} ({})", socket.display(), key.id());
            return Err(Failure::new(Exit::NotFound, cause).next("add it to the agent: ssh-add FILE"));
        }
        Ok(Self { socket, name: name.to_owned(), key })
    }

    /// The Ed25519 keys of this session's agent.
    pub(in crate::cli) fn identities() -> Result<Vec<Identity>, Failure> {
        list(&socket()?)
    }
}

impl Keeper for Agent {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Failure> {
        let mut request = vec![SIGN_REQUEST];
        put(&mut request, &blob(&self.key));
        put(&mut request, message);
        request.extend([0; 4]);
        let answer = ask(&self.socket, &request)?;
        signature(&answer).ok_or_else(|| {
            Failure::new(Exit::NotAllowed, format!("the ssh-agent does not sign with {}", self.name))
                .next("confirm at the agent if it asks; `ssh-add -l` shows what it holds, `ssh-add -X` unlocks it")
        })
    }
}

fn socket() -> Result<PathBuf, Failure> {
    let set = std::env::var_os("SSH_AUTH_SOCK").filter(|value| !value.is_empty());
    set.map(PathBuf::from).ok_or_else(|| {
        Failure::new(Exit::NotFound, "no ssh-agent: SSH_AUTH_SOCK is not set")
            .next("start one: eval \"$(ssh-agent)\", then ssh-add FILE")
    })
}

fn list(socket: &Path) -> Result<Vec<Identity>, Failure> {
    let answer = ask(socket, &[REQUEST_IDENTITIES])?;
    identities(&answer)
        .ok_or_else(|| Failure::error(format!("{} answered what no ssh-agent answers", socket.display())))
}

/// One question and its answer, without the length before it.
fn ask(socket: &Path, request: &[u8]) -> Result<Vec<u8>, Failure> {
    let fault = |fault: std::io::Error| {
        Failure::error(format!("the ssh-agent at {}: {fault}", socket.display()))
            .next("is it still running? eval \"$(ssh-agent)\" starts one")
    };
    let mut stream = UnixStream::connect(socket).map_err(fault)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX))).map_err(fault)?;
    let mut framed = Vec::new();
    put(&mut framed, request);
    stream.write_all(&framed).map_err(fault)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(fault)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > ANSWER_BYTES_MAX {
        return Err(Failure::error(format!("the ssh-agent announces an answer of {length} bytes")));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).map_err(fault)?;
    Ok(answer)
}

/// The Ed25519 keys in an answer; others are passed over.
fn identities(answer: &[u8]) -> Option<Vec<Identity>> {
    let mut rest = answer.strip_prefix(&[IDENTITIES_ANSWER])?;
    let count = number(&mut rest)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let (blob, comment) = (take(&mut rest)?, take(&mut rest)?);
        if let Some(key) = key_of(blob) {
            found.push(Identity { key, comment: String::from_utf8_lossy(comment).into_owned() });
        }
    }
    rest.is_empty().then_some(found)
}

fn key_of(mut blob: &[u8]) -> Option<PublicKey> {
    let (algorithm, key) = (take(&mut blob)?, take(&mut blob)?);
    (algorithm == ALGORITHM && blob.is_empty()).then(|| key.try_into().ok().map(PublicKey))?
}

fn signature(answer: &[u8]) -> Option<[u8; 64]> {
    let mut rest = answer.strip_prefix(&[SIGN_RESPONSE])?;
    let mut inner = take(&mut rest)?;
    let (algorithm, bytes) = (take(&mut inner)?, take(&mut inner)?);
    (algorithm == ALGORITHM && rest.is_empty() && inner.is_empty()).then(|| bytes.try_into().ok())?
}

fn blob(key: &PublicKey) -> Vec<u8> {
    let mut blob = Vec::new();
    put(&mut blob, ALGORITHM);
    put(&mut blob, &key.0);
    blob
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*number))
}

fn take<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(number(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        parts.iter().for_each(|part| put(&mut out, part));
        out
    }

    #[test]
    fn an_answer_with_other_kinds_of_keys_gives_only_the_ed25519_ones() {
        let key = PublicKey([7; 32]);
        let rsa = strings(&[b"ssh-rsa", b"e", b"n"]);
        let mut answer = vec![IDENTITIES_ANSWER, 0, 0, 0, 2];
        answer.extend(strings(&[&rsa, b"old", &blob(&key), b"bo@desk"]));
        let found = identities(&answer).unwrap();
        assert_eq!(found, [Identity { key, comment: "bo@desk".to_owned() }]);
        // As ssh-keygen prints it for this key.
        assert!(found[0].fingerprint().starts_with("SHA256:") && found[0].fingerprint().len() == 7 + 43);
        for cut in 0..answer.len() {
            assert!(identities(&answer[..cut]).is_none(), "cut at {cut}");
        }
        answer.push(0);
        assert!(identities(&answer).is_none(), "bytes after the last key");
    }

    #[test]
    fn an_answer_that_is_no_ed25519_signature_is_refused() {
        let framed = |inner: &[&[u8]]| [vec![SIGN_RESPONSE], strings(&[&strings(inner)])].concat();
        assert_eq!(signature(&framed(&[ALGORITHM, &[5; 64]])), Some([5; 64]));
        assert_eq!(signature(&framed(&[ALGORITHM, &[5; 63]])), None);
        assert_eq!(signature(&framed(&[b"ssh-rsa", &[5; 64]])), None);
        assert_eq!(signature(&framed(&[ALGORITHM, &[5; 64], b"more"])), None);
        assert_eq!(signature(&[5]), None, "SSH_AGENT_FAILURE");
        assert_eq!(signature(&[]), None);
    }
}
