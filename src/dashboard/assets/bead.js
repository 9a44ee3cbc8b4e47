// What the board has no room for: what a bead waits for, its steps, and its history.
import { explain, paths, request } from "./api.js";
import { reviewsBySource } from "./board.js";
import { element } from "./dom.js";
import { reviewDetails } from "./reviews.js";

// Newest events of a bead that are shown.
const EVENTS_MAX = 50;

// An element that fills itself; a part that can't be fetched says so and leaves the others alone.
export function beadDetails(town, bead, openBead) {
  const rig = paths.rig(town.id, bead.rig_id);
  const root = element("div", { class: "details" });
  const entry = town.reviews.get(bead.bead_id)?.entry_id ?? reviewsBySource(town.beads).get(bead.bead_id)?.bead_id;
  const parts = [
    entry
      ? reviewDetails(`${paths.reviews(town.id, bead.rig_id)}/${entry}`, () => openBead(bead.bead_id))
      : null,
    dependencies(rig, bead, openBead),
    bead.molecule_id ? molecule(rig, bead.molecule_id) : null,
    history(rig, bead, town),
  ];
  for (const part of parts) {
    if (!part) continue;
    const place = element("section", {});
    root.append(place);
    part
      .then((made) => (made ? place.replaceWith(made) : place.remove()))
      .catch((error) =>
        place.append(element("p", { class: "problem", textContent: `Not loaded: ${explain(error)}.` })),
      );
  }
  return root;
}

async function dependencies(rig, bead, openBead) {
  const { depends_on: before, dependents: after } = await request(
    "GET",
    `${rig}/beads/${bead.bead_id}/dependencies`,
  );
  if (before.length + after.length === 0) return null;
  const list = (title, rows) =>
    rows.length === 0
      ? null
      : element(
          "section",
          {},
          element("h3", { textContent: title }),
          element("ul", { class: "links" }, ...rows.map((row) => link(row, openBead))),
        );
  return element("div", {}, list("Depends on", before), list("Needed by", after));
}

function link({ type, bead }, openBead) {
  const status = bead.status.replace("_", " ");
  return element(
    "li",
    { "data-status": bead.status },
    element("span", { class: "badge", textContent: type === "blocks" ? status : `${type}: ${status}` }),
    " ",
    element("button", {
      type: "button",
      class: "card-title",
      textContent: bead.title,
      onclick: () => openBead(bead.bead_id),
    }),
  );
}

async function molecule(rig, id) {
  const { formula, current_step: current, status } = await request("GET", `${rig}/molecules/${id}`);
  const steps = formula.steps.map(({ title, instructions, summary }, index) => {
    const state = index < current ? "completed" : index === current ? "in_progress" : "pending";
    return element(
      "li",
      { "data-status": state, title: instructions },
      element("b", { textContent: title }),
      summary ? element("span", { class: "detail", textContent: ` ${summary}` }) : null,
    );
  });
  const done = Math.min(current, steps.length);
  return element(
    "section",
    {},
    element("h3", { textContent: `Steps: ${done} of ${steps.length} done${status === "failed" ? ", failed" : ""}` }),
    element("ol", { class: "steps" }, ...steps),
  );
}

async function history(rig, bead, town) {
  const events = await request("GET", `${rig}/events?bead_id=${bead.bead_id}&limit=${EVENTS_MAX}`);
  if (events.length === 0) return null;
  const rows = events.map((event) =>
    element(
      "li",
      {},
      element("time", {
        dateTime: event.created_at,
        textContent: new Date(event.created_at).toLocaleString(),
      }),
      element("b", { textContent: ` ${event.event_type.replaceAll("_", " ")}` }),
      element("span", { class: "detail", textContent: change(event, town) }),
    ),
  );
  return element(
    "details",
    { class: "history" },
    element("summary", { textContent: `History: ${events.length} newest events` }),
    element("ol", {}, ...rows),
  );
}

// From what to what, and by whom, in the names that people know.
function change({ old_value: before, new_value: after, actor, metadata }, town) {
  const known = (value) =>
    town.agents.get(value)?.name ?? town.beads.get(value)?.title ?? value?.replace("_", " ");
  const words = [
    before && after ? `${known(before)} to ${known(after)}` : known(after ?? before),
    metadata?.summary ?? metadata?.reason ?? metadata?.message,
    actor && actor !== after && actor !== before ? `by ${known(actor)}` : "",
  ];
  const text = words.filter(Boolean).join(", ");
  return text ? `: ${text}` : "";
}
