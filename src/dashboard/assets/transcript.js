// What an agent's events say, as a bounded list of entries to show. Knows no element of the page.
//
// An entry is {key, kind, text, ...}. A view reads `takeChanges()`: which entries are new or
// changed, and which fell out. Streamed text is handed over as what was appended since, so that
// drawing a delta costs what the delta is long.

// Together about as much as a person scrolls back through; older entries fall out.
const ENTRIES_MAX = 300;
// A part longer than this keeps its newest half: nobody reads a megabyte in a page.
const TEXT_MAX = 24_000;
// Usage is summed per message; messages older than these no longer change and are folded in.
const MESSAGES_MAX = 200;

export class Transcript {
  todos = [];
  activity = "";
  #entries = new Map();
  #changed = new Set();
  #removed = [];
  #messages = new Map();
  #folded = { cost: 0, tokens: 0 };
  #notes = 0;
  #lastError = "";

  get usage() {
    const sum = { ...this.#folded };
    for (const message of this.#messages.values()) add(sum, message);
    return sum;
  }

  takeChanges() {
    const changes = { changed: [...this.#changed], removed: this.#removed };
    this.#changed = new Set();
    this.#removed = [];
    return changes;
  }

  clear(note) {
    for (const key of [...this.#entries.keys()]) this.#remove(key);
    this.todos = [];
    this.activity = "";
    this.#messages.clear();
    this.#folded = { cost: 0, tokens: 0 };
    if (note) this.note(note);
  }

  note(text, kind = "note") {
    this.#notes += 1;
    if (kind === "error") this.#lastError = text;
    this.#put({ key: `note-${this.#notes}`, kind, text });
  }

  apply({ type, data }) {
    const body = data !== null && typeof data === "object" ? data : {};
    this.#handlers[type]?.(body);
  }

  #handlers = {
    "message.updated": ({ info }) => this.#message(info),
    "message.part.updated": ({ part }) => this.#part(part),
    "message.part.delta": (body) => this.#delta(body),
    "message.part.removed": ({ partID }) => this.#remove(partID),
    "message.removed": ({ messageID }) => this.#removeMessage(messageID),
    "todo.updated": ({ todos }) => {
      this.todos = Array.isArray(todos) ? todos : [];
    },
    "session.status": ({ status }) => this.#status(status),
    "session.idle": () => {
      this.activity = "";
    },
    "session.error": ({ error }) => this.#error(error),
    "session.compacted": () => this.note("The conversation was summed up to make room."),
    "permission.asked": (ask) => this.note(`Asks for permission: ${askText(ask)}`, "ask"),
    "question.asked": (ask) => this.note(`Asks: ${askText(ask)}`, "ask"),
    "permission.replied": ({ reply }) => this.note(`Permission: ${reply ?? "answered"}`),
    "question.replied": ({ answers }) =>
      this.note(`Answered: ${[answers].flat(3).filter(Boolean).join(", ")}`),
    "question.rejected": () => this.note("The question was turned down."),
    "agent.started": ({ resumed, branch }) =>
      this.note(`${resumed ? "Resumed" : "Started"}${branch ? ` on ${branch}` : ""}`),
    "agent.exited": ({ status, reason }) => {
      this.activity = "";
      const failed = status === "failed";
      const news = reason && reason !== this.#lastError ? `: ${reason}` : "";
      this.note(`${failed ? "Failed" : "Stopped"}${news}`, failed && news ? "error" : "note");
    },
    "agent.idle": ({ error }) => {
      this.activity = "";
      if (error) this.note(error, "error");
    },
    "agent.waiting": ({ title, detail }) =>
      this.note(`Waits for an answer: ${[title, detail].filter(Boolean).join(" - ")}`, "ask"),
    "agent.resumed": () => this.note("Got its answer and goes on."),
  };

  #message(info) {
    if (!info?.id) return;
    const known = this.#messages.get(info.id);
    const tokens = info.tokens ?? {};
    this.#messages.set(info.id, {
      role: info.role ?? known?.role,
      cost: info.cost ?? 0,
      tokens: (tokens.input ?? 0) + (tokens.output ?? 0) + (tokens.reasoning ?? 0),
    });
    if (info.error && !known?.error) this.#error(info.error);
    if (info.error) this.#messages.get(info.id).error = true;
    while (this.#messages.size > MESSAGES_MAX) {
      const [oldest, message] = this.#messages.entries().next().value;
      add(this.#folded, message);
      this.#messages.delete(oldest);
    }
  }

  #removeMessage(messageId) {
    this.#messages.delete(messageId);
    for (const [key, entry] of this.#entries) {
      if (entry.messageId === messageId) this.#remove(key);
    }
  }

  #part(part) {
    if (!part?.id) return;
    const place = { key: part.id, messageId: part.messageID };
    switch (part.type) {
      case "text":
      case "reasoning": {
        if (part.synthetic || part.ignored) return;
        const user = this.#messages.get(part.messageID)?.role === "user";
        const kind = user ? "prompt" : part.type;
        this.#text({ ...place, kind }, part.text ?? "");
        break;
      }
      case "tool":
        this.#put({ ...place, kind: "tool", ...tool(part) });
        break;
      case "patch":
        if (part.files?.length) {
          const names = part.files.map((file) => file.split("/").pop());
          this.#put({ ...place, kind: "note", text: `Changed ${names.join(", ")}` });
        }
        break;
      case "file":
        this.#put({ ...place, kind: "note", text: `Attached ${part.filename ?? "a file"}` });
        break;
      case "subtask":
      case "agent":
        this.#put({ ...place, kind: "note", text: `Hands to ${part.agent ?? part.name}` });
        break;
      case "retry":
        this.#put({ ...place, kind: "note", text: `Tries again: ${errorText(part.error)}` });
        break;
    }
  }

  #text(entry, text) {
    const known = this.#entries.get(entry.key);
    if (!known) {
      // An empty part is only announced; it is shown once it has text.
      this.#put({ ...entry, text: tail(text), appended: "", whole: true });
      return;
    }
    known.kind = entry.kind;
    if (known.text === tail(text)) return;
    known.text = tail(text);
    known.whole = true;
    this.#changed.add(known);
  }

