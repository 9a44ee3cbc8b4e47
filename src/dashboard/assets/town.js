// What the page knows of one town: rigs, beads and agents, kept fresh by the town's own events.
//
// An event only says which row changed; the row is then fetched by itself. Nothing is polled.
import { paths, request } from "./api.js";
import { containerOf } from "./container.js";

// As many as the server gives in one answer; a board of more beads than this shows the newest.
const LIST_LIMIT = 1_000;
// Convoys are few; the newest of them are enough to look at.
const CONVOYS_LIMIT = 100;
// Events come in bursts; what changed within this time is fetched once.
const SETTLE_MS = 60;

export class Town {
  rigs = new Map();
  beads = new Map();
  agents = new Map();
  asks = new Map();
  paused = false;
  // Of today: tokens and cost; and what may be used in a day.
  usage = null;
  // What the container is doing and uses.
  container = null;
  budget = null;
  // Merge requests that are not finished, by the bead whose work they hold.
  reviews = new Map();
  // Newest first.
  convoys = [];
  #row;
  #changed;
  #failed;
  #stale = new Map();
  #running = new Set();
  #timer = null;

  // changed() after the data did; failed(error) when a fetch did not work.
  constructor(row, { changed, failed }) {
    this.#row = row;
    this.#changed = changed;
    this.#failed = failed;
  }

  get id() {
    return this.#row.id;
  }

  get name() {
    return this.#row.name;
  }

  get owner() {
    return this.#row.owner_user_id;
  }

  // Everything anew: at the start, and when the server says that events were missed.
  reload() {
    this.#mark("town", () => this.#loadAll());
  }

  // A fact of the town: fetch what it names.
  apply({ type, data }) {
    const [noun] = type.split(".");
    const fact = data !== null && typeof data === "object" ? data : {};
    if (noun === "rig" || noun === "town" || noun === "config") return this.reload();
    if (noun === "container") return this.#mark("container", () => this.#loadContainer());
    if (type === "agent.status_changed") this.#mark("usage", () => this.#loadUsage());
    if (noun === "ask" || type === "agent.waiting") this.#mark("asks", () => this.#loadAsks());
    if (noun === "escalation" && !fact.rig_id) {
      this.#mark("escalations", () => this.#loadEscalations());
    }
    if (noun === "review") this.#mark("reviews", () => this.#loadReviews());
    if (noun === "convoy") this.#mark("convoys", () => this.#loadConvoys());
    const rigId = fact.rig_id ?? this.beads.get(fact.bead_id)?.rig_id;
    if (fact.bead_id && rigId) {
      this.#mark(`bead ${fact.bead_id}`, () => this.#loadBead(rigId, fact.bead_id));
    }
    if (fact.agent_id) {
      const rig = this.agents.get(fact.agent_id)?.rig_id ?? rigId;
      this.#mark(`agent ${fact.agent_id}`, () => this.#loadAgent(rig, fact.agent_id));
    }
    return undefined;
  }

  async sling({ rig, title, body, priority }) {
    const work = { title, priority, ...(body ? { body } : {}) };
    const { bead, agent } = await request("POST", `${paths.rig(this.id, rig)}/sling`, work);
    this.#keep(bead, agent);
    return bead;
  }

  // An escalation that a person has seen to.
  async close({ bead_id: bead }) {
    this.#keep(await request("POST", `${paths.escalations(this.id)}/${bead}/close`));
  }

  // Holds back what is not started yet, or lets it go on.
  async pause(paused) {
    await request("POST", `${paths.town(this.id)}/${paused ? "pause" : "resume"}`);
    this.paused = paused;
    this.#changed();
  }

  async pauseRig(rig, paused) {
    await request("POST", `${paths.rig(this.id, rig)}/${paused ? "pause" : "resume"}`);
    this.reload();
  }

  // A person has taken an escalation up.
  async acknowledge({ bead_id: bead }) {
    this.#keep(await request("POST", paths.acknowledge(this.id, bead)));
  }

  async answer({ id }, body) {
    const ask = await request("POST", paths.askReply(this.id, id), body);
    // It may be gone by now, which a fact has told.
    if (this.asks.has(id)) this.asks.set(id, ask);
    this.#changed();
  }

  async remove({ rig_id: rig, bead_id: bead }) {
    await request("DELETE", `${paths.rig(this.id, rig)}/beads/${bead}`);
    this.beads.delete(bead);
    this.#changed();
  }

  async addRig(rig) {
    await request("POST", paths.userRigs(this.owner), { ...rig, town_id: this.id });
    this.reload();
  }

  async tellMayor(message) {
    const answer = await request("POST", paths.mayorMessage(this.id), { message });
    this.#mark("mayor", () => this.#loadMayor());
    return answer;
  }

