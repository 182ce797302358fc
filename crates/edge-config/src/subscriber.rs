//! The subscriber: applies updates as a whole, or refuses them.

use crate::message::MAX_RESOURCE_BYTES;
use crate::{
    Base, Change, Checksum, Digest, HeldVersion, Outcome, ResourceKey, Response, UpdatePart,
    UpdateRefusal,
};
use ahash::{AHashMap, AHashSet};
use thiserror::Error;

/// Where an edge keeps and uses its configuration.
pub trait Target {
    /// Adds changes to the update in progress. Nothing is in use yet.
    ///
    /// # Errors
    /// When a resource can't be used, or storage fails.
    fn stage(&mut self, changes: Vec<Change>) -> Result<(), TargetError>;

    /// Stores the staged changes durably as the version `held`, then puts them in use at one instant.
    ///
    /// # Errors
    /// When storage fails; then nothing has changed.
    fn commit(&mut self, held: HeldVersion) -> Result<(), TargetError>;

    /// Forgets the staged changes.
    fn abort(&mut self);
}

/// Staged changes that can't be applied.
#[derive(Debug, Error)]
pub enum TargetError {
    /// A resource can't be used by this edge.
    #[error("{key}: {detail}")]
    Resource {
        /// The resource.
        key: ResourceKey,
        /// What is wrong with it.
        detail: String,
    },
    /// Storage failed.
    #[error("failed to store the update: {0}")]
    Storage(String),
}

/// Applies updates to a target.
#[derive(Debug)]
pub struct Subscriber<T> {
    target: T,
    held: HeldVersion,
    digests: AHashMap<ResourceKey, Digest>,
    update: InProgress,
}

#[derive(Debug, Default)]
enum InProgress {
    #[default]
    None,
    Staging(StagedUpdate),
    /// The remaining parts of a refused update are ignored.
    Refused {
        nonce: u64,
    },
}

#[derive(Debug)]
struct StagedUpdate {
    nonce: u64,
    after: HeldVersion,
    base: Base,
    next_part: u32,
    checksum: Checksum,
    /// The new digest of each changed resource; `None` for one that is removed.
    digests: AHashMap<ResourceKey, Option<Digest>>,
    /// The resources of a snapshot that the edge holds already.
    unchanged: AHashSet<ResourceKey>,
}

/// A part could not be applied.
#[derive(Debug)]
struct Refusal(UpdateRefusal, String);

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Self {
        let reason = match error {
            TargetError::Resource { .. } => UpdateRefusal::Resource,
            TargetError::Storage(_) => UpdateRefusal::Storage,
        };
        Self(reason, error.to_string())
    }
}

fn malformed(detail: impl ToString) -> Refusal {
    Refusal(UpdateRefusal::Malformed, detail.to_string())
}

impl<T: Target> Subscriber<T> {
    /// With a target that holds `stored` resources as the version `held`.
    ///
    /// # Errors
    /// Returns the target if the resources do not have the version's checksum: it is to begin with
    /// [`Subscriber::empty`].
    pub fn new(
        target: T,
        held: HeldVersion,
        stored: impl IntoIterator<Item = (ResourceKey, Digest)>,
    ) -> Result<Self, T> {
        let digests: AHashMap<_, _> = stored.into_iter().collect();
        let sum = Checksum::default();
        let checksum = digests.values().fold(sum, |sum, digest| sum.with(*digest));
        if checksum != held.checksum {
            return Err(target);
        }
        Ok(Self {
            target,
            held,
            digests,
            update: InProgress::None,
        })
    }

    /// With a target that uses nothing. What it may have stored is replaced by the first update, a snapshot.
    #[must_use]
    pub fn empty(target: T) -> Self {
        Self {
            target,
            held: HeldVersion::default(),
            digests: AHashMap::new(),
            update: InProgress::None,
        }
    }

    /// The version in use.
    #[must_use]
    pub const fn held(&self) -> HeldVersion {
        self.held
    }

    /// The target.
    #[must_use]
    pub const fn target(&self) -> &T {
        &self.target
    }

    /// The target, without what was known of its version.
    #[must_use]
    pub fn into_target(self) -> T {
        self.target
    }

    /// The stream ended: an incomplete update is dropped.
    pub fn disconnected(&mut self) {
        if !matches!(self.update, InProgress::None) {
            self.target.abort();
            self.update = InProgress::None;
        }
    }

