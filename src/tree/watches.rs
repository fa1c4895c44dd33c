//! Who watches what, and who hears of which change.
//!
//! ZooKeeper keeps two tables of watches, one for data (getData, exists, persistent, persistent recursive) and one
//! for children (getChildren, and persistent again), and tells each connection of a change once per table at most
//! (`WatchManager`, `DataTree`). Here they are one: an entry says with its bits in which ways a connection watches a
//! path. A watch costs that entry, and a reference to the path in the connection's own list, by which its watches
//! are found when it goes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::path;
use crate::jute::{ErrorCode, SetWatches2, WatcherType};

/// What a watcher is told, as `Watcher.Event.EventType` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum EventType {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

impl EventType {
    /// The number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}

/// A change that watches are triggered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    Created,
    Deleted,
    DataChanged,
    /// The set of children is another one, and which of them came or went is not known: after a new snapshot.
    /// Created and Deleted tell the parent's watchers themselves.
    ChildrenChanged,
}

/// How a path is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Once, by getData.
    Data,
    /// Once, by exists, of a node that need not be there. The same as `Data` from then on.
    Exist,
    /// Once, by getChildren.
    Child,
    /// addWatch: data and children, until it is removed.
    Persistent,
    /// addWatch: data of the path and of all below, until it is removed.
    PersistentRecursive,
}

impl Mode {
    /// The mode of an addWatch (`ZooDefs.AddWatchModes`); of any other number ZooKeeper makes a `MarshallingError`.
    pub fn from_add_watch(raw: i32) -> Option<Self> {
        match raw {
            0 => Some(Mode::Persistent),
            1 => Some(Mode::PersistentRecursive),
            _ => None,
        }
    }

    fn bits(self) -> Modes {
        match self {
            Mode::Data | Mode::Exist => Modes::DATA,
            Mode::Child => Modes::CHILD,
            Mode::Persistent => Modes::PERSISTENT,
            Mode::PersistentRecursive => Modes::RECURSIVE,
        }
    }
}

/// What setWatches has to know of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeZxids {
    pub mzxid: i64,
    pub pzxid: i64,
}

/// How many watches there are. A persistent watch is one of each table, and so counts twice in `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// `DataTree.getWatchCount`, the metric `watch_count`: data table and child table together.
    pub total: usize,
    pub data: usize,
    pub child: usize,
    pub persistent: usize,
    pub persistent_recursive: usize,
    /// Paths that anybody watches in any way.
    pub paths: usize,
    /// Connections that watch anything in any way.
    pub watchers: usize,
}

/// What `wchs` says; like ZooKeeper's it leaves out watches of children alone. Written as that word writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Those that watch something; ZooKeeper goes on counting those whose watches have all fired.
    pub connections: usize,
    pub paths: usize,
    pub watches: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} connections watching {} paths", self.connections, self.paths)?;
        write!(f, "Total watches:{}", self.watches)
    }
}

/// All watches of a server. A watcher is a connection, by a number that is never used again.
///
/// There is no limit here on how many there may be: who registers them asks [`Watches::watched_by`] before.
#[derive(Debug, Default)]
pub struct Watches {
    paths: HashMap<Arc<str>, Watchers>,
    /// The paths that each watcher has an entry at. No empty sets.
    by_watcher: HashMap<u64, HashSet<Arc<str>>>,
    counts: BitCounts,
    /// Watchers to be told of one event; kept for its memory only, empty between calls.
    reached: Vec<u64>,
}

impl Watches {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a watch; one that is there already stays as it is. A watcher may watch a path in several ways at once.
    pub fn add(&mut self, path: &str, watcher: u64, mode: Mode) {
        let (path, old) = match self.paths.get_key_value_mut(path) {
            Some((path, watchers)) => (path, watchers.add(watcher, mode.bits())),
            None => {
                let entry = self.paths.entry(path.into()).insert(Watchers::One(watcher, mode.bits()));
                self.counts.change(Modes::NONE, mode.bits());
                self.by_watcher.entry(watcher).or_default().insert(entry.key().clone());
                return;
            }
        };
        self.counts.change(old, old.with(mode.bits()));
        if old == Modes::NONE {
            self.by_watcher.entry(watcher).or_default().insert(path.clone());
        }
    }

    /// Tells `deliver` who hears of a change to the node `path`, and of which event at which path, and forgets the
    /// one-shot watches that fire. For one watcher the events come in ZooKeeper's order; among several, in the order
    /// of their numbers for each event.
    ///
    /// The event's path is also the one whose ACL says whether the watcher may know: of a deleted node, the ACL that it
    /// had (`ServerWatcher.process`).
    pub fn trigger(&mut self, change: Trigger, path: &str, mut deliver: impl FnMut(u64, EventType, &str)) {
        match change {
            Trigger::Created => self.fire(EventType::NodeCreated, path, Modes::DATA_TABLE, Modes::DATA, &mut deliver),
            Trigger::DataChanged => {
                self.fire(EventType::NodeDataChanged, path, Modes::DATA_TABLE, Modes::DATA, &mut deliver);
            }
            // Both tables, but whoever is in both hears it once.
            Trigger::Deleted => self.fire(
                EventType::NodeDeleted,
                path,
                Modes::DATA_TABLE.with(Modes::CHILD_TABLE),
                Modes::DATA.with(Modes::CHILD),
                &mut deliver,
            ),
            Trigger::ChildrenChanged => self.fire_children(path, &mut deliver),
        }
        if let Trigger::Created | Trigger::Deleted = change
            && let Some(parent) = path::parent(path)
        {
            self.fire_children(parent, &mut deliver);
        }
    }

