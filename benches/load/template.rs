//! A request that is sent many times: encoded once, then copied with other numbers in it.

use bytes::{BufMut, BytesMut};
use zketcd::jute::{Request, client};

/// What stands in a path for the number of the sending.
pub const NUMBER: &str = "##########";
/// What stands in a path for that number plus [`Template::ahead`].
pub const LATER: &str = "@@@@@@@@@@";
/// What stands for the number as a version.
pub const VERSION: i32 = 0x7e57_7e57;
/// Where a frame has its xid.
const XID: usize = 4;

pub struct Template {
    kind: i32,
    bytes: Vec<u8>,
    numbers: Vec<usize>,
    later: Vec<usize>,
    versions: Vec<usize>,
    ahead: u64,
}

impl Template {
    pub fn new(request: &Request) -> Template {
        Template::ahead(request, 0)
    }

    /// `ahead`: how far [`LATER`] is ahead of [`NUMBER`].
    pub fn ahead(request: &Request, ahead: u64) -> Template {
        let mut bytes = BytesMut::new();
        client::encode_request(&mut bytes, 0, request);
        let places = |what: &[u8]| -> Vec<usize> {
            bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what).map(|(at, _)| at).collect()
        };
        let (numbers, later) = (places(NUMBER.as_bytes()), places(LATER.as_bytes()));
        let versions = places(&VERSION.to_be_bytes());
        Template { kind: request.op(), bytes: bytes.to_vec(), numbers, later, versions, ahead }
    }

    pub fn kind(&self) -> i32 {
        self.kind
    }

    pub fn write(&self, out: &mut BytesMut, xid: i32, number: u64) {
        let start = out.len();
        out.put_slice(&self.bytes);
        let frame = &mut out[start..];
        frame[XID..XID + 4].copy_from_slice(&xid.to_be_bytes());
        self.numbers.iter().for_each(|at| digits(&mut frame[*at..][..NUMBER.len()], number));
        self.later.iter().for_each(|at| digits(&mut frame[*at..][..LATER.len()], number + self.ahead));
        // versions wrap as ZooKeeper's do
        self.versions.iter().for_each(|at| frame[*at..][..4].copy_from_slice(&(number as i32).to_be_bytes()));
    }
}

/// A number as a path has it.
pub fn number(number: u64) -> String {
    format!("{number:0width$}", width = NUMBER.len())
}

fn digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
