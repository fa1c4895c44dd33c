//! Sessions: handshakes, reconnects to this and to another server, ephemerals, expiry.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use support::client::{Client, ConnectOptions, Error, Wire};
use support::gate::Gated;
use support::server::Running;
use support::{DELETED, Server, Site, answer, create, each_site, event, framed, get, refused, set};
use zketcd::jute::client::decode_connect_response;
use zketcd::jute::{CreateMode, ErrorCode, Reply, Request};

each_site! {
    all: [
        timeouts_are_negotiated,
        a_client_that_knows_no_read_only_mode_gets_no_byte_for_it,
        a_client_that_would_read_only_gets_a_full_server,
        the_connect_answer_is_as_long_as_the_request_expects,
        a_session_goes_on_with_its_ephemerals,
        a_session_that_never_was_is_refused,
        a_closed_session_is_over,
        a_session_that_moves_leaves_its_old_connection_closed,
        ephemerals_go_when_their_session_closes,
        ephemerals_go_when_their_session_expires,
        a_silent_session_expires_and_a_talking_one_does_not,
        an_expired_session_is_refused,
        a_connection_that_breaks_leaves_the_session_alone,
        a_session_with_thousands_of_ephemerals_closes,
        writes_sent_before_the_connection_broke_take_effect_once_or_never,
    ],
    ours: [
        a_wrong_password_is_refused_and_harms_nobody,
        ids_and_passwords_cannot_be_guessed,
        a_session_goes_on_at_another_server,
        a_session_moves_between_servers_and_back,
        a_password_counts_at_every_server,
        a_session_keeps_its_timeout_wherever_it_goes,
        a_killed_servers_sessions_live_on,
        a_killed_servers_sessions_expire,
        a_session_expires_once_on_every_server,
        a_client_ahead_of_this_server_waits_until_it_has_caught_up,
        a_client_far_ahead_is_turned_away,
        a_sessions_order_holds_across_servers,
        a_moved_sessions_old_connection_writes_no_more,
    ],
}

const NONE: [&str; 0] = [];

/// The timeout of sessions that are to expire, and not before the test has done what it does first.
const SHORT_MS: u64 = 3000;

fn timeout(millis: u64) -> ConnectOptions {
    ConnectOptions { timeout: Duration::from_millis(millis), ..ConnectOptions::default() }
}

async fn timeouts_are_negotiated(site: Site) {
    let server = site.server_with(&["--max-session-timeout=60s"]).await;
    for (asked, granted) in [
        (0, 1000),
        (1, 1000),
        (999, 1000),
        (1000, 1000),
        (12_345, 12_345),
        (60_000, 60_000),
        (60_001, 60_000),
        (86_400_000, 60_000),
    ] {
        let client = server.connect(timeout(asked)).await.unwrap();
        assert_eq!(client.timeout(), Duration::from_millis(granted), "{asked}");
        client.close().await.unwrap();
    }
    // A negative one is below the least.
    let response = handshake(&server, &connect_bytes(0, -5, (0, &[0; 16]), Some(0))).await;
    assert_eq!(decode_connect_response(&response).unwrap().timeout, 1000);
}

/// A connect request's bytes.
fn connect_bytes(last_zxid: i64, timeout: i32, (id, password): (i64, &[u8]), read_only: Option<u8>) -> Vec<u8> {
    let mut connect = vec![0; 4];
    connect.extend(last_zxid.to_be_bytes());
    connect.extend(timeout.to_be_bytes());
    connect.extend(id.to_be_bytes());
    connect.extend(i32::try_from(password.len()).unwrap().to_be_bytes());
    connect.extend(password);
    connect.extend(read_only);
    framed(&connect)
}

async fn handshake(server: &Server, bytes: &[u8]) -> Bytes {
    let mut wire = Wire::connect(server.address()).await.unwrap();
    wire.send_raw(bytes).await.unwrap();
    wire.frame().await.unwrap()
}

