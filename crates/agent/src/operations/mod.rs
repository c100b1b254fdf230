//! One file per use case, called by endpoints and jobs alike.

pub(crate) mod record_session;
