//! What an agent said so far, in case that its session is lost.

use crate::agent_log::EventView;
use crate::container::prompts::Conversation;
use crate::model::AgentId;
use crate::storage;

use super::Runner;

/// How many of an agent's newest events are read for it: some turns, most of them single words.
const EVENTS_MAX: u64 = 5_000;

impl Runner {
    /// The end of the conversation of that session. Without it the agent starts all the same.
    pub(super) async fn conversation(&self, agent_id: AgentId, session_id: &str) -> Option<String> {
        match self.read_conversation(agent_id, session_id).await {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(agent = %agent_id, %error, "failed to read what it said");
                None
            }
        }
    }

    async fn read_conversation(
        &self,
        agent_id: AgentId,
        session_id: &str,
    ) -> Result<Option<String>, storage::Error> {
        let log = self.surroundings.logs.open(agent_id).await?;
        let position = log.position();
        let mut next = (position.last_id + 1).saturating_sub(EVENTS_MAX);
        next = next.max(position.first_id);
        let mut conversation = Conversation::of(session_id);
        while next <= position.last_id {
            let slices = log.read_from(next).await?;
            let Some(last) = slices.last() else { break };
            next = last.last_id() + 1;
            let frames = slices.iter().flat_map(|slice| slice.frames());
            for event in frames.filter_map(EventView::of_frame) {
                conversation.take_in(&event.event_type, event.data.get());
            }
        }
        Ok(conversation.text())
    }
}
