//! The checkpoints of a run: which there are, which one to resume, which to remove.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{Checkpoint, Depth, read_json};
use crate::disk::Disk;
use crate::error::{Error, PassedOver, Result};
use crate::files::Files;
use crate::format::{Manifest, StoreFile, WriterFile};
use crate::name::{self, Folder, StepId};
use crate::retention::{Health, Known, Retention, Verdict, decide};

/// The checkpoints of a run, in one folder. Opening and reading it changes nothing.
#[derive(Clone)]
pub struct Store {
    pub(crate) files: Arc<dyn Files>,
}

/// How an object store is asked.
#[derive(Clone)]
pub struct Access {
    /// A request that got no answer is sent again for so long.
    pub patience: Duration,
    /// Where the credentials are, and the address of a service of one's own: variables such as `AWS_ACCESS_KEY_ID`.
    pub environment: Vec<(String, String)>,
}

impl Access {
    /// As the environment of this process says.
    #[must_use]
    pub fn from_env(patience: Duration) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { patience, environment: std::env::vars_os().filter_map(text).collect() }
    }
}

/// Whether a place is a URL and not a folder.
#[must_use]
pub fn is_url(place: &str) -> bool {
    let plain = |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    place.split_once("://").is_some_and(|(scheme, _)| plain(scheme))
}

/// What to go on from.
#[derive(Debug)]
pub struct Resume<T> {
    /// The newest checkpoint that is whole, and what was made of it; `None` where there is no checkpoint at all.
    pub found: Option<(Checkpoint, T)>,
    /// The newer ones, and why they were not taken.
    pub passed_over: Vec<PassedOver>,
}

/// What a [`Retention`] would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruning {
    /// Each checkpoint from the oldest on: what is known of it.
    pub known: Vec<Known>,
    /// And what is to be done with it.
    pub verdicts: Vec<Verdict>,
    /// What somebody should be told.
    pub told: Vec<String>,
}

impl Pruning {
    /// What goes.
    pub fn goes(&self) -> impl Iterator<Item = StepId> {
        self.verdicts.iter().filter(|verdict| verdict.keep.is_empty()).map(|verdict| verdict.id)
    }
}