    /// Answers a setWatches or setWatches2 of a client that comes back and saw everything up to `relative_zxid`: what it
    /// missed is told to `deliver`, and only what it did not miss is watched again (`DataTree.setWatches`).
    ///
    /// `node` says what is at a path now. These events have the zxid -1, and go out whatever the node's ACL, in 3.9.5.
    pub fn set_watches(
        &mut self,
        watcher: u64,
        watches: &SetWatches2,
        node: impl Fn(&str) -> Option<NodeZxids>,
        mut deliver: impl FnMut(EventType, &str),
    ) {
        let seen = watches.relative_zxid;
        for path in &watches.data {
            match node(path) {
                None => deliver(EventType::NodeDeleted, path),
                Some(now) if now.mzxid > seen => deliver(EventType::NodeDataChanged, path),
                Some(_) => self.add(path, watcher, Mode::Data),
            }
        }
        for path in &watches.exist {
            match node(path) {
                Some(_) => deliver(EventType::NodeCreated, path),
                None => self.add(path, watcher, Mode::Exist),
            }
        }
        for path in &watches.child {
            match node(path) {
                None => deliver(EventType::NodeDeleted, path),
                Some(now) if now.pzxid > seen => deliver(EventType::NodeChildrenChanged, path),
                Some(_) => self.add(path, watcher, Mode::Child),
            }
        }
        for path in &watches.persistent {
            self.add(path, watcher, Mode::Persistent);
        }
        for path in &watches.persistent_recursive {
            self.add(path, watcher, Mode::PersistentRecursive);
        }
    }

    /// removeWatches: `Data` and `Children` mean the one-shot watches, `Any` all of every kind.
    ///
    /// # Errors
    /// `NoWatcher`: the watcher has none of this kind at `path`.
    pub fn remove(&mut self, path: &str, watcher: u64, kind: WatcherType) -> Result<(), ErrorCode> {
        let watchers = self.paths.get_mut(path).ok_or(ErrorCode::NoWatcher)?;
        let old = watchers.modes(watcher);
        if !old.has(Modes::of(kind)) {
            return Err(ErrorCode::NoWatcher);
        }
        let left = old.without(Modes::of(kind));
        self.counts.change(old, left);
        if watchers.set(watcher, left) == Left::Nobody {
            self.paths.remove(path);
        }
        if left == Modes::NONE {
            forget(&mut self.by_watcher, watcher, path);
        }
        Ok(())
    }

    /// checkWatches: whether [`Watches::remove`] would find anything.
    pub fn contains(&self, path: &str, watcher: u64, kind: WatcherType) -> bool {
        self.modes(path, watcher).has(Modes::of(kind))
    }

    /// Forgets all watches of a connection that is gone.
    pub fn remove_watcher(&mut self, watcher: u64) {
        for path in self.by_watcher.remove(&watcher).unwrap_or_default() {
            let Some(watchers) = self.paths.get_mut(&path) else { continue };
            self.counts.change(watchers.modes(watcher), Modes::NONE);
            if watchers.set(watcher, Modes::NONE) == Left::Nobody {
                self.paths.remove(&path);
            }
        }
    }

    /// At how many paths this watcher has watches.
    pub fn watched_by(&self, watcher: u64) -> usize {
        self.by_watcher.get(&watcher).map_or(0, HashSet::len)
    }

    /// Cheap, however many watches there are.
    pub fn counts(&self) -> Counts {
        Counts {
            total: self.counts.data_table + self.counts.child_table,
            data: self.counts.data,
            child: self.counts.child,
            persistent: self.counts.persistent,
            persistent_recursive: self.counts.recursive,
            paths: self.paths.len(),
            watchers: self.by_watcher.len(),
        }
    }

    /// Looks at every path that is watched.
    pub fn summary(&self) -> Summary {
        let mut paths = 0;
        let mut connections = HashSet::new();
        for watchers in self.paths.values() {
            let mut in_data = watchers.in_data_table().peekable();
            paths += usize::from(in_data.peek().is_some());
            connections.extend(in_data);
        }
        Summary { connections: connections.len(), paths, watches: self.counts.data_table }
    }

