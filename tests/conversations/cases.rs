//! What is sent.
//!
//! Each case begins with an empty znode `/c` of data `data`, and connection `a` not yet open.

use zketcd::jute::op;

use super::frames::*;
use super::show::{CREATE_SESSION_XID, bytes};

/// A conversation.
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
    /// Why zketcd's side of it is another one. It stands in docs/COMPATIBILITY.md too.
    pub deviates: Option<&'static str>,
}

/// A step of it; connections have letters.
#[derive(Clone)]
pub enum Step {
    /// Sends bytes, as they are.
    Send(char, Vec<u8>),
    /// The same, shown otherwise.
    SendAs(char, Vec<u8>, String),
    Connect(char, Connect),
    /// Shows what comes until what was sent must have been answered. For connections with a session.
    Hear(char),
    /// Shows what comes until the server closes the connection; a server that waits is one that does not.
    Wait(char),
    /// The same for a server that will close the connection, some time.
    End(char),
    /// The client closes the connection.
    Leave(char),
}

/// A connect request.
#[derive(Clone)]
pub struct Connect {
    pub version: i32,
    pub zxid: Zxid,
    pub timeout: i32,
    pub session: SessionId,
    pub password: Password,
    /// What follows the password: the read-only byte.
    pub rest: Vec<u8>,
    /// What comes right behind the frame.
    pub behind: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Zxid {
    Is(i64),
    /// What no server has seen.
    Ahead,
}

#[derive(Clone, Debug)]
pub enum SessionId {
    Is(i64),
    /// The session of that connection.
    Of(char),
}

#[derive(Clone, Debug)]
pub enum Password {
    Is(Vec<u8>),
    /// Its password, cut or filled up with zeros to that length.
    Of(char, usize),
}

impl Connect {
    /// A new session of 30 s.
    pub fn new() -> Connect {
        Connect {
            version: 0,
            zxid: Zxid::Is(0),
            timeout: 30_000,
            session: SessionId::Is(0),
            password: Password::Is(vec![0; 16]),
            rest: byte(0),
            behind: Vec::new(),
        }
    }

    /// The session of connection `of` goes on.
    pub fn to(of: char) -> Connect {
        Connect { session: SessionId::Of(of), password: Password::Of(of, 16), ..Connect::new() }
    }

    pub fn shown(&self) -> String {
        let password = match &self.password {
            Password::Is(password) => format!("password={}", bytes(password)),
            Password::Of(of, 16) => format!("password of {of}"),
            Password::Of(of, length) => format!("password of {of}, made {length} bytes"),
        };
        let session = match self.session {
            SessionId::Is(id) => format!("session={id:#x}"),
            SessionId::Of(of) => format!("session of {of}"),
        };
        let zxid = match self.zxid {
            Zxid::Is(zxid) => format!("zxid={zxid:#x}"),
            Zxid::Ahead => "a zxid to come".to_owned(),
        };
        let Connect { version, timeout, .. } = self;
        let mut shown =
            format!("connect version={version} {zxid} timeout={timeout} {session} {password} {}", bytes(&self.rest));
        if !self.behind.is_empty() {
            shown += &format!(", then {}", bytes(&self.behind));
        }
        shown
    }
}

fn case(name: impl Into<String>, steps: Vec<Step>) -> Case {
    Case { name: name.into(), steps, deviates: None }
}

/// A new session, and each of these in it: sent, then heard.
fn session(name: impl Into<String>, each: Vec<Vec<u8>>) -> Case {
    let mut steps = vec![Step::Connect('a', Connect::new())];
    for sent in each {
        steps.extend([Step::Send('a', sent), Step::Hear('a')]);
    }
    case(name, steps)
}

/// A new session, and all of it in one piece.
fn pipelined(name: impl Into<String>, all: Vec<Vec<u8>>) -> Case {
    session(name, vec![all.concat()])
}

/// A new session, and requests in it, numbered from 1.
fn requests(name: impl Into<String>, all: Vec<(i32, Vec<u8>)>) -> Case {
    let numbered = all.into_iter().zip(1..).map(|((op, body), xid)| request(xid, op, body));
    session(name, numbered.collect())
}

/// A new session, and something that ends it there: whether more is taken before the end is a matter of luck.
fn ending(name: impl Into<String>, sent: Vec<Vec<u8>>) -> Case {
    case(name, vec![Step::Connect('a', Connect::new()), Step::Send('a', sent.concat()), Step::Wait('a')])
}

/// Pieces without a connect request.
fn raw(name: impl Into<String>, pieces: Vec<Vec<u8>>) -> Case {
    let mut steps = Vec::new();
    for piece in pieces {
        steps.extend([Step::Send('a', piece), Step::Wait('a')]);
    }
    case(name, steps)
}

fn connect(name: impl Into<String>, connect: Connect) -> Case {
    case(name, vec![Step::Connect('a', connect), Step::Hear('a')])
}

/// A second connection for the session of a first one, and what becomes of that.
fn again(name: impl Into<String>, connect: Connect) -> Case {
    let steps = vec![Step::Connect('a', Connect::new()), Step::Connect('b', connect), Step::Wait('a'), Step::Hear('b')];
    case(name, steps)
}

const LIMIT: usize = 0xf_ffff;

/// All of them, in the order of the record.
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(handshakes());
    all.extend(handshakes_cut_short());
    all.extend(sessions());
    all.extend(words());
    all.extend(frame_lengths());
    all.extend(whole_requests());
    all.extend(requests_cut_short());
    all.extend(fields());
    all.extend(opcodes());
    all.extend(xids());
    all.extend(strings());
    all.extend(paths());
    all.extend(auths());
    all.extend(acls());
    all.extend(multis());
    all.extend(ends());
    for (name, reason) in DEVIATIONS {
        let case = all.iter_mut().find(|case| case.name == name).expect("a deviation's case");
        case.deviates = Some(reason);
    }
    all
}