impl Store {
    /// The store in this folder, which need not be there yet.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self::on(Arc::new(Disk::new(folder)))
    }

    /// The store at a place as a user gives it: a URL such as `s3://bucket/run-7`, or else a folder. Nothing is asked of it
    /// yet.
    ///
    /// # Errors
    /// [`Error::Input`] for a URL that is no place for checkpoints, or when this program was built without the feature
    /// `remote`.
    pub fn open(place: &Path, access: &Access) -> Result<Self> {
        let Some(url) = place.to_str().filter(|place| is_url(place)) else { return Ok(Self::at(place)) };
        #[cfg(feature = "remote")]
        return Ok(Self::on(Arc::new(crate::remote::open(url, access)?)));
        #[cfg(not(feature = "remote"))]
        {
            let _ = access;
            Err(Error::Input(format!("{url} is in an object store, and this program was built for folders only")))
        }
    }

    /// The store behind other storage than a folder.
    #[must_use]
    pub fn on(files: Arc<dyn Files>) -> Self {
        Self { files }
    }

    /// Its folder, as a person finds it.
    #[must_use]
    pub fn place(&self) -> String {
        self.files.shown("")
    }

    pub(crate) fn io(&self, doing: &'static str, path: &str) -> impl Fn(std::io::Error) -> Error {
        let path = self.files.shown(path);
        move |source| Error::Io { doing, path: path.clone(), source }
    }

    /// Names in the store that are ours.
    pub(crate) fn folders(&self) -> Result<Vec<(String, Folder)>> {
        let names = self.files.list("").map_err(self.io("list", ""))?;
        Ok(names.into_iter().filter_map(|name| Folder::parse(&name).map(|folder| (name, folder))).collect())
    }

    /// Everything that was published, the newest first.
    ///
    /// # Errors
    /// Where there is no such folder.
    pub fn steps(&self) -> Result<Vec<StepId>> {
        let published = |(_, folder)| if let Folder::Published(id) = folder { Some(id) } else { None };
        let mut steps: Vec<StepId> = self.folders()?.into_iter().filter_map(published).collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    /// Saves that go on, or that a crash left behind; the next writer sweeps those away.
    ///
    /// # Errors
    /// Where there is no such folder.
    pub fn unfinished(&self) -> Result<Vec<StepId>> {
        let staging = |(_, folder)| if let Folder::Staging(id) = folder { Some(id) } else { None };
        let mut steps: Vec<StepId> = self.folders()?.into_iter().filter_map(staging).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The writer that took over last, as far as it has said who it is.
    ///
    /// # Errors
    /// [`Error::Newer`], and what the system says.
    pub fn newest_writer(&self) -> Result<Option<WriterFile>> {
        let newest = match self.writers() {
            Err(error) if error.is(ErrorKind::NotFound) => None,
            other => other?.last().copied(),
        };
        let Some(newest) = newest else { return Ok(None) };
        match read_json(&*self.files, &name::join(name::WRITERS, &name::writer(newest))) {
            Err(error) if error.is_damage() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Generations of writers that there were, the newest last.
    pub(crate) fn writers(&self) -> Result<Vec<u64>> {
        let names = self.files.list(name::WRITERS).map_err(self.io("list", name::WRITERS))?;
        let mut writers: Vec<u64> = names.iter().filter_map(|name| name::parse_writer(name)).collect();
        writers.sort_unstable();
        Ok(writers)
    }

    /// Whose checkpoints these are; `None` in a new store. Where the file that says it is damaged, the newest checkpoint
    /// that can be read says it too.
    ///
    /// # Errors
    /// [`Error::Newer`], and what the system says.
    pub fn run(&self) -> Result<Option<String>> {
        match read_json::<StoreFile>(&*self.files, name::STORE) {
            Ok(store) => return Ok(Some(store.run)),
            Err(error) if !error.is_damage() => return Err(error),
            Err(_) => {}
        }
        for id in self.steps()? {
            match read_json::<Manifest>(&*self.files, &name::join(&id.to_string(), name::MANIFEST)) {
                Ok(manifest) => return Ok(Some(manifest.run)),
                Err(error) if !error.is_damage() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Refuses a store that is another run's.
    ///
    /// # Errors
    /// [`Error::OtherRun`].
    pub fn require_run(&self, wanted: &str) -> Result<()> {
        match self.run()? {
            Some(found) if found != wanted => Err(self.other_run(found, wanted.to_owned())),
            _ => Ok(()),
        }
    }

    fn other_run(&self, found: String, wanted: String) -> Error {
        Error::OtherRun { path: self.place(), found, wanted }
    }

    /// One checkpoint; its structure is verified.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Newer`]; [`Error::OtherRun`] when its folder was copied here from another run's.
    pub fn checkpoint(&self, id: StepId) -> Result<Checkpoint> {
        let checkpoint = Checkpoint::load(&self.files, id)?;
        if let Some(run) = self.run()?.filter(|run| *run != checkpoint.manifest().run) {
            return Err(Error::OtherRun {
                path: self.files.shown(&id.to_string()),
                found: checkpoint.manifest().run.clone(),
                wanted: run,
            });
        }
        checkpoint.verify(Depth::Structure)?;
        Ok(checkpoint)
    }

    /// The newest checkpoint that `load` can read. Every read verifies what it reads, so a checkpoint that is damaged where
    /// it was read is passed over, and the one before it is loaded.
    ///
    /// # Errors
    /// [`Error::NothingWhole`] when there are checkpoints and none is whole: a run that silently began anew would be the
    /// loss of all its progress. What is no damage (rights, a newer format, another run) is not passed over either.
    pub fn resume_with<T>(&self, mut load: impl FnMut(&Checkpoint) -> Result<T>) -> Result<Resume<T>> {
        let steps = match self.steps() {
            Err(error) if error.is(ErrorKind::NotFound) => Vec::new(),
            other => other?,
        };
        let mut passed_over = Vec::new();
        for id in steps {
            match self.checkpoint(id).and_then(|checkpoint| load(&checkpoint).map(|loaded| (checkpoint, loaded))) {
                Ok(found) => return Ok(Resume { found: Some(found), passed_over }),
                Err(error) if error.is_damage() => passed_over.push(PassedOver { id, reason: error.to_string() }),
                Err(error) => return Err(error),
            }
        }
        if passed_over.is_empty() {
            Ok(Resume { found: None, passed_over })
        } else {
            Err(Error::NothingWhole { path: self.place(), passed_over })
        }
    }

    /// The newest checkpoint that verifies to this depth.
    ///
    /// # Errors
    /// As of [`Store::resume_with`].
    pub fn resume(&self, depth: Depth) -> Result<Resume<()>> {
        self.resume_with(|checkpoint| if depth == Depth::Data { checkpoint.verify(depth) } else { Ok(()) })
    }

    /// What these rules would remove. From the newest on, checkpoints are verified to `depth` until one is whole; of the
    /// others only the manifests are read.
    ///
    /// # Errors
    /// What is no damage.
    pub fn pruning(&self, rules: &Retention, depth: Depth) -> Result<Pruning> {
        let mut known = Vec::new();
        let mut whole = false;
        for id in self.steps()? {
            let looked = if whole {
                let path = name::join(&id.to_string(), name::MANIFEST);
                read_json::<Manifest>(&*self.files, &path).map(|manifest| (manifest, Health::Unknown))
            } else {
                self.checkpoint(id).map(|checkpoint| {
                    let verified = if depth == Depth::Data { checkpoint.verify(depth) } else { Ok(()) };
                    let health = verified.map_or_else(|error| Health::Damaged(error.to_string()), |()| Health::Whole);
                    (checkpoint.manifest().clone(), health)
                })
            };
            known.push(match looked {
                Ok((manifest, health)) => {
                    whole |= health == Health::Whole;
                    Known { id, metrics: manifest.metrics, health }
                }
                Err(error) if error.is_damage() => {
                    Known { id, metrics: std::collections::BTreeMap::new(), health: Health::Damaged(error.to_string()) }
                }
                Err(error) => return Err(error),
            });
        }
        known.reverse();
        let (verdicts, told) = decide(rules, &known);
        Ok(Pruning { known, verdicts, told })
    }

    /// Removes what these rules let go, the oldest first, and gives what was done. Data that a kept checkpoint shares stays:
    /// a shared file has a name in each of them.
    ///
    /// # Errors
    /// What the system says; what was removed until then is removed.
    pub fn prune(&self, rules: &Retention, depth: Depth) -> Result<Pruning> {
        let pruning = self.pruning(rules, depth)?;
        self.carry_out(&pruning)?;
        Ok(pruning)
    }

    /// Removes what was decided before.
    ///
    /// # Errors
    /// As of [`Store::prune`].
    pub fn carry_out(&self, pruning: &Pruning) -> Result<()> {
        pruning.goes().try_for_each(|id| self.remove(id))?;
        self.sweep(|folder| folder == Folder::Gone)
    }

    /// Removes one checkpoint, whatever it is. It is out of sight in one step, so that no crash leaves half of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, id: StepId) -> Result<()> {
        self.discard(&id.to_string())
    }

    /// Takes a folder out of sight, durably, and then deletes it. One that is not there is no error.
    pub(crate) fn discard(&self, folder: &str) -> Result<()> {
        self.hide(folder)?.map_or(Ok(()), |hidden| self.files.delete(&hidden).map_err(self.io("delete", &hidden)))
    }

    fn hide(&self, folder: &str) -> Result<Option<String>> {
        self.files.hide(folder).map_err(self.io("move out of sight", folder))
    }

    /// Discards what a crash left behind, of the kinds that `which` says. That it is out of sight is what counts: what
    /// cannot be deleted yet (NFS keeps files that are open somewhere) is left to the next time.
    pub(crate) fn sweep(&self, which: impl Fn(Folder) -> bool) -> Result<()> {
        for (name, folder) in self.folders()?.into_iter().filter(|(_, folder)| which(*folder)) {
            if let Some(hidden) = if folder == Folder::Gone { Some(name) } else { self.hide(&name)? } {
                let _ = self.files.delete(&hidden);
            }
        }
        Ok(())
    }
}
