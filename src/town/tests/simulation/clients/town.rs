//! What is done to agents, rigs and the town itself.

use serde_json::json;

use crate::model::{AgentId, AgentRole, BeadId, RigId};
use crate::town::command::{Command, NewAgent, NewRig};
use crate::town::tests::simulation::run::Simulation;

use super::{AGENTS_MAX, RIGS_MAX};

pub(super) fn hook(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    let bead_id = simulation.bead_in(rig_id);
    hook_to(simulation, rig_id, agent_id, bead_id);
}

fn hook_to(simulation: &mut Simulation<'_>, rig_id: RigId, agent_id: AgentId, bead_id: BeadId) {
    let line = format!("hook {} {}", agent_id.short(), bead_id.short());
    simulation.note(line);
    simulation.request("hook", move |reply| {
        Command::Hook(rig_id, agent_id, bead_id, reply)
    });
}

pub(super) fn unhook(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    simulation.note(format!("unhook {}", agent_id.short()));
    simulation.request("unhook", move |reply| {
        Command::Unhook(rig_id, agent_id, reply)
    });
}

pub(super) fn create_agent(simulation: &mut Simulation<'_>) {
    if simulation.known.agents.len() >= AGENTS_MAX && simulation.random.chance(80) {
        return delete_agent(simulation);
    }
    let (rig_id, role) = (
        simulation.rig(),
        simulation.random.pick(AgentRole::ALL).unwrap(),
    );
    let name = if simulation.random.chance(80) {
        simulation.known.new_name("agent")
    } else {
        "Toast".to_owned()
    };
    let new = NewAgent {
        role,
        identity: format!("{name}@here"),
        name,
    };
    simulation.request("create agent", move |reply| {
        Command::CreateAgent(rig_id, new.clone(), reply)
    });
}

pub(super) fn get_or_create_agent(simulation: &mut Simulation<'_>) {
    let rig_id = simulation.rig();
    let role = simulation.random.pick(AgentRole::ALL).unwrap();
    simulation.request("get or create agent", move |reply| {
        Command::GetOrCreateAgent(rig_id, role, reply)
    });
}

pub(super) fn delete_agent(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    simulation.note(format!("delete {}", agent_id.short()));
    simulation.request("delete agent", move |reply| {
        Command::DeleteAgent(rig_id, agent_id, reply)
    });
}

pub(super) fn create_rig(simulation: &mut Simulation<'_>) {
    if simulation.known.rigs.len() >= RIGS_MAX && simulation.random.chance(90) {
        return;
    }
    let name = if simulation.random.chance(80) {
        simulation.known.new_name("rig")
    } else {
        "rig".to_owned()
    };
    let new = NewRig {
        name,
        git_url: "https://git.invalid/o/r.git".to_owned(),
        default_branch: "main".to_owned(),
        platform_integration_id: None,
        kilocode_token: None,
    };
    simulation.request("create rig", move |reply| {
        Command::CreateRig(new.clone(), reply)
    });
}

pub(super) fn delete_rig(simulation: &mut Simulation<'_>) {
    let rig_id = simulation.rig();
    simulation.note(format!("delete rig {}", rig_id.short()));
    simulation.request("delete rig", move |reply| Command::DeleteRig(rig_id, reply));
}

pub(super) fn set_config(simulation: &mut Simulation<'_>) {
    let patch = match simulation.random.below(10) {
        8 => json!({"container": {"disk_bytes_max": simulation.random.between(20, 400) << 20}}),
        9 => json!({"container": null}),
        0 => json!({"max_polecats_per_rig": simulation.random.between(1, 4)}),
        1 => json!({"alarm_interval_active": simulation.random.between(5, 120)}),
        2 => json!({"max_polecats_per_rig": 99}),
        4 => json!({"refinery": {"gates": ["make"]}}),
        5 => json!({"refinery": {"auto_merge": simulation.random.chance(50)}}),
        6 => json!({"refinery": null}),
        3 => json!({"budget": {"tokens_per_day": simulation.random.between(100, 20_000)}}),
        _ => json!({"env_vars": {"COLOUR": "red"}}),
    };
    simulation.request("set config", move |reply| {
        Command::SetConfig(patch.clone(), reply)
    });
}

pub(super) fn pause_town(simulation: &mut Simulation<'_>) {
    let paused = simulation.random.chance(40);
    simulation.request("pause town", move |reply| Command::PauseTown(paused, reply));
}

pub(super) fn pause_rig(simulation: &mut Simulation<'_>) {
    let (rig_id, paused) = (simulation.rig(), simulation.random.chance(40));
    simulation.request("pause rig", move |reply| {
        Command::PauseRig(rig_id, paused, reply)
    });
}

/// Nothing holds work back any more; what a merge needs is one of all that towns ask for.
/// Whoever is called because the mayor can't be spoken to mends the cause and says so.
pub(in crate::town::tests::simulation) fn resume(simulation: &mut Simulation<'_>) {
    simulation.request("resume town", |reply| Command::PauseTown(false, reply));
}

pub(in crate::town::tests::simulation) fn resume_everything(simulation: &mut Simulation<'_>) {
    resume(simulation);
    for rig_id in simulation.known.rigs.clone() {
        simulation.request("resume rig", move |reply| {
            Command::PauseRig(rig_id, false, reply)
        });
    }
    let mut patch = json!({"budget": null, "max_polecats_per_rig": 2});
    match simulation.random.below(5) {
        0 => patch["refinery"] = json!(null),
        1 => patch["refinery"] = json!({"gates": ["make"], "auto_merge": true}),
        2 => patch["refinery"] = json!({"gates": [], "auto_merge": false}),
        3 => patch["refinery"] = json!({"gates": ["make"], "auto_merge": false}),
        // As it was left.
        _ => {}
    }
    simulation.note(format!("config {patch}"));
    simulation.request("set config", move |reply| {
        Command::SetConfig(patch.clone(), reply)
    });
}

pub(super) fn stop_all(simulation: &mut Simulation<'_>) {
    simulation.request("stop all", Command::StopAll);
}

pub(super) fn stop_agent(simulation: &mut Simulation<'_>) {
    let (rig_id, agent_id) = simulation.agent();
    simulation.note(format!("stop {}", agent_id.short()));
    simulation.request("stop agent", move |reply| {
        Command::StopAgent(rig_id, agent_id, reply)
    });
}

pub(super) fn dry_run(simulation: &mut Simulation<'_>) {
    simulation.request("dry run", Command::DryRun);
}

pub(super) fn start_run(simulation: &mut Simulation<'_>) {
    let (_, agent_id) = simulation.agent();
    simulation.request("start run", move |reply| Command::StartRun(agent_id, reply));
}

pub(super) fn stop_run(simulation: &mut Simulation<'_>) {
    let (_, agent_id) = simulation.agent();
    simulation.note(format!("stop run {}", agent_id.short()));
    simulation.request("stop run", move |reply| Command::StopRun(agent_id, reply));
}