const NULL_ID: &str = "a null id is one that is not valid";
const PASSWORD: &str = "a wrong password does not end the session's connection: whoever knows an id could do that";
const NO_HALF: &str = "a request that cannot be read has no effects, not even those of its first part";
const NO_REST: &str = "an error is a header alone";
const UTF8: &str = "what is beyond U+FFFF goes back as it came, not as two surrogates that nobody can read";

/// Cases in which zketcd is meant to differ, and why. docs/COMPATIBILITY.md says so too.
const DEVIATIONS: [(&str, &str); 16] = [
    ("a second connection with another timeout", "a session keeps its timeout: its lease is granted for it"),
    ("a second connection with a wrong password", PASSWORD),
    ("a second connection with an empty password", PASSWORD),
    ("a second connection with a password of 15 bytes", PASSWORD),
    ("a second connection with a password of 17 bytes", PASSWORD),
    ("ACLs: a null id", NULL_ID),
    ("ACLs: a null id of digest", NULL_ID),
    ("setWatches, field 4", NO_HALF),
    ("setWatches2, field 6", NO_HALF),
    ("sync, field 1", "a null path comes back as an empty one"),
    ("multiRead's header, field 4", NO_REST),
    ("a sync of four bytes a character", UTF8),
    ("a sync of a character of a private area in four bytes", UTF8),
    ("an ACL's id of four bytes a character", UTF8),
    ("an ACL's id of a character of a private area in four bytes", UTF8),
    ("auth: digest of four bytes a character", UTF8),
];

fn handshakes() -> Vec<Case> {
    let new = Connect::new;
    let mut cases = vec![
        connect("a new session", new()),
        connect("no read-only byte", Connect { rest: vec![], ..new() }),
        connect("a read-only server is welcome", Connect { rest: byte(1), ..new() }),
        connect("read-only byte 2", Connect { rest: byte(2), ..new() }),
        connect("bytes behind the read-only byte", Connect { rest: [byte(0), vec![7; 20]].concat(), ..new() }),
        connect("protocol version 1", Connect { version: 1, ..new() }),
        connect("protocol version -1", Connect { version: -1, ..new() }),
        connect("last zxid 1", Connect { zxid: Zxid::Is(1), ..new() }),
        connect("last zxid -1", Connect { zxid: Zxid::Is(-1), ..new() }),
        connect("the least last zxid", Connect { zxid: Zxid::Is(i64::MIN), ..new() }),
        connect("a last zxid to come", Connect { zxid: Zxid::Ahead, ..new() }),
        connect("session -1", Connect { session: SessionId::Is(-1), ..new() }),
        connect("a session that never was", Connect { session: SessionId::Is(0x1234_5678), ..new() }),
        connect("the least session id", Connect { session: SessionId::Is(i64::MIN), ..new() }),
        connect(
            "a session that never was, of a client that knows no read-only byte",
            Connect { session: SessionId::Is(0x1234_5678), rest: vec![], ..new() },
        ),
        connect("session 0 with a password", Connect { password: Password::Is(vec![7; 16]), ..new() }),
    ];
    for timeout in [i32::MIN, -1, 0, 1, 999, 1000, 1001, 59_999, 60_000, 60_001, i32::MAX] {
        cases.push(connect(format!("a timeout of {timeout}"), Connect { timeout, ..new() }));
    }
    for length in [0, 1, 15, 17, 1000] {
        let password = Password::Is(vec![0; length]);
        cases.push(connect(format!("a new session with a password of {length} bytes"), Connect { password, ..new() }));
    }
    cases
}

fn connect_body(password: Vec<u8>) -> Vec<u8> {
    [int(0), long(0), int(30_000), long(0), password, byte(0)].concat()
}

fn handshakes_cut_short() -> Vec<Case> {
    let whole = connect_body(text([0; 16]));
    let mut cases: Vec<Case> = (0..44)
        .map(|length| raw(format!("a connect request of {length} bytes"), vec![framed(&whole[..length])]))
        .collect();
    cases.extend([
        raw("a null password", vec![framed(connect_body(null()))]),
        raw("a password of length -2", vec![framed(connect_body(int(-2)))]),
        raw("a password of the greatest length", vec![framed(connect_body(int(i32::MAX)))]),
        raw("a password longer than its frame", vec![framed(connect_body([int(17), vec![0; 16]].concat()))]),
        raw("half a connect request", vec![framed(&whole)[..20].to_vec()]),
        raw("half a length", vec![vec![0, 0]]),
        raw("a ping in place of a connect request", vec![request(-2, op::PING, [])]),
        raw("a getData in place of a connect request", vec![request(1, op::GET_DATA, path_watch("/c", 0))]),
        raw("an auth in place of a connect request", vec![request(-4, op::AUTH, auth("digest", b"u:p"))]),
        raw("a closeSession in place of a connect request", vec![request(1, op::CLOSE_SESSION, [])]),
    ]);
    for length in [-1, i32::MIN, -1000, LIMIT as i32 + 1, i32::MAX] {
        cases.push(raw(format!("a connect request of length {length}"), vec![int(length)]));
    }
    cases.push(raw("a connect request of the greatest length, its bytes to come", vec![int(LIMIT as i32)]));
    cases
}

