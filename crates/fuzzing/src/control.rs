//! The target for the control socket of a shared connection.

use tssh::mux::message::{Reply, Request};

/// A message of either side, without its length; what is understood is written as it was read.
pub fn mux_messages(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        // Names that are not UTF-8 and further fields are not kept; what is kept is stable.
        if !matches!(request, Request::Unknown { .. }) {
            let again = request.encode();
            assert_eq!(again.get(4..).map(Request::decode), Some(Ok(request)));
        }
    }
    if let Ok(reply) = Reply::decode(data)
        && reply != Reply::Unknown
    {
        let again = reply.encode();
        assert_eq!(again.get(4..).map(Reply::decode), Some(Ok(reply)));
    }
}
