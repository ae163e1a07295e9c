//! The wire between qemu and our disk: the network block device protocol, as its
//! `doc/proto.md` describes it, with no more than qemu needs.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::net::UnixStream,
};

/// The two words a server begins with; each option a client sends begins with the second.
const GREETING: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;

/// Fixed newstyle, the one handshake that is still in use.
const HANDSHAKE_FLAGS: u16 = 1;

const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) + 1;
/// The information that every client gets: size and flags.
const INFO_EXPORT: u16 = 0;

/// The flags are valid, and there is a write cache to be flushed.
const EXPORT_FLAGS: u16 = 1 | 1 << 2;

const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const INVALID: u32 = 22;
const IO_ERROR: u32 = 5;

/// An option longer than this is none of qemu's, a request neither.
const OPTION_BYTES_MAX: u32 = 64 << 10;
const REQUEST_BYTES_MAX: u32 = 64 << 20;

/// What is behind the wire.
pub(crate) trait Device {
    fn bytes(&self) -> u64;
    fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write(&mut self, data: Vec<u8>, offset: u64) -> io::Result<()>;
    fn flush(&mut self) -> io::Result<()>;
}

/// Serves `device` until the client is gone. One request after the other: what was
/// answered before a flush came is durable when the flush is answered.
pub(crate) fn serve(stream: &UnixStream, device: &mut impl Device) -> io::Result<()> {
    let mut wire =
        Wire { from: BufReader::new(stream), to: BufWriter::with_capacity(1 << 20, stream) };
    if wire.shake_hands(device.bytes())? {
        while wire.answer_request(device)? {}
    }
    Ok(())
}

struct Wire<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Wire<R, W> {
    /// Answers whether the client wants to go on.
    fn shake_hands(&mut self, bytes: u64) -> io::Result<bool> {
        self.to.write_all(&GREETING.to_be_bytes())?;
        self.to.write_all(&OPTION.to_be_bytes())?;
        self.to.write_all(&HANDSHAKE_FLAGS.to_be_bytes())?;
        self.to.flush()?;
        let _client_flags: u32 = self.u32()?;
        loop {
            expect(self.u64()? == OPTION, "an option")?;
            let (option, length) = (self.u32()?, self.u32()?);
            expect(length <= OPTION_BYTES_MAX, "an option that is not so long")?;
            self.data(length)?;
            match option {
                OPTION_ABORT => {
                    self.reply_to_option(option, REPLY_ACK, &[])?;
                    return Ok(false);
                }
                OPTION_INFO | OPTION_GO => {
                    let mut info = INFO_EXPORT.to_be_bytes().to_vec();
                    info.extend(bytes.to_be_bytes());
                    info.extend(EXPORT_FLAGS.to_be_bytes());
                    self.reply_to_option(option, REPLY_INFO, &info)?;
                    self.reply_to_option(option, REPLY_ACK, &[])?;
                    if option == OPTION_GO {
                        return Ok(true);
                    }
                }
                _ => self.reply_to_option(option, REPLY_UNSUPPORTED, &[])?,
            }
        }
    }

    fn reply_to_option(&mut self, option: u32, reply: u32, data: &[u8]) -> io::Result<()> {
        self.to.write_all(&OPTION_REPLY.to_be_bytes())?;
        for number in [option, reply, data.len() as u32] {
            self.to.write_all(&number.to_be_bytes())?;
        }
        self.to.write_all(data)?;
        self.to.flush()
    }

    /// Answers whether another one may come.
    fn answer_request(&mut self, device: &mut impl Device) -> io::Result<bool> {
        expect(self.u32()? == REQUEST, "a request")?;
        // The flags come first; none was offered.
        let kind = self.u32()? as u16;
        let (handle, offset, length) = (self.u64()?, self.u64()?, self.u32()?);
        expect(length <= REQUEST_BYTES_MAX, "a request that is not so long")?;
        let mut answer = Vec::new();
        let done = match kind {
            READ => {
                answer.resize(length as usize, 0);
                device.read(&mut answer, offset)
            }
            WRITE => {
                let data = self.data(length)?;
                device.write(data, offset)
            }
            FLUSH => device.flush(),
            DISCONNECT => return Ok(false),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        let error = match done {
            Ok(()) => 0,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => INVALID,
            Err(_) => IO_ERROR,
        };
        self.to.write_all(&REPLY.to_be_bytes())?;
        self.to.write_all(&error.to_be_bytes())?;
        self.to.write_all(&handle.to_be_bytes())?;
        if error == 0 {
            self.to.write_all(&answer)?;
        }
        self.to.flush()?;
        Ok(true)
    }

    fn data(&mut self, length: u32) -> io::Result<Vec<u8>> {
        let mut data = vec![0; length as usize];
        self.from.read_exact(&mut data)?;
        Ok(data)
    }

    fn u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.from.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.from.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }
}

fn expect(is_so: bool, what: &str) -> io::Result<()> {
    let problem = || io::Error::new(io::ErrorKind::InvalidData, format!("qemu sent no {what}"));
    is_so.then_some(()).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory {
        bytes: Vec<u8>,
        flushes: usize,
    }

    impl Device for Memory {
        fn bytes(&self) -> u64 {
            self.bytes.len() as u64
        }
        fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let from = self.bytes.get(offset as usize..).ok_or(io::ErrorKind::InvalidInput)?;
            buffer.copy_from_slice(&from[..buffer.len()]);
            Ok(())
        }
        fn write(&mut self, data: Vec<u8>, offset: u64) -> io::Result<()> {
            self.bytes[offset as usize..][..data.len()].copy_from_slice(&data);
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.flushes += 1;
            Ok(())
        }
    }

    fn request(kind: u16, handle: u64, offset: u64, length: u32) -> Vec<u8> {
        let mut bytes = REQUEST.to_be_bytes().to_vec();
        bytes.extend(u32::from(kind).to_be_bytes());
        bytes.extend(handle.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes
    }

    #[test]
    fn a_client_shakes_hands_writes_flushes_and_reads() {
        let mut sent = 1u32.to_be_bytes().to_vec();
        for option in [8, OPTION_GO] {
            sent.extend(OPTION.to_be_bytes());
            sent.extend(u32::to_be_bytes(option));
            sent.extend(2u32.to_be_bytes());
            sent.extend([0, 0]);
        }
        sent.extend(request(WRITE, 1, 4, 2));
        sent.extend(*b"ab");
        sent.extend(request(FLUSH, 2, 0, 0));
        sent.extend(request(READ, 3, 3, 4));
        sent.extend(request(READ, 4, 99, 1));
        sent.extend(request(DISCONNECT, 5, 0, 0));

        let mut device = Memory { bytes: vec![b'.'; 8], flushes: 0 };
        let mut wire = Wire { from: sent.as_slice(), to: Vec::new() };
        assert!(wire.shake_hands(device.bytes()).unwrap());
        let handshake = wire.to.len();
        while wire.answer_request(&mut device).unwrap() {}

        assert!(wire.from.is_empty());
        assert_eq!((device.bytes.as_slice(), device.flushes), (b"....ab..".as_slice(), 1));
        let replies = &wire.to[handshake..];
        assert_eq!(replies.len(), 4 * 16 + 4);
        assert_eq!(&replies[3 * 16..][..4], b".ab.");
        assert_eq!(replies[replies.len() - 1], 4, "handle");
        assert_eq!(replies[replies.len() - 9], INVALID as u8, "error");
    }
}
