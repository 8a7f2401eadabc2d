//! The plans of an engine on disk: what is a candidate, what is in force, what was last known to be good.
//!
//! `candidate.json` is read and checked, written as `plan.json` (temporary file, fsync, rename, fsync of the
//! folder), and only then served. At start `plan.json` is served, or `good.json` if that does not validate. Each
//! service stands alone: what is wrong with one is reported and stops no other.

use crate::clock;
use crate::document::{self, FILE_BYTES_MAX, PublishedPlan, Settings};
use crate::error::{EngineError, Refusal};
use crate::runtime::{Role, panic_text};
use crate::table::{Served, Service, check_path_name};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the plan in force came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Candidate,
    Plan,
    Good,
}

const CANDIDATE_FILE: &str = "candidate.json";

impl Source {
    fn file(self) -> &'static str {
        match self {
            Self::Candidate => CANDIDATE_FILE,
            Self::Plan => "plan.json",
            Self::Good => "good.json",
        }
    }
}

struct InForce<P> {
    served: Served<P>,
    published: PublishedPlan,
    plan_bytes: Vec<u8>,
    source: Source,
    accepted_ms: u64,
}

/// One line of `status`.
#[derive(Debug, Serialize)]
pub struct ServiceStatus {
    pub service: String,
    pub generation: u64,
    pub settings_hash: String,
    /// Milliseconds since this engine accepted the plan, over restarts (the time stamp of its file).
    pub age_ms: u64,
    pub source: Source,
}

/// A file that was refused, until the service gets a plan that is not.
#[derive(Clone, Debug, Serialize)]
pub struct FileError {
    pub service: String,
    pub file: String,
    pub error: String,
}

/// Which services are prepared anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    All,
    /// Those whose files changed.
    Changed,
}

/// What `apply` did.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub generation: u64,
    pub changed: bool,
}

pub struct Store<R: Role> {
    folder: PathBuf,
    role: Arc<R>,
    in_force: BTreeMap<String, InForce<R::Prepared>>,
    errors: BTreeMap<String, Vec<FileError>>,
    /// Newest generation of services that were removed since the start: an older one does not come back.
    removed: BTreeMap<String, u64>,
}

impl<R: Role> Store<R> {
    /// A store over `<state>/engines/<engine>`, with nothing loaded.
    pub fn new(folder: PathBuf, role: Arc<R>) -> Self {
        Self { folder, role, in_force: BTreeMap::new(), errors: BTreeMap::new(), removed: BTreeMap::new() }
    }

    /// Loads what every service's folder holds; `status` tells what was refused. Fails only if the folder of all
    /// services cannot be read.
    pub fn load_all(&mut self, prefer_good: bool) -> Result<(), EngineError> {
        let sources = if prefer_good { [Source::Good, Source::Plan] } else { [Source::Plan, Source::Good] };
        let services = service_folders(&self.folder)
            .map_err(|error| EngineError::system(self.folder.display(), error))?;
        for service in services {
            for source in sources {
                match self.load(&service, source) {
                    Ok(loaded) => {
                        self.in_force.insert(service.clone(), loaded);
                        break;
                    }
                    Err(Problem::Missing) => {}
                    Err(Problem::Refused(error)) => self.note_error(&service, source.file(), &error),
                }
            }
        }
        Ok(())
    }

    /// Everything in force, sorted by name of service.
    pub fn served(&self) -> Vec<Served<R::Prepared>> {
        self.in_force.values().map(|one| one.served.clone()).collect()
    }

    /// Makes the candidate the plan in force, on disk and then here; the caller publishes `served()` if changed.
    pub fn apply(&mut self, service: &str) -> Result<Applied, Refusal> {
        check_path_name("service", service)?;
        let result = self.apply_candidate(service);
        match &result {
            Ok(_) => {
                self.errors.remove(service);
            }
            Err(error) => self.note_error(service, CANDIDATE_FILE, error),
        }
        result
    }

    fn apply_candidate(&mut self, service: &str) -> Result<Applied, Refusal> {
        let mut candidate = self.load(service, Source::Candidate).map_err(|problem| match problem {
            Problem::Missing => Refusal::later(format!("{CANDIDATE_FILE} is not there")),
            Problem::Refused(error) => error,
        })?;
        let generation = candidate.published.plan.generation;
        let changed = !self.is_in_force(service, &candidate.published)?;
        let is_on_disk = !changed && self.find(service)?.source != Source::Good;
        if !is_on_disk {
            write_durably(&self.folder.join(service), Source::Plan.file(), &candidate.plan_bytes)?;
            candidate.accepted_ms = clock::now_ms();
            self.in_force.insert(service.to_owned(), candidate);
            self.removed.remove(service);
        }
        Ok(Applied { generation, changed })
    }