    /// What `wchp` lists: each path with those who watch it, in order; watches of children alone are left out, as
    /// ZooKeeper does. Copies the whole table.
    pub fn by_path(&self) -> Vec<(Arc<str>, Vec<u64>)> {
        let watched = self.paths.iter().map(|(path, watchers)| (path.clone(), watchers.in_data_table().collect()));
        let mut list: Vec<(Arc<str>, Vec<u64>)> = watched.filter(|(_, ids): &(_, Vec<u64>)| !ids.is_empty()).collect();
        list.sort_unstable();
        list
    }

    /// What `wchc` lists: each watcher with the paths it watches, in order; otherwise like [`Watches::by_path`].
    pub fn by_watcher(&self) -> Vec<(u64, Vec<Arc<str>>)> {
        let mut list: BTreeMap<u64, Vec<Arc<str>>> = BTreeMap::new();
        for (path, watchers) in self.by_path() {
            for watcher in watchers {
                list.entry(watcher).or_default().push(path.clone());
            }
        }
        list.into_iter().collect()
    }

    fn modes(&self, path: &str, watcher: u64) -> Modes {
        self.paths.get(path).map_or(Modes::NONE, |watchers| watchers.modes(watcher))
    }

    fn fire_children(&mut self, path: &str, deliver: &mut impl FnMut(u64, EventType, &str)) {
        self.fire(EventType::NodeChildrenChanged, path, Modes::CHILD_TABLE, Modes::CHILD, deliver);
    }

    /// Tells everybody who watches `path` in one of the ways `heard`, and takes `spent` from them. Recursive watches
    /// belong to the data table only, so those further up hear whatever that table hears.
    fn fire(
        &mut self,
        event: EventType,
        path: &str,
        heard: Modes,
        spent: Modes,
        deliver: &mut impl FnMut(u64, EventType, &str),
    ) {
        if self.paths.is_empty() {
            return;
        }
        self.reach(path, heard, spent);
        if heard.has(Modes::RECURSIVE) && self.counts.recursive > 0 {
            self.reach_from_above(path);
        }
        for watcher in self.reached.drain(..) {
            deliver(watcher, event, path);
        }
    }

    fn reach(&mut self, path: &str, heard: Modes, spent: Modes) {
        let Self { paths, by_watcher, counts, reached } = self;
        let Some(watchers) = paths.get_mut(path) else { return };
        let left = watchers.retain(|watcher, modes| {
            if !modes.has(heard) {
                return;
            }
            reached.push(watcher);
            let left = modes.without(spent);
            counts.change(*modes, left);
            *modes = left;
            if left == Modes::NONE {
                forget(by_watcher, watcher, path);
            }
        });
        if left == Left::Nobody {
            paths.remove(path);
        }
    }

    /// Adds those who watch everything below an ancestor, and leaves each watcher in once.
    fn reach_from_above(&mut self, path: &str) {
        let below = self.reached.len();
        let mut ancestor = path::parent(path);
        while let Some(at) = ancestor {
            if let Some(watchers) = self.paths.get(at) {
                self.reached.extend(watchers.iter().filter(|(_, modes)| modes.has(Modes::RECURSIVE)).map(|(id, _)| id));
            }
            ancestor = path::parent(at);
        }
        if self.reached.len() > below {
            self.reached.sort_unstable();
            self.reached.dedup();
        }
    }
}

fn forget(by_watcher: &mut HashMap<u64, HashSet<Arc<str>>>, watcher: u64, path: &str) {
    if let Some(paths) = by_watcher.get_mut(&watcher) {
        paths.remove(path);
        if paths.is_empty() {
            by_watcher.remove(&watcher);
        }
    }
}

/// The ways in which one connection watches one path (`WatchStats`, of both tables).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Modes(u8);

impl Modes {
    const NONE: Modes = Modes(0);
    const DATA: Modes = Modes(1);
    const CHILD: Modes = Modes(2);
    const PERSISTENT: Modes = Modes(4);
    const RECURSIVE: Modes = Modes(8);
    /// What makes an entry of ZooKeeper's table of data watches.
    const DATA_TABLE: Modes = Modes(1 | 4 | 8);
    /// What makes an entry of its table of child watches.
    const CHILD_TABLE: Modes = Modes(2 | 4);

    fn of(kind: WatcherType) -> Self {
        match kind {
            WatcherType::Children => Modes::CHILD,
            WatcherType::Data => Modes::DATA,
            WatcherType::Persistent => Modes::PERSISTENT,
            WatcherType::PersistentRecursive => Modes::RECURSIVE,
            WatcherType::Any => Modes::DATA_TABLE.with(Modes::CHILD_TABLE),
        }
    }

    /// Whether any of `other` is set.
    fn has(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }

    fn with(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }

    fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }
}

/// Whether a path is still watched after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Somebody,
    Nobody,
}

/// Those who watch one path: mostly one, sometimes thousands. Nobody is in it with [`Modes::NONE`].
#[derive(Debug)]
enum Watchers {
    One(u64, Modes),
    /// In the order of their numbers, so that one sequence of calls always gives one sequence of events.
    #[expect(clippy::box_collection, reason = "most paths have one watcher, and pay for no more than that")]
    Many(Box<BTreeMap<u64, Modes>>),
}