async fn a_client_that_knows_no_read_only_mode_gets_no_byte_for_it(site: Site) {
    let server = site.server().await;
    let old = || ConnectOptions { read_only: None, ..ConnectOptions::default() };
    let mut client = server.connect(old()).await.unwrap();
    let room = support::room(&mut client).await;
    let resume = ConnectOptions { read_only: None, ..client.resume() };
    let mut client = server.connect(resume).await.unwrap();
    client.get(&room, false).await.unwrap();
    let wrong = ConnectOptions { session: (client.session_id(), [9; 16]), ..old() };
    client.ping().await.unwrap();
    assert_eq!(server.connect(wrong).await.err(), Some(Error::Expired));
}

async fn a_client_that_would_read_only_gets_a_full_server(site: Site) {
    let server = site.server().await;
    let options = ConnectOptions { read_only: Some(true), ..ConnectOptions::default() };
    let mut client = server.connect(options).await.unwrap();
    support::room(&mut client).await;
    client.close().await.unwrap();
}

async fn the_connect_answer_is_as_long_as_the_request_expects(site: Site) {
    let server = site.server().await;
    for (read_only, length) in [(None, 36), (Some(0), 37), (Some(1), 37)] {
        let response = handshake(&server, &connect_bytes(0, 5000, (0, &[0; 16]), read_only)).await;
        assert_eq!(response.len(), length);
        let session = decode_connect_response(&response).unwrap();
        assert_ne!((session.session_id, session.password), (0, [0; 16]));
        // Refused: nothing is told but that.
        let response = handshake(&server, &connect_bytes(0, 5000, (session.session_id, &[9; 16]), read_only)).await;
        assert_eq!(response.len(), length);
        let refusal = decode_connect_response(&response).unwrap();
        assert_eq!((refusal.timeout, refusal.session_id, refusal.password), (0, 0, [0; 16]));
    }
    // A password of another length, and none, are good enough for a new session.
    for password in [&[][..], &[1, 2, 3]] {
        let response = handshake(&server, &connect_bytes(0, 5000, (0, password), Some(0))).await;
        assert_eq!(decode_connect_response(&response).unwrap().timeout, 5000);
    }
}

async fn ids_and_passwords_cannot_be_guessed(site: Site) {
    let server = site.server().await;
    let (mut ids, mut passwords) = (Vec::new(), HashSet::new());
    for _ in 0..50 {
        let client = server.client().await;
        ids.push(client.session_id());
        passwords.insert(client.password());
    }
    assert!(ids.iter().all(|id| *id > 0), "{ids:?}");
    assert_eq!((ids.iter().collect::<HashSet<_>>().len(), passwords.len()), (50, 50));
    // Each bit is set in some and not in others; counters and clocks would leave many alone.
    let differing = ids.iter().fold(0, |bits, id| bits | (id ^ ids[0]));
    assert!(differing.count_ones() > 55, "{differing:b}");
    let bytes = passwords.iter().flatten().collect::<HashSet<_>>().len();
    assert!(bytes > 200, "{bytes} values in 800 random bytes");
}

async fn a_session_goes_on_with_its_ephemerals(site: Site) {
    let server = site.server().await;
    goes_on(&server, &server).await;
}

async fn a_session_goes_on_at_another_server(site: Site) {
    goes_on(&site.server().await, &site.server().await).await;
}

async fn goes_on(one: &Server, two: &Server) {
    let (mut client, room) = one.room().await;
    let path = format!("{room}/e");
    client.create(&path, b"", CreateMode::Ephemeral).await.unwrap();
    let resume = client.resume();
    drop(client);
    let mut again = two.connect(resume.clone()).await.unwrap();
    assert_eq!((again.session_id(), again.password()), resume.session);
    // Without a sync: its own last write is there.
    assert_eq!(again.exists(&path, false).await.unwrap().unwrap().ephemeral_owner, again.session_id());
    assert_eq!(again.ephemerals("/").await.unwrap(), [path.as_str()]);
    again.set(&path, b"more", 0).await.unwrap();
    again.close().await.unwrap();
    let mut other = one.client().await;
    other.sync("/").await.unwrap();
    assert_eq!(other.children(&room, false).await.unwrap(), NONE);
    assert_eq!(one.connect(resume.clone()).await.err(), Some(Error::Expired));
    assert_eq!(two.connect(resume).await.err(), Some(Error::Expired));
}

