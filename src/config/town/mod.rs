//! A town's config: what its owner wants, as one JSON document (API.md 4).
//!
//! The document is changed by a JSON merge patch (RFC 7396) and shown with its secrets masked; a
//! mask that comes back in a patch means the secret that is stored. What a container gets is
//! [`ResolvedTownConfig`], which has the secrets and every default filled in.

mod document;
mod mask;
mod patch;
mod read;
mod refinery;
mod resolved;

pub use document::{
    AgentServer, Budget, ContainerConfig, GitAuth, RefineryConfig, RetentionConfig, RigOverride,
    RoleTexts, TownConfig,
};
pub use read::Issue;
pub use resolved::ResolvedTownConfig;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
