//! What is particular to etcd: prefixes, restarts, several endpoints, authentication, TLS, large answers.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Client, ConnectOptions, Permission, PermissionType};
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use zketcd::store::etcd::{Etcd, EtcdConfig};
use zketcd::store::{Compare, Op, OpResult, Store, StoreError, TxnResult};

use crate::etcd_process::{self, Tls, Version};
use crate::fixture::{
    PATIENCE, apply, brief, config, failure, in_time, key, lease_id, next, put, put_leased, revision, shared_etcd,
    then, value, when,
};

/// Runs each test against each version.
macro_rules! both_versions {
    ($($test:ident),+ $(,)?) => {
        mod etcd_3_4 {
            use super::*;
            $(#[tokio::test] async fn $test() { super::$test(Version::V34).await; })+
        }
        mod etcd_3_6 {
            use super::*;
            $(#[tokio::test] async fn $test() { super::$test(Version::V36).await; })+
        }
    };
}

both_versions!(
    prefixes_do_not_see_each_other,
    a_restart_of_etcd_loses_and_doubles_nothing,
    streams_and_keep_alives_come_back_after_a_restart,
    wrong_credentials_are_one_clear_error,
    tls_asks_both_for_their_certificates,
    a_revision_larger_than_a_response_comes_whole,
);

/// How long a test waits before it asks an etcd again that is starting.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

async fn own_etcd(version: Version, arguments: &'static [&'static str], tls: Option<Tls>) -> etcd_process::Etcd {
    tokio::task::spawn_blocking(move || etcd_process::Etcd::start_with(version, arguments, tls)).await.unwrap()
}

async fn prefixes_do_not_see_each_other(version: Version) {
    let (process, _turn) = shared_etcd(version).await;
    let mut config = config(&process);
    let connect = async |prefix: &str| {
        config.prefix = prefix.to_owned();
        Etcd::connect(config.clone()).await.unwrap()
    };
    let mut connect = connect;
    // Neighbours in the order of the keys: `/` is followed by `0`.
    let stores = [connect("/pre").await, connect("/pre/").await, connect("/pre0").await, connect("/prefix").await];
    let from = revision(&*stores[0]).await + 1;
    for (n, store) in stores.iter().enumerate().skip(1) {
        apply(&**store, [put("k", &n.to_string())]).await;
    }
    let of = async |n: usize| {
        let snapshot = stores[n].snapshot().await.unwrap();
        let value = |kv: &zketcd::store::KeyValue| (kv.key.clone(), kv.value.clone());
        snapshot.entries.iter().map(value).collect::<Vec<_>>()
    };
    assert_eq!(of(0).await, [(key("k"), key("1"))], "a slash at the end changes nothing");
    assert_eq!(of(2).await, [(key("k"), key("2"))]);
    assert_eq!(of(3).await, [(key("k"), key("3"))]);
    let seen = next(&mut stores[3].changes(from).await.unwrap(), 1).await;
    assert_eq!(
        (seen[0].revision, brief(&seen[0])),
        (from + 2, vec!["+k=3".to_owned()]),
        "others' revisions are skipped"
    );
}

/// Transactions are sent again, the same bytes, until an answer comes, while etcd is killed and started.
async fn a_restart_of_etcd_loses_and_doubles_nothing(version: Version) {
    let mut process = own_etcd(version, &[], None).await;
    let mut config = config(&process);
    config.timeout = Duration::from_secs(2);
    let store = Etcd::connect(config).await.unwrap();
    let from = apply(&*store, [put("lane", "0")]).await.revision + 1;
    let (progress, mut progressed) = mpsc::unbounded_channel();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let mut unanswered = 0;
            for n in 1..=300i64 {
                unanswered += advance(&store, n).await;
                let _ = progress.send(n);
            }
            unanswered
        }
    });
    let mut at = async |n| while progressed.recv().await.is_some_and(|done| done < n) {};
    at(50).await;
    process = tokio::task::spawn_blocking(move || {
        process.kill();
        process
    })
    .await
    .unwrap();
    let mut process = tokio::task::spawn_blocking(move || {
        process.start_again();
        process
    })
    .await
    .unwrap();
    at(150).await;
    let process = tokio::task::spawn_blocking(move || {
        process.stop();
        process.start_again();
        process
    })
    .await
    .unwrap();
    assert!(writer.await.unwrap() > 0, "etcd was away and nobody noticed");
    let seen = next(&mut store.changes(from).await.unwrap(), 300).await;
    for (n, revision) in seen.iter().enumerate() {
        assert_eq!(brief(revision), [format!("+lane={}", n + 1)]);
    }
    drop(process);
}