fn sessions() -> Vec<Case> {
    let get = |xid| request(xid, op::GET_DATA, path_watch("/c", 0));
    let wrong = Connect { password: Password::Is(vec![7; 16]), ..Connect::to('a') };
    let of_length = |length| Connect { password: Password::Of('a', length), ..Connect::to('a') };
    let second = [int(0), long(0), int(30_000), long(0), text([0; 16]), byte(0)].concat();
    vec![
        again("a second connection for a session", Connect::to('a')),
        again("a second connection, without the read-only byte", Connect { rest: vec![], ..Connect::to('a') }),
        again("a second connection with another timeout", Connect { timeout: 10_000, ..Connect::to('a') }),
        again("a second connection that has seen too much", Connect { zxid: Zxid::Ahead, ..Connect::to('a') }),
        again("a second connection with a wrong password", wrong.clone()),
        again("a second connection with an empty password", of_length(0)),
        again("a second connection with a password of 15 bytes", of_length(15)),
        again("a second connection with a password of 17 bytes", of_length(17)),
        case(
            "a session goes on, and its ephemerals with it",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', request(1, op::CREATE, create("/c/e", 1))),
                Step::Hear('a'),
                Step::Leave('a'),
                Step::Connect('b', Connect::to('a')),
                Step::Send('b', request(1, op::EXISTS, path_watch("/c/e", 0))),
                Step::Hear('b'),
            ],
        ),
        case(
            "a session that was closed",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', request(1, op::CLOSE_SESSION, [])),
                Step::Hear('a'),
                Step::Connect('b', Connect::to('a')),
                Step::Hear('b'),
            ],
        ),
        case(
            "a session that was closed, and a client that knows no read-only byte",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', request(1, op::CLOSE_SESSION, [])),
                Step::Hear('a'),
                Step::Connect('b', Connect { rest: vec![], ..Connect::to('a') }),
                Step::Hear('b'),
            ],
        ),
        case(
            "an identity does not outlive its connection",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', request(-4, op::AUTH, auth("digest", b"u:p"))),
                Step::Hear('a'),
                Step::Connect('b', Connect::to('a')),
                Step::Wait('a'),
                Step::Send('b', request(1, op::WHO_AM_I, [])),
                Step::Hear('b'),
            ],
        ),
        case(
            "a watch does not outlive its connection",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', request(1, op::GET_DATA, path_watch("/c", 1))),
                Step::Hear('a'),
                Step::Connect('b', Connect::to('a')),
                Step::Wait('a'),
                Step::Send('b', request(1, op::SET_DATA, set_data("/c", b"x", -1))),
                Step::Hear('b'),
            ],
        ),
        ending("a second connect request", vec![framed(second)]),
        connect(
            "requests right behind the connect request",
            Connect { behind: [get(1), request(2, op::WHO_AM_I, []), get(3)].concat(), ..Connect::new() },
        ),
        connect(
            "an auth right behind the connect request",
            Connect {
                behind: [request(-4, op::AUTH, auth("digest", b"u:p")), request(1, op::WHO_AM_I, [])].concat(),
                ..Connect::new()
            },
        ),
        case(
            "a request in pieces",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', get(1)[..2].to_vec()),
                Step::Wait('a'),
                Step::Send('a', get(1)[2..7].to_vec()),
                Step::Wait('a'),
                Step::Send('a', get(1)[7..].to_vec()),
                Step::Hear('a'),
            ],
        ),
    ]
}

fn words() -> Vec<Case> {
    let word = |word: &str| raw(format!("the word {word:?}"), vec![word.into()]);
    let mut cases: Vec<Case> = ["ruok", "ruok\n", "ruok\r\n", "ruokruok", "isro", "srst", "crst"].map(word).into();
    cases.extend(["abcd", "zzzz", "RUOK", "rUok", "help", "kill", "reqs"].map(word));
    cases.extend([
        raw("a word in pieces", vec!["r".into(), "uo".into(), "k".into()]),
        raw("a word of three letters and a newline", vec!["ruo\n".into()]),
        raw("a word cut short", vec!["ruo".into()]),
        raw("what telnet sends at its end", vec![vec![0xff, 0xf4, 0xff, 0xfd]]),
        raw(
            "a word right before a connect request",
            vec![["ruok".into(), framed(connect_body(text([0; 16])))].concat()],
        ),
        session("a word in a session", vec!["ruok".into()]),
    ]);
    cases
}

fn frame_lengths() -> Vec<Case> {
    let header = |length: usize| framed(&[&int(1)[..], &int(op::WHO_AM_I), &[0; 8]].concat()[..length]);
    let padded = |length: usize| {
        let body = path_watch("/c", 0);
        let padding = vec![0; length - 8 - body.len()];
        request(1, op::GET_DATA, [body, padding].concat())
    };
    // All but the data of a create of /c/big.
    let around = 8 + 4 + 6 + 4 + open().len() + 4;
    let big = |data: usize, op: i32, extra: usize| {
        let body = [text("/c/big"), text(vec![7; data]), open(), int(0), vec![0; extra]].concat();
        request(1, op, body)
    };
    let shown = |xid: i32| request(xid, op::EXISTS, path_watch("/c/big", 0));
    let mut cases: Vec<Case> =
        (0..8).map(|length| session(format!("a frame of {length} bytes"), vec![header(length)])).collect();
    cases.push(session("a frame of nothing but its header", vec![header(8)]));
    for length in [-1, i32::MIN, -1000, LIMIT as i32 + 1, LIMIT as i32 * 2, LIMIT as i32 * 2 + 1, i32::MAX] {
        cases.push(case(
            format!("a frame of length {length}"),
            vec![Step::Connect('a', Connect::new()), Step::Send('a', int(length)), Step::Wait('a')],
        ));
    }
    cases.extend([
        session("a frame of exactly the limit", vec![padded(LIMIT)]),
        case(
            "a frame of one byte more than the limit",
            vec![Step::Connect('a', Connect::new()), Step::Send('a', padded(LIMIT + 1)), Step::Wait('a')],
        ),
        session("a create whose frame is exactly the limit", vec![big(LIMIT - around, op::CREATE, 0), shown(2)]),
        session("a create2 whose frame is exactly the limit", vec![big(LIMIT - around, op::CREATE2, 0), shown(2)]),
        case(
            "a create whose frame is one byte more than the limit",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', big(LIMIT - around + 1, op::CREATE, 0)),
                Step::Wait('a'),
            ],
        ),
        session(
            "data that fills the greatest frame, read back",
            vec![big(LIMIT - around, op::CREATE, 0), request(2, op::GET_DATA, path_watch("/c/big", 0))],
        ),
    ]);
    cases
}

