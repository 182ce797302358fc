//! The limit of open files, and how many connections it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for everything but visitors' connections: journal files, sockets, the admin port.
pub const RESERVED_DESCRIPTORS: u64 = 512;

/// How many connections each of `workers` can keep open, at most `wanted`. Raises the limit of open files as far as
/// permissions allow.
#[must_use]
pub fn connections(wanted: usize, workers: u8) -> usize {
    let need = (wanted as u64)
        .saturating_mul(u64::from(workers))
        .saturating_add(RESERVED_DESCRIPTORS);
    let allowed = raise(need);
    let each = share(allowed, workers);
    if each >= wanted {
        return wanted;
    }
    tracing::warn!(
        wanted,
        each,
        open_files = allowed,
        needed = need,
        "lowered http.max_connections, which exceeds the limit of open files; raise the limit \
         (systemd: LimitNOFILE=, shell: ulimit -n) or lower the setting"
    );
    each
}

fn share(allowed: u64, workers: u8) -> usize {
    let each = allowed.saturating_sub(RESERVED_DESCRIPTORS) / u64::from(workers.max(1));
    usize::try_from(each).unwrap_or(usize::MAX).max(1)
}

/// Raises the soft limit of open files to the hard limit, and the hard limit to `need` where necessary and
/// permitted. Returns the resulting limit.
fn raise(need: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` means no limit.
    let (Some(soft), Some(hard)) = (current, maximum) else {
        return u64::MAX;
    };
    let set = |limit: u64, maximum: u64| {
        let wanted = Rlimit {
            current: Some(limit),
            maximum: Some(maximum),
        };
        setrlimit(Resource::Nofile, wanted).is_ok()
    };
    if hard < need && set(need, need) {
        return need;
    }
    if soft < hard && !set(hard, hard) {
        return soft;
    }
    hard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_reserved_descriptors() {
        assert_eq!(share(RESERVED_DESCRIPTORS + 1_000, 4), 250);
        assert_eq!(share(10, 4), 1);
        assert_eq!(share(u64::MAX, 1) as u64, u64::MAX - RESERVED_DESCRIPTORS);
    }
}
