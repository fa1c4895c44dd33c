//! Cases out of nowhere: few znodes and names, so that the sessions get in each other's way.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{Union, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::case::{Acls, Ask, Case, Create, How, Op, Since, Step};
use crate::wire::op;

/// Steps of a case.
const STEPS: std::ops::RangeInclusive<usize> = 5..=30;

/// One case in so many has a session that expires: it takes seconds, though no work.
const EXPIRES_ONE_IN: u32 = 60;

/// The case of that number from that seed, as something that can be shrunk.
pub fn tree(seed: u64, number: u64, alone: bool) -> impl ValueTree<Value = Case> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    bytes[16] = u8::from(alone);
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    thread_local! {
        static CASES: [BoxedStrategy<Case>; 2] = [case(false), case(true)];
    }
    CASES.with(|cases| cases[usize::from(alone)].new_tree(&mut runner)).expect("a case is found")
}

fn case(alone: bool) -> BoxedStrategy<Case> {
    (2..=4usize)
        .prop_flat_map(move |sessions| {
            let steps = vec(step(sessions, alone), STEPS);
            // The end of a session by time, once, somewhere.
            let expiry = if alone { 0 } else { 1 };
            let expiry = prop_oneof![
                EXPIRES_ONE_IN => Just(None),
                expiry => (0..sessions, any::<prop::sample::Index>()).prop_map(Some),
            ];
            (Just(sessions), steps, expiry)
        })
        .prop_map(move |(sessions, mut steps, expiry)| {
            if let Some((session, at)) = expiry {
                let at = at.index(steps.len());
                steps.insert(at, Step::Expire(session));
            }
            Case { alone, sessions, steps: steps.into_iter().flat_map(orderly).collect() }
        })
        .boxed()
}

/// What is answered out of turn goes out alone, and nothing that writes goes out behind a setACL: ZooKeeper judges it by
/// the old list or the new one, as it comes (`PrepRequestProcessor`: the record of an outstanding setACL keeps the old).
/// So does createContainer with the flags of an ephemeral znode, which is one only while it is outstanding
/// (`PrepRequestProcessor.pRequest2TxnCreate`).
fn orderly(step: Step) -> Vec<Step> {
    let Step::Send(session, asks) = step else { return vec![step] };
    let mut bursts: Vec<Vec<Ask>> = Vec::new();
    for ask in asks {
        let alone = |ask: &Ask| match ask {
            Ask::Auth(..) | Ask::Sasl(_) | Ask::Unknown(_) | Ask::Check(..) | Ask::SetAcl(..) => true,
            Ask::Create(create) => create.op == op::CREATE_CONTAINER && matches!(create.flags, 1 | 3),
            _ => false,
        };
        match bursts.last_mut() {
            // It takes effect behind a closeSession, if the server reads it before it closes the connection.
            Some(burst) if matches!(ask, Ask::DeleteContainer(_)) && burst.contains(&Ask::CloseSession) => {}
            Some(burst) if !alone(&ask) && !burst.last().is_some_and(alone) => burst.push(ask),
            Some(burst) if matches!(ask, Ask::SetAcl(..)) && !burst.last().is_some_and(alone) => burst.push(ask),
            _ => bursts.push(vec![ask]),
        }
    }
    bursts.into_iter().map(|asks| Step::Send(session, asks)).collect()
}

fn step(sessions: usize, alone: bool) -> BoxedStrategy<Step> {
    let one = ask(alone);
    prop_oneof![
        60 => (0..sessions, vec(one.clone(), 1..=1)).prop_map(|(session, asks)| Step::Send(session, asks)),
        25 => (0..sessions, vec(one, 2..=6)).prop_map(|(session, asks)| Step::Send(session, asks)),
        3 => (0..sessions).prop_map(Step::Drop),
        6 => (0..sessions, how()).prop_map(|(session, how)| Step::Connect(session, how)),
    ]
    .boxed()
}

fn how() -> impl Strategy<Value = How> + Clone {
    prop_oneof![8 => Just(How::Resume), 1 => Just(How::Forgetful), 1 => Just(How::WrongPassword), 2 => Just(How::Fresh)]
}

