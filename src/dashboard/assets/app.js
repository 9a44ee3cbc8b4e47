// The page: picks a town, wires its data, its link and its panels together, and owns the forms.
//
// State of the server lives in Town, the position in every stream in Link, and what an agent said in
// its panel's transcript. This module only connects them and draws once per frame.
import { explain, paths, request } from "./api.js";
import { AskList } from "./asks.js";
import { beadDetails } from "./bead.js";
import { Board, needsPerson, placeInOrder, failureOf, workerOf } from "./board.js";
import { drawContainer } from "./container.js";
import { Convoys } from "./convoys.js";
import { element, setText } from "./dom.js";
import { Link, TOWN } from "./link.js";
import { AgentPanel } from "./panel.js";
import { Tokens } from "./tokens.js";
import { Town } from "./town.js";
import { isSpent, showUsage, usageText } from "./usage.js";

// Live panels cost drawing; agents beyond these are listed and opened on demand.
const PANELS_MAX = 24;
// Who makes a town through this page: there is one administrator.
const ADMIN = "admin";
const TITLE = "gastown";

const at = (id) => document.getElementById(id);
const board = new Board(at("board"), openBead);
const asks = new AskList(at("asks"), at("ask-list"), {
  answer: (ask, body) => town.answer(ask, body),
  show: showAgent,
});
const convoys = new Convoys(at("convoys"), openConvoy);
const tokens = new Tokens(at("tokens-dialog"));

let towns = [];
let town = null;
let link = null;
let panels = new Map();
let large = null;
// Agents whose panel the reader asked for beyond the first ones.
let wanted = new Set();
const drawing = { town: false, panels: new Set(), asked: false };

function draw() {
  if (drawing.asked) return;
  drawing.asked = true;
  requestAnimationFrame(() => {
    drawing.asked = false;
    if (drawing.town) drawTown();
    drawing.town = false;
    for (const panel of drawing.panels) panel.draw();
    drawing.panels.clear();
  });
}

function drawTownSoon() {
  drawing.town = true;
  draw();
}

function drawPanelSoon(panel) {
  drawing.panels.add(panel);
  draw();
}

// --- the town --------------------------------------------------------------------------------

async function start() {
  try {
    towns = await request("GET", paths.towns);
  } catch (error) {
    if (error.status === 401) return loggedOut();
    showLink("reconnecting", explain(error));
    setTimeout(start, 2_000 + Math.random() * 2_000);
    return undefined;
  }
  drawPicker();
  if (towns.length === 0) {
    showLink("connected", "");
    at("welcome").hidden = false;
    return undefined;
  }
  const asked = new URLSearchParams(location.hash.slice(1)).get("town");
  return enter(towns.find(({ id }) => id === asked) ?? towns[0]);
}

function enter(row) {
  link?.close();
  for (const panel of panels.values()) panel.element.remove();
  panels = new Map();
  wanted = new Set();
  large = null;
  town = new Town(row, {
    changed: () => {
      if (at("link").dataset.state === "behind") showLink("connected", "");
      drawTownSoon();
    },
    failed: (error) => {
      if (error.status === 401) loggedOut();
      else showLink("behind", `Could not refresh: ${explain(error)}`);
    },
  });
  at("welcome").hidden = true;
  at("town").hidden = false;
  history.replaceState(null, "", `#town=${row.id}`);
  drawPicker();
  link = new Link(row.id, {
    state: showLink,
    town: (fact) => town.apply(fact),
    event: (agentId, event) => toPanel(agentId, (panel) => panel.transcript.apply(event)),
    live: () => {},
    ended: (agentId) => toPanel(agentId, (panel) => panel.ended()),
    skipped: (agentId, count) =>
      toPanel(agentId, ({ transcript }) =>
        transcript.clear(`${count} earlier events are not shown here.`),
      ),
    restarted: (key, firstEventId) => {
      if (key === TOWN) town.reload();
      else {
        const lost = firstEventId > 1 ? "Earlier events are no longer kept." : "";
        toPanel(key, ({ transcript }) => transcript.clear(lost));
      }
    },
  });
  link.followTown();
  drawTownSoon();
}

