//! How many descriptors the process may have, and so how many connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but visitors' connections: files of the journal, sockets, operators.
pub const OTHERS: u64 = 512;

/// How many connections each of `workers` may keep open, at most `wanted`. The limit of open files
/// is raised as far as this process may.
#[must_use]
pub fn connections(wanted: usize, workers: u8) -> usize {
    let need = (wanted as u64)
        .saturating_mul(u64::from(workers))
        .saturating_add(OTHERS);
    let allowed = raise(need);
    let each = fit(allowed, workers);
    if each >= wanted {
        return wanted;
    }
    tracing::warn!(
        wanted,
        each,
        open_files = allowed,
        needed = need,
        "http.max_connections is more than the limit of open files allows and is lowered; raise the \
         limit (systemd: LimitNOFILE=, shell: ulimit -n) or lower the setting"
    );
    each
}

fn fit(allowed: u64, workers: u8) -> usize {
    let each = allowed.saturating_sub(OTHERS) / u64::from(workers.max(1));
    usize::try_from(each).unwrap_or(usize::MAX).max(1)
}

/// Raises the soft limit of open files to the hard one, and the hard one to `need` where that is not
/// enough and this process may; says what it is then.
fn raise(need: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Nothing means no limit.
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
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(fit(OTHERS + 1_000, 4), 250);
        assert_eq!(fit(10, 4), 1);
        assert_eq!(fit(u64::MAX, 1) as u64, u64::MAX - OTHERS);
    }
}
