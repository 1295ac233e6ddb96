//! A worker for what needs one and is no Rust: `raw_worker ADDR CERTS RECIPE`.
//!
//! Serves one recipe, which reverses its payload, until the broker is gone. A payload over 64 KiB it
//! does not take.

use std::{env, path::Path};

use tollgate_client::ClientCredentials;
use tollgate_protocol::{
    ClientFrame, Code,
    work::{RecipeSpec, WorkOpen},
};
use tollgate_tests::{
    raw,
    worker::{RawWorker, Said},
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [addr, certs, recipe] = &args[..] else { panic!("raw_worker ADDR CERTS RECIPE") };
    let credentials = ClientCredentials::load_dir(Path::new(certs)).expect("credentials");
    let raw = raw::connect(addr.parse().expect("an address"), &credentials).await;
    let mut stream = raw.stream().await;
    stream.frame(&ClientFrame::Work(WorkOpen::new(8))).await;
    let mut worker = RawWorker { raw, stream };
    worker.register(RecipeSpec::new(recipe)).await;
    loop {
        match worker.next().await {
            Said::Call(call) if call.apart.is_some() => {
                worker.fail(call.lease, Code::ValidationError, "the payload is too long").await;
            }
            Said::Call(call) => {
                let reversed: Vec<u8> = call.payload.into_iter().rev().collect();
                worker.answer(call.lease, &reversed).await;
            }
            Said::End | Said::Over(_) | Said::Error(_) => return,
            Said::Registered(_) | Said::Cancel(_) | Said::Notice(_) => {}
        }
    }
}
