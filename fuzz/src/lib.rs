//! What the fuzz targets share: requests made out of a fuzzer's bytes.
//!
//! The targets run with cargo-fuzz, on a stable compiler too:
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run frame
//!
//! - `frame`: any bytes at all, through every reader of the wire; what can be read must survive being written.
//! - `requests`: clients' requests on two servers over one store, in any order, with any loss.

mod check;
pub mod client;
pub mod cluster;
pub mod server;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use zketcd::jute::{
    Acl, AuthPacket, CreateRequest, Id, MultiOp, MultiReadOp, Perms, Request, SetWatches, SetWatches2, op,
};

/// Few enough that requests meet on the same znodes; the last ones are no paths.
const PATHS: [&str; 12] =
    ["/", "/a", "/b", "/a/a", "/a/b", "/b/a", "/a/a/a", "/zookeeper", "/zookeeper/config", "/a//b", "a", ""];

/// The most operations in a multi, and paths in each list of a setWatches.
const MOST: usize = 8;

/// Requests, until the bytes run out: most of them sensible, on a handful of znodes.
pub fn requests(source: &mut Unstructured<'_>) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    while !source.is_empty() {
        requests.push(request(source)?);
    }
    Ok(requests)
}

/// One request. Those that the codec changes on its way (a multi's creates) are made as it leaves them.
pub fn request(source: &mut Unstructured<'_>) -> Result<Request> {
    Ok(match source.int_in_range(0..=29)? {
        0 | 1 => Request::Create(create(source)?),
        2 => Request::Delete { path: path(source)?, version: version(source)? },
        3 => Request::Exists { path: path(source)?, watch: source.arbitrary()? },
        4 => Request::GetData { path: path(source)?, watch: source.arbitrary()? },
        5 => Request::SetData { path: path(source)?, data: data(source)?, version: version(source)? },
        6 => Request::GetAcl { path: path(source)? },
        7 => Request::SetAcl { path: path(source)?, acl: acl(source)?, version: version(source)? },
        8 => Request::GetChildren { path: path(source)?, watch: source.arbitrary()? },
        9 => Request::Sync { path: path(source)? },
        10 => Request::Ping,
        11 => Request::GetChildren2 { path: path(source)?, watch: source.arbitrary()? },
        12 => Request::Unknown { op: op::CHECK },
        13 | 14 => Request::Multi(several(source, multi_op)?),
        15 => Request::Reconfig,
        16 => Request::CheckWatches { path: path(source)?, kind: source.int_in_range(0..=6)? },
        17 => Request::RemoveWatches { path: path(source)?, kind: source.int_in_range(0..=6)? },
        18 => Request::DeleteContainer { path: path(source)? },
        19 => Request::MultiRead(several(source, multi_read_op)?),
        20 => Request::Auth(AuthPacket { kind: 0, scheme: scheme(source)?, auth: data(source)? }),
        21 => Request::SetWatches(set_watches(source)?),
        22 => Request::Sasl { token: data(source)?.unwrap_or_default() },
        23 => Request::GetEphemerals { prefix: path(source)? },
        24 => Request::GetAllChildrenNumber { path: path(source)? },
        25 => set_watches2(source)?,
        26 => Request::AddWatch { path: path(source)?, mode: source.int_in_range(0..=2)? },
        27 => Request::WhoAmI,
        28 => Request::Multi(made_again(source)?),
        _ => Request::CloseSession,
    })
}

fn create(source: &mut Unstructured<'_>) -> Result<CreateRequest> {
    let op = *source.choose(&[op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL])?;
    let (path, data, acl) = (path(source)?, data(source)?, acl(source)?);
    let flags = source.int_in_range(0..=7)?;
    Ok(CreateRequest { op, path, data, acl, flags, ttl: ttl(source, op)? })
}

/// Deleted and created by one multi: the store sees a put only.
fn made_again(source: &mut Unstructured<'_>) -> Result<Vec<MultiOp>> {
    let create = multi_create(source)?;
    Ok(vec![MultiOp::Delete { path: create.path.clone(), version: -1 }, MultiOp::Create(create)])
}

