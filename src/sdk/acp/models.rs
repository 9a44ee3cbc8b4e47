//! Which models an agent offers, and which of them is chosen.

use agent_client_protocol::v1::schema::{
    SessionConfigId, SessionConfigKind, SessionConfigOption, SessionConfigOptionCategory,
    SessionConfigSelectOptions, SessionConfigValueId,
};

/// An agent's choice of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Models {
    pub(super) option: SessionConfigId,
    current: SessionConfigValueId,
    offered: Vec<SessionConfigValueId>,
}

impl Models {
    /// Finds the choice among a session's options.
    pub(super) fn among(options: &[SessionConfigOption]) -> Option<Self> {
        let is_model = |option: &&SessionConfigOption| {
            option.category == Some(SessionConfigOptionCategory::Model)
        };
        let option = options.iter().find(is_model)?;
        let SessionConfigKind::Select(select) = &option.kind else {
            return None;
        };
        let offered = match &select.options {
            SessionConfigSelectOptions::Ungrouped(options) => {
                options.iter().map(|option| option.value.clone()).collect()
            }
            SessionConfigSelectOptions::Grouped(groups) => groups
                .iter()
                .flat_map(|group| &group.options)
                .map(|option| option.value.clone())
                .collect(),
            _ => return None,
        };
        Some(Self {
            option: option.id.clone(),
            current: select.current_value.clone(),
            offered,
        })
    }

    /// The value to choose so that the session has this model. `None` if it has it, or if the agent
    /// does not offer it: then the agent's own choice stands.
    pub(super) fn change_to(&self, model: &str) -> Option<SessionConfigValueId> {
        if &*self.current.0 == model {
            return None;
        }
        self.offered
            .iter()
            .find(|value| &*value.0 == model)
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn among(options: serde_json::Value) -> Option<Models> {
        let options: Vec<SessionConfigOption> = serde_json::from_value(options).unwrap();
        Models::among(&options)
    }

    #[test]
    fn only_a_model_that_is_offered_is_chosen() {
        let mode = json!({"id": "mode", "name": "Mode", "category": "mode", "type": "select",
            "currentValue": "build", "options": [{"value": "p/a", "name": "A"}]});
        let model = json!({"id": "m", "name": "Model", "category": "model", "type": "select",
            "currentValue": "p/a", "options": [
                {"value": "p/a", "name": "A"}, {"value": "p/b", "name": "B"}]});
        let models = among(json!([mode, model])).unwrap();
        assert_eq!(models.change_to("p/a"), None);
        assert_eq!(models.change_to("p/b").unwrap().0.as_ref(), "p/b");
        assert_eq!(models.change_to("p/c"), None);
        assert_eq!(among(json!([mode])), None);
    }

    #[test]
    fn models_in_groups_are_offered_too() {
        let model = json!({"id": "m", "name": "Model", "category": "model", "type": "select",
            "currentValue": "a", "options": [
                {"group": "g", "name": "G", "options": [{"value": "b", "name": "B"}]}]});
        assert!(among(json!([model])).unwrap().change_to("b").is_some());
    }
}