fn whole_requests() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, op, body) in bodies() {
        cases.push(requests(format!("{name}, twice"), vec![(op, body.clone()), (op, body.clone())]));
        cases.push(requests(format!("{name}, and bytes behind it"), vec![(op, [&body[..], b"rest"].concat())]));
    }
    cases
}

fn requests_cut_short() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, op, body) in bodies() {
        let cut = (0..body.len()).zip(1..).map(|(length, xid)| request(xid, op, &body[..length]));
        let frames: Vec<u8> = cut.flatten().collect();
        let shown = format!("{name}, cut after 0..={} of these bytes: {}", body.len() - 1, bytes(&body));
        cases.push(case(
            format!("{name}, cut short"),
            vec![Step::Connect('a', Connect::new()), Step::SendAs('a', frames, shown), Step::Hear('a')],
        ));
    }
    cases
}

/// A field of a request's body that is given other values.
enum Field {
    /// A string's or buffer's bytes.
    Text(&'static str),
    /// A count, and what it counts.
    Count(i32, Vec<u8>),
    Int(i32),
    Long(i64),
    Bool(u8),
}

impl Field {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Field::Text(value) => text(value),
            Field::Count(count, rest) => [int(*count), rest.clone()].concat(),
            Field::Int(value) => int(*value),
            Field::Long(value) => long(*value),
            Field::Bool(value) => byte(*value),
        }
    }

    /// Other values: the name of each, and the bytes.
    fn others(&self) -> Vec<(String, Vec<u8>)> {
        let lengths = |length: i32| [-1, -2, i32::MIN, i32::MAX, LIMIT as i32, length + 1, length - 1];
        match self {
            Field::Text(value) => lengths(value.len() as i32)
                .map(|length| (format!("length {length}"), [int(length), value.as_bytes().to_vec()].concat()))
                .into(),
            Field::Count(count, rest) => {
                lengths(*count).map(|count| (format!("count {count}"), [int(count), rest.clone()].concat())).into()
            }
            Field::Int(_) => {
                [i32::MIN, -2, -1, 0, 1, 7, 8, 255, i32::MAX].map(|value| (value.to_string(), int(value))).into()
            }
            Field::Long(_) => {
                [i64::MIN, -1, 0, 1, 1 << 40, i64::MAX].map(|value| (value.to_string(), long(value))).into()
            }
            Field::Bool(_) => [2, 0x80, 0xff].map(|value| (format!("{value:#x}"), byte(value))).into(),
        }
    }
}

fn fields() -> Vec<Case> {
    use Field::{Bool, Count, Int, Long, Text};
    let acls = || Count(1, acl(31, "world", "anyone"));
    let acl_fields = || [Int(1), Int(31), Text("world"), Text("anyone")];
    let create = |flags: i32| vec![Text("/c/n"), Text("data"), acls(), Int(flags)];
    let paths = || Count(1, text("/c"));
    let whole: Vec<(&str, i32, Vec<Field>)> = vec![
        ("create", op::CREATE, create(0)),
        ("create2", op::CREATE2, create(0)),
        ("createContainer", op::CREATE_CONTAINER, create(4)),
        ("createTTL", op::CREATE_TTL, create(5).into_iter().chain([Long(1000)]).collect()),
        (
            "create's ACL",
            op::CREATE,
            [Text("/c/n"), Text("d")].into_iter().chain(acl_fields()).chain([Int(0)]).collect(),
        ),
        ("delete", op::DELETE, vec![Text("/c/n"), Int(-1)]),
        ("deleteContainer", op::DELETE_CONTAINER, vec![Text("/c/n")]),
        ("exists", op::EXISTS, vec![Text("/zookeeper"), Bool(0)]),
        ("getData", op::GET_DATA, vec![Text("/zookeeper"), Bool(0)]),
        ("setData", op::SET_DATA, vec![Text("/c"), Text("data"), Int(-1)]),
        ("getACL", op::GET_ACL, vec![Text("/zookeeper")]),
        ("setACL", op::SET_ACL, vec![Text("/c"), acls(), Int(-1)]),
        ("getChildren", op::GET_CHILDREN, vec![Text("/zookeeper"), Bool(0)]),
        ("getChildren2", op::GET_CHILDREN2, vec![Text("/zookeeper"), Bool(0)]),
        ("sync", op::SYNC, vec![Text("/c")]),
        ("checkWatches", op::CHECK_WATCHES, vec![Text("/c"), Int(3)]),
        ("removeWatches", op::REMOVE_WATCHES, vec![Text("/c"), Int(3)]),
        ("addWatch", op::ADD_WATCH, vec![Text("/c"), Int(0)]),
        ("setWatches", op::SET_WATCHES, vec![Long(i64::MAX), paths(), paths(), paths()]),
        ("setWatches2", op::SET_WATCHES2, vec![Long(i64::MAX), paths(), paths(), paths(), paths(), paths()]),
        ("getEphemerals", op::GET_EPHEMERALS, vec![Text("/c")]),
        ("getAllChildrenNumber", op::GET_ALL_CHILDREN_NUMBER, vec![Text("/zookeeper")]),
        ("reconfig", op::RECONFIG, vec![Text("a"), Text("b"), Text("c"), Long(-1)]),
        (
            "multi's header",
            op::MULTI,
            vec![Int(op::CHECK), Bool(0), Int(-1), Text("/c"), Int(-1), Int(-1), Bool(1), Int(-1)],
        ),
        (
            "multiRead's header",
            op::MULTI_READ,
            vec![Int(op::GET_DATA), Bool(0), Int(-1), Text("/zookeeper"), Bool(0), Int(-1), Bool(1), Int(-1)],
        ),
        (
            "multi's create",
            op::MULTI,
            [Int(op::CREATE), Bool(0), Int(-1)]
                .into_iter()
                .chain(create(0))
                .chain([Int(-1), Bool(1), Int(-1)])
                .collect(),
        ),
        (
            "multi's setData",
            op::MULTI,
            vec![Int(op::SET_DATA), Bool(0), Int(-1), Text("/c"), Text("data"), Int(-1), Int(-1), Bool(1), Int(-1)],
        ),
        (
            "multi's delete",
            op::MULTI,
            vec![Int(op::DELETE), Bool(0), Int(-1), Text("/c/n"), Int(-1), Int(-1), Bool(1), Int(-1)],
        ),
    ];
    let mut cases = Vec::new();
    for (name, op, whole) in whole {
        for at in 0..whole.len() {
            let mut steps = vec![Step::Connect('a', Connect::new())];
            for ((value, other), xid) in whole[at].others().into_iter().zip(1..) {
                let body: Vec<u8> = whole
                    .iter()
                    .enumerate()
                    .flat_map(|(n, field)| if n == at { other.clone() } else { field.bytes() })
                    .collect();
                let sent = request(xid, op, body);
                let shown = format!("{value}: {}", bytes(&sent));
                steps.extend([Step::SendAs('a', sent, shown), Step::Hear('a')]);
            }
            cases.push(case(format!("{name}, field {}", at + 1), steps));
        }
    }
    cases
}

