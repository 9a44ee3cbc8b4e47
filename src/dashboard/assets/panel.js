// One agent's panel: who it is, what it does now, and its transcript as it is written.
//
// Follows the newest line until the reader scrolls up, and again once they return to the end.
import { element, setText } from "./dom.js";
import { Transcript } from "./transcript.js";

// How near to the end still counts as reading the newest line.
const END_MARGIN_PX = 40;

export class AgentPanel {
  transcript = new Transcript();
  #parts = new Map();
  #follows = true;
  #agent;

  constructor(agent, { onEnlarge }) {
    this.name = element("h3", { class: "agent-name" });
    this.role = element("span", { class: "role" });
    this.status = element("span", { class: "status" });
    this.work = element("p", { class: "work" });
    this.trouble = element("p", { class: "trouble" });
    this.usage = element("span", { class: "usage" });
    this.todos = element("details", { class: "todos", hidden: true });
    this.enlarge = element("button", {
      type: "button",
      class: "quiet",
      textContent: "Enlarge",
      "aria-pressed": "false",
      onclick: () => onEnlarge(this),
    });
    this.log = element("div", { class: "log", tabIndex: 0, role: "log", "aria-live": "off" });
    this.log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.newest = element("button", {
      type: "button",
      class: "newest",
      textContent: "Newest",
      hidden: true,
      onclick: () => this.#toEnd(),
    });
    this.empty = element("p", { class: "hint", textContent: "Nothing yet." });
    this.log.append(this.empty);
    this.element = element(
      "section",
      { class: "agent" },
      element("header", {}, this.name, this.role, this.status, this.usage, this.enlarge),
      this.work,
      this.trouble,
      this.todos,
      this.log,
      this.newest,
    );
    this.update(agent, null);
  }

  update(agent, bead) {
    this.#agent = agent;
    this.element.dataset.agent = agent.id;
    this.element.dataset.status = agent.status;
    setText(this.name, agent.name);
    setText(this.role, agent.role === agent.name.toLowerCase() ? "" : agent.role);
    setText(this.work, bead?.title ?? "");
    const { dispatch_attempts: tries, last_error: error } = agent;
    setText(this.trouble, tries > 0 && error ? `Try ${tries} failed: ${error}` : "");
    this.log.setAttribute("aria-label", `What ${agent.name} writes`);
    this.#drawStatus();
  }

  setLarge(large) {
    this.element.classList.toggle("large", large);
    this.enlarge.setAttribute("aria-pressed", String(large));
    setText(this.enlarge, large ? "Reduce" : "Enlarge");
    if (large) this.element.scrollIntoView({ block: "start" });
    if (this.#follows) this.#toEnd();
  }

  ended() {
    this.transcript.note("This agent has been removed.");
    this.element.dataset.status = "dead";
  }

  draw() {
    const { changed, removed } = this.transcript.takeChanges();
    for (const key of removed) {
      this.#parts.get(key)?.element.remove();
      this.#parts.delete(key);
    }
    for (const entry of changed) this.#drawEntry(entry);
    this.empty.hidden = this.#parts.size > 0;
    this.#drawStatus();
    this.#drawTodos();
    if (this.#follows) this.#toEnd();
    else if (changed.length) this.newest.hidden = false;
  }

  #drawEntry(entry) {
    let part = this.#parts.get(entry.key);
    if (!part || part.kind !== entry.kind) {
      if (entry.text === "" && entry.kind !== "tool") return;
      const drawn = { kind: entry.kind, ...makePart(entry) };
      if (part) part.element.replaceWith(drawn.element);
      else this.log.append(drawn.element);
      this.#parts.set(entry.key, drawn);
      part = drawn;
      entry.whole = true;
    }
    part.draw(entry);
    entry.appended = entry.appended === undefined ? undefined : "";
    entry.whole = false;
  }

  #drawStatus() {
    const { activity, usage } = this.transcript;
    setText(this.status, activity && this.#agent.status === "working" ? activity : this.#agent.status);
    const cost = usage.cost > 0 ? ` · $${usage.cost.toFixed(usage.cost < 1 ? 3 : 2)}` : "";
    setText(this.usage, usage.tokens > 0 ? `${compact(usage.tokens)} tokens${cost}` : "");
  }

  #drawTodos() {
    const { todos } = this.transcript;
    this.todos.hidden = todos.length === 0;
    if (todos.length === 0 || this.todos.drawn === todos) return;
    this.todos.drawn = todos;
    const done = todos.filter(({ status }) => status === "completed").length;
    const items = todos.map(({ content, status }) =>
      element("li", { textContent: String(content), "data-status": String(status) }),
    );
    this.todos.replaceChildren(
      element("summary", { textContent: `Plan: ${done} of ${todos.length} done` }),
      element("ul", {}, ...items),
    );
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.log;
    this.#follows = scrollHeight - scrollTop - clientHeight < END_MARGIN_PX;
    if (this.#follows) this.newest.hidden = true;
  }

  #toEnd() {
    this.#follows = true;
    this.newest.hidden = true;
    this.log.scrollTop = this.log.scrollHeight;
  }
}

function makePart(entry) {
  if (entry.kind === "tool") return makeTool();
  if (entry.kind === "prompt") return makePrompt();
  const text = document.createTextNode("");
  return {
    element: element("div", { class: `entry ${entry.kind}` }, text),
    draw: ({ text: whole, appended, whole: again }) => {
      if (again || appended === undefined) text.data = whole;
      else text.appendData(appended);
    },
  };
}

function makePrompt() {
  const head = element("summary");
  const text = element("div", { class: "text" });
  return {
    element: element("details", { class: "entry prompt" }, head, text),
    draw: (entry) => {
      setText(head, `Prompt: ${entry.text.trim().split("\n", 1)[0].slice(0, 140)}`);
      setText(text, entry.text);
    },
  };
}

function makeTool() {
  const badge = element("span", { class: "badge" });
  const name = element("b");
  const title = element("span", { class: "tool-title" });
  const input = element("pre", { class: "input" });
  const output = element("pre", { class: "output" });
  const made = element(
    "details",
    { class: "entry tool" },
    element("summary", {}, badge, name, title),
    input,
    output,
  );
  return {
    element: made,
    draw: (entry) => {
      made.dataset.status = entry.status;
      setText(badge, entry.status);
      setText(name, entry.tool);
      setText(title, entry.title);
      setText(input, entry.input);
      setText(output, entry.output);
      input.hidden = entry.input === "";
      output.hidden = entry.output === "";
    },
  };
}

function compact(count) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(count);
}
