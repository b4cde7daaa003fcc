//! Packages and versions: uploads, the hub's own checks, numbering, and what may be deleted.

use std::collections::BTreeMap;

use bellwether_hub_core::Denied;
use bellwether_hub_core::event::What;
use bellwether_hub_core::registry::{Candidate, Git, Lineage};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::id::{ModelName, ModelRef};
use bellwether_protocol::limit::{PACKAGE_BYTES_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::trust::{Attestation, FleetId, PackageRef, TrustedRoot, seal};
use bellwether_runtime::crash;
use bytes::Bytes;

use super::denied::{digest, model_name, model_ref};
use super::{Hub, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{ModelDetail, ModelQuery, ModelView, PackageView, Page, RegisterRequest, Role, VersionView};
use crate::blob::BlobError;
use crate::exec::{CheckError, Examined};

/// Bytes of a description, tag or reference: text for people, not a place to keep data.
const TEXT_BYTES_MAX: usize = 4096;
/// Tags of one version.
pub(super) const TAGS_MAX: usize = 32;

impl Hub {
    /// Keeps a package until it is registered.
    ///
    /// # Errors
    ///
    /// 403 unless publisher; 413; 507 when the disk is nearly full.
    pub async fn put_package(&self, caller: &Caller, bytes: Bytes) -> Result<PackageView, Problem> {
        caller.need(Role::Publisher)?;
        self.room()?;
        let size = bytes.len() as u64;
        if size > PACKAGE_BYTES_MAX {
            return Err(Problem::too_large(format!(
                "the package has {size} bytes; at most {PACKAGE_BYTES_MAX} are taken"
            )));
        }
        if !bytes.starts_with(&bellwether_protocol::package::MAGIC) {
            return Err(Problem::unprocessable("not_a_package", "the upload does not begin as a package does")
                .hint("let the command line make it: bellwether model register NAME FILE"));
        }
        let digest = self.0.blobs.put(bytes).await?;
        Ok(PackageView { digest: digest.to_string(), size })
    }

    /// A package's bytes.
    ///
    /// # Errors
    ///
    /// 404.
    pub async fn package(&self, caller: &Caller, text: &str) -> Result<Bytes, Problem> {
        let digest = digest(text)?;
        // What was uploaded and not registered belongs to no model yet.
        let others = {
            let rules = self.rules();
            let has = |model: &&bellwether_hub_core::registry::Model| {
                rules.versions_of(&model.name).any(|record| record.package.digest == digest)
            };
            let (mut own, mut others) = (false, None);
            for model in rules.models().filter(has) {
                if caller.covers(model.name.as_str()) { own = true } else { others = Some(model.name.clone()) }
            }
            others.filter(|_| !own)
        };
        if let Some(other) = others {
            caller.need_model(other.as_str())?;
        }
        Ok(self.0.blobs.get(digest).await?)
    }

    /// Registers an uploaded package under the next version of its name, once the hub has repeated
    /// the checks in a child process.
    ///
    /// # Errors
    ///
    /// 403 unless publisher; 422 `golden_mismatch` or `package_refused`; 404 for no such upload.
    pub async fn register(
        &self,
        caller: &Caller,
        name: &str,
        request: RegisterRequest,
    ) -> Result<VersionView, Problem> {
        caller.need(Role::Publisher)?;
        self.room()?;
        let name = model_name(name)?;
        let lineage = lineage(&request)?;
        let package_digest = digest(&request.package)?;
        let package = self.0.blobs.get(package_digest).await?;
        let examined = match self.checked(package.clone()).await {
            Ok(examined) => examined,
            Err(problem) => {
                self.note(caller, What::RegistrationRefused { name, why: problem.detail.clone() })?;
                return Err(problem);
            }
        };
        let package = describe(&package);
        let _alone = self.0.packages.lock().await;
        // It may have been thrown away with the version that had it, while it was being checked.
        self.0.blobs.range(package_digest, 0, 1).await?;
        let candidate = candidate(&name, digest(&request.source)?, package, examined, lineage)?;
        let (model, view) = self.numbered(candidate, &caller.name)?;
        tracing::info!(%model, "registered");
        Ok(view)
    }

    async fn checked(&self, package: Bytes) -> Result<Examined, Problem> {
        let _slot = self.0.checks.acquire().await.map_err(|error| Problem::internal(error.to_string()))?;
        self.0.checker.check(package).await.map_err(|error| {
            let text = error.to_string();
            match error {
                CheckError::Golden(_) => Problem::unprocessable("golden_mismatch", text)
                    .hint("the runtime on devices computes something else: export without quantising Softmax, or without the operators concerned"),
                CheckError::Refused(_) => Problem::unprocessable("package_refused", text)
                    .hint("try it where it was made: bellwether model register shows the same"),
                CheckError::Killed(_) => Problem::unprocessable("check_killed", text)
                    .hint("a smaller model, or more `check_seconds` and `check_memory_mib` in the hub's configuration"),
                CheckError::Fault(_) => Problem::internal(text),
            }
        })
    }

    fn numbered(&self, candidate: Candidate, who: &str) -> Result<(ModelRef, VersionView), Problem> {
        let model = self.decide_durably(|rules, now| {
            let name = &candidate.manifest.name;
            let model = ModelRef { name: name.clone(), version: rules.next_version(name)? };
            let attestation = self.attest(&model, &candidate, rules.trusted().ok())?;
            rules.register(candidate, attestation, who, now)
        })?;
        crash::point("hub.register.stored");
        let rules = self.rules();
        let record = rules.version(&model)?;
        let view = view::version(&rules, record);
        Ok((model, view))
    }

    fn attest(&self, model: &ModelRef, candidate: &Candidate, root: Option<&TrustedRoot>) -> Result<Vec<u8>, Denied> {
        let attestation = Attestation {
            model: model.clone(),
            package: candidate.package.digest,
            golden: candidate.checks.golden.is_some(),
        };
        let mut buffer = vec![0; STATEMENT_BYTES_MAX];
        let keys = self.keys();
        let registry = root.map_or_else(|| keys.registry.first(), |root| keys.registry.under(root.root()));
        let fleet = root.map_or(FleetId([0; 16]), TrustedRoot::fleet);
        let signed = seal(&attestation, fleet, registry, &mut buffer).map_err(Denied::Statement)?;
        Ok(bellwether_hub_core::trust::encode(&signed))
    }

    /// All models; with `tag` only those whose latest version carries it.
    ///
    /// # Errors
    ///
    /// 400 for a filter that is not `TAG=VALUE`.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn models(&self, caller: &Caller, query: ModelQuery) -> Result<Page<ModelView>, Problem> {
        let wanted = query.tag.as_deref().map(parse_filter).transpose()?;
        let rules = self.rules();
        let items = rules
            .models()
            .filter(|model| caller.covers(model.name.as_str()))
            .filter_map(|model| view::model(&rules, &model.name))
            .filter(|view| wanted.is_none_or(|(tag, value)| view.tags_of_latest.get(tag).is_some_and(|v| v == value)));
        Ok(Page::whole(items.collect()))
    }

    /// A model and its versions, latest first.
    ///
    /// # Errors
    ///
    /// 404.
    pub fn model(&self, _caller: &Caller, name: &str) -> Result<ModelDetail, Problem> {
        let name = model_name(name)?;
        let rules = self.rules();
        let model = view::model(&rules, &name).ok_or_else(|| Problem::from(Denied::NoModel(name.clone())))?;
        let mut items: Vec<VersionView> =
            rules.versions_of(&name).map(|record| view::version(&rules, record)).collect();
        items.reverse();
        Ok(ModelDetail { model, items })
    }

    /// A version.
    ///
    /// # Errors
    ///
    /// 404.
    pub fn version(&self, _caller: &Caller, name: &str, version: u32) -> Result<VersionView, Problem> {
        let model = model_ref(name, version)?;
        let rules = self.rules();
        Ok(view::version(&rules, rules.version(&model)?))
    }

    /// Removes a package from disk unless a version still has it.
    async fn throw_away(&self, package: Digest) {
        let _alone = self.0.packages.lock().await;
        let shared = {
            // One guard for all of it: a second one could wait for a writer that waits for the first.
            let rules = self.rules();
            rules.models().any(|model| rules.versions_of(&model.name).any(|record| record.package.digest == package))
        };
        if shared {
            return;
        }
        if let Err(error) = self.0.blobs.remove(package).await {
            tracing::warn!(%package, %error, "package of a deleted version stays on disk");
        }
    }

    /// Deletes a version; its package goes with the last version that has it.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 404; 409 while anything needs it.
    pub fn delete_version(&self, caller: &Caller, name: &str, version: u32) -> Result<(), Problem> {
        caller.need(Role::Admin)?;
        let model = model_ref(name, version)?;
        let package = self.rules().version(&model)?.package.digest;
        self.decide_durably(|rules, now| Ok(((), rules.delete_version(&model, &caller.name, now)?)))?;
        let hub = self.clone();
        tokio::spawn(async move { hub.throw_away(package).await });
        Ok(())
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        let text = error.to_string();
        match error {
            BlobError::Missing(_) => Self::not_found("no_package", text).hint("upload it first: POST /api/v1/packages"),
            BlobError::Damaged(_) => Self::internal(text).hint("restore the package from a backup"),
            BlobError::Fault(_) => Self::unavailable("blobs_failed", text).hint("look at the disk of the hub"),
        }
    }
}

/// Reads a filter `TAG=VALUE`.
pub(super) fn parse_filter(text: &str) -> Result<(&str, &str), Problem> {
    text.split_once('=').filter(|(tag, _)| !tag.is_empty()).ok_or_else(|| {
        Problem::bad_request("bad_filter", format!("{text:.80?} is no filter"))
            .hint("write TAG=VALUE, such as team=vision")
    })
}

fn describe(package: &[u8]) -> PackageRef {
    let mut table = Vec::new();
    for digest in bellwether_protocol::package::chunk_digests(package) {
        table.extend_from_slice(&digest.0);
    }
    PackageRef { digest: Digest::of(package), size: package.len() as u64, chunks: Digest::of(&table) }
}

fn candidate(
    name: &ModelName,
    source: Digest,
    package: PackageRef,
    examined: Examined,
    lineage: Lineage,
) -> Result<Candidate, Problem> {
    let Examined { manifest, checks, policy, baseline } = examined;
    if manifest.name != *name {
        let text = format!("the package was made for {}, not for {name}", manifest.name);
        return Err(Problem::unprocessable("other_name", text).hint("prepare it under the name it is registered with"));
    }
    let mut buffer = vec![0; STATEMENT_BYTES_MAX];
    frame::encode(&manifest.tensors, &mut buffer)
        .map_err(|reject| Problem::unprocessable("package_refused", reject.to_string()))?;
    Ok(Candidate { manifest, package, source, lineage, checks, policy, baseline })
}

fn lineage(request: &RegisterRequest) -> Result<Lineage, Problem> {
    check_tags(&request.tags)?;
    let git = request.git.as_ref();
    let texts = [
        ("description", Some(&request.description)),
        ("file_name", Some(&request.file_name)),
        ("dataset", request.dataset.as_ref()),
        ("run", request.run.as_ref()),
        ("commit", git.map(|git| &git.commit)),
        ("branch", git.map(|git| &git.branch)),
    ];
    if let Some((what, _)) = texts.iter().find(|(_, text)| text.is_some_and(|text| text.len() > TEXT_BYTES_MAX)) {
        let text = format!("{what} has more than {TEXT_BYTES_MAX} bytes");
        return Err(
            Problem::bad_request("too_long", text).hint("keep long texts beside the model, with a reference here")
        );
    }
    Ok(Lineage {
        description: request.description.clone(),
        tags: request.tags.clone(),
        git: git.map(|git| Git {
            commit: git.commit.clone(),
            branch: Some(git.branch.clone()).filter(|branch| !branch.is_empty()),
            dirty: git.dirty,
        }),
        dataset: request.dataset.clone(),
        run: request.run.clone(),
        file_name: request.file_name.clone(),
    })
}

/// Checks tags: few, short, printable.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Problem> {
    let bad = |text: &str| text.is_empty() || text.len() > 64 || text.chars().any(char::is_control);
    if tags.len() > TAGS_MAX {
        return Err(Problem::bad_request("too_many_tags", format!("{} tags; at most {TAGS_MAX}", tags.len()))
            .hint("leave some out"));
    }
    match tags.iter().find(|(tag, value)| bad(tag) || bad(value) || tag.contains('=')) {
        None => Ok(()),
        Some((tag, _)) => Err(Problem::bad_request("bad_tag", format!("tag {tag:.80?} or its value does not fit"))
            .hint("TAG=VALUE, each 1 to 64 printable bytes, no = in the tag")),
    }
}
