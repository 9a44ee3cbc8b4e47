// Tokens for programs: a new one is shown once, known ones can be revoked.
import { explain, request } from "./api.js";
import { element, setText } from "./dom.js";

const PATH = "/api/tokens";

export class Tokens {
  #dialog;
  #list;
  #made;

  constructor(dialog) {
    this.#dialog = dialog;
    this.#list = dialog.querySelector("ul");
    this.#made = dialog.querySelector("output");
  }

  async open() {
    this.#made.hidden = true;
    this.#dialog.showModal();
    await this.#load();
  }

  // Fields of the form: a name, and the days after which it ends.
  async make({ name, days }) {
    const ends = days ? { expires_in_days: Number(days) } : {};
    const { token } = await request("POST", PATH, { name, ...ends });
    this.#made.replaceChildren(
      "Copy it now, it is not shown again: ",
      element("code", { class: "wanted", textContent: token }),
    );
    this.#made.hidden = false;
    await this.#load();
  }

  async #load() {
    let rows;
    try {
      rows = (await request("GET", PATH)).map((token) => this.#row(token));
    } catch (error) {
      rows = [element("li", { class: "problem", textContent: `Not loaded: ${explain(error)}.` })];
    }
    if (rows.length === 0) rows.push(element("li", { class: "hint", textContent: "No tokens yet." }));
    this.#list.replaceChildren(...rows);
  }

  #row({ id, name, token, expires_at: ends }) {
    const until = ends ? `until ${new Date(ends).toLocaleDateString()}` : "without an end";
    const problem = element("span", { class: "problem" });
    const revoke = async ({ target }) => {
      target.disabled = true;
      try {
        await request("DELETE", `${PATH}/${encodeURIComponent(id)}`);
        await this.#load();
      } catch (error) {
        target.disabled = false;
        setText(problem, explain(error));
      }
    };
    return element(
      "li",
      { "data-token": id },
      element("b", { textContent: name }),
      element("span", { class: "hint", textContent: `${token}, ${until}` }),
      element("button", { type: "button", class: "quiet small", textContent: "Revoke", onclick: revoke }),
      problem,
    );
  }
}
