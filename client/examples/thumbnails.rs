//! A worker that makes thumbnails, and a client that sends it pictures.
//!
//! ```text
//! tollgate serve --tenant acme &
//! tollgate cert issue --tenant acme --role worker --out certs/worker
//! tollgate cert issue --tenant acme --out certs/acme
//! cargo run -p tollgate-client --example thumbnails -- certs/worker certs/acme
//! ```
//!
//! Without the second directory it serves clients elsewhere, until Ctrl-C or SIGTERM: then it answers
//! what it has and leaves. `TOLLGATE_ADDR` is the broker's address, 127.0.0.1:4433 by default.

use std::{error::Error, io::Cursor, net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tollgate_client::{
    Client, ClientCredentials,
    worker::{Answer, Call, Spec, WorkError, Worker},
};

const ADDR: &str = "127.0.0.1:4433";
const SERVER_NAME: &str = "localhost";
const PICTURES: u32 = 12;
const EDGE_MAX: u32 = 1_024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let certs: Vec<String> = std::env::args().skip(1).collect();
    let (working, asking) = match &*certs {
        [working] if !working.starts_with('-') => (working, None),
        [working, asking] => (working, Some(asking)),
        _ => return Err("usage: thumbnails WORKER_CERTS [CLIENT_CERTS]".into()),
    };
    let addr = std::env::var("TOLLGATE_ADDR").unwrap_or_else(|_| ADDR.to_owned());
    let addr: SocketAddr = addr.parse().map_err(|e| format!("TOLLGATE_ADDR {addr:?}: {e}"))?;
    let spec = Spec::new()
        .idempotent()
        .estimated_duration(Duration::from_millis(20))
        .description("makes a JPEG that fits into a square out of a PNG or JPEG");
    let worker = Worker::builder(addr)
        .server_name(SERVER_NAME)
        .credentials(ClientCredentials::load_dir(Path::new(working))?)
        .blocking("thumbnail", spec, thumbnail)
        .build()?;
    let served = match asking {
        None => {
            println!("serving `thumbnail` for the broker at {addr}, until Ctrl-C or SIGTERM");
            worker.run_until(told_to_stop()).await?
        }
        Some(certs) => {
            let stopper = worker.stopper();
            let worker = tokio::spawn(worker.run());
            let asked = ask(addr, Path::new(certs)).await;
            stopper.stop();
            let served = worker.await??;
            asked?;
            served
        }
    };
    println!("{} thumbnails made, {} calls failed", served.succeeded, served.failed);
    Ok(())
}

/// Ctrl-C, or what a service manager sends.
async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminated.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Runs on a thread of its own: decoding and scaling keep a core busy.
fn thumbnail(call: &Call, picture: Bytes) -> Result<Answer, WorkError> {
    let wrong = |what: String| WorkError::validation(what).permanent();
    let edge: u32 = match call.metadata().get("edge") {
        None => 128,
        Some(text) => text.parse().map_err(|e| wrong(format!("edge {text:?}: {e}")))?,
    };
    if edge == 0 || edge > EDGE_MAX {
        return Err(wrong(format!("edge {edge} is not from 1 to {EDGE_MAX}")));
    }
    call.progress(0, 3, "reading");
    let decoded = image::load_from_memory(&picture).map_err(|e| wrong(e.to_string()))?;
    drop(picture);
    if call.is_cancelled() {
        return Err(WorkError::failed("nobody waits any more"));
    }
    call.progress(1, 3, "scaling");
    let small = decoded.thumbnail(edge, edge).to_rgb8();
    call.progress(2, 3, "writing");
    let mut jpeg = Cursor::new(Vec::new());
    small.write_to(&mut jpeg, ImageFormat::Jpeg)?;
    call.progress(3, 3, "done");
    Ok(Answer::new(jpeg.into_inner())
        .metadata("width", &small.width().to_string())
        .metadata("height", &small.height().to_string()))
}

/// Sends pictures of all shapes, all at once, and looks at what comes back.
async fn ask(addr: SocketAddr, certs: &Path) -> Result<(), Box<dyn Error>> {
    let credentials = ClientCredentials::load_dir(certs)?;
    let client = Client::connect(addr, SERVER_NAME, credentials).await?;
    let calls = (0..PICTURES).map(|n| {
        let client = client.clone();
        async move {
            let png = picture(n)?;
            let size = png.len();
            let thumbnail = client
                .call_bytes("thumbnail", png)
                .metadata("edge", "96")
                .on_progress(move |p| {
                    println!("picture {n}: {} of {}, {}", p.done, p.total, p.message)
                })
                .await?;
            let small = image::load_from_memory(&thumbnail)?;
            println!(
                "picture {n}: {size} bytes of PNG, {} of JPEG, {} x {}",
                thumbnail.len(),
                small.width(),
                small.height()
            );
            Ok::<_, Box<dyn Error>>(())
        }
    });
    futures::future::try_join_all(calls).await?;
    client.close().await;
    Ok(())
}

/// Rings and gradients, as a PNG of some hundred KiB.
fn picture(n: u32) -> Result<Vec<u8>, image::ImageError> {
    let (width, height) = (640 + 40 * n, 480 + 20 * (n % 5));
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (x.abs_diff(width / 2), y.abs_diff(height / 2));
        let ring = (f64::from(dx * dx + dy * dy).sqrt() / f64::from(4 + n)).sin();
        Rgb([(127.0 + 127.0 * ring) as u8, (x * 255 / width) as u8, (y * 255 / height) as u8])
    });
    let mut png = Cursor::new(Vec::new());
    DynamicImage::from(picture).write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}