/// In ZooKeeper whoever knows a session's id can cut off its connection, the password is looked at after.
async fn a_wrong_password_is_refused_and_harms_nobody(site: Site) {
    let server = site.server().await;
    wrong_passwords(&server, &server).await;
}

async fn a_password_counts_at_every_server(site: Site) {
    wrong_passwords(&site.server().await, &site.server().await).await;
}

async fn wrong_passwords(one: &Server, two: &Server) {
    let (mut client, room) = one.room().await;
    client.create(&format!("{room}/e"), b"", CreateMode::Ephemeral).await.unwrap();
    let mut almost = client.password();
    almost[15] ^= 1;
    for password in [[0; 16], almost] {
        let options = ConnectOptions { session: (client.session_id(), password), ..client.resume() };
        assert_eq!(two.connect(options).await.err(), Some(Error::Expired));
    }
    // Right as far as it goes, but short.
    let short = &client.password()[..15];
    let response = handshake(two, &connect_bytes(0, 5000, (client.session_id(), short), Some(0))).await;
    assert_eq!(decode_connect_response(&response).unwrap().timeout, 0);
    // The session did not move.
    client.set(&room, b"still here", 0).await.unwrap();
    assert_eq!(client.ephemerals("/").await.unwrap().len(), 1);
    client.close().await.unwrap();
}

async fn a_session_that_never_was_is_refused(site: Site) {
    let server = site.server().await;
    for id in [1, i64::MAX, -1, i64::MIN] {
        let options = ConnectOptions { session: (id, [7; 16]), ..ConnectOptions::default() };
        assert_eq!(server.connect(options).await.err(), Some(Error::Expired), "{id}");
    }
    let mut client = server.client().await;
    client.ping().await.unwrap();
    client.close().await.unwrap();
}

async fn a_closed_session_is_over(site: Site) {
    let server = site.server().await;
    let client = server.client().await;
    let resume = client.resume();
    client.close().await.unwrap();
    assert_eq!(server.connect(resume).await.err(), Some(Error::Expired));
}

async fn a_session_that_moves_leaves_its_old_connection_closed(site: Site) {
    let server = site.server().await;
    let (mut old, room) = server.room().await;
    old.add_watch(&room, 0).await.unwrap();
    let mut new = server.connect(old.resume()).await.unwrap();
    old.closed().await.unwrap();
    new.set(&room, b"", -1).await.unwrap();
    // Watches belong to the connection that set them.
    assert_eq!(new.settled_events().await.unwrap(), []);
    let newer = server.connect(new.resume()).await.unwrap();
    new.closed().await.unwrap();
    newer.close().await.unwrap();
}

async fn a_session_moves_between_servers_and_back(site: Site) {
    let servers = [site.server().await, site.server().await];
    let (mut client, room) = servers[0].room().await;
    let path = format!("{room}/e");
    client.create(&path, b"", CreateMode::Ephemeral).await.unwrap();
    for n in 1..8 {
        let mut next = servers[n % 2].connect(client.resume()).await.unwrap();
        client.closed().await.unwrap();
        let stat = next.set(&path, b"", -1).await.unwrap();
        assert_eq!(stat.version as usize, n);
        client = next;
    }
    client.close().await.unwrap();
}

async fn a_moved_sessions_old_connection_writes_no_more(site: Site) {
    let gate = Gated::new(site.store());
    let slow = Running::start(gate.clone(), &[]).await;
    let other = site.server().await;
    let mut old = Client::connect(slow.address, ConnectOptions::default()).await.unwrap();
    let room = support::room(&mut old).await;
    gate.let_transactions(false);
    old.send(create(&format!("{room}/late"), b"", CreateMode::Ephemeral)).await.unwrap();
    old.ping().await.unwrap();
    // The session goes on elsewhere while that write is on its way.
    let mut new = other.connect(old.resume()).await.unwrap();
    gate.let_transactions(true);
    old.closed().await.unwrap();
    new.sync("/").await.unwrap();
    assert_eq!(new.children(&room, false).await.unwrap(), NONE);
    assert_eq!(new.ephemerals("/").await.unwrap(), NONE);
}