/// Moves the lane to `n`; how often no answer came.
async fn advance(store: &Etcd, n: i64) -> usize {
    let before = Compare::version(key("lane"), n);
    let txn = when([before], [put("lane", &n.to_string())], [crate::fixture::get("lane")]);
    let mut unanswered = 0;
    let given_up = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < given_up, "etcd does not come back");
        match store.transact(txn.clone()).await {
            Ok(TxnResult { succeeded: true, .. }) => return unanswered,
            Ok(TxnResult { results, .. }) => {
                let [OpResult::Get(Some(lane))] = &results[..] else { panic!("{results:?}") };
                assert_eq!(lane.version, n + 1, "applied before, and nothing else was");
                assert!(unanswered > 0);
                return unanswered;
            }
            Err(StoreError::Unavailable(_)) => unanswered += 1,
            Err(error) => panic!("{error}"),
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn streams_and_keep_alives_come_back_after_a_restart(version: Version) {
    let process = own_etcd(version, &[], None).await;
    let store = Etcd::connect(config(&process)).await.unwrap();
    let lease = lease_id();
    store.lease_grant(lease, 60).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    let written = apply(&*store, [put_leased("k", "1", lease)]).await.revision;
    let mut stream = store.changes(written).await.unwrap();
    next(&mut stream, 1).await;
    let process = tokio::task::spawn_blocking(move || {
        let mut process = process;
        process.stop();
        process
    })
    .await
    .unwrap();
    assert!(matches!(failure(&mut stream).await, StoreError::Unavailable(_)));
    assert!(matches!(store.lease_keep_alive(lease).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.changes(written).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.snapshot().await, Err(StoreError::Unavailable(_))));
    let _process = tokio::task::spawn_blocking(move || {
        let mut process = process;
        process.start_again();
        process
    })
    .await
    .unwrap();
    until_available(async || store.lease_keep_alive(lease).await).await;
    let mut stream = until_available(async || store.changes(written).await).await;
    assert_eq!(brief(&next(&mut stream, 1).await[0]), ["+k=1"]);
}

/// What `call` comes to once etcd answers.
async fn until_available<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> T {
    let trying = async {
        loop {
            match call().await {
                Ok(value) => return value,
                Err(StoreError::Unavailable(_)) => sleep(RETRY_PAUSE).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    in_time("etcd", trying).await
}

async fn wrong_credentials_are_one_clear_error(version: Version) {
    let mut process = own_etcd(version, &[], None).await;
    let mut good = config(&process);
    enable_authentication(&process.endpoint(), &good.prefix).await;

    good.user = Some(("flink".into(), "right".into()));
    let rejected = async |change: fn(&mut EtcdConfig)| {
        let mut config = good.clone();
        change(&mut config);
        match Etcd::connect(config).await {
            Err(StoreError::Rejected(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let why = rejected(|config| config.user = Some(("flink".into(), "wrong".into()))).await;
    assert_eq!(why, "etcd does not take this user and password");
    assert_eq!(rejected(|config| config.user = None).await, "etcd wants a user and a password");
    assert!(rejected(|config| config.prefix = "/elsewhere".into()).await.contains("permission denied"));

    let store = Etcd::connect(good).await.unwrap();
    use_everything(&*store).await;
    // etcd keeps its tokens in memory: after a restart they have to be fetched anew.
    process = tokio::task::spawn_blocking(move || {
        process.stop();
        process.start_again();
        process
    })
    .await
    .unwrap();
    let lease = lease_id();
    drop(until_available(async || store.changes(1).await).await);
    until_available(async || store.lease_grant(lease, 60).await).await;
    until_available(async || store.lease_keep_alive(lease).await).await;
    use_everything(&*store).await;
    drop(process);
}

/// A user `flink`, password `right`, who may read and write `prefix` only.
async fn enable_authentication(endpoint: &str, prefix: &str) {
    let mut root = Client::connect([endpoint], None).await.unwrap();
    root.role_add("root").await.unwrap();
    root.user_add("root", "root", None).await.unwrap();
    root.user_grant_role("root", "root").await.unwrap();
    root.role_add("flink").await.unwrap();
    let permission =
        Permission::new(PermissionType::Readwrite, format!("{prefix}/")).with_range_end(format!("{prefix}0"));
    root.role_grant_permission("flink", permission).await.unwrap();
    root.user_add("flink", "right", None).await.unwrap();
    root.user_grant_role("flink", "flink").await.unwrap();
    root.auth_enable().await.unwrap();
    let options = ConnectOptions::new().with_user("root", "root");
    Client::connect([endpoint], Some(options)).await.unwrap().get("any", None).await.unwrap();
}

/// Every call of a store once.
async fn use_everything(store: &dyn Store) {
    let lease = lease_id();
    store.identity().await.unwrap();
    store.lease_grant(lease, 60).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    let written = apply(store, [put_leased("k", "1", lease)]).await.revision;
    assert_eq!(brief(&next(&mut store.changes(written).await.unwrap(), 1).await[0]), ["+k=1"]);
    assert_eq!(store.snapshot().await.unwrap().entries.len(), 1);
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(value(store, "k").await, None);
}

async fn tls_asks_both_for_their_certificates(version: Version) {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let tls = Tls { cert: ours.path("server.pem"), key: ours.path("server.key"), client_ca: Some(ours.path("ca.pem")) };
    let process = own_etcd(version, &[], Some(tls)).await;
    let mut good = config(&process);
    good.ca = Some(ours.pem("ca.pem"));
    good.identity = Some((ours.pem("client.pem"), ours.pem("client.key")));
    use_everything(&*Etcd::connect(good.clone()).await.unwrap()).await;

    let failure = async |change: &dyn Fn(&mut EtcdConfig)| {
        let mut config = good.clone();
        change(&mut config);
        Etcd::connect(config).await.unwrap_err().to_string()
    };
    let why = failure(&|config| config.ca = Some(theirs.pem("ca.pem"))).await;
    assert!(why.contains("certificate"), "{why}");
    let why = failure(&|config| config.identity = None).await;
    assert!(why.to_lowercase().contains("certificate"), "{why}");
    let why = failure(&|config| config.ca = Some(ours.pem("server.key"))).await;
    assert!(why.contains("certificate"), "{why}");
    let why = failure(&|config| config.endpoints = vec![process.endpoint().replace("https", "http")]).await;
    assert!(why.contains("https://"), "{why}");
}

/// A CA, a server's certificate for 127.0.0.1 and a client's, as PEM files.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, pem: String| fs::write(dir.path().join(name), pem).unwrap();
        write("ca.pem", ca.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Certificates(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }

    fn pem(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

/// A stream that has to catch up gets a thousand revisions in one response, which etcd then cuts into fragments of 1.5
/// MiB, in the middle of revisions.
async fn a_revision_larger_than_a_response_comes_whole(version: Version) {
    let (process, _turn) = shared_etcd(version).await;
    let store = Etcd::connect(config(&process)).await.unwrap();
    let from = revision(&*store).await + 1;
    let value = Bytes::from(vec![b'x'; 10_000]);
    for _ in 0..8 {
        let put = |n: usize| Op::Put { key: key(format!("k{n}")), value: value.clone(), lease: 0 };
        apply(&*store, (0..100).map(put).collect::<Vec<_>>()).await;
    }
    let seen = next(&mut store.changes(from).await.unwrap(), 8).await;
    for (n, revision) in seen.iter().enumerate() {
        assert_eq!((revision.revision, revision.changes.len()), (from + n as i64, 100));
    }
}

#[tokio::test]
async fn a_snapshot_of_many_megabytes_is_read() {
    let (process, _turn) = shared_etcd(Version::V36).await;
    let store = Etcd::connect(config(&process)).await.unwrap();
    // More than one answer may have, all within what the first page asks for.
    for n in 0..80 {
        let value = Bytes::from(vec![b'x'; 1024 * 1024]);
        store.transact(then([Op::Put { key: key(format!("n/{n:03}")), value, lease: 0 }])).await.unwrap();
    }
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.entries.len(), 80);
    assert!(snapshot.entries.iter().all(|kv| kv.value.len() == 1024 * 1024));
}

#[tokio::test]
async fn endpoints_that_are_away_are_passed_over() {
    let (process, _turn) = shared_etcd(Version::V36).await;
    // Nobody listens on one; the other takes connections and says nothing.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&process);
    config.timeout = Duration::from_secs(3);
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    config.endpoints = vec![silent_url.clone(), format!("http://{gone}"), process.endpoint()];
    let store = Etcd::connect(config.clone()).await.unwrap();
    use_everything(&*store).await;
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.warnings.len(), 2, "{:?}", identity.warnings);

    config.endpoints = vec![format!("http://{gone}")];
    let away = Etcd::connect(config.clone()).await;
    assert!(matches!(&away, Err(StoreError::Unavailable(why)) if why.contains("refused")), "{away:?}");
    config.endpoints = vec![silent_url];
    let away = Etcd::connect(config).await;
    assert!(matches!(&away, Err(StoreError::Unavailable(why)) if why.contains("no answer within 3s")), "{away:?}");
}

#[tokio::test]
async fn two_clusters_are_not_one() {
    let (one, _turn) = shared_etcd(Version::V36).await;
    let other = own_etcd(Version::V36, &["--initial-cluster-token=other"], None).await;
    let mut config = config(&one);
    config.endpoints = vec![one.endpoint(), other.endpoint()];
    let refused = Etcd::connect(config).await.unwrap().identity().await;
    assert!(matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("another etcd cluster")), "{refused:?}");
}

#[tokio::test]
async fn the_identity_names_the_version_and_warns_of_old_ones() {
    for (version, number, old) in [(Version::V34, "3.4.", true), (Version::V36, "3.6.", false)] {
        let (process, _turn) = shared_etcd(version).await;
        let identity = Etcd::connect(config(&process)).await.unwrap().identity().await.unwrap();
        assert!(identity.description.starts_with(&format!("etcd {number}")), "{identity:?}");
        let patch: u32 = identity.description.rsplit('.').next().unwrap().parse().unwrap();
        assert_eq!(identity.warnings.len(), usize::from(old && patch < 42), "{identity:?}");
    }
}

/// etcd stops without a word, its connections open: calls end with their timeout, and the stream when the connection's
/// probes go unanswered.
#[tokio::test]
async fn an_etcd_that_hangs_is_noticed() {
    let process = Arc::new(own_etcd(Version::V36, &[], None).await);
    let mut config = config(&process);
    config.timeout = Duration::from_secs(2);
    let store = Etcd::connect(config).await.unwrap();
    let lease = lease_id();
    store.lease_grant(lease, 60).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    let from = revision(&*store).await + 1;
    let mut stream = store.changes(from).await.unwrap();
    process.pause();
    for result in [
        store.transact(then([put("k", "1")])).await.map(drop),
        store.lease_keep_alive(lease).await,
        store.snapshot().await.map(drop),
        store.changes(from).await.map(drop),
    ] {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    assert!(matches!(failure(&mut stream).await, StoreError::Unavailable(_)));
    process.resume();
    until_available(async || store.lease_keep_alive(lease).await).await;
    let mut stream = until_available(async || store.changes(from).await).await;
    until_available(async || store.transact(then([put("l", "1")])).await).await;
    // The write without an answer may be there, too.
    assert!(in_time("a revision", stream.next()).await.is_some_and(|item| item.is_ok()));
}
