//! A certificate authority for development: TLS to try things with, in two commands. Its key lies
//! unprotected beside its certificate, and nothing it issued can be revoked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::FileName;
use bellwether_protocol::time::Millis;
use clap::Subcommand;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::home::{folder, private, read, write_new};
use crate::clock;
use crate::date::Moment;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// How long the authority is good for, in days.
const CA_DAYS: u16 = 365;
/// Days before today from which it is good: clocks of devices lag behind.
const EARLY_DAYS: u16 = 2;

/// For development: certificates to try TLS with. In earnest use your own authority.
#[derive(Debug, Subcommand)]
pub(super) enum DevCaCommand {
    /// Make the authority: DIR/ca.pem for everyone, DIR/ca.key for you only
    #[command(after_help = "Example:\n  bellwether dev-ca init\n\n\
        For development: whoever can read DIR/ca.key can pose as any hub that trusts DIR/ca.pem.")]
    Init {
        /// Where it is kept
        #[arg(long, value_name = "DIR", default_value = "bellwether-dev-ca")]
        dir: PathBuf,
    },
    /// Issue a certificate: DIR/NAME.pem and DIR/NAME.key
    #[command(after_help = "Examples:\n  bellwether dev-ca issue hub --dns hub.example --ip 127.0.0.1\n  \
        bellwether-hub serve --tls-cert bellwether-dev-ca/hub.pem --tls-key bellwether-dev-ca/hub.key\n  \
        bellwether --hub https://127.0.0.1:8080 --ca bellwether-dev-ca/ca.pem doctor\n  \
        bellwether dev-ca issue gw-1 --client          for a device at a broker that wants certificates\n\n\
        For development: nothing that was issued can be revoked.")]
    Issue {
        /// Name of the files, and the certificate's common name
        name: String,
        /// A name by which the server is reached; may be repeated [default: NAME]
        #[arg(long, value_name = "HOST", conflicts_with = "client")]
        dns: Vec<String>,
        /// An address by which the server is reached; may be repeated
        #[arg(long, value_name = "ADDRESS", conflicts_with = "client")]
        ip: Vec<IpAddr>,
        /// For a client, such as a device whose id is NAME
        #[arg(long)]
        client: bool,
        /// Days it is good for; 0 makes one that has expired, to see what happens then
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(..=3650))]
        days: u16,
        /// Where the authority is kept
        #[arg(long, value_name = "DIR", default_value = "bellwether-dev-ca")]
        dir: PathBuf,
    },
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    name: String,
    certificate: String,
    key: String,
    valid_for: Vec<String>,
    days: u16,
}

impl Made {
    fn new(dir: &Path, name: &str, days: u16, valid_for: Vec<String>) -> Self {
        let path = |extension: &str| dir.join(format!("{name}.{extension}")).display().to_string();
        Self { name: name.to_owned(), certificate: path("pem"), key: path("key"), valid_for, days }
    }
}

pub(super) fn run(context: &Context, command: DevCaCommand) -> Result<Exit, Failure> {
    let made = match command {
        DevCaCommand::Init { dir } => init(&dir)?,
        DevCaCommand::Issue { name, dns, ip, client, days, dir } => {
            FileName::parse(&name)
                .ok()
                .filter(|_| name != "ca")
                .ok_or_else(|| Failure::new(Exit::Usage, format!("`{name}` cannot name a certificate's files")))?;
            let names = if client { Vec::new() } else { names(&name, &dns, &ip)? };
            issue(&dir, &name, names, days)?
        }
    };
    context.output.one(
        &made,
        &[
            ("certificate", made.certificate.clone()),
            ("key", made.key.clone()),
            ("valid for", made.valid_for.join(", ")),
            ("days", made.days.to_string()),
            ("meant for", "development only".to_owned()),
        ],
        &made.name,
    )?;
    Ok(Exit::Ok)
}

fn init(dir: &Path) -> Result<Made, Failure> {
    folder(dir)?;
    let key = new_key()?;
    let mut params = authority(&key);
    valid(&mut params, CA_DAYS);
    let certificate = params.self_signed(&key).map_err(failed)?;
    keep((&certificate, &key), Made::new(dir, "ca", CA_DAYS, Vec::new()))
}

