//! Plays a case against a server, and writes down what is said.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zketcd::jute::{ConnectResponse, CreateMode, client, next_frame, op};

use super::cases::{Case, Connect, Password, SessionId, Step, Zxid};
use super::frames::{framed, int, long, path_watch, request, text};
use super::show::{Shown, bytes};
use crate::support::client::{Client, ConnectOptions};

/// The xid of the requests that show how far the server has come; cases have smaller ones.
const MARK: i32 = 0x7fff_0000;

/// How long an answer, or a close that is recorded, may take: far beyond what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long a server that is asked for the record must be silent to be taken to wait.
const SILENCE: Duration = Duration::from_secs(1);

/// The same where the record says that it waits: long enough to see one that closes at once, and never a failure of
/// a server that is merely slow.
const MOMENT: Duration = Duration::from_millis(30);

/// The longest frame that comes back.
const LONGEST: usize = 4 << 20;

/// What a case begins with: `/c`, with this data and nothing below.
const DATA: &[u8] = b"data";

/// Plays `case`, and gives the conversation as the record has it. `expected`: the record, which says whether a server
/// that is silent has to be waited for.
pub async fn play(server: SocketAddr, case: &Case, expected: Option<&str>) -> String {
    prepare(server).await;
    let mut player = Player { server, shown: Shown::default(), lines: BTreeMap::new(), out: String::new(), expected };
    for step in &case.steps {
        player.step(step).await;
    }
    for line in player.lines.into_values() {
        if let Some(session) = line.session {
            end(server, &session).await;
        }
    }
    player.out
}

async fn prepare(server: SocketAddr) {
    let mut admin = Client::connect(server, ConnectOptions::default()).await.expect("a session");
    admin.auth("digest", b"super:test").await.expect("the super user's password");
    let mut paths = vec!["/c".to_owned()];
    let mut at = 0;
    while let Some(path) = paths.get(at).cloned() {
        let children = admin.children(&path, false).await.unwrap_or_default();
        paths.extend(children.iter().map(|name| format!("{path}/{name}")));
        at += 1;
    }
    for path in paths.iter().rev() {
        // Those of a session that ended just now go by themselves.
        let _ = admin.delete(path, -1).await;
    }
    admin
        .create("/c", DATA, CreateMode::Persistent)
        .await
        .unwrap_or_else(|error| panic!("no /c for the case: {error}, {paths:?}"));
    admin.close().await.expect("a clean end");
}

/// Ends a session that a case left, so that its end falls into no other case.
async fn end(server: SocketAddr, session: &ConnectResponse) {
    let options = ConnectOptions { session: (session.session_id, session.password), ..ConnectOptions::default() };
    if let Ok(client) = Client::connect(server, options).await {
        client.close().await.expect("a clean end");
    }
}

struct Player<'a> {
    server: SocketAddr,
    shown: Shown,
    lines: BTreeMap<char, Line>,
    out: String,
    expected: Option<&'a str>,
}

/// A connection.
#[derive(Default)]
struct Line {
    /// `None`: closed.
    socket: Option<TcpStream>,
    received: BytesMut,
    /// What was sent, as far as it is no whole frame.
    sent: BytesMut,
    session: Option<ConnectResponse>,
    marks: i32,
}