function toPanel(agentId, change) {
  const panel = panels.get(agentId);
  if (!panel) return;
  change(panel);
  drawPanelSoon(panel);
}

// --- drawing ---------------------------------------------------------------------------------

function drawPicker() {
  const select = at("town-select");
  select.replaceChildren(
    ...towns.map(({ id, name }) => element("option", { value: id, textContent: name })),
  );
  if (town) select.value = town.id;
  at("town-picker").hidden = towns.length < 2;
  setText(at("town-name"), towns.length === 1 ? towns[0].name : "");
}

function drawTown() {
  board.draw(town);
  convoys.draw(town.convoys);
  drawRigs();
  drawAgents();
  asks.draw(town.asks);
  drawHeader();
  drawAttention();
}

function drawRigs() {
  const select = at("sling").elements.rig;
  const rigs = [...town.rigs.values()];
  const present = [...select.options].map(({ value, text }) => `${value} ${text}`).join();
  if (present !== rigs.map(({ id, name }) => `${id} ${name}`).join()) {
    const chosen = select.value;
    select.replaceChildren(
      ...rigs.map(({ id, name }) => element("option", { value: id, textContent: name })),
    );
    if (town.rigs.has(chosen)) select.value = chosen;
  }
  at("no-rigs").hidden = rigs.length > 0;
  at("sling").querySelector("[type=submit]").disabled = rigs.length === 0;
}

function drawAgents() {
  const agents = [...town.agents.values()].sort(byStanding);
  const shown = agents.filter(({ id }, index) => index < PANELS_MAX || wanted.has(id));
  const hidden = agents.filter((agent) => !shown.includes(agent));
  for (const agent of shown) {
    const bead = town.beads.get(agent.current_hook_bead_id);
    let panel = panels.get(agent.id);
    if (panel) panel.update(agent, bead);
    else {
      panel = new AgentPanel(agent, { onEnlarge: enlarge });
      panels.set(agent.id, panel);
      panel.update(agent, bead);
      link.followAgent(agent.id);
    }
  }
  const present = new Set(shown.map(({ id }) => id));
  for (const id of [...panels.keys()]) {
    if (present.has(id)) continue;
    link.unfollow(id);
    panels.delete(id);
  }
  placeInOrder(
    at("agents"),
    shown.map(({ id }) => panels.get(id).element),
  );
  at("no-agents").hidden = agents.length > 0;
  at("more-agents").hidden = hidden.length === 0;
  at("more-agents").replaceChildren(
    ...hidden.map(({ id, name }) =>
      element("button", {
        type: "button",
        class: "quiet",
        textContent: name,
        onclick: () => {
          wanted.add(id);
          drawTownSoon();
        },
      }),
    ),
  );
}

// A fixed order, so that no panel jumps away from under a reader: the mayor, then by age.
function byStanding(a, b) {
  const mayor = Number(b.role === "mayor") - Number(a.role === "mayor");
  if (mayor !== 0) return mayor;
  return a.created_at < b.created_at ? -1 : Number(a.created_at > b.created_at);
}

function drawAttention() {
  const found = needsPerson(town);
  at("attention").hidden = found.length === 0;
  const waiting = found.length + town.asks.size;
  document.title = waiting ? `(${waiting}) ${TITLE}` : TITLE;
  const list = at("attention-list");
  const key = JSON.stringify(
    found.map(({ kind, text, detail, bead }) => [kind, text, detail, bead?.status]),
  );
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(
    ...found.map(({ kind, bead, agent, text, detail }) =>
      element(
        "li",
        { "data-kind": kind },
        element("span", { class: "badge", textContent: kind }),
        element("button", {
          type: "button",
          class: "card-title",
          textContent: text,
          onclick: () => (bead ? openBead(bead.bead_id) : showAgent(agent.id)),
        }),
        element("span", { class: "detail", textContent: detail }),
        kind === "escalation" ? acknowledgement(bead) : null,
      ),
    ),
  );
}