async fn ephemerals_go_when_their_session_closes(site: Site) {
    let server = site.server().await;
    let (mut watcher, room) = server.room().await;
    let mut client = server.client().await;
    let path = format!("{room}/e");
    let (_, stat) = client.create2(&path, b"", CreateMode::Ephemeral).await.unwrap();
    watcher.sync("/").await.unwrap();
    watcher.exists(&path, true).await.unwrap();
    watcher.children(&room, true).await.unwrap();
    client.close().await.unwrap();
    let (zxid, gone) = watcher.next_event().await.unwrap();
    assert_eq!(gone, event(DELETED, &path));
    assert!(zxid > stat.czxid);
    assert_eq!(watcher.next_event().await.unwrap(), (zxid, event(support::CHILDREN_CHANGED, &room)));
    let (names, stat) = watcher.children2(&room, false).await.unwrap();
    assert_eq!((names.len(), stat.cversion, stat.num_children, stat.pzxid), (0, 2, 0, zxid));
    watcher.close().await.unwrap();
}

async fn ephemerals_go_when_their_session_expires(site: Site) {
    let server = site.server().await;
    let (mut watcher, room) = server.room().await;
    let mut client = server.connect(timeout(SHORT_MS)).await.unwrap();
    client.sync("/").await.unwrap();
    for name in ["a", "b", "c"] {
        client.create(&format!("{room}/{name}"), b"", CreateMode::Ephemeral).await.unwrap();
    }
    client.create(&format!("{room}/p"), b"", CreateMode::Persistent).await.unwrap();
    watcher.sync("/").await.unwrap();
    for name in ["a", "b", "c"] {
        watcher.exists(&format!("{room}/{name}"), true).await.unwrap();
    }
    let resume = client.resume();
    drop(client);
    let mut gone = HashSet::new();
    for _ in 0..3 {
        let (zxid, event) = watcher.next_event().await.unwrap();
        assert_eq!(event.kind, DELETED);
        gone.insert((zxid, event.path.into_owned()));
    }
    assert_eq!(gone.len(), 3);
    let (names, stat) = watcher.children2(&room, false).await.unwrap();
    assert_eq!((names, stat.cversion, stat.num_children), (vec!["p".to_owned()], 7, 1));
    assert_eq!(gone.iter().map(|(zxid, _)| *zxid).max(), Some(stat.pzxid));
    assert_eq!(server.connect(resume).await.err(), Some(Error::Expired));
    watcher.close().await.unwrap();
}

async fn a_silent_session_expires_and_a_talking_one_does_not(site: Site) {
    let server = site.server().await;
    let (mut watcher, room) = server.room().await;
    let mut silent = server.connect(timeout(SHORT_MS)).await.unwrap();
    let mut talking = server.connect(timeout(SHORT_MS)).await.unwrap();
    silent.sync("/").await.unwrap();
    silent.create(&format!("{room}/silent"), b"", CreateMode::Ephemeral).await.unwrap();
    talking.sync("/").await.unwrap();
    talking.create(&format!("{room}/talking"), b"", CreateMode::Ephemeral).await.unwrap();
    // It waits for what never comes, and pings meanwhile.
    let talks = tokio::spawn(async move {
        let waited = tokio::time::timeout(Duration::from_secs(8), talking.recv()).await;
        assert!(waited.is_err(), "{waited:?}");
        talking
    });
    watcher.sync("/").await.unwrap();
    watcher.exists(&format!("{room}/silent"), true).await.unwrap();
    assert_eq!(watcher.next_event().await.unwrap().1, event(DELETED, &format!("{room}/silent")));
    silent.closed().await.unwrap();
    let mut talking = talks.await.unwrap();
    assert_eq!(talking.children(&room, false).await.unwrap(), ["talking"]);
    talking.close().await.unwrap();
}