fn ask(alone: bool) -> BoxedStrategy<Ask> {
    let path = || path(alone);
    let target = || target(alone);
    let watched = || prop_oneof![2 => Just(true), 1 => Just(false)];
    let writes = prop_oneof![
        9 => create(alone).prop_map(Ask::Create),
        6 => (target(), version()).prop_map(|(path, version)| Ask::Delete(path, version)),
        1 => target().prop_map(Ask::DeleteContainer),
        5 => (target(), data(), version()).prop_map(|(path, data, version)| Ask::SetData(path, data, version)),
        3 => (target(), acls(), version()).prop_map(|(path, acl, version)| Ask::SetAcl(path, acl, version)),
        5 => vec(multi_op(alone), 0..=5).prop_map(Ask::Multi),
    ];
    let reads = prop_oneof![
        2 => (path(), watched()).prop_map(|(path, watch)| Ask::Exists(path, watch)),
        2 => (path(), watched()).prop_map(|(path, watch)| Ask::GetData(path, watch)),
        2 => (path(), watched()).prop_map(|(path, watch)| Ask::GetChildren(path, watch)),
        2 => (path(), watched()).prop_map(|(path, watch)| Ask::GetChildren2(path, watch)),
        2 => path().prop_map(Ask::GetAcl),
        2 => multi_read(alone).prop_map(Ask::MultiRead),
        1 => ephemerals_prefix(alone).prop_map(Ask::GetEphemerals),
        1 => path().prop_map(Ask::GetAllChildrenNumber),
    ];
    let watches = prop_oneof![
        4 => (path(), mode()).prop_map(|(path, mode)| Ask::AddWatch(path, mode)),
        2 => (path(), watcher()).prop_map(|(path, kind)| Ask::CheckWatches(path, kind)),
        3 => (path(), watcher()).prop_map(|(path, kind)| Ask::RemoveWatches(path, kind)),
        1 => (since(), [paths(alone), paths(alone), paths(alone)]).prop_map(|(since, lists)| Ask::SetWatches(since, lists)),
        2 => (since(), [paths(alone), paths(alone), paths(alone), paths(alone), paths(alone)])
            .prop_map(|(since, lists)| Ask::SetWatches2(since, lists)),
    ];
    let session = prop_oneof![
        2 => path().prop_map(Ask::Sync),
        1 => Just(Ask::Ping),
        2 => Just(Ask::WhoAmI),
        5 => auth(),
        1 => Just(Ask::Reconfig),
        1 => prop_oneof![Just(None), Just(Some(String::new())), Just(Some("token".to_owned()))].prop_map(Ask::Sasl),
        2 => Just(Ask::CloseSession),
        1 => (path(), version()).prop_map(|(path, version)| Ask::Check(path, version)),
        1 => unknown_op().prop_map(Ask::Unknown),
    ];
    Union::new_weighted(vec![(50, writes.boxed()), (20, reads.boxed()), (18, watches.boxed()), (8, session.boxed())])
        .boxed()
}

fn create(alone: bool) -> BoxedStrategy<Create> {
    let op = prop_oneof![
        4 => Just(op::CREATE),
        4 => Just(op::CREATE2),
        2 => Just(op::CREATE_CONTAINER),
        2 => Just(op::CREATE_TTL),
    ];
    (op, target(alone), data(), prop_oneof![5 => Just(open()), 2 => acls()], any::<prop::sample::Index>())
        .prop_flat_map(move |(op, path, data, acl, any)| {
            let fitting: &[i32] = match op {
                op::CREATE_CONTAINER => &[4],
                op::CREATE_TTL => &[5, 6],
                _ => &[0, 1, 2, 3, 0, 1],
            };
            let flags = prop_oneof![
                12 => Just(fitting[any.index(fitting.len())]),
                2 => 0..=6i32,
                1 => select(vec![-1, 7, 8, 99, i32::MAX, i32::MIN]),
            ];
            let ttl = prop_oneof![
                6 => Just(3_600_000),
                1 => select(vec![0, -1, 1_000_000, 0xff_ffff_ffff, 0x100_0000_0000, i64::MIN, i64::MAX]),
            ];
            let ttl = if op == op::CREATE_TTL { ttl.boxed() } else { Just(0).boxed() };
            // The number that a sequential sibling of the room gets depends on all that happens at the root.
            let fixed = !alone && path == "/";
            let plain = move |flags: i32| match flags {
                2 | 3 if fixed => flags - 2,
                6 if fixed => 5,
                _ => flags,
            };
            // Of a mode without one, ZooKeeper wants a negative ttl in a createTTL, and then ends: it is found illegal where
            // nothing may fail any more (`EphemeralType.validateTTL`, `DataTree.processTxn`).
            let harmless = |flags: i32, ttl: i64| if matches!(flags, 5 | 6) { ttl } else { ttl.max(0) };
            (flags.prop_map(plain), ttl).prop_map(move |(flags, ttl)| Create {
                op,
                path: path.clone(),
                data: data.clone(),
                acl: acl.clone(),
                flags,
                ttl: harmless(flags, ttl),
            })
        })
        .boxed()
}