fn opcodes() -> Vec<Case> {
    let all = (-12..=23).chain(99..=109).chain([1000, i32::MAX, i32::MIN]);
    let known = |op: &i32| matches!(op, -10 | 1..=9 | 11 | 12 | 14..=22 | 100..=107);
    let mut cases: Vec<Case> = all
        .map(|op| {
            let name = format!("opcode {op} without a body");
            let sent = request(1, op, []);
            if known(&op) { session(name, vec![sent]) } else { ending(name, vec![sent]) }
        })
        .collect();
    for op in [-12, -2, -1, 0, 10, 13, 23, 99, 108] {
        cases.push(ending(format!("opcode {op} with a path"), vec![request(1, op, path_version("/c", -1))]));
    }
    cases.push(session("createSession", vec![request(CREATE_SESSION_XID, op::CREATE_SESSION, int(30_000))]));
    cases
}

fn xids() -> Vec<Case> {
    let mut cases = Vec::new();
    for xid in [-1, -2, -4, -8, 0, i32::MIN, i32::MAX - 1] {
        let get = request(xid, op::GET_DATA, path_watch("/c", 0));
        let set = request(xid, op::SET_DATA, set_data("/c", b"x", -1));
        cases.push(session(format!("xid {xid}"), vec![get, set]));
    }
    cases.extend([
        session("a ping of xid 5", vec![request(5, op::PING, [])]),
        session("a ping with a body", vec![request(-2, op::PING, b"body")]),
        session("an auth of xid 5", vec![request(5, op::AUTH, auth("digest", b"u:p"))]),
        session("setWatches of xid 5", vec![request(5, op::SET_WATCHES, set_watches(0, &[&[], &[], &[]]))]),
        ending("closeSession of xid -2", vec![request(-2, op::CLOSE_SESSION, [])]),
        session("one xid for all", vec![request(1, op::WHO_AM_I, []), request(1, op::GET_ACL, text("/c"))]),
        session("xids that go down", vec![request(9, op::WHO_AM_I, []), request(3, op::GET_ACL, text("/c"))]),
        pipelined(
            "pings among reads",
            vec![
                request(1, op::WHO_AM_I, []),
                request(-2, op::PING, []),
                request(2, op::GET_ACL, text("/c")),
                request(-2, op::PING, []),
            ],
        ),
    ]);
    cases
}

/// Bytes that may not be a string.
fn odd_texts() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("two bytes a character", "/c/\u{e9}".into()),
        ("three bytes a character", "/c/\u{20ac}".into()),
        ("four bytes a character", "/c/\u{1f600}".into()),
        ("a character of a private area", "/c/\u{e000}".into()),
        ("a character of a private area in four bytes", "/c/\u{f0000}".into()),
        ("U+FFF0", "/c/\u{fff0}".into()),
        ("U+FFFD", "/c/\u{fffd}".into()),
        ("U+FEFF", "/c/\u{feff}".into()),
        ("U+FFEF", "/c/\u{ffef}".into()),
        ("U+D7FF", "/c/\u{d7ff}".into()),
        ("U+F8FF", "/c/\u{f8ff}".into()),
        ("U+F900", "/c/\u{f900}".into()),
        ("U+00A0", "/c/\u{a0}".into()),
        ("U+009F", "/c/\u{9f}".into()),
        ("U+007F", "/c/\u{7f}".into()),
        ("U+001F", "/c/\u{1f}".into()),
        ("U+0001", "/c/\u{1}".into()),
        ("NUL", "/c/a\0b".into()),
        ("a space", "/c/a b".into()),
        ("a lone surrogate", b"/c/\xed\xa0\x80".to_vec()),
        ("two surrogates", b"/c/\xed\xa0\xbd\xed\xb8\x80".to_vec()),
        ("modified UTF-8's NUL", b"/c/\xc0\x80".to_vec()),
        ("an overlong slash", b"/c/\xc0\xaf".to_vec()),
        ("0xFF", b"/c/\xff".to_vec()),
        ("a character cut short", b"/c/\xe2\x82".to_vec()),
        ("a byte that only goes on", b"/c/\x80".to_vec()),
    ]
}