async fn an_expired_session_is_refused(site: Site) {
    let server = site.server().await;
    let mut client = server.connect(timeout(SHORT_MS)).await.unwrap();
    let resume = client.resume();
    // Without a word for its timeout, the connection goes too.
    client.closed().await.unwrap();
    assert_eq!(server.connect(resume.clone()).await.err(), Some(Error::Expired));
    assert_eq!(server.connect(resume).await.err(), Some(Error::Expired));
}

async fn a_connection_that_breaks_leaves_the_session_alone(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    client.create(&format!("{room}/e"), b"", CreateMode::Ephemeral).await.unwrap();
    for _ in 0..20 {
        let resume = client.resume();
        drop(client);
        client = server.connect(resume).await.unwrap();
    }
    assert_eq!(client.ephemerals("/").await.unwrap().len(), 1);
    client.close().await.unwrap();
}

async fn a_session_with_thousands_of_ephemerals_closes(site: Site) {
    const COUNT: usize = 6000;
    let server = site.server().await;
    let (mut watcher, room) = server.room().await;
    let mut client = server.client().await;
    client.sync("/").await.unwrap();
    let next = create(&format!("{room}/e"), b"", CreateMode::EphemeralSequential);
    let xids = client.send_all((0..COUNT).map(|_| next.clone())).await.unwrap();
    client.reply(*xids.last().unwrap()).await.unwrap();
    watcher.sync("/").await.unwrap();
    assert_eq!(watcher.children(&room, false).await.unwrap().len(), COUNT);
    // Nothing can be asked any more once the close was sent, and all are gone when it is answered.
    let close = client.send(Request::CloseSession).await.unwrap();
    assert_eq!(client.reply(close).await.unwrap().0.err, 0);
    watcher.sync("/").await.unwrap();
    let (names, stat) = watcher.children2(&room, false).await.unwrap();
    assert_eq!((names.len(), stat.cversion, stat.num_children), (0, 2 * COUNT as i32, 0));
    client.closed().await.unwrap();
    watcher.close().await.unwrap();
}

async fn writes_sent_before_the_connection_broke_take_effect_once_or_never(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut last = 0;
    for _ in 0..20 {
        client.send_all((0..10).map(|_| set(&room, b"", -1))).await.unwrap();
        let resume = client.resume();
        drop(client);
        client = server.connect(resume).await.unwrap();
        client.sync("/").await.unwrap();
        let (_, stat) = client.get(&room, false).await.unwrap();
        assert!((last..=last + 10).contains(&stat.version), "{} after {last}", stat.version);
        // What the move cut off stays cut off.
        client.sync("/").await.unwrap();
        assert_eq!(client.get(&room, false).await.unwrap().1, stat);
        last = stat.version;
    }
    client.close().await.unwrap();
}

async fn a_session_keeps_its_timeout_wherever_it_goes(site: Site) {
    let (one, two) = (site.server().await, site.server().await);
    let client = one.connect(timeout(7000)).await.unwrap();
    let resume = ConnectOptions { timeout: Duration::from_secs(20), ..client.resume() };
    assert_eq!(two.connect(resume).await.unwrap().timeout(), Duration::from_secs(7));
}

async fn a_killed_servers_sessions_live_on(site: Site) {
    let (one, two) = (site.server().await.ours(), site.server().await);
    let mut client = Client::connect(one.address, ConnectOptions::default()).await.unwrap();
    let room = support::room(&mut client).await;
    client.create(&format!("{room}/e"), b"", CreateMode::Ephemeral).await.unwrap();
    one.kill();
    client.closed().await.unwrap();
    let mut again = two.connect(client.resume()).await.unwrap();
    assert_eq!(again.children(&room, false).await.unwrap(), ["e"]);
    again.close().await.unwrap();
}