fn multi_op(alone: bool) -> BoxedStrategy<Op> {
    prop_oneof![
        8 => create(alone).prop_map(Op::Create),
        5 => (target(alone), version()).prop_map(|(path, version)| Op::Delete(path, version)),
        5 => (target(alone), data(), version()).prop_map(|(path, data, version)| Op::SetData(path, data, version)),
        5 => (target(alone), version()).prop_map(|(path, version)| Op::Check(path, version)),
        1 => (select(vec![op::GET_DATA, op::GET_CHILDREN, op::SET_ACL, 0, 99]), path(alone)).prop_map(|(op, path)| Op::Read(op, path)),
    ]
    .boxed()
}

fn multi_read(alone: bool) -> BoxedStrategy<Vec<Op>> {
    let read = (select(vec![op::GET_DATA, op::GET_CHILDREN]), path(alone));
    let odd = (select(vec![op::EXISTS, op::GET_CHILDREN2, op::DELETE, 0]), path(alone));
    let read = || read.clone().prop_map(|(op, path)| Op::Read(op, path));
    prop_oneof![
        10 => vec(read(), 0..=4),
        1 => vec(prop_oneof![3 => read(), 1 => odd.prop_map(|(op, path)| Op::Read(op, path))], 1..=3),
        1 => vec(multi_op(alone), 1..=2),
    ]
    .boxed()
}

/// Those of the room; a few of them are there from the beginning (`Observer::furnish`).
fn legal_path() -> impl Strategy<Value = String> + Clone {
    let places = [("/", 3), ("/a", 7), ("/b", 5), ("/c", 3), ("/a/x", 6), ("/a/y", 3), ("/b/x", 3), ("/a/x/z", 3)];
    let sequential = [("/a/s-", 1), ("/s-", 1), ("/a/s-0000000001", 1), ("/s-0000000002", 1), ("/a/", 1)];
    Union::new_weighted(
        places.into_iter().chain(sequential).map(|(path, weight)| (weight, Just(path.to_owned()))).collect::<Vec<_>>(),
    )
}

fn path(alone: bool) -> BoxedStrategy<String> {
    let odd = vec![
        "a",
        "@a/b",
        "@//",
        "//a",
        "/a//x",
        "/a/x/",
        "/.",
        "/..",
        "/a/.",
        "/a/..",
        "/a/../b",
        "/...",
        "/.a",
        "/a ",
        "/a\0",
        "/\0",
        "/a\u{1}",
        "/a\u{1f}x",
        "/a\u{7f}",
        "/a\u{9f}",
        "/a\u{a0}",
        "/\u{e4}",
        "/a\u{d7ff}",
        // an unpaired surrogate in UTF-8, a byte that is none, an overlong slash, a sequence cut short
        "/a\u{e0ed}\u{e0a0}\u{e080}",
        "/a\u{e0ff}",
        "/a\u{e0c0}\u{e0af}",
        "/a\u{e0e2}\u{e082}",
        "/a\u{f8ff}",
        "/a\u{f900}",
        "/a\u{ffef}",
        "/a\u{fff0}",
        "/a\u{ffff}",
        "/\u{1f600}",
        "@/zookeeper",
        "@/zookeeper/config",
        "@/zookeeper/quota",
        "@/zookeeper/none",
    ];
    let shared = [(40, legal_path().boxed()), (3, select(odd).prop_map(str::to_owned).boxed())];
    let roots = (
        15,
        select(
            &["@/", "@/", "@", "@/zookeeper", "@/zookeeper/config", "@/zookeeper/quota", "@/zookeeper/x", "@/top"][..],
        )
        .prop_map(str::to_owned)
        .boxed(),
    );
    Union::new_weighted(shared.into_iter().chain(alone.then_some(roots)).collect::<Vec<_>>()).boxed()
}

/// What is written to: where others are at work, nothing outside of the room. The
/// empty path, which to a read is the root, is illegal here.
fn target(alone: bool) -> BoxedStrategy<String> {
    let inside = |path: String| if path.starts_with("@/zookeeper") { "/c".to_owned() } else { path };
    let inside = prop_oneof![30 => path(alone).prop_map(inside), 1 => Just("@".to_owned())];
    if alone { path(alone) } else { inside.boxed() }
}

fn paths(alone: bool) -> BoxedStrategy<Vec<String>> {
    prop_oneof![2 => Just(Vec::new()), 1 => vec(path(alone), 1..=3)].boxed()
}

fn ephemerals_prefix(alone: bool) -> BoxedStrategy<String> {
    prop_oneof![
        4 => select(&["@/", "/", "@", "/a", "/a/", "/a/s", "/b/x", "@ ", "@nothing"][..]).prop_map(str::to_owned),
        1 => path(alone),
    ]
    .boxed()
}