    /// Whether exactly this plan is in force. Refuses an older one, and another of the same generation.
    fn is_in_force(&self, service: &str, candidate: &PublishedPlan) -> Result<bool, Refusal> {
        let generation = candidate.plan.generation;
        let removed = self.removed.get(service).copied().unwrap_or(0);
        if generation < removed {
            return Err(older(generation, removed));
        }
        let Some(current) = self.in_force.get(service) else { return Ok(false) };
        let current_generation = current.published.plan.generation;
        if generation < current_generation {
            return Err(older(generation, current_generation));
        }
        if generation == current_generation && *candidate != current.published {
            return Err(Refusal::never(format!("generation {generation} is in force with other content")));
        }
        Ok(generation == current_generation)
    }

    /// Copies the plan in force to `good.json` if it is of this generation.
    pub fn good(&mut self, service: &str, generation: u64) -> Result<(), Refusal> {
        let current = self.find(service)?;
        let current_generation = current.published.plan.generation;
        if current_generation != generation {
            return Err(Refusal::never(format!(
                "generation {current_generation} is in force, not {generation}"
            )));
        }
        write_durably(&self.folder.join(service), Source::Good.file(), &current.plan_bytes)
    }

    /// Stops serving the service, also after a restart. The caller publishes `served()`.
    pub fn remove(&mut self, service: &str) -> Result<(), Refusal> {
        let generation = self.find(service)?.published.plan.generation;
        let folder = self.folder.join(service);
        for source in [Source::Good, Source::Plan] {
            remove_file(&folder.join(source.file()))?;
        }
        sync_folder(&folder).map_err(|error| Refusal::later(format!("{}: {error}", folder.display())))?;
        self.in_force.remove(service);
        self.errors.remove(service);
        self.removed.insert(service.to_owned(), generation);
        Ok(())
    }

    /// Prepares services in force anew, so that the files they name are read again; whether anything is to be published.
    /// What cannot be prepared now is reported, and stays as it was.
    pub fn refresh(&mut self, which: Refresh) -> bool {
        let mut is_changed = false;
        let names: Vec<String> = self.in_force.keys().cloned().collect();
        for name in names {
            let Some(one) = self.in_force.get_mut(&name) else { continue };
            if which == Refresh::Changed && !self.role.is_outdated(&one.served.prepared) {
                continue;
            }
            let service = Arc::clone(&one.served.service);
            match self.role.prepare(&service) {
                Ok(prepared) => {
                    one.served = Served { service, prepared: Arc::new(prepared) };
                    let file = one.source.file();
                    self.errors.entry(name).or_default().retain(|error| error.file != file);
                    is_changed = true;
                }
                Err(error) => {
                    let file = one.source.file();
                    self.note_error(&name, file, &error);
                }
            }
        }
        self.errors.retain(|_, list| !list.is_empty());
        is_changed
    }

    pub fn status(&self, now_ms: u64) -> Vec<ServiceStatus> {
        let line = |(name, one): (&String, &InForce<R::Prepared>)| ServiceStatus {
            service: name.clone(),
            generation: one.published.plan.generation,
            settings_hash: one.published.settings_hash.clone(),
            age_ms: now_ms.saturating_sub(one.accepted_ms),
            source: one.source,
        };
        self.in_force.iter().map(line).collect()
    }

    pub fn errors(&self) -> Vec<FileError> {
        self.errors.values().flatten().cloned().collect()
    }

    fn find(&self, service: &str) -> Result<&InForce<R::Prepared>, Refusal> {
        self.in_force
            .get(service)
            .ok_or_else(|| Refusal::never(format!("service {service:?} is not served here")))
    }

    /// Remembers the newest error of each file of a service that has a folder.
    fn note_error(&mut self, service: &str, file: &str, error: &Refusal) {
        if !self.folder.join(service).is_dir() {
            return;
        }
        let list = self.errors.entry(service.to_owned()).or_default();
        list.retain(|one| one.file != file);
        list.push(FileError {
            service: service.to_owned(),
            file: file.to_owned(),
            error: error.message.clone(),
        });
    }

