// What agents ask: one card for each ask, with the answers a person can give.
//
// A card is drawn once and kept, so that nobody loses what they have typed when something else changes.
import { explain } from "./api.js";
import { placeInOrder } from "./board.js";
import { element, setText } from "./dom.js";

const PERMISSIONS = [
  ["once", "Allow once"],
  ["always", "Always allow"],
  ["reject", "Reject"],
];

export class AskList {
  #list;
  #section;
  #answer;
  #show;
  #cards = new Map();

  // answer(ask, body) sends an answer; show(agentId) brings the agent's panel into sight.
  constructor(section, list, { answer, show }) {
    this.#section = section;
    this.#list = list;
    this.#answer = answer;
    this.#show = show;
  }

  draw(asks) {
    const cards = [...asks.values()].map((ask) => this.#card(ask));
    for (const id of [...this.#cards.keys()]) if (!asks.has(id)) this.#cards.delete(id);
    placeInOrder(this.#list, cards);
    this.#section.hidden = cards.length === 0;
  }

  #card(ask) {
    let card = this.#cards.get(ask.id);
    if (!card) {
      card = this.#make(ask);
      this.#cards.set(ask.id, card);
    }
    const sent = ask.answered_at !== null;
    for (const field of card.item.querySelectorAll("fieldset")) field.disabled = sent;
    setText(card.state, sent ? "Answered; the agent is being told." : "");
    if (ask.last_error) setText(card.problem, `The answer did not arrive: ${ask.last_error}`);
    return card.item;
  }

  #make(ask) {
    const state = element("span", { class: "hint", role: "status" });
    const problem = element("p", { class: "problem", role: "alert" });
    const send = async (body) => {
      setText(problem, "");
      try {
        await this.#answer(ask, body);
      } catch (error) {
        setText(problem, `That did not work: ${explain(error)}.`);
      }
    };
    const agent = element("button", {
      type: "button",
      class: "card-title",
      textContent: ask.agent_name,
      onclick: () => this.#show(ask.agent_id),
    });
    const asked = new Date(ask.created_at).toLocaleTimeString();
    const answers = ask.kind === "permission" ? permission(ask, send) : question(ask, send);
    const item = element(
      "li",
      { class: "ask", "data-ask": ask.id, "data-kind": ask.kind },
      element(
        "p",
        { class: "ask-head" },
        element("span", { class: "badge", textContent: ask.kind }),
        agent,
        element("span", { class: "detail", textContent: `since ${asked}` }),
      ),
      answers,
      element("p", {}, state),
      problem,
    );
    return { item, state, problem };
  }
}

function permission(ask, send) {
  const buttons = PERMISSIONS.map(([reply, text]) =>
    element("button", {
      type: "button",
      class: reply === "once" ? "" : "quiet",
      textContent: text,
      onclick: () => send({ reply }),
    }),
  );
  return element(
    "fieldset",
    {},
    element("legend", { textContent: "Leave to do this" }),
    element("code", { class: "wanted", textContent: ask.title }),
    element("p", { class: "row" }, ...buttons),
  );
}

// One part for each question: its options, and words of one's own.
function question(ask, send) {
  const asked = Array.isArray(ask.detail?.questions) ? ask.detail.questions : [];
  const questions = asked.length ? asked : [{ question: ask.title }];
  const parts = questions.map((each, index) => part(ask, each, index));
  const form = element(
    "form",
    { autocomplete: "off" },
    ...parts.map(({ fieldset }) => fieldset),
    element(
      "fieldset",
      { class: "row" },
      element("button", { type: "submit", textContent: "Answer" }),
      element("button", {
        type: "button",
        class: "quiet",
        textContent: "Don't answer",
        onclick: () => send({ reject: true }),
      }),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send({ answers: parts.map(({ chosen }) => chosen()) });
  });
  return form;
}

function part(ask, { question: text, options, multiple, multiSelect }, index) {
  const type = multiple || multiSelect ? "checkbox" : "radio";
  const choices = (Array.isArray(options) ? options : []).map(({ label, description }) => {
    const input = element("input", { type, name: `${ask.id} ${index}`, value: String(label) });
    const hint = description ? element("span", { class: "hint", textContent: description }) : null;
    return { input, choice: element("label", { class: "choice" }, input, String(label), hint) };
  });
  const own = element("input", {
    type: "text",
    placeholder: choices.length ? "Something else" : "Your answer",
    "aria-label": `Your own answer to: ${text}`,
  });
  const fieldset = element(
    "fieldset",
    {},
    element("legend", { textContent: text ?? ask.title }),
    ...choices.map(({ choice }) => choice),
    own,
  );
  const chosen = () => {
    const words = own.value.trim();
    const marked = choices.filter(({ input }) => input.checked).map(({ input }) => input.value);
    // Words of one's own stand instead of the one choice, and beside several.
    if (!words) return marked;
    return type === "radio" ? [words] : [...marked, words];
  };
  return { fieldset, chosen };
}
