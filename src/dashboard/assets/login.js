// Turns the administrator's token into a session cookie. The token comes from the form or from
// the fragment of the link that the first start printed; a fragment never reaches a server's log.
import { ApiError, request } from "./api.js";

const form = document.getElementById("login");
const problem = form.querySelector(".problem");

async function logIn(token) {
  problem.hidden = true;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await request("POST", "/api/session", { token });
    location.reload();
  } catch (error) {
    problem.textContent =
      error instanceof ApiError && error.status === 401
        ? "This is not the administrator's token."
        : `Could not log in: ${error.message}.`;
    problem.hidden = false;
    button.disabled = false;
    form.elements.token.focus();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  logIn(form.elements.token.value.trim());
});

const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has("token")) {
  const token = fragment.get("token");
  fragment.delete("token");
  history.replaceState(null, "", `${location.pathname}${fragment.size ? `#${fragment}` : ""}`);
  logIn(token);
}
