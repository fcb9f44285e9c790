//! A filesystem that loses whatever was not synced.
//!
//! It keeps a log of every operation. From any prefix of it, [`Sim::crashed`] makes a filesystem as a loss of power at
//! that point could leave it: of the writes that no `finish` followed, any pages may be there or not; of the changes of a
//! folder that no `sync_folder` followed, any may be there or not, each by itself. That is harsher than any journal.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use bedplate_checkpoint::{Files, ReadAt, WriteAt};

type Inode = usize;

#[derive(Clone, Debug)]
enum Op {
    CreateFolder(String, Inode),
    Create(String, Inode),
    Write(Inode, u64, Vec<u8>),
    Finish(Inode, u64),
    Link(String, String),
    Rename(String, String),
    Remove(String),
    SyncFolder(String),
    /// Not an operation: somebody was told something here.
    Mark(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, Inode),
    Remove(String),
    Move(String, String),
}

#[derive(Clone, Debug, Default)]
struct Node {
    folder: bool,
    entries: BTreeMap<String, Inode>,
    synced_entries: BTreeMap<String, Inode>,
    changes: Vec<Change>,
    data: Vec<u8>,
    synced_data: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Tree(Vec<Node>);

const PAGE: usize = 4096;

impl Tree {
    fn new() -> Self {
        Self(vec![Node { folder: true, ..Node::default() }])
    }

    fn find(&self, path: &str) -> io::Result<Inode> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(0, |at, name| self.0[at].entries.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into()))
    }

    fn parent<'a>(&self, path: &'a str) -> io::Result<(Inode, &'a str)> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(folder)?, name))
    }

    fn change(&mut self, folder: Inode, change: Change) {
        apply(&mut self.0[folder].entries, &change);
        self.0[folder].changes.push(change);
    }

    fn add(&mut self, path: &str, inode: Inode) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        if self.0[folder].entries.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.change(folder, Change::Add(name.to_owned(), inode));
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::CreateFolder(path, inode) | Op::Create(path, inode) => {
                self.add(path, *inode)?;
                assert_eq!(*inode, self.0.len());
                self.0.push(Node { folder: matches!(op, Op::CreateFolder(..)), ..Node::default() });
            }
            Op::Write(inode, offset, bytes) => {
                let data = &mut self.0[*inode].data;
                let end = *offset as usize + bytes.len();
                data.resize(data.len().max(end), 0);
                data[*offset as usize..end].copy_from_slice(bytes);
            }
            Op::Finish(inode, bytes) => {
                let node = &mut self.0[*inode];
                node.data.resize(*bytes as usize, 0);
                node.synced_data = node.data.clone();
            }
            Op::Link(from, to) => {
                let inode = self.find(from)?;
                self.add(to, inode)?;
            }
            Op::Rename(from, to) => {
                let ((a, from), (b, to)) = (self.parent(from)?, self.parent(to)?);
                assert_eq!(a, b, "the store renames within one folder only");
                let moved = *self.0[a].entries.get(from).ok_or(ErrorKind::NotFound)?;
                if let Some(over) = self.0[a].entries.get(to)
                    && self.0[moved].folder
                    && !self.0[*over].entries.is_empty()
                {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                self.change(a, Change::Move(from.to_owned(), to.to_owned()));
            }
            Op::Remove(path) => {
                let inode = self.find(path)?;
                if !self.0[inode].entries.is_empty() {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
                let (folder, name) = self.parent(path)?;
                self.change(folder, Change::Remove(name.to_owned()));
            }
            Op::SyncFolder(path) => {
                let node = self.find(path)?;
                let node = &mut self.0[node];
                node.synced_entries = node.entries.clone();
                node.changes.clear();
            }
            Op::Mark(_) => {}
        }
        Ok(())
    }

    fn crash(&mut self, random: &mut fastrand::Rng) {
        for node in &mut self.0 {
            let mut entries = node.synced_entries.clone();
            // Sometimes all was written, sometimes nothing, mostly some of it.
            let chance = [0.0, 0.5, 0.9, 1.0][random.usize(0..4)];
            for change in &node.changes {
                if random.f64() < chance {
                    apply(&mut entries, change);
                }
            }
            let mut data = node.synced_data.clone();
            if node.data != node.synced_data {
                let length = [data.len(), node.data.len()][random.usize(0..2)];
                data.resize(length, 0);
                for (page, written) in data.chunks_mut(PAGE).zip(node.data.chunks(PAGE)) {
                    if random.f64() < chance {
                        let both = page.len().min(written.len());
                        page[..both].copy_from_slice(&written[..both]);
                    }
                }
            }
            node.entries = entries;
            node.data = data;
        }
        for node in &mut self.0 {
            node.synced_entries = node.entries.clone();
            node.synced_data = node.data.clone();
            node.changes.clear();
        }
    }
}

