//! What several tests need.

use keyns_interfaces::ByteText;
use keyns_interfaces::upcalls::{Requester, UpcallInfo};

/// A request as listings show it.
pub(crate) fn upcall_info(id: u64, type_: &str) -> UpcallInfo {
    UpcallInfo {
        id,
        state: "queued".into(),
        operation: "create".into(),
        key: 1,
        type_: type_.into(),
        description: ByteText::default(),
        callout: ByteText::default(),
        requester: Requester {
            container: None,
            tid: 2,
            pid: 1,
            uid: 0,
            gid: 0,
            container_uid: 0,
            container_gid: 0,
            command: ByteText::default(),
            executable: ByteText(b"/bin/program".to_vec()),
            capabilities: 0,
            verified: true,
        },
        keyrings: [0; 3],
        rule: None,
        handler: None,
        time_ms: 0,
        age_ms: 0,
        deadline_ms: None,
        outcome: None,
    }
}
