//! The connection slots of authenticated edges. One certificate gets only a few, so that a stolen one can't exclude the
//! fleet.

use event_shipping::tls::Fingerprint;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Connections that one certificate may have at once: an edge needs one, and a second while it reconnects. Certificates
/// of simulated fleets name several nodes.
const MAX_CONNECTIONS_PER_CERTIFICATE: usize = 16;

pub(crate) struct ConnectionSlots {
    max: usize,
    used: Mutex<UsedSlots>,
}

#[derive(Default)]
struct UsedSlots {
    total: usize,
    by_certificate: HashMap<Fingerprint, usize>,
}

/// The slot of one connection, released when dropped.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    certificate: Fingerprint,
}

impl ConnectionSlots {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: Mutex::default(),
        })
    }

    /// A slot for a connection, or the reason why there is none.
    pub(super) fn claim(
        self: &Arc<Self>,
        certificate: Fingerprint,
    ) -> Result<ConnectionSlot, &'static str> {
        let mut used = self.lock();
        if used.total >= self.max {
            return Err("the limit of connected edges is reached");
        }
        let own = used.by_certificate.entry(certificate).or_default();
        if *own >= MAX_CONNECTIONS_PER_CERTIFICATE {
            return Err("the limit of connections with one certificate is reached");
        }
        *own += 1;
        used.total += 1;
        Ok(ConnectionSlot {
            slots: Arc::clone(self),
            certificate,
        })
    }

    fn lock(&self) -> MutexGuard<'_, UsedSlots> {
        self.used
            .lock()
            .expect("no thread panics while it holds the lock")
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut used = self.slots.lock();
        used.total -= 1;
        if let Some(own) = used.by_certificate.get_mut(&self.certificate) {
            *own -= 1;
            if *own == 0 {
                used.by_certificate.remove(&self.certificate);
            }
        }
    }
}
