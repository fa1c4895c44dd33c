//! The usual recipes beside the lock that the library has, as its users write them.

use std::collections::BTreeMap;

use zookeeper_client::{AddWatchMode, Client, Error, EventType, PersistentWatcher, SessionState};

use crate::harness::{fires, is_lost, within, EPHEMERAL, PERSISTENT};

/// A double barrier: in when all are there, out when all have gone.
pub async fn enter(client: &Client, path: &str, name: &str, members: usize) {
    let ready = format!("{path}/ready");
    let (_, made) = client.check_and_watch_stat(&ready).await.unwrap();
    client.create(&format!("{path}/{name}"), b"", &EPHEMERAL).await.unwrap();
    if client.list_children(path).await.unwrap().len() < members {
        fires(made, EventType::NodeCreated, &ready).await;
        return;
    }
    match client.create(&ready, b"", &PERSISTENT).await {
        Ok(_) | Err(Error::NodeExists) => {}
        Err(error) => panic!("{error}"),
    }
}

pub async fn leave(client: &Client, path: &str, name: &str) {
    match client.delete(&format!("{path}/ready"), None).await {
        Ok(()) | Err(Error::NoNode) => {}
        Err(error) => panic!("{error}"),
    }
    client.delete(&format!("{path}/{name}"), None).await.unwrap();
    loop {
        let (left, changed) = client.list_and_watch_children(path).await.unwrap();
        if left.is_empty() {
            return;
        }
        fires(changed, EventType::NodeChildrenChanged, path).await;
    }
}

/// The oldest entry of a queue; waits while there is none.
pub async fn take(client: &Client, path: &str) -> u32 {
    loop {
        let (mut entries, changed) = client.list_and_watch_children(path).await.unwrap();
        entries.sort();
        for entry in entries {
            let entry = format!("{path}/{entry}");
            let data = match client.get_data(&entry).await {
                Err(Error::NoNode) => continue,
                found => found.unwrap().0,
            };
            match client.delete(&entry, None).await {
                Err(Error::NoNode) => continue,
                deleted => deleted.unwrap(),
            }
            return number(&data);
        }
        fires(changed, EventType::NodeChildrenChanged, path).await;
    }
}

pub fn number(data: &[u8]) -> u32 {
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

/// Adds one to a number in a node.
pub async fn count(client: &Client, path: &str) {
    loop {
        let (data, stat) = client.get_data(path).await.unwrap();
        match client.set_data(path, (number(&data) + 1).to_string().as_bytes(), Some(stat.version)).await {
            Err(Error::BadVersion) => continue,
            Err(error) => panic!("{error}"),
            Ok(_) => return,
        }
    }
}

/// The tree below a node, kept by a persistent recursive watch, until it is as it is wanted.
pub struct Cache {
    client: Client,
    root: String,
    watcher: PersistentWatcher,
    pub known: BTreeMap<String, Vec<u8>>,
}

impl Cache {
    pub async fn new(client: Client, path: &str) -> Cache {
        let watcher = client.watch(path, AddWatchMode::PersistentRecursive).await.unwrap();
        let mut cache = Cache { client, root: path.to_owned(), watcher, known: BTreeMap::new() };
        cache.read_all().await;
        cache
    }

    async fn read_all(&mut self) {
        self.known.clear();
        let mut left = vec![self.root.clone()];
        while let Some(path) = left.pop() {
            self.read(&path).await;
            for child in self.client.list_children(&path).await.unwrap() {
                left.push(format!("{path}/{child}"));
            }
        }
    }

    async fn read(&mut self, path: &str) {
        loop {
            match self.client.get_data(path).await {
                Ok((data, _)) => self.known.insert(path.to_owned(), data),
                Err(Error::NoNode) => self.known.remove(path),
                Err(error) if is_lost(&error) => continue,
                Err(error) => panic!("{error}"),
            };
            return;
        }
    }

    pub async fn until(&mut self, wanted: &[(&str, &str)]) {
        let wanted = wanted.iter().map(|(path, data)| (path.to_string(), data.as_bytes().to_vec())).collect();
        while self.known != wanted {
            let event = within("an event for the cache", self.watcher.changed()).await;
            match event.event_type {
                EventType::NodeDeleted => drop(self.known.remove(&event.path)),
                EventType::NodeCreated | EventType::NodeDataChanged => self.read(&event.path).await,
                // version 0.11 does not set a persistent watch again at another server
                EventType::Session if event.session_state == SessionState::SyncConnected => {
                    self.watcher = self.client.watch(&self.root, AddWatchMode::PersistentRecursive).await.unwrap();
                    self.read_all().await;
                }
                other => assert_eq!(other, EventType::Session),
            }
        }
    }
}
