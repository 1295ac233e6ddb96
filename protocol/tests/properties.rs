//! The codec against its model: whatever postcard writes for a frame is what the crate writes, and
//! is read back as the same value.

mod support;

use proptest::{option::of, prelude::*};
use support::{
    arbitrary,
    model::{
        Body, Broker, Client, Request,
        work::{ToWorker, Worker},
    },
    with_prefix,
};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, DispatchFrame, WorkerFrame,
    batch::{self as wire, ItemResult, Success},
    encode, encode_answer_head, encode_delivery_head, encode_dispatch_head, encode_failure_body,
    encode_message_head, encode_request_head, encode_result_as, encode_result_head,
    encode_success_head,
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn client_frames_are_as_postcard_writes_them(model in arbitrary::client()) {
        let bytes = model.bytes();
        model.with(|frame| {
            let mut out = vec![0xee];
            encode(&frame, &mut out);
            prop_assert_eq!(&out[1..], &with_prefix(&bytes)[..]);
            prop_assert_eq!(ClientFrame::decode(&bytes), Ok(frame));
            Ok(())
        })?;
    }

    #[test]
    fn broker_frames_are_as_postcard_writes_them(model in arbitrary::broker()) {
        let bytes = model.bytes();
        model.with(|frame| {
            let mut out = vec![0xee];
            encode(&frame, &mut out);
            prop_assert_eq!(&out[1..], &with_prefix(&bytes)[..]);
            prop_assert_eq!(BrokerFrame::decode(&bytes), Ok(frame));
            Ok(())
        })?;
    }

    #[test]
    fn worker_frames_are_as_postcard_writes_them(model in arbitrary::work::worker()) {
        let bytes = model.bytes();
        model.with(|frame| {
            let mut out = vec![0xee];
            encode(&frame, &mut out);
            prop_assert_eq!(&out[1..], &with_prefix(&bytes)[..]);
            prop_assert_eq!(WorkerFrame::decode(&bytes), Ok(frame));
            Ok(())
        })?;
    }

    #[test]
    fn dispatch_frames_are_as_postcard_writes_them(model in arbitrary::work::dispatch()) {
        let bytes = model.bytes();
        model.with(|frame| {
            let mut out = vec![0xee];
            encode(&frame, &mut out);
            prop_assert_eq!(&out[1..], &with_prefix(&bytes)[..]);
            prop_assert_eq!(DispatchFrame::decode(&bytes), Ok(frame));
            Ok(())
        })?;
    }

    #[test]
    fn a_cut_worker_frame_is_never_a_frame(model in arbitrary::work::worker(), cut in any::<prop::sample::Index>()) {
        let bytes = model.bytes();
        prop_assert!(WorkerFrame::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_cut_dispatch_frame_is_never_a_frame(model in arbitrary::work::dispatch(), cut in any::<prop::sample::Index>()) {
        let bytes = model.bytes();
        // Cut to nothing, it is the empty frame.
        let cut = cut.index(bytes.len());
        prop_assert_eq!(DispatchFrame::decode(&bytes[..cut]).is_err(), cut > 0);
    }

    #[test]
    fn a_dispatch_head_and_its_payload_are_the_dispatch(call in arbitrary::work::call()) {
        let payload = call.payload.0.clone();
        let whole = with_prefix(&ToWorker::Dispatch(call.clone()).bytes());
        call.with(|call| {
            let mut out = Vec::new();
            encode_dispatch_head(&call, payload.len(), &mut out);
            prop_assert_eq!([out, payload].concat(), whole);
            Ok(())
        })?;
    }

    #[test]
    fn an_answer_head_and_its_payload_are_the_answer(answer in arbitrary::work::answer()) {
        let payload = answer.payload.0.clone();
        let whole = with_prefix(&Worker::Answer(answer.clone()).bytes());
        answer.with(|answer| {
            let mut out = Vec::new();
            encode_answer_head(&answer, payload.len(), &mut out);
            prop_assert_eq!([out, payload].concat(), whole);
            Ok(())
        })?;
    }

    #[test]
    fn a_cut_client_frame_is_never_a_frame(model in arbitrary::client(), cut in any::<prop::sample::Index>()) {
        let bytes = model.bytes();
        prop_assert!(ClientFrame::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_cut_broker_frame_is_never_a_frame(model in arbitrary::broker(), cut in any::<prop::sample::Index>()) {
        let bytes = model.bytes();
        // Cut to nothing, it is the empty frame.
        let cut = cut.index(bytes.len());
        prop_assert_eq!(BrokerFrame::decode(&bytes[..cut]).is_err(), cut > 0);
    }

    #[test]
    fn a_request_head_and_its_payload_are_the_request(model in arbitrary::request()) {
        let payload = model.payload.0.clone();
        let whole = with_prefix(&Client::Request(model.clone()).bytes());
        Client::Request(model).with(|frame| {
            let ClientFrame::Request(request) = frame else { unreachable!("made as one") };
            let mut out = Vec::new();
            encode_request_head(&request, payload.len(), &mut out);
            prop_assert_eq!([out, payload].concat(), whole);
            Ok(())
        })?;
    }

    /// Plain ones and others, whole ones and broken ones, after one of the same recipe and of another.
    #[test]
    fn a_next_frame_is_read_as_any(
        mut model in arbitrary::request(), plain: bool, before: bool,
        broken in of((any::<prop::sample::Index>(), any::<u8>())), cut in of(any::<prop::sample::Index>())
    ) {
        if plain {
            model = Request {
                timeout_ms: None,
                idempotency_key: None,
                not_before_unix_ms: None,
                tenant: None,
                metadata: Vec::new(),
                ..model
            };
        }
        let recipe = if before { model.recipe.clone() } else { "echo".into() };
        let mut bytes = Client::Request(model).bytes();
        if let Some((at, byte)) = broken {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = cut.map_or(&bytes[..], |cut| &bytes[..cut.index(bytes.len())]);
        prop_assert_eq!(ClientFrame::decode_next(bytes, &recipe), ClientFrame::decode(bytes));
    }

    #[test]
    fn a_success_is_its_result(success in arbitrary::success(), payload in arbitrary::blob(300)) {
        let (mut whole, mut out) = (Vec::new(), Vec::new());
        encode(&BrokerFrame::Result(success.result(&payload.0)), &mut whole);
        encode_success_head(&success, payload.0.len(), &mut out);
        prop_assert_eq!([out, payload.0].concat(), whole);
    }

    /// Whole ones and broken ones, and results that are no plain successes.
    #[test]
    fn what_is_read_as_a_success_is_read_so_as_any_frame(
        success in arbitrary::success(), payload in arbitrary::blob(300), other in arbitrary::result(),
        is_success: bool, broken in of((any::<prop::sample::Index>(), any::<u8>())),
        cut in of(any::<prop::sample::Index>())
    ) {
        let mut bytes = Broker::Result(other).bytes();
        if is_success {
            bytes.clear();
            encode(&BrokerFrame::Result(success.result(&payload.0)), &mut bytes);
            bytes.drain(..4);
        }
        let whole = broken.is_none() && cut.is_none();
        if let Some((at, byte)) = broken {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = cut.map_or(&bytes[..], |cut| &bytes[..cut.index(bytes.len())]);
        let read = Success::decode(bytes);
        if let Some((success, payload)) = read {
            let result = BrokerFrame::Result(success.result(payload));
            prop_assert_eq!(BrokerFrame::decode(bytes), Ok(result));
        }
        // Longer numbers are left to the other way.
        let short = [success.id, success.attempts.into(), success.queued_us, success.duration_us];
        if is_success && whole && short.iter().all(|n| *n < 1 << 28) {
            prop_assert!(read.is_some());
        }
    }

    #[test]
    fn a_message_head_and_its_payload_are_the_message(model in arbitrary::topic::message()) {
        let payload = model.payload.0.clone();
        let whole = with_prefix(&Client::Message(model.clone()).bytes());
        model.with(|message| {
            let mut out = Vec::new();
            encode_message_head(&message, payload.len(), &mut out);
            prop_assert_eq!([out, payload].concat(), whole);
            Ok(())
        })?;
    }

    #[test]
    fn a_delivery_head_and_its_payload_are_the_delivery(model in arbitrary::topic::delivery()) {
        let payload = model.payload.0.clone();
        let whole = with_prefix(&Broker::Delivery(model.clone()).bytes());
        model.with(|delivery| {
            let mut out = Vec::new();
            encode_delivery_head(&delivery, payload.len(), &mut out);
            prop_assert_eq!([out, payload].concat(), whole);
            Ok(())
        })?;
    }

    #[test]
    fn a_result_head_and_its_payload_are_the_result(model in arbitrary::result()) {
        let Body::Payload(payload) = model.body.clone() else { return Ok(()) };
        let whole = with_prefix(&Broker::Result(model.clone()).bytes());
        model.with(|result| {
            let mut out = Vec::new();
            encode_result_head(&result, payload.0.len(), &mut out);
            prop_assert_eq!([out, payload.0].concat(), whole);
            Ok(())
        })?;
    }

    #[test]
    fn a_result_as_one_before_is_the_result(model in arbitrary::result()) {
        let whole = with_prefix(&Broker::Result(model.clone()).bytes());
        model.with(|result| {
            let wire::Body::Failure(failure) = result.body else { return Ok(()) };
            let (mut body, mut out) = (Vec::new(), Vec::new());
            encode_failure_body(&failure, &mut body);
            let other = ItemResult { body: wire::Body::Payload(&[]), ..result };
            encode_result_as(&other, &body, &mut out);
            prop_assert_eq!(out, whole);
            Ok(())
        })?;
    }
}
