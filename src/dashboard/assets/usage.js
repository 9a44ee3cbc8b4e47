// What agents have used: of today in the header, and by day, agent and bead in a dialog.
import { explain, paths, request } from "./api.js";
import { element } from "./dom.js";

const DAYS = 7;
// Of agents and beads the ones that used most.
const ROWS_MAX = 10;

const number = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const money = (cost) => `$${cost.toFixed(cost < 1 ? 3 : 2)}`;

// Today's use against the day's budget, if there is one.
export function usageText(usage, budget) {
  const { tokens, cost } = usage ?? { tokens: { total: 0 }, cost: 0 };
  const { tokens_per_day: tokensMax, cost_per_day: costMax } = budget ?? {};
  const parts = [];
  if (tokens.total > 0 || tokensMax) {
    const of = tokensMax ? ` of ${number.format(tokensMax)}` : "";
    parts.push(`${number.format(tokens.total)}${of} tokens`);
  }
  if (cost > 0 || costMax) parts.push(money(cost) + (costMax ? ` of ${money(costMax)}` : ""));
  return parts.length ? `Today ${parts.join(" · ")}` : "";
}

// Whether nothing more is started today.
export function isSpent(usage, budget) {
  const { tokens_per_day: tokensMax, cost_per_day: costMax } = budget ?? {};
  const { tokens, cost } = usage ?? { tokens: { total: 0 }, cost: 0 };
  return (tokensMax && tokens.total >= tokensMax) || (costMax && cost >= costMax) || false;
}

export async function showUsage(town, body) {
  body.replaceChildren(element("p", { class: "hint", textContent: "Loading" }));
  try {
    const report = await request("GET", `${paths.town(town.id)}/usage?days=${DAYS}`);
    const most = (rows) => [...rows].sort((a, b) => b.tokens.total - a.tokens.total).slice(0, ROWS_MAX);
    const agent = ({ agent_id: id }) => town.agents.get(id)?.name ?? "an agent that is gone";
    const bead = ({ bead_id: id }) => (id ? (town.beads.get(id)?.title ?? "a bead that is gone") : "no bead");
    body.replaceChildren(
      table("By day", report.by_day, ({ day }) => day),
      table("By agent", most(report.by_agent), agent),
      table("By bead", most(report.by_bead), bead),
    );
  } catch (error) {
    body.replaceChildren(element("p", { class: "problem", textContent: `Not loaded: ${explain(error)}.` }));
  }
}

function table(title, rows, name) {
  const lines = rows.map((row) =>
    element(
      "tr",
      {},
      element("td", { textContent: name(row) }),
      element("td", { class: "number", textContent: number.format(row.tokens.total) }),
      element("td", { class: "number", textContent: row.cost > 0 ? money(row.cost) : "" }),
    ),
  );
  const nothing = element("p", { class: "hint", textContent: "Nothing yet." });
  return element(
    "section",
    {},
    element("h3", { textContent: title }),
    lines.length ? element("table", {}, element("tbody", {}, ...lines)) : nothing,
  );
}