impl Watchers {
    fn iter(&self) -> impl Iterator<Item = (u64, Modes)> {
        let (one, many) = match self {
            Watchers::One(watcher, modes) => (Some((*watcher, *modes)), None),
            Watchers::Many(map) => (None, Some(map)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|map| map.iter().map(|(watcher, modes)| (*watcher, *modes))))
    }

    fn in_data_table(&self) -> impl Iterator<Item = u64> {
        self.iter().filter(|(_, modes)| modes.has(Modes::DATA_TABLE)).map(|(watcher, _)| watcher)
    }

    fn modes(&self, watcher: u64) -> Modes {
        match self {
            Watchers::One(id, modes) if *id == watcher => *modes,
            Watchers::One(..) => Modes::NONE,
            Watchers::Many(map) => map.get(&watcher).copied().unwrap_or(Modes::NONE),
        }
    }

    /// Gives the ways in which `watcher` watched before.
    fn add(&mut self, watcher: u64, modes: Modes) -> Modes {
        let old = self.modes(watcher);
        match self {
            Watchers::One(id, current) if *id == watcher => *current = current.with(modes),
            Watchers::One(id, current) => {
                *self = Watchers::Many(Box::new(BTreeMap::from([(*id, *current), (watcher, modes)])));
            }
            Watchers::Many(map) => {
                map.insert(watcher, old.with(modes));
            }
        }
        old
    }

    /// For a watcher that is in it.
    fn set(&mut self, watcher: u64, modes: Modes) -> Left {
        match self {
            Watchers::One(_, current) => *current = modes,
            Watchers::Many(map) if modes == Modes::NONE => {
                map.remove(&watcher);
            }
            Watchers::Many(map) => {
                map.insert(watcher, modes);
            }
        }
        self.left()
    }

    /// Lets `visit` change everybody's modes.
    fn retain(&mut self, mut visit: impl FnMut(u64, &mut Modes)) -> Left {
        match self {
            Watchers::One(watcher, modes) => visit(*watcher, modes),
            Watchers::Many(map) => map.retain(|watcher, modes| {
                visit(*watcher, modes);
                *modes != Modes::NONE
            }),
        }
        self.left()
    }

    fn left(&self) -> Left {
        let nobody = match self {
            Watchers::One(_, modes) => *modes == Modes::NONE,
            Watchers::Many(map) => map.is_empty(),
        };
        if nobody { Left::Nobody } else { Left::Somebody }
    }
}

/// How many entries have which bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct BitCounts {
    data: usize,
    child: usize,
    persistent: usize,
    recursive: usize,
    data_table: usize,
    child_table: usize,
}

