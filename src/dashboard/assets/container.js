// What the town's container is doing, in a line.
import { setText } from "./dom.js";

const TEXTS = {
  asleep: "Agents asleep",
  starting: "Waking up",
  ready: "Awake",
  draining: "Saving work, then asleep",
  failed: "Can't start",
};

// What it uses, as far as it has told.
function usage({ agents, memory }) {
  const words = [];
  if (agents > 0) words.push(agents === 1 ? "1 session" : `${agents} sessions`);
  if (memory > 0) words.push(`${Math.round(memory / 2 ** 20)} MiB`);
  return words;
}

// Draws the state; why it is so is told on pointing at it, and in full where it can't start.
export function drawContainer(place, container) {
  const { state, reason, retryAt } = container ?? {};
  place.hidden = !TEXTS[state];
  if (place.hidden) return;
  const words = [TEXTS[state]];
  if (state === "ready") words.push(...usage(container));
  if (state === "failed") {
    words.push(reason);
    if (retryAt) words.push(`tried again at ${new Date(retryAt).toLocaleTimeString()}`);
  }
  place.dataset.state = state;
  place.title = reason ?? "";
  setText(place, words.join(" · "));
}

// The answer of the health route, or what a fact of the town says that changed.
export function containerOf(health) {
  const { state, reason, retryAt, agents = 0, stats } = health;
  return { state, reason, retryAt, agents, memory: stats?.rssBytes ?? 0 };
}
