//! Submission of a turn's writes: one batch of non-blocking sends, finished when [`Sends::submit`] returns.
//!
//! A second ring beside monoio's is used as a syscall batcher. Each send carries `MSG_DONTWAIT`, so the
//! kernel completes it inside the submit call with what the socket took, and nothing of the shard's buffers
//! is borrowed beyond it. `MSG_WAITALL` makes a short send report itself in spite of
//! `IOSQE_CQE_SKIP_SUCCESS`: without it the tail is lost silently (pinned by a test below).

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode, types};
use shardcast_shard::flush::{BATCH_LEN_MAX, Written};

const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// How writes reach the kernel.
pub(super) enum Sends {
    /// A batch a system call.
    Ring(Box<IoUring>),
    /// One system call a write, where io_uring is not permitted.
    Direct,
}

impl Sends {
    /// A ring for batches of [`BATCH_LEN_MAX`].
    pub(super) fn ring() -> io::Result<Self> {
        let entries = BATCH_LEN_MAX.next_power_of_two() as u32;
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(entries)?;
        Ok(Self::Ring(Box::new(ring)))
    }

    /// Offers each slice to its socket and reports what each took, in order.
    pub(super) fn submit<'a>(
        &mut self,
        writes: impl ExactSizeIterator<Item = (RawFd, &'a [u8])>,
        results: &mut Vec<Written>,
    ) {
        results.clear();
        match self {
            Self::Direct => results.extend(writes.map(|(fd, bytes)| send_direct(fd, bytes))),
            Self::Ring(ring) => submit_ring(ring, writes, results),
        }
    }
}

fn submit_ring<'a>(
    ring: &mut IoUring,
    writes: impl ExactSizeIterator<Item = (RawFd, &'a [u8])>,
    results: &mut Vec<Written>,
) {
    assert!(writes.len() <= BATCH_LEN_MAX, "the ring holds one batch");
    {
        let mut queue = ring.submission();
        for (index, (fd, bytes)) in writes.enumerate() {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), len)
                .flags(SEND_FLAGS | libc::MSG_WAITALL)
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(index as u64);
            results.push(Written::Took(len as usize));
            // SAFETY: the slice lives until this function returns, and the kernel is done with it by then:
            // MSG_DONTWAIT marks the request REQ_F_NOWAIT, so it is never parked or handed to a worker.
            unsafe { queue.push(&entry).expect("one batch fits") };
        }
    }
    while !ring.submission().is_empty() {
        match ring.submit() {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
            Err(e) => panic!("io_uring refused a batch of sends: {e}"),
        }
    }
    for completion in ring.completion() {
        results[completion.user_data() as usize] = written(completion.result());
    }
}

/// Offers a slice to one socket.
pub(super) fn send_direct(fd: RawFd, bytes: &[u8]) -> Written {
    // SAFETY: the slice outlives the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), SEND_FLAGS) };
    if sent >= 0 {
        return Written::Took(sent as usize);
    }
    written(-io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Reads a result in the manner of io_uring: bytes, or a negated error number.
fn written(result: i32) -> Written {
    match result {
        took if took >= 0 => Written::Took(took as usize),
        error if matches!(-error, libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM) => {
            Written::Took(0)
        }
        _ => Written::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("addr")).expect("connect");
        (listener.accept().expect("accept").0, client)
    }

    /// Every way of sending must report exactly what the socket took: the rest is the outbox's to keep.
    #[test]
    fn pin_a_short_send_reports_what_the_socket_took() {
        let big = vec![7u8; 16 << 20];
        for mut sends in [Sends::ring().expect("io_uring"), Sends::Direct] {
            let (server, mut client) = pair();
            let mut results = Vec::new();
            sends.submit([(server.as_raw_fd(), &big[..])].into_iter(), &mut results);
            let [Written::Took(took)] = results[..] else { panic!("{results:?}") };
            assert!(took > 0 && took < big.len(), "took {took}");
            sends.submit([(server.as_raw_fd(), &big[..10])].into_iter(), &mut results);
            let more = match results[..] {
                [Written::Took(more)] => more,
                _ => panic!("{results:?}"),
            };
            drop(server);
            let mut received = Vec::new();
            client.read_to_end(&mut received).expect("read");
            assert_eq!(received.len(), took + more);
        }
    }

    #[test]
    fn one_broken_socket_in_a_batch_fails_alone() {
        for mut sends in [Sends::ring().expect("io_uring"), Sends::Direct] {
            let (a, mut a_peer) = pair();
            let (broken, _peer) = pair();
            broken.shutdown(std::net::Shutdown::Write).expect("shutdown");
            let (b, mut b_peer) = pair();
            let writes =
                [(a.as_raw_fd(), &b"one"[..]), (broken.as_raw_fd(), b"two"), (b.as_raw_fd(), b"three")];
            let mut results = Vec::new();
            sends.submit(writes.into_iter(), &mut results);
            assert_eq!(results, [Written::Took(3), Written::Failed, Written::Took(5)]);
            let mut buffer = [0; 5];
            a_peer.read_exact(&mut buffer[..3]).expect("read");
            b_peer.read_exact(&mut buffer).expect("read");
            assert_eq!(&buffer, b"three");
        }
    }
}
