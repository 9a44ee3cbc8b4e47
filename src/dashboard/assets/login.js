// Turns the administrator's token into a session cookie.
import { ApiError, request } from "./api.js";

const form = document.getElementById("login");
const problem = form.querySelector(".problem");

async function logIn(token) {
  problem.hidden = true;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await request("POST", "/api/session", { token });
    // Not a reload: a token that did not work may stand in the address.
    location.replace(`/${location.hash}`);
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