fn issue(dir: &Path, name: &str, names: Vec<SanType>, days: u16) -> Result<Made, Failure> {
    let ca = dir.join("ca.key");
    if !ca.exists() {
        let mend = format!("bellwether dev-ca init --dir {}", dir.display());
        return Err(Failure::new(Exit::NotFound, format!("there is no authority in {}", dir.display())).next(mend));
    }
    private(&ca)?;
    let ca_key = KeyPair::from_pem(&read(&ca)?).map_err(failed)?;
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let usage = match names.is_empty() {
        true => ExtendedKeyUsagePurpose::ClientAuth,
        false => ExtendedKeyUsagePurpose::ServerAuth,
    };
    params.extended_key_usages = vec![usage];
    valid(&mut params, days);
    let shown = names.iter().map(spelled).collect();
    params.subject_alt_names = names;
    let certificate = params.signed_by(&key, &Issuer::new(authority(&ca_key), ca_key)).map_err(failed)?;
    keep((&certificate, &key), Made::new(dir, name, days, shown))
}

/// The authority, as its key makes it: its certificate and what it issues must name it alike.
fn authority(key: &KeyPair) -> CertificateParams {
    let id: String = Digest::of(key.public_key_raw()).to_string().chars().take(8).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("Bellwether development authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// What a server is reached by; its own name if nothing else was said.
fn names(name: &str, dns: &[String], ip: &[IpAddr]) -> Result<Vec<SanType>, Failure> {
    let host = |host: &str| {
        let bad = || Failure::new(Exit::Usage, format!("`{host}` is no name of a machine")).next("use --dns or --ip");
        host.try_into().map(SanType::DnsName).map_err(|_| bad())
    };
    if dns.is_empty() && ip.is_empty() {
        return Ok(vec![host(name)?]);
    }
    let addresses = ip.iter().map(|address| Ok(SanType::IpAddress(*address)));
    dns.iter().map(|name| host(name)).chain(addresses).collect()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other kind is ever made here")]
fn spelled(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.to_string(),
        SanType::IpAddress(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

fn keep((certificate, key): (&Certificate, &KeyPair), made: Made) -> Result<Made, Failure> {
    write_new(Path::new(&made.key), key.serialize_pem().as_bytes(), 0o600)?;
    write_new(Path::new(&made.certificate), certificate.pem().as_bytes(), 0o644)?;
    Ok(made)
}

/// From a little before today for so many days; for none, until yesterday.
fn valid(params: &mut CertificateParams, days: u16) {
    let today = clock::now().0;
    let ymd = |ms: u64| {
        let Moment { year, month, day, .. } = Moment::of(Millis(ms));
        let small = |figure: u64| u8::try_from(figure).unwrap_or(1);
        date_time_ymd(i32::try_from(year).unwrap_or(i32::MAX), small(month), small(day))
    };
    params.not_before = ymd(today.saturating_sub(u64::from(EARLY_DAYS) * DAY_MS));
    params.not_after = match days {
        0 => ymd(today.saturating_sub(DAY_MS)),
        days => ymd(today.saturating_add(u64::from(days) * DAY_MS)),
    };
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where errors are mapped")]
fn failed(why: rcgen::Error) -> Failure {
    Failure::error(format!("no certificate can be made: {why}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use bellwether_link::tls::{Identity, Trust};

    use super::*;

    #[test]
    fn what_the_authority_issues_can_be_used_and_its_keys_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("ca");
        let dns = [String::from("hub.example")];
        let names = || names("hub", &dns, &["127.0.0.1".parse().unwrap()]).unwrap();
        assert!(
            matches!(issue(&dir, "hub", names(), 1), Err(failure) if format!("{failure:?}").contains("dev-ca init"))
        );
        init(&dir).unwrap();
        assert!(init(&dir).is_err(), "an authority is not overwritten");
        let hub = issue(&dir, "hub", names(), 1).unwrap();
        assert_eq!(hub.valid_for, ["hub.example", "127.0.0.1"]);
        let device = issue(&dir, "gw_1", Vec::new(), 1).unwrap();
        for key in [dir.join("ca.key"), hub.key.clone().into(), device.key.clone().into()] {
            assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let identity = Identity { cert: device.certificate.into(), key: device.key.into() };
        Trust { ca: Some(dir.join("ca.pem")), identity: Some(identity) }.config().unwrap();
        let config = crate::config::Config {
            tls_cert: Some(hub.certificate.into()),
            tls_key: Some(hub.key.into()),
            tls_client_ca: Some(dir.join("ca.pem")),
            ..crate::config::Config::default()
        };
        assert!(crate::tls::Shown::of(&config).unwrap().is_some());
        let other = crate::config::Config { tls_key: Some(dir.join("ca.key")), ..config };
        assert!(crate::tls::Shown::of(&other).is_err(), "a key of another certificate");
    }

    #[test]
    fn a_server_is_named_by_what_can_be_a_name() {
        assert!(names("hub", &[], &[]).is_ok());
        assert!(names("höb", &[], &[]).is_err());
    }
}
