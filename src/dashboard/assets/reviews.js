// Branches on their way to the target: where each stands, and a person's word on it.
import { explain, request } from "./api.js";
import { element, setText } from "./dom.js";

// The server sends a branch back this often; then a person is called.
const REWORKS_MAX = 3;
const SHA_SHOWN = 10;

// Where a merge request stands, in the words of the board.
export function reviewText({ status, approval, reworks, attempts }) {
  const again = reworks > 0 ? `, sent back ${reworks} of ${REWORKS_MAX} times` : "";
  switch (status) {
    case "pending":
      if (attempts > 0) return `merge is tried again${again}`;
      return `${approval === "none" ? "waits for its review or merge" : "approved, waits for its merge"}${again}`;
    case "in_review":
      return `the refinery reviews it${again}`;
    case "waiting":
      return `waits for your approval${again}`;
    case "running":
      return `gates and merge run${again}`;
    case "rework":
      return `is mended: rework ${reworks} of ${REWORKS_MAX}`;
    case "merged":
      return "merged";
    case "conflict":
      return "conflicts with the target";
    default:
      return "merge failed";
  }
}

// All of a merge request, with the buttons that a person has for it; `decided` is called after one of
// them worked.
export async function reviewDetails(path, decided) {
  const review = await request("GET", path);
  const facts = [
    ["Branch", review.branch],
    ["Commit", (review.commit_sha ?? review.head_sha)?.slice(0, SHA_SHOWN)],
    ["Pull request", review.pr_url],
    ["Approved by", review.approval === "none" ? "" : `a ${review.approval}`],
    ["Their words", review.approval_note],
    ["Last word", review.message],
  ];
  const rows = facts
    .filter(([, value]) => value)
    .flatMap(([name, value]) => [
      element("dt", { textContent: name }),
      element("dd", { textContent: value }),
    ]);
  return element(
    "section",
    { class: "review", "data-status": review.status },
    element("h3", { textContent: `Review: ${reviewText(review)}` }),
    element("dl", {}, ...rows),
    review.gate_output
      ? element(
          "details",
          { class: "gates", open: review.status !== "merged" },
          element("summary", { textContent: "What the gates printed" }),
          element("pre", { textContent: review.gate_output }),
        )
      : null,
    canDecide(review) ? decision(path, review, decided) : null,
  );
}

function canDecide({ status, approval }) {
  return ["pending", "in_review", "waiting"].includes(status) && approval !== "person";
}

function decision(path, review, decided) {
  const words = element("textarea", {
    rows: 2,
    "aria-label": "Your words on the branch",
    placeholder: "What must be changed, if you send it back",
  });
  const problem = element("p", { class: "problem", role: "alert" });
  const fields = element("fieldset", { class: "row" });
  const say = (status) => async () => {
    const message = words.value.trim();
    if (status === "conflict" && !message) {
      setText(problem, "Say what must be changed.");
      return words.focus();
    }
    fields.disabled = true;
    try {
      // The word is for the commit that is shown here, and for no later one.
      const head = review.head_sha ? { head_sha: review.head_sha } : {};
      await request("POST", `${path}/complete`, { status, message, ...head });
      decided();
    } catch (error) {
      setText(problem, `That did not work: ${explain(error)}.`);
      fields.disabled = false;
    }
    return undefined;
  };
  const button = (text, status, look) =>
    element("button", { type: "button", class: look, textContent: text, onclick: say(status) });
  fields.append(button("Approve", "merged", "approve"), button("Send back", "conflict", "quiet send-back"));
  return element("div", { class: "decision" }, words, fields, problem);
}
