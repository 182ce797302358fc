//! The places of authenticated edges. One certificate takes only a few, so that a stolen one can't
//! keep the fleet out.

use event_shipping::tls::Fingerprint;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Connections that one certificate may hold at once: an edge needs one, and a second while it
/// reconnects; certificates of simulated fleets name several nodes.
const MAX_CONNECTIONS_PER_CERTIFICATE: usize = 16;

pub(crate) struct Places {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_certificate: HashMap<Fingerprint, usize>,
}

/// The place of one connection; free again when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    certificate: Fingerprint,
}

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection, or why there is none.
    pub(super) fn claim(self: &Arc<Self>, certificate: Fingerprint) -> Result<Place, &'static str> {
        let mut taken = self.lock();
        if taken.total >= self.max {
            return Err("as many edges as allowed are connected");
        }
        let own = taken.by_certificate.entry(certificate).or_default();
        if *own >= MAX_CONNECTIONS_PER_CERTIFICATE {
            return Err("as many connections as one certificate may hold are open");
        }
        *own += 1;
        taken.total += 1;
        Ok(Place {
            places: Arc::clone(self),
            certificate,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("no code panics while holding it")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.total -= 1;
        if let Some(own) = taken.by_certificate.get_mut(&self.certificate) {
            *own -= 1;
            if *own == 0 {
                taken.by_certificate.remove(&self.certificate);
            }
        }
    }
}
