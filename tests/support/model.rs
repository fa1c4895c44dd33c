//! A ZooKeeper that does one request at a time: what servers that batch, race and retry must be equal to.

use std::collections::BTreeMap;

use zketcd::jute::{CreateMode, CreateRequest, ErrorCode, MultiOp, MultiResult, Reply, Request, Stat, op};

/// The one time of the tests' clocks.
pub const TIME: i64 = 1_700_000_000_000;

#[derive(Debug, Clone)]
struct Node {
    stat: Stat,
    created: i32,
    data: Option<Vec<u8>>,
}

/// An event, as a recursive watcher of the root hears it: zxid, kind, path.
pub type Event = (i64, i32, String);

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Model {
    nodes: BTreeMap<String, Node>,
    pub events: Vec<Event>,
}

type Outcome = Result<Reply<'static>, ErrorCode>;

impl Model {
    pub fn new() -> Model {
        let mut model = Model { nodes: BTreeMap::new(), events: Vec::new() };
        for path in ["/", "/zookeeper"] {
            let node = Node { stat: Stat::default(), created: 0, data: Some(Vec::new()) };
            model.nodes.insert(path.into(), node);
        }
        model.count_children("/");
        model
    }

    /// Carries a write out. An error leaves the tree as it was.
    pub fn write(&mut self, request: &Request, session: i64, zxid: i64) -> Outcome {
        match request {
            Request::Create(create) => {
                let path = self.create(create, session, zxid)?;
                Ok(match create.op {
                    op::CREATE => Reply::Path(path.into()),
                    _ => Reply::PathStat(path.clone().into(), self.nodes[&path].stat),
                })
            }
            Request::Delete { path, version } => self.delete(path, *version, zxid).map(|()| Reply::Empty),
            Request::SetData { path, data, version } => {
                self.set(path, data.as_deref(), *version, zxid).map(Reply::Stat)
            }
            Request::SetAcl { path, version, .. } => {
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode)?;
                matches(node.stat.aversion, *version)?;
                node.stat.aversion += 1;
                Ok(Reply::Stat(node.stat))
            }
            Request::Multi(ops) => Ok(Reply::Multi(self.multi(ops, session, zxid))),
            Request::Sync { path } => Ok(Reply::Path(path.clone().into())),
            Request::CloseSession => {
                let owned = self.nodes.iter().filter(|(_, node)| node.stat.ephemeral_owner == session);
                let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
                for path in owned {
                    self.delete(&path, -1, zxid)?;
                }
                Ok(Reply::Empty)
            }
            other => panic!("{other:?} is no write"),
        }
    }

    /// Answers a read, children sorted.
    pub fn read(&self, request: &Request) -> Outcome {
        let node = |path: &String| self.nodes.get(path).ok_or(ErrorCode::NoNode);
        match request {
            Request::Exists { path, .. } => Ok(Reply::Stat(node(path)?.stat)),
            Request::GetData { path, .. } => {
                let node = node(path)?;
                Ok(Reply::Data(node.data.clone().map(Into::into), node.stat))
            }
            Request::GetChildren2 { path, .. } => {
                let stat = node(path)?.stat;
                let names = self.children(path).map(|child| child[parent(child).len()..].trim_start_matches('/'));
                Ok(Reply::Children2(names.map(|name| name.to_owned().into()).collect(), stat))
            }
            other => panic!("{other:?} is no read"),
        }
    }

    fn create(&mut self, request: &CreateRequest, session: i64, zxid: i64) -> Result<String, ErrorCode> {
        let mode = CreateMode::from_flags(request.flags).ok_or(ErrorCode::BadArguments)?;
        let above = self.nodes.get(parent(&request.path)).ok_or(ErrorCode::NoNode)?;
        let mut path = request.path.clone();
        if mode.is_sequential() {
            path += &format!("{:010}", above.created);
        }
        if self.nodes.contains_key(&path) {
            return Err(ErrorCode::NodeExists);
        }
        if above.stat.ephemeral_owner != 0 {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data = request.data.as_ref().map(|data| data.to_vec());
        let stat = Stat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: TIME,
            mtime: TIME,
            ephemeral_owner: if mode.is_ephemeral() { session } else { 0 },
            data_length: data.as_ref().map_or(0, Vec::len) as i32,
            ..Stat::default()
        };
        self.nodes.insert(path.clone(), Node { stat, created: 0, data });
        self.touch_parent(&path, 1, zxid);
        self.events.push((zxid, 1, path.clone()));
        Ok(path)
    }

    fn delete(&mut self, path: &str, version: i32, zxid: i64) -> Result<(), ErrorCode> {
        self.nodes.get(parent(path)).ok_or(ErrorCode::NoNode)?;
        let node = self.nodes.get(path).ok_or(ErrorCode::NoNode)?;
        matches(node.stat.version, version)?;
        if node.stat.num_children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.nodes.remove(path);
        self.touch_parent(path, 0, zxid);
        self.events.push((zxid, 2, path.to_owned()));
        Ok(())
    }

    fn set(&mut self, path: &str, data: Option<&[u8]>, version: i32, zxid: i64) -> Result<Stat, ErrorCode> {
        let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode)?;
        matches(node.stat.version, version)?;
        node.data = data.map(<[u8]>::to_vec);
        node.stat.version += 1;
        node.stat.mzxid = zxid;
        node.stat.mtime = TIME;
        node.stat.data_length = data.map_or(0, <[u8]>::len) as i32;
        let stat = node.stat;
        self.events.push((zxid, 3, path.to_owned()));
        Ok(stat)
    }

    fn multi(&mut self, ops: &[MultiOp], session: i64, zxid: i64) -> Vec<MultiResult<'static>> {
        let mut after = self.clone();
        let mut results = Vec::new();
        for (at, one) in ops.iter().enumerate() {
            let result = match one {
                MultiOp::Create(create) => after.create(create, session, zxid).map(|path| match create.op {
                    op::CREATE => MultiResult::Create { path: path.into() },
                    _ => MultiResult::Create2 { stat: after.nodes[&path].stat, path: path.into() },
                }),
                MultiOp::Delete { path, version } => after.delete(path, *version, zxid).map(|()| MultiResult::Delete),
                MultiOp::SetData { path, data, version } => {
                    after.set(path, data.as_deref(), *version, zxid).map(|stat| MultiResult::SetData { stat })
                }
                MultiOp::Check { path, version } => {
                    let node = after.nodes.get(path).ok_or(ErrorCode::NoNode);
                    node.and_then(|node| matches(node.stat.version, *version)).map(|()| MultiResult::Check)
                }
            };
            match result {
                Ok(result) => results.push(result),
                Err(error) => {
                    let code = |i: usize| match i {
                        i if i < at => ErrorCode::Ok,
                        i if i == at => error,
                        _ => ErrorCode::RuntimeInconsistency,
                    };
                    return (0..ops.len()).map(|i| MultiResult::Error(code(i))).collect();
                }
            }
        }
        *self = after;
        results
    }

    fn touch_parent(&mut self, path: &str, created: i32, zxid: i64) {
        let above = parent(path).to_owned();
        if let Some(node) = self.nodes.get_mut(&above) {
            node.created += created;
            node.stat.pzxid = zxid;
        }
        self.count_children(&above);
    }

    fn count_children(&mut self, path: &str) {
        let count = self.children(path).count() as i32;
        if let Some(node) = self.nodes.get_mut(path) {
            node.stat.num_children = count;
            node.stat.cversion = 2 * node.created - count;
        }
    }

    fn children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a String> {
        self.nodes.keys().filter(move |other| *other != "/" && parent(other) == path)
    }
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(slash) => &path[..slash],
    }
}

fn matches(version: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == version { Ok(()) } else { Err(ErrorCode::BadVersion) }
}
