//! See README.md. `peers all` runs everything; `peers bench PEER WORKLOAD` one cell.
mod broker;
mod cancel;
mod certs;
mod drive;
mod fairness;
mod grpc;
mod inproc;
mod nats;
mod raw_quinn;
mod redis_peer;
mod report;
mod rows;
mod scale;
mod suite;
mod sys;
mod targets;
mod tenants;
mod tollgate;
mod tune;
mod udp;
mod wire;
mod worker;

use anyhow::{bail, Context, Result};
use certs::Certs;
use drive::{Load, Opts};
use serde_json::{json, Map, Value};
use std::path::PathBuf;
use tune::Tune;

/// `--name value` arguments after the positional ones.
pub struct Args(Vec<String>);

impl Args {
    pub fn pos(&self, i: usize) -> Option<&str> {
        self.0.get(i).map(|s| s.as_str()).filter(|s| !s.starts_with("--"))
    }
    pub fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|a| a == name)
    }
    pub fn opt(&self, name: &str) -> Option<&str> {
        let i = self.0.iter().position(|a| a == name)?;
        self.0.get(i + 1).map(|s| s.as_str())
    }
    pub fn num<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.opt(name) {
            None => Ok(default),
            Some(v) => v.parse().ok().with_context(|| format!("{name} {v}?")),
        }
    }
}

fn main() -> Result<()> {
    let args = Args(std::env::args().skip(1).collect());
    match args.pos(0) {
        Some("bench") => bench(&args),
        Some("serve") => serve(&args),
        Some("inproc") => {
            for v in inproc::run(args.flag("--quick")) {
                println!("{v}");
            }
            Ok(())
        }
        Some("udp") => {
            for v in udp::run(args.num("--secs", 1.0)?)? {
                println!("{v}");
            }
            Ok(())
        }
        Some("all") => suite::all(&args),
        Some("sweep") => suite::sweep(&args),
        Some("scale") => scale::run(&args),
        Some("curves") => scale::curves(&args),
        Some("fairness") => fairness::run(&args),
        Some("cancel") => cancel::run(&args),
        Some("table") => {
            print!("{}{}", report::table(&args.0[1..])?, targets::table(&args.0[1..])?);
            Ok(())
        }
        _ => {
            bail!(
                "usage: peers all|scale|sweep|fairness|cancel|bench PEER WORKLOAD|inproc|\
                 table FILE..|curves FILE.. (see README.md)"
            )
        }
    }
}

/// `rt=multi|current` (server: `srt=`, client: `crt=`).
fn runtime(kind: &str) -> Result<tokio::runtime::Runtime> {
    let mut b = match kind {
        "current" => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(b.enable_all().build()?)
}

fn bench(args: &Args) -> Result<()> {
    let peer = args.pos(1).context("which peer?")?.to_string();
    let workload = args.pos(2).context("which workload?")?.to_string();
    let (kind, preset) = suite::peer(&peer)?;
    let tune = Tune::parse(preset).merge(&Tune::parse(args.opt("--tune").unwrap_or("")));
    let w1 = drive::load("w1");
    let opts = Opts {
        load: Load {
            conns: args.num("--conns", w1.conns)?,
            in_flight: args.num("--in-flight", w1.in_flight)?,
            n: args.num("--items", w1.n)?,
            size: args.num("--size", w1.size)?,
        },
        rate: args.num("--rate", 2_000.0)?,
        secs: args.num("--secs", 5.0)?,
        warm: args.num("--warm", 0.5)?,
        conns: args.num("--conns", 1000)?,
        reps: args.num("--reps", 30)?,
        par: args.num("--par", 16)?,
    };
    let dir = sys::TempDir::new()?;
    certs::write_all(&dir.0)?;
    let certs = Certs(dir.0.clone());
    sys::pin(tune.opt("cpin"));
    let _ = (*certs::provider(&tune)).clone().install_default();
    let serve: Vec<String> =
        ["serve", kind, "--certs", &dir.0.display().to_string(), "--tune", &tune.to_string()]
            .map(String::from)
            .into();
    let res = runtime(tune.str("crt", "multi"))?.block_on(async {
        use {nats::Mode as N, redis_peer::Mode as R};
        let (c, t, d, w, o) = (&certs, &tune, &dir.0, workload.as_str(), &opts);
        match kind {
            "quinn" => drive::run(raw_quinn::Quinn::start(c, t, serve).await?, w, o).await,
            "tonic" => {
                drive::run(grpc::Grpc::start(c, t, t.get("unary", 0) == 1, serve).await?, w, o)
                    .await
            }
            "nats" => {
                let m = match t.str("mode", "") {
                    "inbox" => N::Inbox,
                    "js" => N::Js,
                    _ => N::Request,
                };
                drive::run(nats::Nats::start(c, t, m, d, serve).await?, w, o).await
            }
            "redis" => {
                let m = match t.str("mode", "") {
                    "set" => R::Set,
                    "stream" => R::Stream,
                    _ => R::Echo,
                };
                drive::run(redis_peer::Redis::start(c, t, m, d).await?, w, o).await
            }
            "tollgate" => drive::run(tollgate::Tollgate::start(d, t, serve).await?, w, o).await,
            k => bail!("no kind {k}"),
        }
    });
    let mut line = Map::new();
    line.insert("peer".into(), json!(peer));
    line.insert("workload".into(), json!(workload));
    line.insert("tune".into(), json!(tune.to_string()));
    let code = match res {
        Ok(m) => {
            line.extend(m);
            0
        }
        Err(e) => {
            line.insert("error".into(), json!(format!("{e:#}")));
            1
        }
    };
    println!("{}", Value::Object(line));
    drop(dir);
    std::process::exit(code)
}

fn serve(args: &Args) -> Result<()> {
    let certs = Certs(PathBuf::from(args.opt("--certs").context("--certs?")?));
    let tune = Tune::parse(args.opt("--tune").unwrap_or(""));
    sys::pin(tune.opt("spin"));
    let _ = (*certs::provider(&tune)).clone().install_default();
    runtime(tune.str("srt", "multi"))?.block_on(async {
        match args.pos(1) {
            Some("quinn") => match args.opt("--addr") {
                Some(behind) => raw_quinn::relay(certs, tune, behind.parse()?).await,
                None => raw_quinn::serve(certs, tune).await,
            },
            Some("tonic") => grpc::serve(certs, tune).await,
            Some("nats") => {
                nats::serve(certs, tune, args.opt("--addr").context("--addr?")?.parse()?).await
            }
            Some("tollgate") => {
                let dir = PathBuf::from(args.opt("--worker").context("--worker?")?);
                worker::serve(&dir, &tune, args.opt("--addr").context("--addr?")?.parse()?).await
            }
            k => bail!("no server {k:?}"),
        }
    })
}
