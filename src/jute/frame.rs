//! Frames: each record, or header and record, travels behind its length.

use bytes::{Buf, Bytes, BytesMut};

/// The longest frame a server takes unless told otherwise, in bytes: ZooKeeper's default of `jute.maxbuffer`.
pub const DEFAULT_MAX_BUFFER: usize = 0xfffff;

/// Bytes of the length before a frame.
pub const LENGTH_BYTES: usize = 4;

/// A declared length that no frame may have. ZooKeeper closes the connection without an answer
/// (`NIOServerCnxn.readLength`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame's length must lie between 0 and {max} bytes; this one declares {length}")]
pub struct FrameError {
    pub length: i32,
    pub max: usize,
}

/// Takes the next whole frame off `buf`, without its length; `None` until all of it is there.
///
/// A frame of exactly `max` bytes passes, as in ZooKeeper: `jute.maxbuffer` bounds a frame coming in, and what
/// `jute.maxbuffer.extrasize` adds only concerns strings and buffers read from disk or from another server, which
/// can't be longer than their frame here. A frame of length 0 is a frame: it fails later, for want of a header.
/// Nothing is set aside for a frame before its bytes are there.
///
/// The frame, and every [`Bytes`] decoded from it, shares `buf`'s memory: copy what is kept for long.
///
/// # Errors
///
/// A negative length, or one over `max`. `buf` is left as it is, so the error comes again.
pub fn next_frame(buf: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buf.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let declared = i32::from_be_bytes(*prefix);
    let length =
        usize::try_from(declared).ok().filter(|length| *length <= max).ok_or(FrameError { length: declared, max })?;
    if buf.len() - LENGTH_BYTES < length {
        return Ok(None);
    }
    buf.advance(LENGTH_BYTES);
    Ok(Some(buf.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_whole() {
        let mut buf = BytesMut::new();
        for byte in [0, 0, 0, 2, 7] {
            buf.extend_from_slice(&[byte]);
            assert_eq!(next_frame(&mut buf, 10), Ok(None));
        }
        buf.extend_from_slice(&[8, 0, 0, 0, 0, 0]);
        assert_eq!(next_frame(&mut buf, 10), Ok(Some(Bytes::from_static(&[7, 8]))));
        assert_eq!(next_frame(&mut buf, 10), Ok(Some(Bytes::new())));
        assert_eq!(&buf[..], [0]);
    }

    #[test]
    fn the_limit_itself_passes_and_one_more_does_not() {
        let mut buf = BytesMut::from(&[0, 0, 0, 3, 1, 2, 3][..]);
        assert_eq!(next_frame(&mut buf.clone(), 3), Ok(Some(Bytes::from_static(&[1, 2, 3]))));
        assert_eq!(next_frame(&mut buf, 2), Err(FrameError { length: 3, max: 2 }));
        assert_eq!(next_frame(&mut buf, 2), Err(FrameError { length: 3, max: 2 }));
    }

    #[test]
    fn a_bad_length_is_refused_before_its_bytes_come() {
        let mut negative = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        let error = next_frame(&mut negative, DEFAULT_MAX_BUFFER).unwrap_err();
        assert_eq!(error.length, -1);
        let mut huge = BytesMut::from(&[0, 0x10, 0, 0][..]);
        let error = next_frame(&mut huge, DEFAULT_MAX_BUFFER).unwrap_err();
        assert_eq!((error.length, error.max), (0x100000, 0xfffff));
        assert_eq!(
            error.to_string(),
            "a frame's length must lie between 0 and 1048575 bytes; this one declares 1048576"
        );
    }
}
