//! Bad input: each kind ends that one connection at most, and harms nobody else.

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::client::{Client, ConnectOptions, Error, Incoming, Wire, open_acl};
use support::{Server, Site, code, each_site, encoded, framed, get, raw_request, refused, set};
use zketcd::jute::{CreateMode, ErrorCode, Request, SetWatches, op};
use zketcd::tree::path::MAX_PATH;

each_site! {
    all: [
        a_truncated_connect_request_ends_the_connection,
        a_frame_without_a_header_ends_the_connection,
        bad_lengths_end_the_connection,
        unreadable_bodies_are_answered_and_the_connection_goes_on,
        absurd_counts_are_answered_and_cost_nothing,
    ],
    ours: [
        bad_lengths_in_the_handshake_end_the_connection,
        half_a_frame_harms_nobody,
        random_bytes_end_their_connection_or_are_answered,
        random_requests_are_answered,
        a_silent_client_is_closed_after_the_handshake_timeout,
        a_client_that_never_reads_is_closed,
        too_many_connections_from_one_address_are_closed,
        too_many_connections_in_all_are_closed,
        ten_thousand_connections_harm_nobody,
        a_deep_path_and_a_long_name_are_taken,
        a_connection_may_not_gain_endless_identities,
        a_connection_that_ends_leaves_room_for_another,
    ],
}

/// Somebody whom nothing of this may harm.
struct Bystander {
    client: Client,
    room: String,
    writes: i32,
}

impl Bystander {
    async fn of(server: &Server) -> Bystander {
        let (client, room) = server.room().await;
        Bystander { client, room, writes: 0 }
    }

    async fn is_well(&mut self) {
        let stat = self.client.set(&self.room, b"well", self.writes).await.expect("a write");
        self.writes += 1;
        assert_eq!(self.client.get(&self.room, false).await, Ok((b"well".to_vec(), stat)));
    }
}

async fn a_truncated_connect_request_ends_the_connection(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    for length in [0, 1, 20, 27] {
        let mut wire = Wire::connect(server.address()).await.unwrap();
        wire.send_raw(&framed(&vec![0; length])).await.unwrap();
        assert_eq!(wire.closed().await.unwrap(), Bytes::new(), "{length}");
    }
    // A password longer than the frame.
    let mut connect = vec![0; 24];
    connect.extend(1000_i32.to_be_bytes());
    connect.extend([1; 16]);
    let mut wire = Wire::connect(server.address()).await.unwrap();
    wire.send_raw(&framed(&connect)).await.unwrap();
    assert_eq!(wire.closed().await.unwrap(), Bytes::new());
    bystander.is_well().await;
}

async fn a_frame_without_a_header_ends_the_connection(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    for length in [0, 1, 7] {
        let mut client = server.client().await;
        client.send_raw(&framed(&vec![0; length])).await.unwrap();
        client.closed().await.unwrap();
        assert_eq!(client.log(), [], "{length}");
        server.connect(client.resume()).await.unwrap().ping().await.unwrap();
    }
    bystander.is_well().await;
}

const BAD_LENGTHS: [i32; 5] = [-1, i32::MIN, 0x10_0000, i32::MAX, -1000];

async fn bad_lengths_end_the_connection(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    for length in BAD_LENGTHS {
        let mut client = server.client().await;
        client.send_raw(&length.to_be_bytes()).await.unwrap();
        client.closed().await.unwrap();
        assert_eq!(client.log(), [], "{length}");
        server.connect(client.resume()).await.unwrap().ping().await.unwrap();
    }
    bystander.is_well().await;
}

/// ZooKeeper takes some of them for a four-letter word that it does not know, and waits.
async fn bad_lengths_in_the_handshake_end_the_connection(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    for length in BAD_LENGTHS {
        let mut wire = Wire::connect(server.address()).await.unwrap();
        wire.send_raw(&length.to_be_bytes()).await.unwrap();
        assert_eq!(wire.closed().await.unwrap(), Bytes::new(), "{length}");
    }
    bystander.is_well().await;
}

async fn half_a_frame_harms_nobody(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    let mut client = server.client().await;
    let request = encoded(1, &set(&bystander.room, b"half", -1));
    let (first, second) = request.split_at(request.len() / 2);
    client.send_raw(first).await.unwrap();
    bystander.is_well().await;
    client.send_raw(second).await.unwrap();
    let Incoming::Reply { header, .. } = client.recv().await.unwrap() else { panic!("an event") };
    assert_eq!((header.xid, header.err), (1, 0));
    bystander.writes += 1;
    // Half a frame, and gone: it never was.
    client.send_raw(first).await.unwrap();
    drop(client);
    bystander.is_well().await;
}

