// Convoys: how far each batch of beads is. Those that have landed are few words at the end.
import { element, setText } from "./dom.js";
import { placeInOrder } from "./board.js";

// Landed ones pile up; the newest are enough to look at.
const LANDED_MAX = 5;

export class Convoys {
  #section;
  #list;
  #rows = new Map();
  #onOpen;

  constructor(section, onOpen) {
    this.#section = section;
    this.#list = section.querySelector("ul");
    this.#onOpen = onOpen;
  }

  // `convoys` newest first, as the server lists them.
  draw(convoys) {
    const landed = convoys.filter(({ status }) => status === "landed").slice(0, LANDED_MAX);
    const shown = [...convoys.filter(({ status }) => status !== "landed"), ...landed];
    this.#section.hidden = shown.length === 0;
    placeInOrder(
      this.#list,
      shown.map((convoy) => this.#row(convoy)),
    );
    const ids = new Set(shown.map(({ id }) => id));
    for (const id of [...this.#rows.keys()]) if (!ids.has(id)) this.#rows.delete(id);
  }

  #row(convoy) {
    let row = this.#rows.get(convoy.id);
    if (!row) {
      const title = element("button", { type: "button", class: "card-title" });
      const bar = element("progress", {});
      const facts = element("span", { class: "facts" });
      const item = element("li", { class: "convoy" }, title, bar, facts);
      title.addEventListener("click", () => this.#onOpen(convoy.id));
      row = { item, title, bar, facts };
      this.#rows.set(convoy.id, row);
    }
    const { total_beads: total, closed_beads: closed, failed_beads: failed } = convoy;
    row.item.dataset.status = failed > 0 && convoy.status !== "landed" ? "failed" : convoy.status;
    setText(row.title, convoy.title);
    row.bar.max = Math.max(total, 1);
    row.bar.value = total === 0 ? 1 : closed;
    row.bar.setAttribute("aria-label", `${convoy.title}: ${closed} of ${total} beads closed`);
    const facts = [
      `${closed} of ${total}`,
      failed > 0 ? `${failed} failed` : "",
      convoy.status === "landed" ? `landed ${new Date(convoy.landed_at).toLocaleString()}` : "",
    ];
    setText(row.facts, facts.filter(Boolean).join(" · "));
    return row.item;
  }
}
