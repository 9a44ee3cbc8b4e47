// The beads as a board, and the short list of what a person must look at.
import { element, setText } from "./dom.js";
import { reviewText } from "./reviews.js";

const COLUMNS = [
  ["open", "Open"],
  ["in_progress", "In progress"],
  ["closed", "Closed"],
  ["failed", "Failed"],
];
// What stands on the board; the other types are talk and bookkeeping.
const WORK = new Set(["issue", "convoy", "molecule"]);
// Finished beads pile up; the newest of a column are enough to look at.
const CARDS_MAX = 100;
const PRIORITIES = ["critical", "high", "medium", "low"];

export class Board {
  #columns = new Map();
  #cards = new Map();
  #onOpen;

  constructor(root, onOpen) {
    this.#onOpen = onOpen;
    for (const [status, title] of COLUMNS) {
      const count = element("span", { class: "count" });
      const list = element("ul", { class: "cards" });
      const column = element(
        "section",
        { class: "column", "data-status": status, "aria-label": title },
        element("h3", {}, `${title} `, count),
        list,
      );
      this.#columns.set(status, { count, list });
      root.append(column);
    }
  }

  draw({ beads, agents, rigs, reviews: open }) {
    const work = [...beads.values()].filter(({ type }) => WORK.has(type));
    const ended = reviewsBySource(beads);
    const shown = new Set();
    for (const [status, { count, list }] of this.#columns) {
      const column = work.filter((bead) => bead.status === status).sort(byUrgency);
      setText(count, String(column.length));
      const cards = column.slice(0, CARDS_MAX).map((bead) => {
        shown.add(bead.bead_id);
        const several = rigs.size > 1 ? rigs.get(bead.rig_id)?.name : undefined;
        const review = open.get(bead.bead_id);
        const where = review ? reviewText(review) : endText(ended.get(bead.bead_id));
        return this.#card(bead, workerOf(bead, agents), where, several);
      });
      placeInOrder(list, cards);
    }
    for (const id of [...this.#cards.keys()]) if (!shown.has(id)) this.#cards.delete(id);
  }

  #card(bead, agent, where, rigName) {
    let card = this.#cards.get(bead.bead_id);
    if (!card) {
      const title = element("button", { type: "button", class: "card-title" });
      const facts = element("p", { class: "facts" });
      const failure = element("p", { class: "failure", hidden: true });
      const item = element("li", { class: "bead" }, title, facts, failure);
      title.addEventListener("click", () => this.#onOpen(bead.bead_id));
      card = { item, title, facts, failure };
      this.#cards.set(bead.bead_id, card);
    }
    card.item.dataset.bead = bead.bead_id;
    card.item.dataset.status = bead.status;
    card.item.dataset.priority = bead.priority;
    card.item.dataset.blocked = String(bead.blocked === true && bead.status !== "closed");
    setText(card.title, bead.title);
    const facts = [
      bead.priority === "medium" ? "" : bead.priority,
      agent?.name,
      rigName,
      waitText(bead),
      where,
    ];
    setText(card.facts, facts.filter(Boolean).join(" · "));
    const reason = bead.status === "failed" ? failureOf(bead) : "";
    setText(card.failure, reason);
    card.failure.hidden = reason === "";
    return card.item;
  }
}

// What needs a person, worst first: open escalations, failed work, agents that wait or are stuck.
export function needsPerson({ beads, agents, asks, reviews }) {
  const asking = new Set([...asks.values()].map(({ agent_id: agent }) => agent));
  const isAsk = new Set([...asks.values()].map(({ escalation_id: bead }) => bead));
  const waiting = [...reviews.values()].filter(({ status }) => status === "waiting");
  const approvals = new Set(waiting.map(({ entry_id: entry }) => `approve:${entry}`));
  const found = waiting.flatMap((review) => {
    const bead = beads.get(review.bead_id);
    return bead ? [{ kind: "approval", bead, text: bead.title, detail: review.message ?? "" }] : [];
  });
  for (const bead of [...beads.values()].sort(byUrgency)) {
    const open = bead.status === "open" || bead.status === "in_progress";
    if (bead.type === "escalation") {
      // One about an ask stands among those, one about an approval with its bead.
      const matter = bead.metadata?.matter ?? "";
      if (!open || isAsk.has(bead.bead_id) || approvals.has(matter)) continue;
      found.push({ kind: "escalation", bead, text: bead.title, detail: bead.body ?? "" });
    } else if (bead.status === "failed" && WORK.has(bead.type)) {
      found.push({ kind: "failed", bead, text: bead.title, detail: failureOf(bead) });
    }
  }
  for (const agent of agents.values()) {
    if (agent.status === "waiting" && asking.has(agent.id)) continue;
    if (agent.status === "waiting") {
      found.push({ kind: "waiting", agent, text: agent.name, detail: "asked a question" });
    } else if (agent.status === "stalled") {
      found.push({ kind: "stalled", agent, text: agent.name, detail: "has shown no activity" });
    }
  }
  return found;
}

export function failureOf(bead) {
  return bead.failure_reason ?? "It failed; its events say why.";
}

export function workerOf(bead, agents) {
  return agents.get(bead.assignee_agent_bead_id);
}

export function reviewsBySource(beads) {
  const reviews = new Map();
  for (const bead of beads.values()) {
    if (bead.type !== "merge_request") continue;
    const source = bead.metadata?.source_bead_id;
    const known = reviews.get(source);
    if (source && !(known?.created_at > bead.created_at)) reviews.set(source, bead);
  }
  return reviews;
}

// Whether an open bead can be taken up.
function waitText({ status, blocked, queued, depends_on: dependencies }) {
  if (blocked && status !== "closed") return "blocked by another bead";
  if (queued) return "queued until a polecat is free";
  return status === "open" && dependencies?.length ? "ready" : "";
}

// What came of a merge request that is over.
function endText(entry) {
  if (entry?.status === "closed") return "merged";
  return entry?.status === "failed" ? "merge failed" : "";
}

function byUrgency(a, b) {
  const urgency = PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority);
  const open = a.status === "open" || a.status === "in_progress";
  if (open && urgency !== 0) return urgency;
  const [left, right] = [a.updated_at ?? a.created_at, b.updated_at ?? b.created_at];
  return right < left ? -1 : 1;
}

// Moves only what is out of place: an element that stays keeps its focus and its selection.
export function placeInOrder(list, items) {
  items.forEach((item, index) => {
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
  while (list.children.length > items.length) list.lastChild.remove();
}