async fn unreadable_bodies_are_answered_and_the_connection_goes_on(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    let mut client = server.client().await;
    for (n, op) in
        [op::CREATE, op::DELETE, op::GET_DATA, op::SET_WATCHES, op::MULTI, op::ADD_WATCH].into_iter().enumerate()
    {
        let xid = i32::try_from(n).unwrap() + 100;
        client.send_raw(&raw_request(xid, op, &[0, 0, 0, 9, b'/'])).await.unwrap();
        let Incoming::Reply { header, .. } = client.recv().await.unwrap() else { panic!("an event") };
        assert_eq!((header.xid, header.err), (xid, ErrorCode::MarshallingError.code()), "{op}");
    }
    client.ping().await.unwrap();
    client.close().await.unwrap();
    bystander.is_well().await;
}

async fn absurd_counts_are_answered_and_cost_nothing(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    let mut client = server.client().await;
    let count = i32::MAX.to_be_bytes();
    let zero = [0; 4];
    let path = [0, 0, 0, 2, b'/', b'x'];
    let bodies: [(i32, Vec<u8>); 5] = [
        // A path, data, a list of ACLs, lists of paths: each two billion long.
        (op::GET_DATA, count.to_vec()),
        (op::SET_DATA, [&path[..], &count].concat()),
        (op::CREATE, [&path[..], &zero, &count].concat()),
        (op::SET_ACL, [&path[..], &count].concat()),
        (op::SET_WATCHES, [&[0; 8][..], &count].concat()),
    ];
    for (n, (op, body)) in bodies.into_iter().enumerate() {
        let xid = i32::try_from(n).unwrap() + 100;
        client.send_raw(&raw_request(xid, op, &body)).await.unwrap();
        let Incoming::Reply { header, .. } = client.recv().await.unwrap() else { panic!("an event") };
        assert_eq!((header.xid, header.err), (xid, ErrorCode::MarshallingError.code()), "{op}");
    }
    client.ping().await.unwrap();
    client.close().await.unwrap();
    bystander.is_well().await;
}

/// Values of `strategy`, the same in each run.
fn samples<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

async fn random_bytes_end_their_connection_or_are_answered(site: Site) {
    let server = site.server_with(&["--handshake-timeout=200ms"]).await;
    let mut bystander = Bystander::of(&server).await;
    for bytes in samples(prop::collection::vec(any::<u8>(), 1..200), 100) {
        let mut wire = Wire::connect(server.address()).await.unwrap();
        wire.send_raw(&bytes).await.unwrap_or(());
        wire.closed().await.unwrap();
        let mut client = server.client().await;
        // A frame of rubbish in a session: an answer or the end, and then either way a session.
        client.send_raw(&framed(&bytes)).await.unwrap_or(());
        let ended = client.send(Request::Ping).await.is_err() || client.recv().await.is_err();
        if !ended {
            continue;
        }
        server.connect(client.resume()).await.unwrap();
    }
    bystander.is_well().await;
}

async fn random_requests_are_answered(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    let mut client = server.client().await;
    let body = prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>(), 1 => Just(b'/')], 0..60);
    // Those that a client may go on after; closeSession would end it.
    let op =
        prop::sample::select((1..=9).chain([12]).chain(14..=22).chain([101]).chain(103..=107).collect::<Vec<i32>>());
    for (n, (op, body)) in samples((op, body), 2000).into_iter().enumerate() {
        let xid = i32::try_from(n).unwrap() + 1;
        client.send_raw(&raw_request(xid, op, &body)).await.unwrap();
        let Incoming::Reply { header, .. } =
            client.recv().await.unwrap_or_else(|error| panic!("{op} {body:?}: {error}"))
        else {
            continue;
        };
        assert!(ErrorCode::from_code(header.err).is_some(), "{header:?}");
    }
    bystander.is_well().await;
}

async fn a_silent_client_is_closed_after_the_handshake_timeout(site: Site) {
    let server = site.server_with(&["--handshake-timeout=200ms"]).await;
    let mut bystander = Bystander::of(&server).await;
    let mut silent = Wire::connect(server.address()).await.unwrap();
    let mut slow = Wire::connect(server.address()).await.unwrap();
    slow.send_raw(&[0, 0, 0, 45, 0, 0]).await.unwrap();
    for wire in [&mut silent, &mut slow] {
        assert_eq!(wire.closed().await.unwrap(), Bytes::new());
    }
    bystander.is_well().await;
}