async fn a_killed_servers_sessions_expire(site: Site) {
    let (one, two) = (site.server().await.ours(), site.server().await);
    let (mut watcher, room) = two.room().await;
    let options = ConnectOptions { last_zxid: watcher.last_zxid(), ..timeout(SHORT_MS) };
    let mut client = Client::connect(one.address, options).await.unwrap();
    let path = format!("{room}/e");
    client.create(&path, b"", CreateMode::Ephemeral).await.unwrap();
    watcher.sync("/").await.unwrap();
    watcher.exists(&path, true).await.unwrap();
    one.kill();
    // Nobody but the store's lease knows that it is gone.
    let (zxid, gone) = watcher.next_event().await.unwrap();
    assert_eq!(gone, event(DELETED, &path));
    let stat = watcher.exists(&room, false).await.unwrap().unwrap();
    assert_eq!((stat.cversion, stat.pzxid), (2, zxid));
    assert_eq!(two.connect(client.resume()).await.err(), Some(Error::Expired));
}

async fn a_session_expires_once_on_every_server(site: Site) {
    let servers = [site.server().await, site.server().await, site.server().await];
    let (mut first, room) = servers[0].room().await;
    let mut client = servers[1].connect(timeout(SHORT_MS)).await.unwrap();
    client.sync("/").await.unwrap();
    let path = format!("{room}/e");
    client.create(&path, b"", CreateMode::Ephemeral).await.unwrap();
    let mut watchers = Vec::new();
    for server in &servers {
        let mut watcher = server.client().await;
        watcher.sync("/").await.unwrap();
        watcher.add_watch(&room, 1).await.unwrap();
        watchers.push(watcher);
    }
    drop(client);
    let mut seen = HashSet::new();
    for watcher in &mut watchers {
        seen.insert(watcher.next_event().await.unwrap().0);
        let more = watcher.settled_events().await.unwrap();
        assert_eq!(more, [], "one deletion, one event");
    }
    assert_eq!(seen.len(), 1, "the same zxid everywhere");
    first.sync("/").await.unwrap();
    assert_eq!(first.exists(&room, false).await.unwrap().unwrap().cversion, 2);
}

async fn a_client_ahead_of_this_server_waits_until_it_has_caught_up(site: Site) {
    let gate = Gated::new(site.store());
    let ahead = site.server().await;
    let behind = Running::start(gate.clone(), &[]).await;
    let mut local = Client::connect(behind.address, ConnectOptions::default()).await.unwrap();
    gate.let_changes(false);
    let (mut client, room) = ahead.room().await;
    client.set(&room, b"news", -1).await.unwrap();
    let mut connecting = tokio::spawn(Client::connect(behind.address, client.resume()));
    // The server goes on for others meanwhile, as of what it knows.
    assert_eq!(local.exists(&room, false).await, Ok(None));
    for _ in 0..10 {
        local.ping().await.unwrap();
        assert!(!connecting.is_finished(), "it was let in too early");
    }
    gate.let_changes(true);
    let mut client = (&mut connecting).await.unwrap().unwrap();
    assert_eq!(client.get(&room, false).await.unwrap().0, b"news");
}

async fn a_client_far_ahead_is_turned_away(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    for session in [(0, [0; 16]), (client.session_id(), client.password())] {
        let options = ConnectOptions { session, last_zxid: i64::MAX, ..ConnectOptions::default() };
        assert_eq!(server.connect(options).await.err(), Some(Error::Closed));
    }
    // The session is still where it was.
    client.get(&room, false).await.unwrap();
}

async fn a_sessions_order_holds_across_servers(site: Site) {
    let servers = [site.server().await, site.server().await];
    let (mut client, room) = servers[0].room().await;
    let mut version = 0;
    for n in 0..30 {
        let xids = client.send_all([set(&room, b"", version), get(&room, false)]).await.unwrap();
        assert_eq!(client.reply(xids[0]).await.unwrap().0.err, 0);
        let Reply::Data(_, stat) = answer(&mut client).await.1 else { panic!("no data") };
        version += 1;
        assert_eq!(stat.version, version);
        let seen = client.last_zxid();
        client = servers[n % 2].connect(client.resume()).await.unwrap();
        // Nothing that it has seen goes away.
        let (header, reply) = client.call(get(&room, false)).await.unwrap();
        assert!(header.zxid >= seen);
        assert!(matches!(reply, Reply::Data(_, stat) if stat.version == version), "{reply:?}");
    }
    assert_eq!(client.set(&room, b"", version + 1).await, refused(ErrorCode::BadVersion));
}