function drawHeader() {
  const pause = at("pause-town");
  pause.hidden = false;
  setText(pause, town.paused ? "Resume town" : "Pause town");
  pause.setAttribute("aria-pressed", String(town.paused));
  const rig = town.rigs.get(at("sling").elements.rig.value);
  at("pause-rig").hidden = !rig;
  if (rig) setText(at("pause-rig"), rig.paused ? "Resume rig" : "Pause rig");
  const used = usageText(town.usage, town.budget);
  setText(at("town-usage"), used);
  drawContainer(at("town-container"), town.container);
  at("town-usage").hidden = used === "";
  at("town-usage").dataset.spent = String(isSpent(town.usage, town.budget));
}

// A button outside every form; what goes wrong is told where the link is.
function onPress(button, act) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await act();
    } catch (error) {
      showLink("behind", `That did not work: ${explain(error)}`);
    } finally {
      button.disabled = false;
    }
  });
}

function acknowledgement(bead) {
  if (bead.status !== "open") {
    return element("span", { class: "badge", textContent: "acknowledged" });
  }
  const button = element("button", {
    type: "button",
    class: "quiet small",
    textContent: "Acknowledge",
    onclick: async () => {
      button.disabled = true;
      await town.acknowledge(bead).catch((error) => {
        button.disabled = false;
        showLink("behind", `That did not work: ${explain(error)}`);
      });
    },
  });
  return button;
}

function enlarge(panel) {
  const next = large === panel ? null : panel;
  large?.setLarge(false);
  large = next;
  next?.setLarge(true);
}

function showAgent(id) {
  wanted.add(id);
  drawTown();
  const panel = panels.get(id);
  panel?.element.scrollIntoView({ block: "center" });
  panel?.log.focus({ preventScroll: true });
}

const LINK_TEXTS = {
  connecting: "Connecting",
  connected: "Live",
  reconnecting: "Reconnecting",
  behind: "Live",
  refused: "Not connected",
  "logged-out": "Logged out",
};

function showLink(state, detail) {
  at("link").dataset.state = state;
  setText(at("link-text"), detail ? `${LINK_TEXTS[state]}: ${detail}` : LINK_TEXTS[state]);
  const retry = at("link-retry");
  retry.hidden = state !== "reconnecting" && state !== "logged-out";
  setText(retry, state === "logged-out" ? "Log in" : "Try now");
}

function loggedOut() {
  link?.close();
  showLink("logged-out", "");
}

// --- dialogs and forms -----------------------------------------------------------------------

function openBead(beadId) {
  const bead = town.beads.get(beadId);
  if (!bead) return;
  const agent = workerOf(bead, town.agents);
  const facts = [
    ["Status", bead.status.replace("_", " ")],
    ["Why", bead.status === "failed" ? failureOf(bead) : ""],
    ["Priority", bead.priority],
    ["Agent", agent?.name],
    ["Rig", town.rigs.get(bead.rig_id)?.name],
    ["Labels", bead.labels?.join(", ")],
    ["Made", new Date(bead.created_at).toLocaleString()],
    ["Closed", bead.closed_at ? new Date(bead.closed_at).toLocaleString() : ""],
    ["Id", bead.bead_id],
  ];
  const rows = facts
    .filter(([, value]) => value)
    .flatMap(([name, value]) => [
      element("dt", { textContent: name }),
      element("dd", { textContent: value }),
    ]);
  setText(at("bead-dialog-title"), bead.title);
  at("bead-dialog-body").replaceChildren(
    element("p", { class: "body", textContent: bead.body ?? "" }),
    element("dl", {}, ...rows),
    bead.rig_id ? beadDetails(town, bead, openBead) : "",
  );
  const again = at("bead-again");
  again.hidden = bead.type !== "issue";
  again.onclick = () => {
    const { title, body, priority, rig } = at("sling").elements;
    title.value = bead.title;
    body.value = bead.body ?? "";
    priority.value = bead.priority;
    if (town.rigs.has(bead.rig_id)) rig.value = bead.rig_id;
    at("bead-dialog").close();
    title.focus();
  };
  // What has been seen to leaves the list of what needs a person.
  const settle = at("bead-settle");
  const escalation = bead.type === "escalation" && bead.status !== "closed";
  settle.hidden = !escalation && bead.status !== "failed";
  setText(settle, escalation ? "Seen to" : "Delete");
  setText(at("bead-problem"), "");
  settle.onclick = async () => {
    try {
      await (escalation ? town.close(bead) : town.remove(bead));
      at("bead-dialog").close();
    } catch (error) {
      setText(at("bead-problem"), `That did not work: ${explain(error)}.`);
    }
  };
  showDialog(at("bead-dialog"));
}