fn strings() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, path) in odd_texts() {
        let path_and = |rest: Vec<u8>| [text(&path), rest].concat();
        cases.push(requests(
            format!("a path of {name}"),
            vec![
                (op::CREATE, path_and([text("d"), open(), int(0)].concat())),
                (op::EXISTS, path_and(byte(0))),
                (op::GET_DATA, path_and(byte(0))),
                (op::GET_CHILDREN, text("/c").into_iter().chain(byte(0)).collect()),
                (op::SET_DATA, path_and([text("x"), int(-1)].concat())),
                (op::SET_ACL, path_and([open(), int(-1)].concat())),
                (op::GET_EPHEMERALS, text(&path)),
                (op::ADD_WATCH, path_and(int(0))),
                (op::CHECK_WATCHES, path_and(int(4))),
                (op::DELETE, path_and(int(-1))),
                (op::CREATE, path_and([text("d"), open(), int(2)].concat())),
            ],
        ));
    }
    for (name, path) in odd_texts() {
        cases.push(requests(format!("a sync of {name}"), vec![(op::SYNC, text(path))]));
    }
    for (name, id) in odd_texts() {
        let ids =
            [int(2), acl(31, "world", "anyone"), [int(1), text("digest"), text([b"u:", &id[..]].concat())].concat()]
                .concat();
        cases.push(requests(
            format!("an ACL's id of {name}"),
            vec![(op::SET_ACL, set_acl("/c", ids, -1)), (op::GET_ACL, text("/c"))],
        ));
    }
    cases
}

/// A request's body for a path.
type OfPath = Box<dyn Fn(&str) -> Vec<u8>>;

fn paths() -> Vec<Case> {
    let long = format!("/c/{}", "n".repeat(1000));
    let all = [
        "",
        "/",
        "//",
        "/c/",
        "/c//n",
        "/c/.",
        "/c/..",
        "/c/./n",
        "/c/../c",
        "c",
        "c/n",
        " ",
        "/c/n/",
        "/c/...",
        "/c/.n",
        "/c/n.",
        "/ c",
        "/none/n",
        "/c/n",
        "/zookeeper",
        "/zookeeper/config",
        "/zookeeper/quota/c",
        "/zookeeper/n",
        &long,
    ];
    let by_type: Vec<(&str, i32, OfPath)> = vec![
        ("create", op::CREATE, Box::new(|path| create(path, 0))),
        ("create of a sequential node", op::CREATE, Box::new(|path| create(path, 2))),
        ("delete", op::DELETE, Box::new(|path| path_version(path, 99))),
        ("deleteContainer", op::DELETE_CONTAINER, Box::new(|path| text(path))),
        ("setData", op::SET_DATA, Box::new(|path| set_data(path, b"x", 99))),
        ("setACL", op::SET_ACL, Box::new(|path| set_acl(path, open(), 99))),
        ("sync", op::SYNC, Box::new(|path| text(path))),
        ("getEphemerals", op::GET_EPHEMERALS, Box::new(|path| text(path))),
        ("checkWatches", op::CHECK_WATCHES, Box::new(|path| path_version(path, 3))),
        ("removeWatches", op::REMOVE_WATCHES, Box::new(|path| path_version(path, 3))),
        ("addWatch", op::ADD_WATCH, Box::new(|path| path_version(path, 0))),
        ("check in a multi", op::MULTI, Box::new(|path| multi(&[(op::CHECK, path_version(path, 99))]))),
        (
            "getData in a multiRead",
            op::MULTI_READ,
            Box::new(|path| {
                let found = ["/c", "/zookeeper", "/", "", "/zookeeper/config"].contains(&path);
                multi(&[(op::GET_DATA, path_watch(if found { "/none" } else { path }, 0))])
            }),
        ),
    ];
    let mut cases = Vec::new();
    for (name, op, body) in by_type {
        let each = all.iter().map(|path| (op, body(path))).collect();
        cases.push(requests(format!("{name} of odd paths"), each));
    }
    // Reads of what is not there: the stats of the root and below /zookeeper depend on what happened before.
    let fixed: Vec<&str> =
        all.into_iter().filter(|path| !matches!(*path, "" | "/") && !path.starts_with("/zookeeper")).collect();
    for (name, op) in [
        ("exists", op::EXISTS),
        ("getData", op::GET_DATA),
        ("getChildren", op::GET_CHILDREN),
        ("getChildren2", op::GET_CHILDREN2),
    ] {
        cases.push(requests(
            format!("{name} of odd paths"),
            fixed.iter().map(|path| (op, path_watch(path, 0))).collect(),
        ));
    }
    for (name, op) in [("getACL", op::GET_ACL), ("getAllChildrenNumber", op::GET_ALL_CHILDREN_NUMBER)] {
        cases.push(requests(format!("{name} of odd paths"), fixed.iter().map(|path| (op, text(path))).collect()));
    }
    cases
}