impl BitCounts {
    fn change(&mut self, old: Modes, new: Modes) {
        let counted = [
            (&mut self.data, Modes::DATA),
            (&mut self.child, Modes::CHILD),
            (&mut self.persistent, Modes::PERSISTENT),
            (&mut self.recursive, Modes::RECURSIVE),
            (&mut self.data_table, Modes::DATA_TABLE),
            (&mut self.child_table, Modes::CHILD_TABLE),
        ];
        for (count, modes) in counted {
            *count = *count + usize::from(new.has(modes)) - usize::from(old.has(modes));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use EventType::*;

    type Event = (u64, EventType, String);

    fn fire(watches: &mut Watches, change: Trigger, path: &str) -> Vec<Event> {
        let mut events = Vec::new();
        watches.trigger(change, path, |watcher, event, path| events.push((watcher, event, path.to_owned())));
        events
    }

    fn expect(events: &[(u64, EventType, &str)]) -> Vec<Event> {
        events.iter().map(|(watcher, event, path)| (*watcher, *event, (*path).to_owned())).collect()
    }

    fn watching(entries: &[(&str, u64, Mode)]) -> Watches {
        let mut watches = Watches::new();
        for (path, watcher, mode) in entries {
            watches.add(path, *watcher, *mode);
        }
        watches
    }

    #[test]
    fn a_one_shot_watch_fires_once() {
        for (mode, change, events) in [
            (Mode::Data, Trigger::DataChanged, expect(&[(1, NodeDataChanged, "/a/b")])),
            (Mode::Data, Trigger::Deleted, expect(&[(1, NodeDeleted, "/a/b")])),
            (Mode::Exist, Trigger::Created, expect(&[(1, NodeCreated, "/a/b")])),
            (Mode::Child, Trigger::Deleted, expect(&[(1, NodeDeleted, "/a/b")])),
            (Mode::Child, Trigger::ChildrenChanged, expect(&[(1, NodeChildrenChanged, "/a/b")])),
        ] {
            let mut watches = watching(&[("/a/b", 1, mode)]);
            assert_eq!(fire(&mut watches, change, "/a/b"), events, "{mode:?} {change:?}");
            assert_eq!(fire(&mut watches, change, "/a/b"), vec![], "{mode:?} {change:?}");
            assert_eq!(watches.counts(), Counts::default());
        }
    }

    #[test]
    fn what_does_not_concern_a_watch_leaves_it() {
        for (mode, change, path) in [
            (Mode::Data, Trigger::ChildrenChanged, "/a/b"),
            (Mode::Data, Trigger::Created, "/a/b/c"),
            (Mode::Data, Trigger::DataChanged, "/a/b/c"),
            (Mode::Data, Trigger::DataChanged, "/a"),
            (Mode::Data, Trigger::DataChanged, "/a/bb"),
            (Mode::Child, Trigger::DataChanged, "/a/b"),
            (Mode::Child, Trigger::DataChanged, "/a/b/c"),
            (Mode::Child, Trigger::Created, "/a/b/c/d"),
            (Mode::Persistent, Trigger::DataChanged, "/a/b/c"),
            (Mode::PersistentRecursive, Trigger::ChildrenChanged, "/a/b"),
            (Mode::PersistentRecursive, Trigger::ChildrenChanged, "/a/b/c"),
            (Mode::PersistentRecursive, Trigger::DataChanged, "/a"),
            (Mode::PersistentRecursive, Trigger::DataChanged, "/a/bb"),
        ] {
            let mut watches = watching(&[("/a/b", 1, mode)]);
            assert_eq!(fire(&mut watches, change, path), vec![], "{mode:?} {change:?} {path}");
            assert_eq!(watches.counts(), watching(&[("/a/b", 1, mode)]).counts());
        }
    }

    #[test]
    fn a_child_comes_and_goes() {
        for change in [Trigger::Created, Trigger::Deleted] {
            for parent in ["/", "/a"] {
                let path = if parent == "/" { "/c".to_owned() } else { format!("{parent}/c") };
                let mut watches = watching(&[(parent, 1, Mode::Child)]);
                assert_eq!(fire(&mut watches, change, &path), expect(&[(1, NodeChildrenChanged, parent)]));
            }
        }
    }

    #[test]
    fn a_persistent_watch_hears_everything_of_its_node_again_and_again() {
        let mut watches = watching(&[("/a", 1, Mode::Persistent)]);
        for _ in 0..2 {
            assert_eq!(fire(&mut watches, Trigger::Created, "/a"), expect(&[(1, NodeCreated, "/a")]));
            assert_eq!(fire(&mut watches, Trigger::DataChanged, "/a"), expect(&[(1, NodeDataChanged, "/a")]));
            assert_eq!(fire(&mut watches, Trigger::Created, "/a/b"), expect(&[(1, NodeChildrenChanged, "/a")]));
            assert_eq!(fire(&mut watches, Trigger::Deleted, "/a/b"), expect(&[(1, NodeChildrenChanged, "/a")]));
            assert_eq!(fire(&mut watches, Trigger::Deleted, "/a"), expect(&[(1, NodeDeleted, "/a")]));
        }
    }

    #[test]
    fn a_recursive_watch_hears_of_all_below_but_of_no_children() {
        for at in ["/", "/a"] {
            let mut watches = watching(&[(at, 1, Mode::PersistentRecursive)]);
            for path in ["/a", "/a/b", "/a/b/c"] {
                for (change, event) in [
                    (Trigger::Created, NodeCreated),
                    (Trigger::DataChanged, NodeDataChanged),
                    (Trigger::Deleted, NodeDeleted),
                ] {
                    assert_eq!(fire(&mut watches, change, path), expect(&[(1, event, path)]), "{at} {path}");
                }
            }
        }
    }

    #[test]
    fn one_watcher_in_every_way_hears_of_a_deletion_once() {
        let mut watches = watching(&[
            ("/a/b", 1, Mode::Data),
            ("/a/b", 1, Mode::Child),
            ("/a/b", 1, Mode::Persistent),
            ("/a/b", 1, Mode::PersistentRecursive),
            ("/a", 1, Mode::PersistentRecursive),
            ("/a", 1, Mode::Child),
            ("/a", 1, Mode::Data),
        ]);
        let events = expect(&[(1, NodeDeleted, "/a/b"), (1, NodeChildrenChanged, "/a")]);
        assert_eq!(fire(&mut watches, Trigger::Deleted, "/a/b"), events);
        assert!(!watches.contains("/a/b", 1, WatcherType::Data));
        assert!(!watches.contains("/a/b", 1, WatcherType::Children));
        assert!(watches.contains("/a/b", 1, WatcherType::Persistent));
        assert!(watches.contains("/a/b", 1, WatcherType::PersistentRecursive));
        assert!(!watches.contains("/a", 1, WatcherType::Children));
        assert!(watches.contains("/a", 1, WatcherType::Data));
        // What is left fires again; the child watch of the parent is gone.
        assert_eq!(fire(&mut watches, Trigger::Deleted, "/a/b"), expect(&[(1, NodeDeleted, "/a/b")]));
    }

    #[test]
    fn a_child_watch_below_a_recursive_one_is_spent_by_the_one_event() {
        let mut watches = watching(&[("/", 1, Mode::PersistentRecursive), ("/a", 1, Mode::Child)]);
        assert_eq!(fire(&mut watches, Trigger::Deleted, "/a"), expect(&[(1, NodeDeleted, "/a")]));
        assert!(!watches.contains("/a", 1, WatcherType::Any));
    }

    #[test]
    fn several_watchers_hear_in_the_order_of_their_numbers() {
        let mut watches = watching(&[
            ("/a/b", 3, Mode::Child),
            ("/a/b", 1, Mode::Data),
            ("/a", 2, Mode::PersistentRecursive),
            ("/", 3, Mode::PersistentRecursive),
            ("/a", 1, Mode::Child),
            ("/a", 0, Mode::Persistent),
        ]);
        let events = expect(&[
            (1, NodeDeleted, "/a/b"),
            (2, NodeDeleted, "/a/b"),
            (3, NodeDeleted, "/a/b"),
            (0, NodeChildrenChanged, "/a"),
            (1, NodeChildrenChanged, "/a"),
        ]);
        assert_eq!(fire(&mut watches, Trigger::Deleted, "/a/b"), events);
    }

    #[test]
    fn removal_by_kind() {
        use WatcherType::*;
        let all = [Mode::Data, Mode::Child, Mode::Persistent, Mode::PersistentRecursive];
        for (kind, gone) in [
            (Data, vec![Mode::Data]),
            (Children, vec![Mode::Child]),
            (Persistent, vec![Mode::Persistent]),
            (PersistentRecursive, vec![Mode::PersistentRecursive]),
            (Any, all.to_vec()),
        ] {
            let mut watches = Watches::new();
            all.iter().for_each(|mode| watches.add("/a", 1, *mode));
            assert_eq!(watches.remove("/a", 2, kind), Err(ErrorCode::NoWatcher));
            assert_eq!(watches.remove("/b", 1, kind), Err(ErrorCode::NoWatcher));
            assert!(watches.contains("/a", 1, kind));
            assert_eq!(watches.remove("/a", 1, kind), Ok(()));
            assert!(!watches.contains("/a", 1, kind));
            assert_eq!(watches.remove("/a", 1, kind), Err(ErrorCode::NoWatcher));
            let mut left = Watches::new();
            all.iter().filter(|mode| !gone.contains(mode)).for_each(|mode| left.add("/a", 1, *mode));
            assert_eq!(watches.counts(), left.counts(), "{kind:?}");
        }
    }

    #[test]
    fn persistent_watches_are_no_data_or_child_watches_to_a_removal() {
        for mode in [Mode::Persistent, Mode::PersistentRecursive] {
            let mut watches = watching(&[("/a", 1, mode)]);
            for kind in [WatcherType::Data, WatcherType::Children] {
                assert!(!watches.contains("/a", 1, kind));
                assert_eq!(watches.remove("/a", 1, kind), Err(ErrorCode::NoWatcher));
            }
            assert_eq!(watches.remove("/a", 1, WatcherType::Any), Ok(()));
        }
    }

    #[test]
    fn a_connection_that_goes_leaves_nothing() {
        let mut watches = watching(&[
            ("/a", 1, Mode::Data),
            ("/a", 2, Mode::Child),
            ("/b", 1, Mode::PersistentRecursive),
            ("/c", 1, Mode::Persistent),
        ]);
        assert_eq!(watches.watched_by(1), 3);
        watches.remove_watcher(1);
        assert_eq!(watches.watched_by(1), 0);
        assert_eq!(watches.counts(), watching(&[("/a", 2, Mode::Child)]).counts());
        assert_eq!(fire(&mut watches, Trigger::Deleted, "/b/x"), vec![]);
        watches.remove_watcher(1);
        watches.remove_watcher(2);
        assert_eq!(watches.counts(), Counts::default());
    }

    #[test]
    fn counts_and_reports() {
        let watches = watching(&[
            ("/b", 7, Mode::Data),
            ("/b", 5, Mode::Exist),
            ("/a", 7, Mode::Persistent),
            ("/a", 7, Mode::Persistent),
            ("/c", 9, Mode::Child),
            ("/a", 7, Mode::PersistentRecursive),
        ]);
        let counts =
            Counts { total: 5, data: 2, child: 1, persistent: 1, persistent_recursive: 1, paths: 3, watchers: 3 };
        assert_eq!(watches.counts(), counts);
        assert_eq!(watches.summary(), Summary { connections: 2, paths: 2, watches: 3 });
        assert_eq!(watches.summary().to_string(), "2 connections watching 2 paths\nTotal watches:3");
        assert_eq!(watches.by_path(), vec![("/a".into(), vec![7]), ("/b".into(), vec![5, 7])]);
        assert_eq!(watches.by_watcher(), vec![(5, vec!["/b".into()]), (7, vec!["/a".into(), "/b".into()])]);
    }

    #[test]
    fn set_watches_tells_what_was_missed_and_registers_the_rest() {
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let request = SetWatches2 {
            relative_zxid: 10,
            data: list(&["/old", "/set", "/parent", "/gone"]),
            exist: list(&["/old", "/gone"]),
            child: list(&["/old", "/set", "/parent", "/gone"]),
            persistent: list(&["/set"]),
            persistent_recursive: list(&["/gone"]),
        };
        let node = |path: &str| match path {
            "/old" => Some(NodeZxids { mzxid: 10, pzxid: 10 }),
            "/set" => Some(NodeZxids { mzxid: 11, pzxid: 9 }),
            "/parent" => Some(NodeZxids { mzxid: 9, pzxid: 11 }),
            _ => None,
        };
        let mut watches = Watches::new();
        let mut events = Vec::new();
        watches.set_watches(1, &request, node, |event, path| events.push((event, path.to_owned())));
        let told = [
            (NodeDataChanged, "/set"),
            (NodeDeleted, "/gone"),
            (NodeCreated, "/old"),
            (NodeChildrenChanged, "/parent"),
            (NodeDeleted, "/gone"),
        ];
        assert_eq!(events, told.map(|(event, path)| (event, path.to_owned())));
        let registered = watching(&[
            ("/old", 1, Mode::Data),
            ("/gone", 1, Mode::Exist),
            ("/parent", 1, Mode::Data),
            ("/old", 1, Mode::Child),
            ("/set", 1, Mode::Child),
            ("/set", 1, Mode::Persistent),
            ("/gone", 1, Mode::PersistentRecursive),
        ]);
        assert_eq!(watches.by_path(), registered.by_path());
        assert_eq!(watches.counts(), registered.counts());
    }

    #[test]
    fn add_watch_modes() {
        assert_eq!(Mode::from_add_watch(0), Some(Mode::Persistent));
        assert_eq!(Mode::from_add_watch(1), Some(Mode::PersistentRecursive));
        assert_eq!(Mode::from_add_watch(-1).or(Mode::from_add_watch(2)), None);
    }

    #[test]
    fn a_watch_is_small() {
        assert!(size_of::<Watchers>() <= 16);
    }

    /// ZooKeeper's two tables, written down as naively as possible: each a list of who watches what, and how.
    #[derive(Debug, Default)]
    struct Model {
        data: Table,
        child: Table,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum How {
        Standard,
        Persistent,
        Recursive,
    }

    #[derive(Debug, Default)]
    struct Table(Vec<(String, u64, How)>);

    impl Table {
        fn add(&mut self, path: &str, watcher: u64, how: How) {
            let entry = (path.to_owned(), watcher, how);
            if !self.0.contains(&entry) {
                self.0.push(entry);
            }
        }

        fn remove(&mut self, path: &str, watcher: u64, how: Option<How>) -> bool {
            let before = self.0.len();
            self.0.retain(|(at, id, this)| at != path || *id != watcher || how.is_some_and(|how| how != *this));
            self.0.len() < before
        }

        /// `WatchManager.triggerWatch`: who is told, whether or not they are suppressed.
        fn trigger(&mut self, path: &str) -> Vec<u64> {
            let is_above = |at: &str| path.starts_with(&format!("{}/", at.trim_end_matches('/')));
            let told = |(at, _, how): &&(String, u64, How)| at == path || (*how == How::Recursive && is_above(at));
            let mut watchers: Vec<u64> = self.0.iter().filter(told).map(|(_, id, _)| *id).collect();
            self.0.retain(|(at, _, how)| at != path || *how != How::Standard);
            watchers.sort_unstable();
            watchers.dedup();
            watchers
        }

        fn size(&self) -> usize {
            let mut entries: Vec<(&str, u64)> = self.0.iter().map(|(path, id, _)| (path.as_str(), *id)).collect();
            entries.sort_unstable();
            entries.dedup();
            entries.len()
        }
    }

    impl Model {
        fn add(&mut self, path: &str, watcher: u64, mode: Mode) {
            match mode {
                Mode::Data | Mode::Exist => self.data.add(path, watcher, How::Standard),
                Mode::Child => self.child.add(path, watcher, How::Standard),
                Mode::Persistent => {
                    self.data.add(path, watcher, How::Persistent);
                    self.child.add(path, watcher, How::Persistent);
                }
                Mode::PersistentRecursive => self.data.add(path, watcher, How::Recursive),
            }
        }

        fn remove(&mut self, path: &str, watcher: u64, kind: WatcherType) -> bool {
            match kind {
                WatcherType::Children => self.child.remove(path, watcher, Some(How::Standard)),
                WatcherType::Data => self.data.remove(path, watcher, Some(How::Standard)),
                WatcherType::Persistent => {
                    self.child.remove(path, watcher, Some(How::Persistent))
                        | self.data.remove(path, watcher, Some(How::Persistent))
                }
                WatcherType::PersistentRecursive => self.data.remove(path, watcher, Some(How::Recursive)),
                WatcherType::Any => self.child.remove(path, watcher, None) | self.data.remove(path, watcher, None),
            }
        }

        fn trigger(&mut self, change: Trigger, path: &str) -> Vec<Event> {
            let mut events = Vec::new();
            let mut tell = |watchers: &[u64], event: EventType, path: &str| {
                events.extend(watchers.iter().map(|watcher| (*watcher, event, path.to_owned())));
            };
            let parent = match path.rfind('/') {
                Some(slash) if path.len() > 1 => Some(if slash == 0 { "/" } else { &path[..slash] }),
                _ => None,
            };
            match change {
                Trigger::Created => tell(&self.data.trigger(path), NodeCreated, path),
                Trigger::DataChanged => tell(&self.data.trigger(path), NodeDataChanged, path),
                Trigger::ChildrenChanged => tell(&self.child.trigger(path), NodeChildrenChanged, path),
                Trigger::Deleted => {
                    let mut told = self.data.trigger(path);
                    told.extend(self.child.trigger(path));
                    told.sort_unstable();
                    told.dedup();
                    tell(&told, NodeDeleted, path);
                }
            }
            if let (Trigger::Created | Trigger::Deleted, Some(parent)) = (change, parent) {
                tell(&self.child.trigger(parent), NodeChildrenChanged, parent);
            }
            events
        }

        fn remove_watcher(&mut self, watcher: u64) {
            self.data.0.retain(|(_, id, _)| *id != watcher);
            self.child.0.retain(|(_, id, _)| *id != watcher);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(&'static str, u64, Mode),
        Remove(&'static str, u64, WatcherType),
        Trigger(Trigger, &'static str),
        RemoveWatcher(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        use Mode::*;
        let path = || prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/ab", "/a/bb"]);
        let mode = prop::sample::select(vec![Data, Exist, Child, Persistent, PersistentRecursive]);
        let kind = prop::sample::select(vec![
            WatcherType::Children,
            WatcherType::Data,
            WatcherType::Any,
            WatcherType::Persistent,
            WatcherType::PersistentRecursive,
        ]);
        let change = prop::sample::select(vec![
            Trigger::Created,
            Trigger::Deleted,
            Trigger::DataChanged,
            Trigger::ChildrenChanged,
        ]);
        let step = prop_oneof![
            6 => (path(), 0..4u64, mode).prop_map(|(path, watcher, mode)| Step::Add(path, watcher, mode)),
            2 => (path(), 0..4u64, kind).prop_map(|(path, watcher, kind)| Step::Remove(path, watcher, kind)),
            4 => (change, path()).prop_map(|(change, path)| Step::Trigger(change, path)),
            1 => (0..4u64).prop_map(Step::RemoveWatcher),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn behaves_as_zookeepers_two_tables(steps in steps()) {
            let mut watches = Watches::new();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Add(path, watcher, mode) => {
                        watches.add(path, watcher, mode);
                        model.add(path, watcher, mode);
                    }
                    Step::Remove(path, watcher, kind) => {
                        let found = watches.contains(path, watcher, kind);
                        prop_assert_eq!(watches.remove(path, watcher, kind).is_ok(), found);
                        prop_assert_eq!(model.remove(path, watcher, kind), found);
                    }
                    Step::Trigger(change, path) => {
                        prop_assert_eq!(fire(&mut watches, change, path), model.trigger(change, path));
                    }
                    Step::RemoveWatcher(watcher) => {
                        watches.remove_watcher(watcher);
                        model.remove_watcher(watcher);
                    }
                }
                check_against(&watches, &model)?;
            }
        }
    }

    /// The counters and the index by watcher agree with what is watched.
    fn check_against(watches: &Watches, model: &Model) -> Result<(), TestCaseError> {
        let counts = watches.counts();
        prop_assert_eq!(counts.total, model.data.size() + model.child.size());
        prop_assert_eq!(watches.summary().watches, model.data.size());
        let with = |how: How| model.data.0.iter().filter(|(_, _, this)| *this == how).count();
        prop_assert_eq!(counts.data, with(How::Standard));
        prop_assert_eq!(counts.persistent, with(How::Persistent));
        prop_assert_eq!(counts.persistent_recursive, with(How::Recursive));
        let entries = || model.data.0.iter().chain(&model.child.0);
        let distinct = |mut list: Vec<String>| {
            list.sort_unstable();
            list.dedup();
            list.len()
        };
        prop_assert_eq!(counts.paths, distinct(entries().map(|(path, ..)| path.clone()).collect()));
        for watcher in 0..4 {
            let mine = entries().filter(|(_, id, _)| *id == watcher).map(|(path, ..)| path.clone());
            prop_assert_eq!(watches.watched_by(watcher), distinct(mine.collect()));
        }
        let reported: Vec<(String, Vec<u64>)> =
            watches.by_path().into_iter().map(|(path, ids)| (path.to_string(), ids)).collect();
        let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (path, watcher, _) in &model.data.0 {
            expected.entry(path.clone()).or_default().push(*watcher);
        }
        for ids in expected.values_mut() {
            ids.sort_unstable();
            ids.dedup();
        }
        prop_assert_eq!(reported, expected.into_iter().collect::<Vec<_>>());
        Ok(())
    }
}
