//! Any bytes through every reader of the wire. None may panic, or read what it can't write again.

#![no_main]

use arbitrary::Unstructured;
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use zketcd::jute::client::{self, Packet};
use zketcd::jute::{
    ConnectRequest, DEFAULT_MAX_BUFFER, Reply, ReplyHeader, Request, RequestHeader, encode_event, encode_reply,
    next_frame, op,
};

/// Requests whose answers have a body of their own.
const ANSWERED: [i32; 14] = [
    op::CREATE,
    op::CREATE2,
    op::EXISTS,
    op::GET_DATA,
    op::GET_ACL,
    op::GET_CHILDREN,
    op::GET_CHILDREN2,
    op::GET_ALL_CHILDREN_NUMBER,
    op::MULTI,
    op::WHO_AM_I,
    op::SASL,
    op::ADD_WATCH,
    op::SYNC,
    op::DELETE,
];

fuzz_target!(|data: &[u8]| {
    // As what comes from a socket...
    let mut stream = BytesMut::from(data);
    while let Ok(Some(frame)) = next_frame(&mut stream, DEFAULT_MAX_BUFFER) {
        request(frame);
    }
    // ... as one frame, of either side's...
    let frame = Bytes::copy_from_slice(data);
    request(frame.clone());
    connect(&frame);
    packet(&frame);
    if let Some((pick, body)) = data.split_first() {
        reply(ANSWERED[usize::from(*pick) % ANSWERED.len()], body);
    }
    // ... and as the seed of requests that make sense.
    if let Ok(made) = zketcd_fuzz::requests(&mut Unstructured::new(data)) {
        made.into_iter().for_each(|request| written(7, request));
    }
});

fn request(frame: Bytes) {
    match Request::decode(frame) {
        Ok((header, request)) => {
            assert_eq!(header.op, request.op());
            written(header.xid, request);
        }
        Err(error) => assert!(error.to_string().len() < 200),
    }
}

fn written(xid: i32, request: Request) {
    let mut out = BytesMut::new();
    client::encode_request(&mut out, xid, &request);
    let header = RequestHeader { xid, op: request.op() };
    assert_eq!(Request::decode(only_frame(out)), Ok((header, request)));
}

fn connect(frame: &Bytes) {
    if let Ok(request) = ConnectRequest::decode(frame) {
        let mut out = BytesMut::new();
        client::encode_connect(&mut out, &request);
        assert_eq!(ConnectRequest::decode(&only_frame(out)), Ok(request));
    }
    if let Ok(response) = client::decode_connect_response(frame) {
        let mut out = BytesMut::new();
        response.encode(&mut out);
        assert_eq!(client::decode_connect_response(&only_frame(out)), Ok(response));
    }
}

fn packet(frame: &Bytes) {
    if let Ok(Packet::Event { zxid, event }) = client::decode_packet(frame) {
        let mut out = BytesMut::new();
        encode_event(&mut out, zxid, &event);
        assert_eq!(client::decode_packet(&only_frame(out)), Ok(Packet::Event { zxid, event }));
    }
}

fn reply(op: i32, body: &[u8]) {
    let header = ReplyHeader::ok(1, 2);
    if let Ok(reply) = client::decode_reply(op, &header, body) {
        assert_eq!(reply == Reply::Empty, op == op::DELETE);
        let mut out = BytesMut::new();
        encode_reply(&mut out, &header, &reply);
        let Ok(Packet::Reply { header: read, body }) = client::decode_packet(&only_frame(out)) else {
            panic!("a reply that is none")
        };
        assert_eq!((read, client::decode_reply(op, &header, &body)), (header, Ok(reply)));
    }
}

fn only_frame(mut out: BytesMut) -> Bytes {
    let frame = next_frame(&mut out, usize::MAX).expect("a sane length").expect("a whole frame");
    assert!(out.is_empty());
    frame
}
