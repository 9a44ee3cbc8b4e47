// The one WebSocket of a town: subscriptions as cursors, resumed after every break.
//
// A cursor is (epoch, last id seen). After a reconnect each one is subscribed again from where it
// stood, so the page misses nothing and shows nothing twice. Frames that belong to a cursor that has
// been moved since are dropped until the server confirms the new place with `subscribed`.
import { paths } from "./api.js";

export const TOWN = "town";

// A log longer than this is shown from its newest part only: more would not fit a page anyway.
const BACKLOG_MAX = 5_000;
// The first retry comes quickly, later ones spread out; jitter keeps many pages from arriving at once.
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 15_000;
// The server pings every 25 s; a socket silent for longer than that plus a margin is checked.
const SILENCE_PROBE_MS = 35_000;
const SILENCE_MAX_MS = 50_000;
const SILENCE_CHECK_MS = 5_000;

const FINAL_CLOSES = new Map([
  [1008, "You may no longer watch this town."],
  [4401, "Your session has ended. Log in again."],
  [4404, "This town no longer exists."],
]);

export class Link {
  #townId;
  #handlers;
  #socket = null;
  #cursors = new Map();
  #attempt = 0;
  #retryTimer = null;
  #silenceTimer = null;
  #heardAt = 0;
  #closed = false;

  // handlers: state(name, text), event(key, frame), restarted(key, firstEventId),
  // skipped(key, count), live(key), ended(key), town(frame)
  constructor(townId, handlers) {
    this.#townId = townId;
    this.#handlers = handlers;
    this.#silenceTimer = setInterval(() => this.#checkSilence(), SILENCE_CHECK_MS);
    this.#connect();
  }

  // Follows the town's own events from now on.
  followTown() {
    this.#follow(TOWN, null);
  }

  // Follows an agent: what its log keeps, then live.
  followAgent(agentId) {
    this.#follow(agentId, 0);
  }

  unfollow(key) {
    if (this.#cursors.delete(key)) this.#send({ type: "unsubscribe", ...address(key) });
  }

  retryNow() {
    if (this.#closed || this.#socket) return;
    clearTimeout(this.#retryTimer);
    this.#connect();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    clearInterval(this.#silenceTimer);
    this.#dropSocket();
  }

  #follow(key, position) {
    if (this.#cursors.has(key)) return;
    const cursor = { key, position, epoch: null, unconfirmed: 0 };
    this.#cursors.set(key, cursor);
    this.#subscribe(cursor);
  }

  #connect() {
    this.#handlers.state(this.#attempt === 0 ? "connecting" : "reconnecting", "");
    const url = new URL(paths.socket(this.#townId), location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, ["gastown.v1"]);
    this.#socket = socket;
    this.#heardAt = performance.now();
    socket.onopen = () => {
      for (const cursor of this.#cursors.values()) {
        cursor.unconfirmed = 0;
        this.#subscribe(cursor);
      }
    };
    socket.onmessage = (message) => this.#receive(message.data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  #dropSocket() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #lost(code, reason) {
    this.#dropSocket();
    if (this.#closed) return;
    if (FINAL_CLOSES.has(code)) {
      this.close();
      this.#handlers.state(code === 4401 ? "logged-out" : "refused", FINAL_CLOSES.get(code));
      return;
    }
    const ceiling = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#attempt);
    const delay = ceiling * (0.5 + Math.random() / 2);
    this.#attempt += 1;
    const cause = code === 1001 ? "the server is restarting" : reason;
    this.#handlers.state("reconnecting", cause);
    this.#retryTimer = setTimeout(() => this.#connect(), delay);
  }

  // A network that vanished sends no close frame: ask, and give up on silence.
  #checkSilence() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    const silence = performance.now() - this.#heardAt;
    if (silence > SILENCE_MAX_MS) this.#lost(1006, "the connection went silent");
    else if (silence > SILENCE_PROBE_MS) this.#send({ type: "ping", id: 0 });
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #subscribe(cursor) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    const message = { type: "subscribe", ...address(cursor.key) };
    if (cursor.position !== null) message.afterEventId = cursor.position;
    if (cursor.epoch !== null) message.epoch = cursor.epoch;
    cursor.unconfirmed += 1;
    this.#send(message);
  }

  #receive(text) {
    this.#heardAt = performance.now();
    const frame = JSON.parse(text);
    const key = frame.topic === TOWN ? TOWN : frame.agentId;
    // An event has an id and a time; its type is free text, so it is told apart by these first.
    if (Number.isInteger(frame.id) && frame.timestamp !== undefined) {
      this.#event(key, frame);
      return;
    }
    switch (frame.type) {
      case "hello":
        this.#attempt = 0;
        this.#handlers.state("connected", "");
        break;
      case "subscribed":
        this.#subscribed(key, frame);
        break;
      case "live":
        if (this.#cursors.has(key)) this.#handlers.live(key);
        break;
      case "ended":
        if (this.#cursors.delete(key)) this.#handlers.ended(key);
        break;
      case "error":
        console.warn("the server refused a message", frame);
        if (frame.code === "unknown_agent" && this.#cursors.delete(key)) this.#handlers.ended(key);
        break;
    }
  }

  #event(key, frame) {
    const cursor = this.#cursors.get(key);
    if (!cursor || cursor.unconfirmed > 0) return;
    if (cursor.position !== null && frame.id <= cursor.position) return;
    if (key !== TOWN && frame.id !== cursor.position + 1) {
      // The contract rules this out; asking again from the last sure place is always right.
      console.warn("a gap in the events of", key, "after", cursor.position);
      this.#subscribe(cursor);
      return;
    }
    cursor.position = frame.id;
    if (key === TOWN) this.#handlers.town(frame);
    else this.#handlers.event(key, frame);
  }

  #subscribed(key, frame) {
    const cursor = this.#cursors.get(key);
    if (!cursor) return;
    cursor.unconfirmed = Math.max(0, cursor.unconfirmed - 1);
    if (cursor.unconfirmed > 0) return;
    const fresh = cursor.epoch === null || !frame.recovered;
    cursor.epoch = frame.epoch ?? null;
    if (cursor.position === null) {
      cursor.position = frame.lastEventId;
      this.#handlers.restarted(key, frame.firstEventId);
      return;
    }
    if (!frame.recovered) {
      cursor.position = Math.max(0, frame.firstEventId - 1);
      this.#handlers.restarted(key, frame.firstEventId);
    }
    const behind = frame.lastEventId - cursor.position;
    if (behind > BACKLOG_MAX && fresh) {
      cursor.position = frame.lastEventId - BACKLOG_MAX;
      this.#handlers.skipped(key, cursor.position);
      this.#subscribe(cursor);
    }
  }
}

function address(key) {
  return key === TOWN ? { topic: TOWN } : { agentId: key };
}
