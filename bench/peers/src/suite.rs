//! Which peers there are, and the alternating runs.
use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::{
    fs::OpenOptions,
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{inproc, report, sys, targets, Args};

/// name, kind, preset tuning, part of the default set.
const PEERS: &[(&str, &str, &str, bool)] = &[
    ("quinn", "quinn", "sock=4194304", true),
    ("quinn-default", "quinn", "", false),
    ("quinn-fast", "quinn", "sock=4194304,suite=aes128,ack=40,srt=current,crt=current", true),
    ("quinn-jumbo", "quinn", "sock=4194304,mtu=6500", true),
    ("quinn-relay", "quinn", "sock=4194304,relay=1", false),
    ("tollgate", "tollgate", "", true),
    ("tollgate-fast", "tollgate", TOLLGATE_FAST, true),
    ("tollgate-jumbo", "tollgate", "mtu=6500,limits.mtu_max=6500", true),
    ("tollgate-unlimited", "tollgate", "quotas=none", false),
    ("tollgate-worker", "tollgate", "worker=1", false),
    ("tonic-bidi", "tonic", "", true),
    ("tonic-unary", "tonic", "unary=1", true),
    ("nats-request", "nats", "mode=request", true),
    ("nats-inbox", "nats", "mode=inbox", true),
    ("nats-jetstream", "nats", "mode=js", true),
    ("redis-echo", "redis", "mode=echo", true),
    ("redis-set", "redis", "mode=set", false),
    ("redis-stream", "redis", "mode=stream", true),
];

/// What an operator of a data centre would set: one thread at each end, no probing for the packet
/// size, no question after the handshake.
const TOLLGATE_FAST: &str = "crt=current,confirm=0,imtu=1452,limits.mtu_initial=1452";

pub const WORKLOADS: &[&str] = &["w1", "w2", "w3", "w4", "w5"];

/// Which cells are measured; those left out would repeat a sibling's or mean nothing.
fn applies(peer: &str, workload: &str) -> bool {
    match peer {
        "nats-jetstream" | "redis-stream" => matches!(workload, "w1" | "w2" | "w5"),
        "nats-inbox" | "quinn-fast" => workload != "w4",
        "tonic-unary" => workload != "w4" && workload != "w3",
        _ => true,
    }
}

pub fn peer(name: &str) -> Result<(&'static str, &'static str)> {
    match PEERS.iter().find(|p| p.0 == name) {
        Some(p) => Ok((p.1, p.2)),
        None => {
            bail!("no peer {name}; there are {:?}", PEERS.iter().map(|p| p.0).collect::<Vec<_>>())
        }
    }
}

pub fn list<'a>(args: &'a Args, name: &str, default: Vec<&'a str>) -> Vec<&'a str> {
    args.opt(name).map(|s| s.split(',').collect()).unwrap_or(default)
}

/// Runs one cell in a process of its own, within a time limit.
pub fn cell(
    peer: &str,
    workload: &str,
    tune: &str,
    extra: &[String],
    limit: Duration,
) -> Result<Value> {
    let mut cmd = Command::new(std::env::current_exe()?);
    cmd.args(["bench", peer, workload, "--tune", tune]).args(extra);
    cmd.stdout(Stdio::piped()).stdin(Stdio::null());
    let mut s = cmd.spawn()?;
    let end = Instant::now() + limit;
    while s.try_wait()?.is_none() {
        if Instant::now() > end {
            s.kill()?;
            s.wait()?;
            return Ok(
                json!({"peer": peer, "workload": workload, "tune": tune, "error": "time limit"}),
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = std::io::read_to_string(s.stdout.take().context("no stdout")?)?;
    match text.lines().last().map(serde_json::from_str::<Value>) {
        Some(Ok(v)) => Ok(v),
        _ => Ok(
            json!({"peer": peer, "workload": workload, "tune": tune, "error": format!("no result: {text:?}")}),
        ),
    }
}

/// Where results go, line by line: to a file, and to whoever looks on.
pub struct Sink(std::fs::File);

impl Sink {
    pub fn create(path: &str) -> Result<Self> {
        Ok(Sink(OpenOptions::new().create(true).write(true).truncate(true).open(path)?))
    }

    pub fn put(&mut self, round: usize, v: Value) -> Result<()> {
        let mut v = v;
        let m = v.as_object_mut().context("not an object")?;
        m.insert("round".into(), json!(round));
        let line = v.to_string();
        println!("{line}");
        writeln!(self.0, "{line}")?;
        Ok(())
    }
}

fn sizes(args: &Args, workload: &str, quick: bool) -> Result<Vec<String>> {
    let (secs, warm) = match (workload, quick) {
        // Three rounds make 9 s of W1 for every peer.
        ("w1", false) => (3.0, 0.3),
        ("w1", true) => (0.8, 0.2),
        ("w2", false) => (0.8, 0.2),
        ("w2", true) => (0.3, 0.1),
        (_, false) => (1.5, 0.3),
        (_, true) => (0.6, 0.2),
    };
    let (conns, reps) = if quick { (60, 3) } else { (1000, 20) };
    Ok(vec![
        "--secs".into(),
        args.num("--secs", secs)?.to_string(),
        "--warm".into(),
        warm.to_string(),
        "--conns".into(),
        args.num("--conns", conns)?.to_string(),
        "--reps".into(),
        args.num("--reps", reps)?.to_string(),
    ])
}

pub fn all(args: &Args) -> Result<()> {
    let quick = args.flag("--quick");
    let rounds: usize = args.num("--rounds", if quick { 1 } else { 3 })?;
    let peers = list(args, "--peers", PEERS.iter().filter(|p| p.3).map(|p| p.0).collect());
    let workloads = list(args, "--workloads", WORKLOADS.to_vec());
    let out = args.opt("--out").unwrap_or("results.jsonl");
    let mut sink = Sink::create(out)?;
    let (t, (busy, steal)) = (Instant::now(), sys::host_cpu());
    for round in 1..=rounds {
        for w in &workloads {
            // Alternate the direction, so that a slow drift of the machine hits all alike.
            let mut order = peers.clone();
            if round % 2 == 0 {
                order.reverse();
            }
            for p in order {
                if applies(p, w) {
                    let v = cell(
                        p,
                        w,
                        args.opt("--tune").unwrap_or(""),
                        &sizes(args, w, quick)?,
                        Duration::from_secs(60),
                    )?;
                    sink.put(round, v)?;
                }
            }
        }
        if args.opt("--peers").is_none() {
            for v in inproc::run(true) {
                sink.put(round, v)?;
            }
        }
    }
    let secs = t.elapsed().as_secs_f64();
    let (busy2, steal2) = sys::host_cpu();
    eprintln!(
        "{secs:.0} s; machine busy {:.2} cores, stolen {:.2}",
        (busy2 - busy) / secs,
        (steal2 - steal) / secs
    );
    let files = [out.to_string()];
    let table = report::table(&files)? + &targets::table(&files)?;
    std::fs::write(out.replace(".jsonl", ".md"), &table)?;
    println!("{table}");
    Ok(())
}

/// Variants of one peer beside each other: `--peer quinn --variants 'gso=0;gso=1,win=8000000'`.
pub fn sweep(args: &Args) -> Result<()> {
    let name = args.opt("--peer").unwrap_or("quinn");
    let variants: Vec<&str> =
        args.opt("--variants").context("--variants 'a=1;a=2,b=3'")?.split(';').collect();
    let workloads = list(args, "--workloads", vec!["w1", "w3"]);
    let rounds: usize = args.num("--rounds", 3)?;
    let out = args.opt("--out").unwrap_or("results-sweep.jsonl");
    let mut sink = Sink(OpenOptions::new().create(true).append(true).open(out)?);
    for round in 1..=rounds {
        for w in &workloads {
            let mut order = variants.clone();
            if round % 2 == 0 {
                order.reverse();
            }
            for v in order {
                let extra = ["--secs", args.opt("--secs").unwrap_or("2"), "--warm", "0.3"]
                    .map(String::from);
                let mut res = cell(name, w, v, &extra, Duration::from_secs(40))?;
                // The variant is the row of the table.
                res["peer"] = json!(format!("{name} {v}"));
                sink.put(round, res)?;
            }
        }
    }
    println!("{}", report::table(&[out.to_string()])?);
    Ok(())
}