    /// Receives the next part. Returns the response to the update once there is one.
    pub fn receive(&mut self, part: &UpdatePart) -> Option<Response> {
        if matches!(self.update, InProgress::Refused { nonce } if nonce == part.nonce) {
            return None;
        }
        let outcome = match self.apply(part) {
            Ok(false) => return None,
            Ok(true) => {
                self.update = InProgress::None;
                Outcome::Applied
            }
            Err(Refusal(reason, detail)) => {
                self.target.abort();
                self.update = match part.is_last {
                    true => InProgress::None,
                    false => InProgress::Refused { nonce: part.nonce },
                };
                Outcome::refused(reason, detail)
            }
        };
        Some(Response {
            nonce: part.nonce,
            outcome,
        })
    }

    /// Returns whether the update was complete and is in use.
    fn apply(&mut self, part: &UpdatePart) -> Result<bool, Refusal> {
        if part.number == 0 {
            self.begin(part)?;
        }
        let InProgress::Staging(update) = &mut self.update else {
            return Err(malformed("an update does not begin with part 0"));
        };
        if (part.nonce, part.number, part.after, part.base)
            != (update.nonce, update.next_part, update.after, update.base)
        {
            return Err(malformed(format_args!(
                "part {} of update {} follows part {} of update {}",
                part.number,
                part.nonce,
                update.next_part.wrapping_sub(1),
                update.nonce
            )));
        }
        update.next_part += 1;
        let mut staged = Vec::new();
        for change in part.changes().map_err(malformed)? {
            if update.changes(&change, &self.digests)? {
                staged.push(change);
            }
        }
        self.target.stage(staged)?;
        if part.is_last {
            self.complete()?;
        }
        Ok(part.is_last)
    }

    fn begin(&mut self, part: &UpdatePart) -> Result<(), Refusal> {
        if !matches!(self.update, InProgress::None) {
            self.target.abort();
        }
        self.update = InProgress::None;
        if let Base::Version(version) = part.base
            && version != self.held.version
        {
            let detail = format!("this edge holds version {}", self.held.version);
            return Err(Refusal(UpdateRefusal::OtherBase, detail));
        }
        self.update = InProgress::Staging(StagedUpdate {
            nonce: part.nonce,
            after: part.after,
            base: part.base,
            next_part: 0,
            checksum: self.held.checksum,
            digests: AHashMap::new(),
            unchanged: AHashSet::new(),
        });
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Refusal> {
        let InProgress::Staging(update) = &mut self.update else {
            return Err(malformed("no update is in progress"));
        };
        if update.base == Base::Empty {
            let removed = update.absent(&self.digests);
            self.target.stage(removed)?;
        }
        if update.checksum != update.after.checksum {
            let detail = format!("the checksum would be {}", update.checksum);
            return Err(Refusal(UpdateRefusal::Checksum, detail));
        }
        self.target.commit(update.after)?;
        self.held = update.after;
        for (key, digest) in update.digests.drain() {
            match digest {
                Some(digest) => self.digests.insert(key, digest),
                None => self.digests.remove(&key),
            };
        }
        Ok(())
    }
}

impl StagedUpdate {
    /// Notes a change. Returns whether the resource differs from the one that the edge holds.
    fn changes(
        &mut self,
        change: &Change,
        held: &AHashMap<ResourceKey, Digest>,
    ) -> Result<bool, Refusal> {
        let key = change.key;
        if self.digests.contains_key(&key) || self.unchanged.contains(&key) {
            return Err(malformed(format_args!("{key} occurs twice")));
        }
        let content = change.content.as_deref();
        if content.is_some_and(|content| content.len() > MAX_RESOURCE_BYTES) {
            return Err(malformed(format_args!("{key} is too long")));
        }
        let digest = content.map(|content| Digest::of(key, content));
        let before = held.get(&key).copied();
        if before == digest {
            // Only a snapshot is compared with what it lacks.
            if self.base == Base::Empty {
                self.unchanged.insert(key);
            }
            return Ok(false);
        }
        self.note(key, before, digest);
        Ok(true)
    }

    fn note(&mut self, key: ResourceKey, before: Option<Digest>, after: Option<Digest>) {
        if let Some(before) = before {
            self.checksum = self.checksum.without(before);
        }
        if let Some(after) = after {
            self.checksum = self.checksum.with(after);
        }
        self.digests.insert(key, after);
    }

    /// Removes the resources that a snapshot lacks.
    fn absent(&mut self, held: &AHashMap<ResourceKey, Digest>) -> Vec<Change> {
        let is_absent =
            |key: &ResourceKey| !self.digests.contains_key(key) && !self.unchanged.contains(key);
        let absent: Vec<_> = held
            .iter()
            .filter(|(key, _)| is_absent(key))
            .map(|(key, digest)| (*key, *digest))
            .collect();
        for (key, digest) in &absent {
            self.note(*key, Some(*digest), None);
        }
        let removed = absent
            .into_iter()
            .map(|(key, _)| Change { key, content: None });
        removed.collect()
    }
}