fn apply(entries: &mut BTreeMap<String, Inode>, change: &Change) {
    match change {
        Change::Add(name, inode) => {
            entries.insert(name.clone(), *inode);
        }
        Change::Remove(name) => {
            entries.remove(name);
        }
        Change::Move(from, to) => {
            if let Some(inode) = entries.remove(from) {
                entries.insert(to.clone(), inode);
            }
        }
    }
}

/// From which operation on, with which error, and whether for ever.
type Fault = (usize, fn() -> io::Error, bool);

struct State {
    start: Tree,
    tree: Tree,
    log: Vec<Op>,
    fails: Option<Fault>,
}

/// The filesystem; a clone is the same one.
#[derive(Clone)]
pub(crate) struct Sim(Arc<Mutex<State>>);

impl Sim {
    pub(crate) fn new() -> Self {
        Self::of(Tree::new())
    }

    fn of(tree: Tree) -> Self {
        Self(Arc::new(Mutex::new(State { start: tree.clone(), tree, log: Vec::new(), fails: None })))
    }

    /// Notes that somebody was told something.
    pub(crate) fn mark(&self, number: u64) {
        self.0.lock().unwrap().log.push(Op::Mark(number));
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> usize {
        self.0.lock().unwrap().log.len()
    }

    /// What a loss of power after so many operations may leave, and the last mark before.
    pub(crate) fn crashed(&self, operations: usize, random: &mut fastrand::Rng) -> (Self, Option<u64>) {
        let state = self.0.lock().unwrap();
        let mut tree = state.start.clone();
        let mut mark = None;
        for op in &state.log[..operations] {
            tree.apply(op).unwrap();
            if let Op::Mark(number) = op {
                mark = Some(*number);
            }
        }
        tree.crash(random);
        (Self::of(tree), mark)
    }

    /// From the operation of this number on, changes fail: once, or for ever.
    pub(crate) fn fail(&self, operation: usize, with: fn() -> io::Error, for_ever: bool) {
        self.0.lock().unwrap().fails = Some((operation, with, for_ever));
    }

    /// No operation fails any more.
    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().fails = None;
    }

    fn perform(&self, op: impl FnOnce(Inode) -> Op) -> io::Result<Inode> {
        let mut state = self.0.lock().unwrap();
        if let Some((number, with, for_ever)) = state.fails
            && state.log.len() >= number
        {
            if !for_ever {
                state.fails = None;
            }
            return Err(with());
        }
        let inode = state.tree.0.len();
        let op = op(inode);
        state.tree.apply(&op)?;
        state.log.push(op);
        Ok(inode)
    }
}

struct Open(Sim, Inode);

impl ReadAt for Open {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.0.lock().unwrap().tree.0[self.1].data.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.0.0.lock().unwrap();
        let rest = state.tree.0[self.1].data.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl WriteAt for Open {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.perform(|_| Op::Write(self.1, offset, bytes.to_vec())).map(|_| ())
    }

    fn finish(&self, bytes: u64) -> io::Result<()> {
        self.0.perform(|_| Op::Finish(self.1, bytes)).map(|_| ())
    }
}

impl Files for Sim {
    fn shown(&self, path: &str) -> String {
        format!("sim:/{path}")
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let state = self.0.lock().unwrap();
        let inode = state.tree.find(folder)?;
        Ok(state.tree.0[inode].entries.keys().cloned().collect())
    }

    fn read(&self, path: &str, at_most: u64) -> io::Result<Vec<u8>> {
        let state = self.0.lock().unwrap();
        let data = &state.tree.0[state.tree.find(path)?].data;
        if data.len() as u64 > at_most { Err(ErrorKind::FileTooLarge.into()) } else { Ok(data.clone()) }
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn ReadAt>> {
        let inode = self.0.lock().unwrap().tree.find(path)?;
        Ok(Box::new(Open(self.clone(), inode)))
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        if path.is_empty() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.perform(|inode| Op::CreateFolder(path.to_owned(), inode)).map(|_| ())
    }

    fn create(&self, path: &str, _: u64) -> io::Result<Box<dyn WriteAt>> {
        let inode = self.perform(|inode| Op::Create(path.to_owned(), inode))?;
        Ok(Box::new(Open(self.clone(), inode)))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.perform(|_| Op::Link(from.to_owned(), to.to_owned())).map(|_| ())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.perform(|_| Op::Rename(from.to_owned(), to.to_owned())).map(|_| ())
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.perform(|_| Op::Remove(path.to_owned())).map(|_| ())
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        self.perform(|_| Op::Remove(path.to_owned())).map(|_| ())
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        self.perform(|_| Op::SyncFolder(path.to_owned())).map(|_| ())
    }

    fn free(&self) -> Option<u64> {
        Some(0)
    }
}
