//! Small answers that the parts of the topics share.

use tollgate_protocol::Code;

use crate::batch::Failure;

pub(super) fn no_such_topic() -> Failure {
    Failure::new(Code::NotFound, "there is no such topic")
}

pub(super) fn no_such_group() -> Failure {
    Failure::new(Code::NotFound, "there is no such consumer group")
}

pub(super) fn no_such_message() -> Failure {
    Failure::new(Code::NotFound, "there is no such message")
}

pub(super) fn no_such_binding() -> Failure {
    Failure::new(Code::NotFound, "there is no such binding")
}