fn auths() -> Vec<Case> {
    let who = || request(1, op::WHO_AM_I, []);
    let auth_case = |name: &str, body: Vec<u8>| session(name, vec![request(-4, op::AUTH, body), who()]);
    let mut cases = vec![
        auth_case("auth: digest", auth("digest", b"u:p")),
        auth_case("auth: digest without a colon", auth("digest", b"u")),
        auth_case("auth: digest of a colon", auth("digest", b":")),
        auth_case("auth: digest of nothing", auth("digest", b"")),
        auth_case("auth: digest of two colons", auth("digest", b"u:p:q")),
        auth_case("auth: digest that is no UTF-8", auth("digest", b"u\xff:p\xfe")),
        auth_case("auth: digest of four bytes a character", auth("digest", "u\u{1f600}:p".as_bytes())),
        auth_case("auth: digest of NUL", auth("digest", b"u\0:p")),
        auth_case("auth: digest of null", [int(0), text("digest"), null()].concat()),
        auth_case("auth: the super user", auth("digest", b"super:test")),
        auth_case("auth: the super user with a wrong password", auth("digest", b"super:wrong")),
        auth_case("auth: ip", auth("ip", b"")),
        auth_case("auth: ip with a token", auth("ip", b"10.0.0.1")),
        auth_case("auth: ip of null", [int(0), text("ip"), null()].concat()),
        auth_case("auth: world", auth("world", b"anyone")),
        auth_case("auth: auth", auth("auth", b"")),
        auth_case("auth: super", auth("super", b"")),
        auth_case("auth: sasl", auth("sasl", b"u")),
        auth_case("auth: x509", auth("x509", b"u")),
        auth_case("auth: a scheme that nobody knows", auth("none", b"u:p")),
        auth_case("auth: a scheme in capitals", auth("DIGEST", b"u:p")),
        auth_case("auth: an empty scheme", auth("", b"u:p")),
        auth_case("auth: a null scheme", [int(0), null(), text("u:p")].concat()),
        auth_case("auth of type 7", [int(7), text("digest"), text("u:p")].concat()),
        auth_case("auth, and bytes behind it", [&auth("digest", b"u:p")[..], b"rest"].concat()),
        session(
            "auth twice",
            vec![request(-4, op::AUTH, auth("digest", b"u:p")), request(-4, op::AUTH, auth("digest", b"u:p")), who()],
        ),
        session(
            "two identities",
            vec![request(-4, op::AUTH, auth("digest", b"u:p")), request(-4, op::AUTH, auth("digest", b"v:p")), who()],
        ),
        pipelined("a failed auth, and a request behind it", vec![request(-4, op::AUTH, auth("none", b"")), who()]),
        session("sasl", vec![request(1, op::SASL, text("token"))]),
        session("sasl with an empty token", vec![request(1, op::SASL, text(""))]),
        session("sasl with a null token", vec![request(1, op::SASL, null())]),
        session("sasl with a token of length -2", vec![request(1, op::SASL, int(-2))]),
    ];
    let whole = auth("digest", b"u:p");
    for length in 0..whole.len() {
        cases.push(session(format!("auth, cut after {length} bytes"), vec![request(-4, op::AUTH, &whole[..length])]));
    }
    for length in [-2, i32::MIN, i32::MAX] {
        cases.push(session(
            format!("auth with a scheme of length {length}"),
            vec![request(-4, op::AUTH, [int(0), int(length)].concat())],
        ));
        cases.push(session(
            format!("auth with a token of length {length}"),
            vec![request(-4, op::AUTH, [int(0), text("digest"), int(length)].concat())],
        ));
    }
    cases
}

fn acls() -> Vec<Case> {
    let lists: Vec<(&str, Vec<u8>)> = vec![
        ("none at all", null()),
        ("an empty list", int(0)),
        ("no permission", [int(1), acl(0, "world", "anyone")].concat()),
        ("permissions that nobody knows", [int(1), acl(-1, "world", "anyone")].concat()),
        ("one twice", [int(2), acl(31, "world", "anyone"), acl(31, "world", "anyone")].concat()),
        ("world: nobody", [int(1), acl(31, "world", "nobody")].concat()),
        ("an empty scheme", [int(1), acl(31, "", "anyone")].concat()),
        ("a null scheme", [int(1), int(31), null(), text("anyone")].concat()),
        ("a null id", [int(1), int(31), text("world"), null()].concat()),
        ("a null id of digest", [int(1), int(31), text("digest"), null()].concat()),
        ("digest without a colon", [int(1), acl(31, "digest", "u")].concat()),
        ("digest of two colons", [int(1), acl(31, "digest", "u:p:q")].concat()),
        ("digest of a colon", [int(1), acl(31, "digest", ":")].concat()),
        ("an address", [int(1), acl(31, "ip", "127.0.0.1")].concat()),
        ("a network", [int(1), acl(31, "ip", "127.0.0.0/8")].concat()),
        ("a network too wide", [int(1), acl(31, "ip", "127.0.0.0/33")].concat()),
        ("a network of -1 bits", [int(1), acl(31, "ip", "127.0.0.0/-1")].concat()),
        ("an address of three parts", [int(1), acl(31, "ip", "127.0.0")].concat()),
        ("an address of IPv6", [int(1), acl(31, "ip", "::1")].concat()),
        ("no address", [int(1), acl(31, "ip", "host")].concat()),
        ("auth without an identity", [int(1), acl(31, "auth", "")].concat()),
        ("super", [int(1), acl(31, "super", "x")].concat()),
        ("sasl", [int(1), acl(31, "sasl", "u")].concat()),
        ("x509", [int(1), acl(31, "x509", "CN=u")].concat()),
        ("a scheme that nobody knows", [int(1), acl(31, "none", "u")].concat()),
        ("a good one and a bad one", [int(2), acl(31, "world", "anyone"), acl(31, "none", "u")].concat()),
    ];
    let mut cases = Vec::new();
    for (name, list) in lists {
        let made = [text("/c/n"), text("d"), list.clone(), int(0)].concat();
        cases.push(requests(
            format!("ACLs: {name}"),
            vec![
                (op::CREATE2, made.clone()),
                (op::GET_ACL, text("/c/n")),
                (op::DELETE, path_version("/c/n", -1)),
                (op::MULTI, multi(&[(op::CREATE, made)])),
                (op::SET_ACL, set_acl("/c", list, -1)),
                (op::GET_ACL, text("/c")),
            ],
        ));
    }
    let both = [int(2), acl(31, "auth", "ignored"), acl(1, "world", "anyone")].concat();
    cases.push(session(
        "ACLs: auth",
        vec![
            request(-4, op::AUTH, auth("digest", b"u:p")),
            request(1, op::SET_ACL, set_acl("/c", both, -1)),
            request(2, op::GET_ACL, text("/c")),
        ],
    ));
    cases
}