impl Player<'_> {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Send(on, sent) => self.send(*on, sent, None).await,
            Step::SendAs(on, sent, shown) => self.send(*on, sent, Some(shown)).await,
            Step::Connect(on, connect) => self.connect(*on, connect).await,
            Step::Hear(on) => self.hear(*on).await,
            Step::Wait(on) => {
                let within = self.patience(*on);
                self.wait(*on, within).await;
            }
            Step::End(on) => self.wait(*on, DEADLINE).await,
            Step::Leave(on) => {
                self.line(*on).await.socket = None;
                self.note(*on, ':', "leaves");
            }
        }
    }

    /// The connection, opened where it was not.
    async fn line(&mut self, on: char) -> &mut Line {
        if !self.lines.contains_key(&on) {
            let socket = TcpStream::connect(self.server).await.expect("a connection");
            socket.set_nodelay(true).expect("a socket");
            self.lines.insert(on, Line { socket: Some(socket), ..Line::default() });
        }
        self.lines.get_mut(&on).expect("just put there")
    }

    fn note(&mut self, on: char, sign: char, what: &str) {
        writeln!(self.out, "{on}{sign} {what}").unwrap();
    }

    async fn send(&mut self, on: char, sent: &[u8], shown: Option<&str>) {
        let line = self.line(on).await;
        let Some(socket) = &mut line.socket else { return };
        // Where the server has closed already, the next step shows that.
        let _ = socket.write_all(sent).await;
        let mut asked = Vec::new();
        if line.session.is_some() {
            line.sent.extend_from_slice(sent);
            while let Ok(Some(frame)) = next_frame(&mut line.sent, LONGEST) {
                asked.push(frame);
            }
        }
        asked.iter().for_each(|frame| self.shown.asks(on, frame));
        let shown = shown.map_or_else(|| bytes(sent), str::to_owned);
        self.note(on, '>', &shown);
    }

    async fn connect(&mut self, on: char, connect: &Connect) {
        let session = |of: char| self.lines.get(&of).and_then(|line| line.session.clone()).expect("a session");
        let id = match connect.session {
            SessionId::Is(id) => id,
            SessionId::Of(of) => session(of).session_id,
        };
        let password = match &connect.password {
            Password::Is(password) => password.clone(),
            Password::Of(of, length) => {
                let mut password = session(*of).password.to_vec();
                password.resize(*length, 0);
                password
            }
        };
        let zxid = match connect.zxid {
            Zxid::Is(zxid) => zxid,
            Zxid::Ahead => i64::MAX,
        };
        let mut body = [int(connect.version), long(zxid), int(connect.timeout), long(id), text(password)].concat();
        body.extend(&connect.rest);
        let line = self.line(on).await;
        let Some(socket) = &mut line.socket else { return };
        let _ = socket.write_all(&[framed(body), connect.behind.clone()].concat()).await;
        line.sent.clear();
        line.received.clear();
        self.note(on, '>', &connect.shown());
        let mut behind = BytesMut::from(&connect.behind[..]);
        while let Ok(Some(frame)) = next_frame(&mut behind, LONGEST) {
            self.shown.asks(on, &frame);
        }
        match self.frame(on, DEADLINE).await {
            Ok(frame) => {
                let shown = self.shown.connected(&frame);
                self.note(on, '<', &shown);
                let session = client::decode_connect_response(&frame).expect("the answer to a connect request");
                if session.timeout > 0 {
                    self.line(on).await.session = Some(session);
                } else {
                    let within = self.patience(on);
                    self.wait(on, within).await;
                }
            }
            Err(Silent::Closed) => self.closed(on),
            Err(Silent::Yet) => panic!("{on}: no answer to the connect request\n{}", self.out),
        }
    }

    fn closed(&mut self, on: char) {
        if let Some(line) = self.lines.get_mut(&on) {
            line.socket = None;
        }
        self.note(on, ':', "closed");
    }

    /// The next frame.
    async fn frame(&mut self, on: char, within: Duration) -> Result<Bytes, Silent> {
        let line = self.line(on).await;
        loop {
            if let Ok(Some(frame)) = next_frame(&mut line.received, LONGEST) {
                return Ok(frame);
            }
            let Some(socket) = &mut line.socket else { return Err(Silent::Closed) };
            match timeout(within, socket.read_buf(&mut line.received)).await {
                Err(_) => return Err(Silent::Yet),
                Ok(Ok(0)) => return Err(Silent::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => return Err(Silent::Closed),
                Ok(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// Shows what comes until a request of this player's own, sent now, is answered, or the connection is closed.
    async fn hear(&mut self, on: char) {
        let line = self.line(on).await;
        let Some(socket) = &mut line.socket else { return };
        line.marks += 1;
        let mark = MARK + line.marks;
        let _ = socket.write_all(&request(mark, op::EXISTS, path_watch("/", 0))).await;
        let mut heard = Heard::default();
        loop {
            match self.frame(on, DEADLINE).await {
                Ok(frame) if frame.starts_with(&mark.to_be_bytes()) => break,
                Ok(frame) => heard.push(self.shown.frame(on, &frame)),
                Err(Silent::Closed) => {
                    heard.end(on, &mut self.out);
                    return self.closed(on);
                }
                Err(Silent::Yet) => panic!("{on}: no answer to what shows how far the server is\n{}", self.out),
            }
        }
        heard.end(on, &mut self.out);
    }

    /// How long a silent connection may yet be closed: by the record, where there is one.
    fn patience(&self, on: char) -> Duration {
        match self.expected {
            None => SILENCE,
            Some(expected) => {
                let closes =
                    |rest: &str| rest.lines().find_map(|line| line.strip_prefix(&format!("{on}: "))) == Some("closed");
                if expected.strip_prefix(self.out.as_str()).is_some_and(closes) { DEADLINE } else { MOMENT }
            }
        }
    }

    /// Shows what comes until the connection is closed; or says that it stays open.
    async fn wait(&mut self, on: char, within: Duration) {
        let in_session = self.line(on).await.session.is_some();
        let mut heard = Heard::default();
        let ended = loop {
            match self.frame(on, within).await {
                Ok(frame) if in_session => heard.push(self.shown.frame(on, &frame)),
                Ok(frame) => heard.push(self.shown.connected(&frame)),
                Err(silent) => break silent,
            }
        };
        let left = self.line(on).await.received.split();
        if !left.is_empty() {
            heard.push(bytes(&left));
        }
        heard.end(on, &mut self.out);
        match ended {
            Silent::Closed if self.line(on).await.socket.is_some() => self.closed(on),
            Silent::Closed => {}
            Silent::Yet => self.note(on, ':', "waits"),
        }
    }
}

enum Silent {
    /// Nothing came in time.
    Yet,
    Closed,
}

/// Frames that came together; answers that are the same but for xids that count up are one line.
#[derive(Default)]
struct Heard(Vec<String>);

impl Heard {
    fn push(&mut self, line: String) {
        self.0.push(line);
    }

    fn end(self, on: char, out: &mut String) {
        let parts = |line: &str| -> Option<(i64, String)> {
            let (xid, rest) = line.split_once(' ')?;
            Some((xid.parse().ok()?, rest.to_owned()))
        };
        let mut at = 0;
        while let Some(line) = self.0.get(at) {
            let run = match parts(line) {
                Some((first, rest)) => self.0[at..]
                    .iter()
                    .zip(first..)
                    .take_while(|(line, xid)| parts(line) == Some((*xid, rest.clone())))
                    .count(),
                None => 1,
            };
            match parts(line) {
                Some((first, rest)) if run > 2 => writeln!(out, "{on}< {first}..={} {rest}", first + run as i64 - 1),
                _ => self.0[at..at + run.max(1)].iter().try_for_each(|line| writeln!(out, "{on}< {line}")),
            }
            .unwrap();
            at += run.max(1);
        }
    }
}