    fn load(&self, service: &str, source: Source) -> Result<InForce<R::Prepared>, Problem> {
        let folder = self.folder.join(service);
        let (plan_bytes, written_ms) = read_file(&folder.join(source.file()))?;
        // A plan that breaks us is refused like any other wrong one.
        let checked = catch_unwind(AssertUnwindSafe(|| self.check(service, &folder, &plan_bytes)));
        let checked = checked.unwrap_or_else(|panic| {
            Err(Refusal::never(format!("a mistake in polycdn: {}", panic_text(&*panic))))
        });
        let (published, served) = checked.map_err(|error| Problem::Refused(error.at(source.file())))?;
        Ok(InForce { served, published, plan_bytes, source, accepted_ms: written_ms })
    }

    fn check(
        &self,
        service: &str,
        folder: &Path,
        plan_bytes: &[u8],
    ) -> Result<(PublishedPlan, Served<R::Prepared>), Refusal> {
        let published = document::parse_plan(plan_bytes)?;
        if published.plan.service != service {
            return Err(Refusal::never(format!("it is the plan of service {:?}", published.plan.service)));
        }
        let settings = load_settings(folder, &published.settings_hash)?;
        let compiled = Arc::new(Service::compile(settings, &published)?);
        self.refuse_taken_hostnames(&compiled)?;
        let prepared = Arc::new(self.role.prepare(&compiled)?);
        Ok((published, Served { service: compiled, prepared }))
    }

    fn refuse_taken_hostnames(&self, candidate: &Service) -> Result<(), Refusal> {
        let others = self
            .in_force
            .values()
            .map(|one| &one.served.service)
            .filter(|other| other.name != candidate.name);
        for other in others {
            if let Some(hostname) = candidate.hostnames.iter().find(|name| other.hostnames.contains(name)) {
                return Err(Refusal::later(format!(
                    "hostname {hostname:?} belongs to service {:?}",
                    other.name
                )));
            }
        }
        Ok(())
    }
}

enum Problem {
    Missing,
    Refused(Refusal),
}

fn older(generation: u64, current: u64) -> Refusal {
    Refusal::never(format!(
        "generation {generation} is older than generation {current}, which was accepted already"
    ))
}

/// Names of the folders that can be a service's, sorted.
fn service_folders(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let folders = entries.into_iter().filter(|entry| entry.path().is_dir());
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| check_path_name("service", name).is_ok()).collect();
    names.sort();
    Ok(names)
}

/// The settings that a plan names, after checking that the content has the hash.
fn load_settings(folder: &Path, hash: &str) -> Result<Settings, Refusal> {
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(Refusal::never(format!("settings_hash {hash:?} is not 64 hex digits in lower case")));
    }
    let file = format!("settings-{hash}.json");
    let (bytes, _) = read_file(&folder.join(&file)).map_err(|problem| match problem {
        Problem::Missing => Refusal::later(format!("{file} is not there")),
        Problem::Refused(error) => error,
    })?;
    let settings = document::parse_settings(&bytes).map_err(|error| error.at(&file))?;
    if document::sha256_hex(&bytes) != hash && document::sha256_hex(&document::canonical(&bytes)?) != hash {
        return Err(Refusal::never(format!("{file}: its content has another hash")));
    }
    Ok(settings)
}

/// Content and time stamp of a file of at most 16 MiB.
fn read_file(path: &Path) -> Result<(Vec<u8>, u64), Problem> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem::Missing,
        _ => Problem::Refused(Refusal::later(format!("{name}: {error}"))),
    };
    // Asked before opening: opening a pipe would wait for a writer.
    let status = fs::metadata(path).map_err(refused)?;
    if !status.is_file() {
        return Err(Problem::Refused(Refusal::never(format!("{name} is not a file"))));
    }
    if status.len() > FILE_BYTES_MAX {
        return Err(Problem::Refused(document::too_large(status.len()).at(&name)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(status.len()).unwrap_or(0));
    File::open(path).map_err(refused)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(refused)?;
    Ok((bytes, status.modified().map_or(0, clock::file_ms)))
}

/// Replaces a file so that after a crash there is the old content or the new, never a part.
fn write_durably(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
    let write = || -> io::Result<()> {
        let temporary = folder.join(format!(".{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join(name))?;
        sync_folder(folder)
    };
    write().map_err(|error| Refusal::later(format!("{name} cannot be written: {error}")))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_file(path: &Path) -> Result<(), Refusal> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Refusal::later(format!("{} cannot be removed: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