  // Fetches of one row never overlap: an event during a fetch asks for one more afterwards.
  #mark(key, load) {
    this.#stale.set(key, load);
    this.#timer ??= setTimeout(() => this.#refresh(), SETTLE_MS);
  }

  #refresh() {
    this.#timer = null;
    if (this.#stale.has("town")) {
      for (const key of [...this.#stale.keys()]) if (key !== "town") this.#stale.delete(key);
    }
    for (const [key, load] of [...this.#stale]) {
      if (this.#running.has(key)) continue;
      this.#stale.delete(key);
      this.#running.add(key);
      load()
        .then(() => this.#changed())
        .catch((error) => this.#failed(error))
        .finally(() => {
          this.#running.delete(key);
          if (this.#stale.size) this.#timer ??= setTimeout(() => this.#refresh(), SETTLE_MS);
        });
    }
  }

  async #loadAll() {
    const rigs = await request("GET", paths.townRigs(this.owner, this.id));
    const perRig = await Promise.all(
      rigs.map(async ({ id }) => {
        const rig = paths.rig(this.id, id);
        const query = `limit=${LIST_LIMIT}`;
        return Promise.all([
          request("GET", `${rig}/beads?${query}`),
          request("GET", `${rig}/agents?${query}`),
        ]);
      }),
    );
    this.rigs = new Map(rigs.map((rig) => [rig.id, rig]));
    this.beads = new Map(perRig.flatMap(([beads]) => beads).map((bead) => [bead.bead_id, bead]));
    const agents = perRig.flatMap(([, agents]) => agents).map((agent) => [agent.id, agent]);
    const mayors = [...this.agents].filter(([, { role }]) => role === "mayor");
    this.agents = new Map([...mayors, ...agents]);
    await Promise.all([
      this.#loadTown(),
      this.#loadUsage(),
      this.#loadBudget(),
      this.#loadReviews(),
      this.#loadMayor(),
      this.#loadAsks(),
      this.#loadEscalations(),
      this.#loadConvoys(),
      this.#loadContainer(),
    ]);
  }

  async #loadTown() {
    const { paused } = await request("GET", `${paths.userTowns(this.owner)}/${this.id}`);
    this.paused = paused === true;
  }

  // One that does not answer in time is told of by its next fact.
  async #loadContainer() {
    const health = await request("GET", `${paths.town(this.id)}/container/health`).catch((error) => {
      if (error.status !== 503) throw error;
      return null;
    });
    if (health) this.container = containerOf(health);
  }

  async #loadUsage() {
    const { today } = await request("GET", `${paths.town(this.id)}/usage?days=1`);
    this.usage = today;
  }

  async #loadBudget() {
    const { budget } = await request("GET", `${paths.town(this.id)}/config`);
    this.budget = budget;
  }

  async #loadReviews() {
    const lists = await Promise.all(
      [...this.rigs.keys()].map((rig) =>
        request("GET", `${paths.reviews(this.id, rig)}?limit=${LIST_LIMIT}`),
      ),
    );
    this.reviews = new Map(lists.flat().map((review) => [review.bead_id, review]));
  }

  async #loadAsks() {
    const asks = await request("GET", `${paths.asks(this.id)}?limit=${LIST_LIMIT}`);
    this.asks = new Map(asks.map((ask) => [ask.id, ask]));
  }

  // The town's own, which belong to no rig.
  async #loadEscalations() {
    const open = `${paths.escalations(this.id)}?acknowledged=false&limit=${LIST_LIMIT}`;
    const escalations = await request("GET", open);
    for (const bead of escalations) if (!bead.rig_id) this.beads.set(bead.bead_id, bead);
  }

  async #loadConvoys() {
    this.convoys = await request("GET", `${paths.convoys(this.id)}?limit=${CONVOYS_LIMIT}`);
  }

  // A convoy with its beads.
  convoy(id) {
    return request("GET", `${paths.convoys(this.id)}/${id}`);
  }

  async #loadBead(rigId, beadId) {
    await this.#load(this.beads, beadId, `${paths.rig(this.id, rigId)}/beads/${beadId}`);
  }

  async #loadAgent(rigId, agentId) {
    if (!rigId) await this.#loadMayor();
    else await this.#load(this.agents, agentId, `${paths.rig(this.id, rigId)}/agents/${agentId}`);
  }

  async #load(rows, id, path) {
    try {
      rows.set(id, await request("GET", path));
    } catch (error) {
      if (error.status !== 404) throw error;
      rows.delete(id);
    }
  }

  // The mayor belongs to no rig, so it is told by its own route.
  async #loadMayor() {
    const { session } = await request("GET", paths.mayorStatus(this.id));
    for (const [id, { role }] of this.agents) {
      if (role === "mayor" && id !== session?.agentId) this.agents.delete(id);
    }
    if (!session?.agentId) return;
    const known = this.agents.get(session.agentId);
    const status = session.status === "active" ? "working" : session.status;
    this.agents.set(session.agentId, {
      ...{ id: session.agentId, rig_id: null, role: "mayor", name: "Mayor" },
      ...{ current_hook_bead_id: null, created_at: "" },
      ...known,
      status,
    });
  }

  #keep(bead, agent) {
    this.beads.set(bead.bead_id, bead);
    if (agent) this.agents.set(agent.id, agent);
    this.#changed();
  }
}