fn multi_create(source: &mut Unstructured<'_>) -> Result<CreateRequest> {
    let kinds = [(op::CREATE, 0..=3), (op::CREATE2, 0..=3), (op::CREATE_CONTAINER, 4..=4), (op::CREATE_TTL, 5..=7)];
    let (op, flags) = source.choose(&kinds)?.clone();
    let flags = source.int_in_range(flags)?;
    let acl = Some(acl(source)?.unwrap_or_default());
    Ok(CreateRequest { op, path: path(source)?, data: data(source)?, acl, flags, ttl: ttl(source, op)? })
}

fn ttl(source: &mut Unstructured<'_>, op: i32) -> Result<i64> {
    if op == op::CREATE_TTL { source.int_in_range(-1..=100) } else { Ok(0) }
}

fn multi_op(source: &mut Unstructured<'_>) -> Result<MultiOp> {
    Ok(match source.int_in_range(0..=3)? {
        0 => MultiOp::Create(multi_create(source)?),
        1 => MultiOp::Delete { path: path(source)?, version: version(source)? },
        2 => MultiOp::SetData { path: path(source)?, data: data(source)?, version: version(source)? },
        _ => MultiOp::Check { path: path(source)?, version: version(source)? },
    })
}

fn multi_read_op(source: &mut Unstructured<'_>) -> Result<MultiReadOp> {
    let path = path(source)?;
    Ok(if source.arbitrary()? { MultiReadOp::GetData { path } } else { MultiReadOp::GetChildren { path } })
}

fn set_watches(source: &mut Unstructured<'_>) -> Result<SetWatches> {
    Ok(SetWatches {
        relative_zxid: source.arbitrary()?,
        data: several(source, path)?,
        exist: several(source, path)?,
        child: several(source, path)?,
    })
}

fn set_watches2(source: &mut Unstructured<'_>) -> Result<Request> {
    let SetWatches { relative_zxid, data, exist, child } = set_watches(source)?;
    let (persistent, persistent_recursive) = (several(source, path)?, several(source, path)?);
    Ok(Request::SetWatches2(SetWatches2 { relative_zxid, data, exist, child, persistent, persistent_recursive }))
}

fn path(source: &mut Unstructured<'_>) -> Result<String> {
    source.choose(&PATHS).map(|path| (*path).to_owned())
}

fn version(source: &mut Unstructured<'_>) -> Result<i32> {
    source.int_in_range(-1..=3)
}

fn data(source: &mut Unstructured<'_>) -> Result<Option<Bytes>> {
    let length = source.int_in_range(0..=20)?;
    if length == 20 {
        return Ok(None);
    }
    Ok(Some(Bytes::copy_from_slice(source.bytes(length.min(source.len()))?)))
}

fn scheme(source: &mut Unstructured<'_>) -> Result<String> {
    source.choose(&["world", "auth", "digest", "ip", "x509", ""]).map(|scheme| (*scheme).to_owned())
}

fn acl(source: &mut Unstructured<'_>) -> Result<Option<Vec<Acl>>> {
    let one = |source: &mut Unstructured<'_>| {
        let id = source.choose(&["anyone", "", "user:secret", "127.0.0.1", "10.0.0.0/8"])?;
        let id = Id { scheme: scheme(source)?, id: (*id).to_owned() };
        Ok(Acl { perms: Perms(source.int_in_range(0..=32)?), id })
    };
    if source.ratio(3, 4)? {
        let id = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
        return Ok(Some(vec![Acl { perms: Perms::ALL, id }]));
    }
    if source.arbitrary()? { several(source, one).map(Some) } else { Ok(None) }
}

fn several<T>(source: &mut Unstructured<'_>, one: impl Fn(&mut Unstructured<'_>) -> Result<T>) -> Result<Vec<T>> {
    let count = source.int_in_range(0..=MOST)?;
    (0..count).map(|_| one(source)).collect()
}