  #delta({ messageID, partID, field, delta }) {
    if (typeof delta !== "string" || (field !== undefined && field !== "text")) return;
    let entry = this.#entries.get(partID);
    if (!entry) {
      entry = { key: partID, messageId: messageID, kind: "text", text: "", appended: "", whole: true };
      this.#put(entry);
    }
    if (entry.appended === undefined) return;
    entry.text += delta;
    entry.appended += delta;
    if (entry.text.length > 1.5 * TEXT_MAX) {
      entry.text = tail(entry.text);
      entry.whole = true;
    }
    this.#changed.add(entry);
  }

  #status(status) {
    if (status?.type === "retry") {
      this.activity = `retry ${status.attempt ?? ""}: ${status.message ?? "the model failed"}`;
    } else {
      this.activity = status?.type === "busy" ? "thinking" : "";
    }
  }

  #error(error) {
    if (error?.name === "MessageAbortedError") this.note("Stopped in the middle.");
    else this.note(errorText(error), "error");
  }

  #put(entry) {
    const known = this.#entries.get(entry.key);
    if (known) Object.assign(known, entry);
    else this.#entries.set(entry.key, entry);
    this.#changed.add(known ?? entry);
    while (this.#entries.size > ENTRIES_MAX) {
      this.#remove(this.#entries.keys().next().value);
    }
  }

  #remove(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#changed.delete(entry);
    this.#removed.push(key);
  }
}

function add(sum, { cost, tokens }) {
  sum.cost += cost;
  sum.tokens += tokens;
}

function tail(text) {
  return text.length > TEXT_MAX ? `... ${text.slice(-TEXT_MAX)}` : text;
}

function errorText(error) {
  return error?.data?.message ?? error?.message ?? error?.name ?? "An error without a text.";
}

function askText(ask) {
  const questions = (ask.questions ?? []).map(({ question }) => question);
  return questions.join(" ") || ask.title || ask.permission || "something";
}

function tool({ tool: name, state = {} }) {
  const input = state.input ?? {};
  const title = state.title || input.command || input.filePath || input.pattern || input.description;
  const output = state.status === "error" ? state.error : state.output;
  return {
    tool: name ?? "tool",
    status: state.status ?? "pending",
    title: String(title ?? "").slice(0, 300),
    input: Object.keys(input).length ? tail(JSON.stringify(input, null, 2)) : "",
    output: tail(String(output ?? state.metadata?.output ?? "")),
  };
}