// A bead is opened from another one's dialog, too.
function showDialog(dialog) {
  if (!dialog.open) dialog.showModal();
}

async function openConvoy(id) {
  const convoy = await town.convoy(id).catch(() => null);
  if (!convoy) return;
  const rows = convoy.beads.map((bead) =>
    element(
      "li",
      { "data-status": bead.status },
      element("span", { class: "badge", textContent: bead.status.replace("_", " ") }),
      " ",
      element("button", {
        type: "button",
        class: "card-title",
        textContent: bead.title,
        onclick: () => openBead(bead.bead_id),
      }),
    ),
  );
  setText(at("bead-dialog-title"), convoy.title);
  setText(at("bead-problem"), "");
  const progress = `${convoy.closed_beads} of ${convoy.total_beads} closed`;
  at("bead-dialog-body").replaceChildren(
    element("p", { textContent: convoy.status === "landed" ? `${progress}; landed` : progress }),
    element("ul", { class: "links" }, ...rows),
  );
  at("bead-again").hidden = true;
  at("bead-settle").hidden = true;
  showDialog(at("bead-dialog"));
}

// Sends a form's fields to `act`; the form says what went wrong and keeps what was typed.
function onSubmit(form, act) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = form.querySelector(".problem");
    const button = form.querySelector("[type=submit]");
    const fields = [...new FormData(form)].map(([name, value]) => [name, value.trim()]);
    problem.hidden = true;
    button.disabled = true;
    try {
      await act(Object.fromEntries(fields));
    } catch (error) {
      if (error.status === 401) loggedOut();
      setText(problem, `That did not work: ${explain(error)}.`);
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}

onSubmit(at("town-form"), async ({ name }) => {
  const made = await request("POST", paths.userTowns(ADMIN), { name });
  towns = [made, ...towns];
  at("town-form").reset();
  at("town-dialog").close();
  enter(made);
  at("rig-dialog").showModal();
});

onSubmit(at("rig-form"), async (fields) => {
  await town.addRig(fields);
  at("rig-form").reset();
  at("rig-dialog").close();
  at("sling").elements.title.focus();
});

onSubmit(at("token-form"), async (fields) => {
  await tokens.make(fields);
  at("token-form").reset();
});

onSubmit(at("sling"), async (fields) => {
  await town.sling(fields);
  const { title, body } = at("sling").elements;
  title.value = "";
  body.value = "";
  title.focus();
});

onSubmit(at("mayor"), async ({ message }) => {
  const { sessionStatus } = await town.tellMayor(message);
  at("mayor").elements.message.value = "";
  setText(at("mayor-status"), sessionStatus === "starting" ? "The mayor is waking up." : "Sent.");
});

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
onPress(at("show-tokens"), () => tokens.open());
at("town-usage").addEventListener("click", () => {
  at("usage-dialog").showModal();
  showUsage(town, at("usage-body"));
});
onPress(at("pause-town"), () => town.pause(!town.paused));
onPress(at("pause-rig"), () => {
  const rig = town.rigs.get(at("sling").elements.rig.value);
  return town.pauseRig(rig.id, !rig.paused);
});
at("sling").elements.rig.addEventListener("change", drawTownSoon);
at("new-town").addEventListener("click", () => at("town-dialog").showModal());
at("welcome-new-town").addEventListener("click", () => at("town-dialog").showModal());
at("add-rig").addEventListener("click", () => at("rig-dialog").showModal());
at("link-retry").addEventListener("click", () => {
  if (at("link").dataset.state === "logged-out") location.reload();
  else link?.retryNow();
});
at("town-select").addEventListener("change", ({ target }) => {
  enter(towns.find(({ id }) => id === target.value));
});
at("log-out").addEventListener("click", async () => {
  await request("DELETE", "/api/session").catch(() => null);
  location.reload();
});
window.addEventListener("online", () => link?.retryNow());

start();
