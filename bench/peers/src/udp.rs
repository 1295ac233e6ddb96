//! The floor under QUIC: what sending and receiving UDP datagrams over loopback costs,
//! with and without segmentation offload (the same crate quinn uses, no crypto).
use anyhow::Result;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState, BATCH_SIZE};
use serde_json::{json, Value};
use std::{
    io::{ErrorKind, IoSliceMut},
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        Arc,
    },
    time::{Duration, Instant},
};

fn thread_cpu() -> f64 {
    unsafe {
        let mut t: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t);
        t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
    }
}

fn socket() -> Result<UdpSocket> {
    let s = UdpSocket::bind("127.0.0.1:0")?;
    let r = socket2::SockRef::from(&s);
    r.set_recv_buffer_size(4 << 20)?;
    r.set_send_buffer_size(4 << 20)?;
    Ok(s)
}

/// One sender thread, one receiver thread; the sender never has more than 1 MB outstanding.
fn one(size: usize, segments: usize, secs: f64) -> Result<Value> {
    let (tx, rx) = (socket()?, socket()?);
    let to = rx.local_addr()?;
    let got = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let rx_state = UdpSocketState::new(UdpSockRef::from(&rx))?;
    rx.set_nonblocking(true)?;
    let reader = {
        let (got, stop) = (got.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut bufs = vec![vec![0u8; 65536]; BATCH_SIZE];
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let (mut calls, c0) = (0u64, thread_cpu());
            while !stop.load(Relaxed) {
                unsafe {
                    let mut p =
                        libc::pollfd { fd: rx.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                    libc::poll(&mut p, 1, 50);
                }
                let mut it = bufs.iter_mut();
                let mut iov: [IoSliceMut; BATCH_SIZE] =
                    std::array::from_fn(|_| IoSliceMut::new(it.next().expect("buffer")));
                match rx_state.recv(UdpSockRef::from(&rx), &mut iov, &mut metas) {
                    Ok(n) => {
                        calls += 1;
                        got.fetch_add(metas[..n].iter().map(|m| m.len as u64).sum(), Relaxed);
                    }
                    Err(e)
                        if matches!(
                            e.kind(),
                            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                        ) => {}
                    Err(_) => break,
                }
            }
            (thread_cpu() - c0, calls)
        })
    };
    let tx_state = UdpSocketState::new(UdpSockRef::from(&tx))?;
    tx.set_nonblocking(false)?;
    let buf = vec![7u8; size * segments];
    let (mut sent, mut calls, mut idle) = (0u64, 0u64, 0.0);
    let (t, c0) = (Instant::now(), thread_cpu());
    while t.elapsed().as_secs_f64() < secs {
        if sent.saturating_sub(got.load(Relaxed)) > 1 << 20 {
            let w = thread_cpu();
            std::thread::sleep(Duration::from_micros(20));
            idle += thread_cpu() - w;
            if t.elapsed().as_secs_f64() < secs && sent.saturating_sub(got.load(Relaxed)) > 64 << 20
            {
                break;
            }
            continue;
        }
        let tr = Transmit {
            destination: to,
            ecn: None,
            contents: &buf,
            segment_size: (segments > 1).then_some(size),
            src_ip: None,
        };
        tx_state.try_send(UdpSockRef::from(&tx), &tr)?;
        sent += buf.len() as u64;
        calls += 1;
    }
    let (wall, cpu) = (t.elapsed().as_secs_f64(), thread_cpu() - c0 - idle);
    std::thread::sleep(Duration::from_millis(60));
    stop.store(true, Relaxed);
    let (rcpu, rcalls) = reader.join().expect("reader");
    let packets = sent as f64 / size as f64;
    let r1 = |x: f64| (x * 10.0).round() / 10.0;
    Ok(json!({
        "peer": format!("udp {size} B x {segments}"), "workload": "wu",
        "mb_per_s": r1(got.load(Relaxed) as f64 / 1e6 / wall),
        "send_ns_per_packet": r1(cpu * 1e9 / packets), "recv_ns_per_packet": r1(rcpu * 1e9 / packets),
        "packets_per_recv": r1(packets / rcalls.max(1) as f64), "packets_per_send": r1(packets / calls.max(1) as f64),
        "cpu_s_per_gb": ((cpu + rcpu) / (sent as f64 / 1e9) * 1000.0).round() / 1000.0,
        "lost_pct": r1(100.0 * (1.0 - got.load(Relaxed) as f64 / sent as f64)),
    }))
}

pub fn run(secs: f64) -> Result<Vec<Value>> {
    [(1452, 1), (1452, 10), (1452, 44), (8952, 1), (8952, 7), (32000, 2), (65507, 1)]
        .into_iter()
        .map(|(size, seg)| one(size, seg, secs))
        .collect()
}