fn multis() -> Vec<Case> {
    let check = || (op::CHECK, path_version("/c", -1));
    let get = || (op::GET_DATA, path_watch("/c", 0));
    let op_bytes = |(op, body): (i32, Vec<u8>)| [multi_header(op, 0, -1), body].concat();
    let one = |name: &str, op: i32, body: Vec<u8>| requests(name, vec![(op, body)]);
    let mut cases = vec![
        one("an empty multi", op::MULTI, multi(&[])),
        one("an empty multiRead", op::MULTI_READ, multi(&[])),
        one("a multi of nothing", op::MULTI, vec![]),
        one("a multiRead of nothing", op::MULTI_READ, vec![]),
        one("a multi without its end", op::MULTI, op_bytes(check())),
        one("a multiRead without its end", op::MULTI_READ, op_bytes(get())),
        one(
            "a multi whose end has another type and error",
            op::MULTI,
            [op_bytes(check()), multi_header(7, 1, 7)].concat(),
        ),
        one("a multi whose end is 0xff", op::MULTI, [op_bytes(check()), multi_header(-1, 0xff, -1)].concat()),
        one(
            "a multi with more behind its end",
            op::MULTI,
            [multi(&[check()]), op_bytes(check()), multi_end()].concat(),
        ),
        one("a multi with two ends", op::MULTI, [multi(&[check()]), multi_end()].concat()),
        one(
            "a multi whose operations show errors",
            op::MULTI,
            [multi_header(op::CHECK, 0, 7), path_version("/c", -1), multi_end()].concat(),
        ),
        one("a multi inside of a multi", op::MULTI, multi(&[(op::MULTI, multi(&[check()]))])),
        one("a multiRead inside of a multi", op::MULTI, multi(&[(op::MULTI_READ, multi(&[get()]))])),
        one("a multi of reads", op::MULTI, multi(&[get()])),
        one("a multi of a write and a read", op::MULTI, multi(&[check(), get()])),
        one("a multiRead of writes", op::MULTI_READ, multi(&[check()])),
        one("a multiRead of a read and a write", op::MULTI_READ, multi(&[get(), check()])),
        one(
            "a multiRead that sets watches",
            op::MULTI_READ,
            multi(&[(op::GET_DATA, path_watch("/c", 1)), (op::GET_CHILDREN, path_watch("/c", 1))]),
        ),
        one(
            "a multiRead with failures",
            op::MULTI_READ,
            multi(&[get(), (op::GET_DATA, path_watch("/none", 0)), (op::GET_CHILDREN, path_watch("/none", 0)), get()]),
        ),
        one(
            "a multi whose second operation fails",
            op::MULTI,
            multi(&[check(), (op::DELETE, path_version("/none", -1)), check()]),
        ),
        one(
            "a multi of every kind of create",
            op::MULTI,
            multi(&[
                (op::CREATE, create("/c/a", 0)),
                (op::CREATE2, create("/c/b", 0)),
                (op::CREATE, create("/c/s", 2)),
                (op::CREATE2, create("/c/s", 2)),
                (op::CREATE_CONTAINER, create("/c/k", 4)),
                (op::CREATE_TTL, create_ttl("/c/t", 5, 100_000)),
                (op::CREATE, create("/c/e", 1)),
            ]),
        ),
        one(
            "a multi that makes, changes and deletes",
            op::MULTI,
            bodies().into_iter().find(|(name, ..)| *name == "multi").map(|(_, _, body)| body).unwrap_or_default(),
        ),
    ];
    for op in [-11, -10, -1, 0, 3, 6, 7, 9, 11, 12, 14, 16, 17, 18, 20, 22, 100, 107, 1000] {
        cases.push(one(
            &format!("a multi of opcode {op}"),
            op::MULTI,
            multi(&[check(), (op, set_data("/c", b"x", -1))]),
        ));
    }
    for op in [-1, 0, 1, 3, 6, 9, 12, 13, 22, 1000] {
        cases.push(one(
            &format!("a multiRead of opcode {op}"),
            op::MULTI_READ,
            multi(&[get(), (op, path_watch("/c", 0))]),
        ));
    }
    for (op, name) in [
        (op::CREATE, "create"),
        (op::CREATE2, "create2"),
        (op::CREATE_CONTAINER, "createContainer"),
        (op::CREATE_TTL, "createTTL"),
    ] {
        for flags in [-1, 0, 1, 2, 3, 4, 5, 6, 7] {
            let body = if op == op::CREATE_TTL { create_ttl("/c/n", flags, 100_000) } else { create("/c/n", flags) };
            cases.push(requests(
                format!("{name} with flags {flags}, alone and in a multi"),
                vec![
                    (op, body.clone()),
                    (op::GET_CHILDREN, path_watch("/c", 0)),
                    (op::MULTI, multi(&[(op, body), check()])),
                    (op::GET_CHILDREN2, path_watch("/c", 0)),
                ],
            ));
        }
    }
    cases
}

fn ends() -> Vec<Case> {
    let close = |xid| request(xid, op::CLOSE_SESSION, []);
    let who = |xid| request(xid, op::WHO_AM_I, []);
    vec![
        ending("closeSession", vec![close(1)]),
        ending("closeSession with a body", vec![request(1, op::CLOSE_SESSION, b"body")]),
        ending("closeSession behind others", vec![who(1), request(2, op::CREATE, create("/c/e", 1)), close(3)]),
        case(
            "what a closed session sent is not done",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', [close(1), request(2, op::CREATE, create("/c/n", 0))].concat()),
                Step::Wait('a'),
                Step::Connect('b', Connect::new()),
                Step::Send('b', request(1, op::EXISTS, path_watch("/c/n", 0))),
                Step::Hear('b'),
            ],
        ),
        case(
            "a session of a silent client",
            vec![
                Step::Connect('a', Connect { timeout: 3000, ..Connect::new() }),
                Step::Send('a', request(1, op::CREATE, create("/c/e", 1))),
                Step::End('a'),
                Step::Connect('b', Connect { timeout: 3000, ..Connect::to('a') }),
                Step::Connect('c', Connect::new()),
                Step::Send('c', request(1, op::EXISTS, path_watch("/c/e", 0))),
                Step::Hear('c'),
            ],
        ),
        case(
            "a client that leaves without a word leaves its ephemeral until its session ends",
            vec![
                Step::Connect('a', Connect::new()),
                Step::Send('a', request(1, op::CREATE, create("/c/e", 1))),
                Step::Hear('a'),
                Step::Leave('a'),
                Step::Connect('b', Connect::new()),
                Step::Send('b', request(1, op::GET_CHILDREN, path_watch("/c", 0))),
                Step::Hear('b'),
            ],
        ),
    ]
}