async fn a_client_that_never_reads_is_closed(site: Site) {
    let server = site.server_with(&["--max-unsent-bytes=2MiB", "--jute-max-buffer=1048575"]).await;
    let mut bystander = Bystander::of(&server).await;
    let (mut client, room) = server.room().await;
    client.set(&room, &[7; 500_000], -1).await.unwrap();
    // It asks for two hundred times half a megabyte and takes none of it.
    let requests = (0..200).map(|_| get(&room, false)).collect::<Vec<_>>();
    client.send_all(requests).await.unwrap();
    for _ in 0..10 {
        bystander.is_well().await;
    }
    // What was in the socket comes still, and then the end.
    let mut answers = 0;
    loop {
        match client.recv().await {
            Ok(_) => answers += 1,
            Err(Error::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(answers < 200, "all was kept for it");
    server.connect(client.resume()).await.unwrap().ping().await.unwrap();
    bystander.is_well().await;
}

async fn too_many_connections_from_one_address_are_closed(site: Site) {
    let server = site.server_with(&["--max-client-connections=5"]).await;
    limited(&server, 5).await;
}

async fn too_many_connections_in_all_are_closed(site: Site) {
    let server = site.server_with(&["--max-connections=5", "--max-client-connections=0"]).await;
    limited(&server, 5).await;
}

async fn limited(server: &Server, limit: usize) {
    let mut bystander = Bystander::of(server).await;
    let mut clients = Vec::new();
    for _ in 1..limit {
        clients.push(server.client().await);
    }
    for _ in 0..5 {
        let refused = server.connect(ConnectOptions::default()).await;
        assert_eq!(refused.err(), Some(Error::Closed));
    }
    for client in &mut clients {
        client.ping().await.unwrap();
    }
    bystander.is_well().await;
}

async fn a_connection_that_ends_leaves_room_for_another(site: Site) {
    let server = site.server_with(&["--max-client-connections=2"]).await;
    let mut bystander = Bystander::of(&server).await;
    for _ in 0..20 {
        let client = server.client().await;
        client.close().await.unwrap();
        bystander.is_well().await;
    }
}

async fn ten_thousand_connections_harm_nobody(site: Site) {
    let server = site.server_with(&["--max-client-connections=100", "--handshake-timeout=60s"]).await;
    let mut bystander = Bystander::of(&server).await;
    let mut kept = Vec::new();
    for n in 0..10_000 {
        // Refused ones are closed at once; those that are let in stay and say nothing.
        let socket = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        if kept.len() < 200 {
            kept.push(socket);
        }
        if n % 1000 == 0 {
            bystander.is_well().await;
        }
    }
    bystander.is_well().await;
    drop(kept);
    bystander.is_well().await;
}

async fn a_deep_path_and_a_long_name_are_taken(site: Site) {
    let server = site.server().await;
    let (mut client, room) = server.room().await;
    let mut path = room.clone();
    for _ in 0..200 {
        path.push_str("/d");
        client.create(&path, b"", CreateMode::Persistent).await.unwrap();
    }
    assert_eq!(client.all_children_number(&room).await, Ok(200));
    let named = |length: usize| format!("{room}/{}", "n".repeat(length - room.len() - 1));
    client.create(&named(MAX_PATH), b"", CreateMode::Persistent).await.unwrap();
    client.delete(&named(MAX_PATH), -1).await.unwrap();
    let too_long = client.create(&named(MAX_PATH + 1), b"", CreateMode::Persistent).await;
    assert_eq!(too_long, refused(ErrorCode::BadArguments));
    // Names that are no paths of anybody.
    let missing = SetWatches { data: vec!["\u{1}".into(), String::new(), "//".into()], ..SetWatches::default() };
    assert_eq!(code(&mut client, Request::SetWatches(missing)).await, 0);
    client.set_acl(&room, open_acl(), -1).await.unwrap();
}

async fn a_connection_may_not_gain_endless_identities(site: Site) {
    let server = site.server().await;
    let mut bystander = Bystander::of(&server).await;
    let mut client = server.client().await;
    let mut gained = 0;
    while let Ok(()) = client.auth("digest", format!("user{gained}:x").as_bytes()).await {
        gained += 1;
        assert!(gained < 10_000, "there is no end to it");
    }
    assert!(gained > 50);
    client.closed().await.unwrap();
    bystander.is_well().await;
}