fn version() -> impl Strategy<Value = i32> + Clone {
    prop_oneof![
        8 => Just(-1),
        6 => Just(0),
        3 => Just(1),
        1 => Just(2),
        1 => select(vec![-2, 7, i32::MAX, i32::MIN]),
    ]
}

fn data() -> impl Strategy<Value = Option<String>> + Clone {
    prop_oneof![
        4 => Just(Some("new".to_owned())),
        2 => Just(Some(String::new())),
        2 => Just(None),
        1 => Just(Some("\u{e000}\u{e0ff}\0".to_owned())),
        1 => Just(Some("long ".repeat(40))),
    ]
}

fn entry(perms: i32, scheme: &str, id: &str) -> (i32, String, String) {
    (perms, scheme.to_owned(), id.to_owned())
}

fn open() -> Acls {
    Some(vec![entry(31, "world", "anyone")])
}

/// `user:secret`, as an ACL holds it.
const USER: &str = "user:5w9W4eL3797Y4Wq8AcKUPPk8ha4=";

fn acls() -> BoxedStrategy<Acls> {
    let perms = prop_oneof![4 => Just(31), 6 => 0..=31i32, 1 => select(vec![-1, 32, 255])];
    let who = select(vec![
        ("world", "anyone"),
        ("world", "anyone"),
        ("auth", ""),
        ("auth", ""),
        ("auth", "user"),
        ("digest", USER),
        ("digest", USER),
        ("digest", "other:none"),
        ("ip", "127.0.0.1"),
        ("ip", "127.0.0.0/8"),
        ("ip", "10.0.0.0/8"),
    ]);
    let odd = select(vec![
        ("world", "nobody"),
        ("world", ""),
        ("digest", "user"),
        ("digest", "a:b:c"),
        ("digest", ""),
        ("ip", "127.0.0.1/33"),
        ("ip", "127.0.0.1/x"),
        ("ip", "localhost"),
        ("ip", ""),
        ("ip", "::1"),
        ("super", ""),
        ("x509", "CN=a"),
        ("sasl", "a"),
        ("unheard", "of"),
        ("", ""),
    ]);
    let one = (perms, prop_oneof![12 => who, 1 => odd]).prop_map(|(perms, (scheme, id))| entry(perms, scheme, id));
    prop_oneof![
        3 => Just(open()),
        12 => vec(one, 1..=3).prop_map(Some),
        // twice the same
        1 => Just(Some(vec![entry(1, "world", "anyone"), entry(31, "digest", USER), entry(1, "world", "anyone")])),
        1 => Just(Some(Vec::new())),
        1 => Just(None),
    ]
    .boxed()
}

fn auth() -> impl Strategy<Value = Ask> + Clone {
    let good = select(vec![
        ("digest", "user:secret"),
        ("digest", "user:secret"),
        ("digest", "user:secret"),
        ("digest", "second:word"),
        ("digest", "super:test"),
        ("digest", "super:wrong"),
        ("digest", "user:wrong"),
        ("digest", "alone"),
        ("digest", "a:b:c"),
        ("ip", ""),
        ("ip", "10.1.2.3"),
    ]);
    let odd = select(vec![
        ("digest", ""),
        ("digest", ":"),
        ("world", ""),
        ("world", "anyone"),
        ("auth", ""),
        ("x509", ""),
        ("sasl", "a"),
        ("unheard", "of"),
        ("", ""),
    ]);
    let given = prop_oneof![9 => good, 1 => odd].prop_map(|(scheme, token)| (scheme, Some(token.to_owned())));
    prop_oneof![30 => given, 1 => select(vec!["digest", "ip", "unheard"]).prop_map(|scheme| (scheme, None))]
        .prop_map(|(scheme, token)| Ask::Auth(scheme.to_owned(), token))
}

fn mode() -> impl Strategy<Value = i32> + Clone {
    prop_oneof![6 => Just(0), 6 => Just(1), 1 => select(vec![-1, 2, i32::MAX])]
}

fn watcher() -> impl Strategy<Value = i32> + Clone {
    prop_oneof![12 => 1..=5i32, 1 => select(vec![0, 6, -1])]
}

fn since() -> impl Strategy<Value = Since> + Clone {
    prop_oneof![
        3 => (0..8usize).prop_map(Since::Write),
        2 => Just(Since::Seen),
        1 => Just(Since::Zero),
        1 => Just(Since::Future),
    ]
}

/// Opcodes that ZooKeeper gives no meaning to, and those that only servers use.
fn unknown_op() -> impl Strategy<Value = i32> + Clone {
    select(vec![10, 23, 108, 99, 1000, -2, i32::MAX, i32::MIN])
}
